"""The rules over words score as the reference implementation does, its peculiarities included."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import BOOSTER_DICT, NEGATE, SPECIAL_CASES, SentimentIntensityAnalyzer

from models.text.overlay import EMOJI, PATTERNS, PHRASES
from models.text.phrases import joined_word
from models.text.rules import ValenceRules
from models.text.sentiment import finance_lexicon

_VADER = SentimentIntensityAnalyzer()
_EMOJIS = {**_VADER.emojis, **EMOJI}
_CHARACTERS = sorted(emoji for emoji in _EMOJIS if len(emoji) == 1)
_LEXICONS = {
    "everyday": _VADER.lexicon,
    "finance": finance_lexicon(_VADER.lexicon),
    # words of the rules that carry feeling themselves
    "overlapping": {
        "good": 1.9,
        "bad": -2.5,
        "but": 1.0,
        "least": -1.0,
        "very": 2.0,
        "so": 1.0,
        "no": -1.2,
        "never": -1.5,
    },
}
_RULE_WORDS = (
    "very", "so", "barely", "kind", "sort", "of", "just", "enough", "not", "isn't", "without", "doubt", "never", "this",
    "least", "at", "no", "or", "nor", "but", "the", "yeah", "kiss", "to", "die",
)  # fmt: skip
_FEELING = (
    "good",
    "bad",
    "plunges",
    "growth",
    "kind",
    "no",
    "right",
    "stop",
    "shit",
    "bomb",
    "death",
    "heart",
    ":)",
    "ok",
)
_PUNCTUATION = ("", "", "", "!", "?", "!!!", "??", ",", ".", "...", '"', "'", ":", "%", "-")


def _analyzer(lexicon: dict[str, float]) -> SentimentIntensityAnalyzer:
    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon = lexicon
    analyzer.emojis = _EMOJIS
    return analyzer


_RULES = {name: ValenceRules(lexicon, _EMOJIS) for name, lexicon in _LEXICONS.items()}
_REFERENCES = {name: _analyzer(lexicon) for name, lexicon in _LEXICONS.items()}


def _agrees(text: str, name: str) -> bool:
    words = _RULES[name].describe_emojis(text.split())
    score = _RULES[name].score(words, [word.lower() for word in words])
    return score == _REFERENCES[name].polarity_scores(text)["compound"]


def _words() -> st.SearchStrategy[str]:
    joined = [joined_word(*phrase) for phrase in PHRASES] + [joined_word(pattern.name) for pattern in PATTERNS]
    plain = st.one_of(
        st.sampled_from(_RULE_WORDS),
        st.sampled_from(_FEELING),
        st.sampled_from(sorted(_LEXICONS["finance"])),
        st.sampled_from(sorted(_VADER.lexicon)),
        st.sampled_from(sorted(BOOSTER_DICT)),
        st.sampled_from(sorted(NEGATE)),
        st.sampled_from(sorted(SPECIAL_CASES)),
        st.sampled_from(("Acme", "3.5%", "42", "\u2014", "caf\u00e9", "I", "\u0130", "CEO", "")),
    )
    cased = st.tuples(plain, st.sampled_from((str, str, str, str.upper, str.title))).map(lambda pair: pair[1](pair[0]))
    marked = st.tuples(st.sampled_from(_PUNCTUATION), cased, st.sampled_from(_PUNCTUATION)).map("".join)
    emojis = st.lists(st.sampled_from(_CHARACTERS), min_size=1, max_size=3).map("".join)
    stuck = st.tuples(cased, emojis, cased).map("".join)
    return st.one_of(plain, cased, marked, emojis, stuck, st.sampled_from(joined))


@pytest.mark.parametrize("name", _LEXICONS)
@settings(max_examples=400, deadline=None)
@given(words=st.lists(_words(), max_size=14))
@example(words=["GOOD", "42", "\N{ROCKET}moon", "but", "good!!", "good??"])
@example(words=["it", "isn't", "so", "very", "bad", "but", "BAD", "good"])
def test_score_of_any_words_equals_the_reference(name: str, words: list[str]) -> None:
    assert _agrees(" ".join(words), name)


@pytest.mark.parametrize("name", _LEXICONS)
def test_score_after_any_three_rule_words_equals_the_reference(name: str) -> None:
    texts = [
        " ".join((*before, feeling, "today"))
        for before in itertools.product(_RULE_WORDS, repeat=3)
        for feeling in ("good", "bad")
    ]
    assert [text for text in texts if not _agrees(text, name)] == []


@pytest.mark.parametrize("name", _LEXICONS)
def test_score_of_each_rule_word_at_each_distance_equals_the_reference(name: str) -> None:
    rule_words = [*BOOSTER_DICT, *NEGATE, *SPECIAL_CASES, "can't've", "NOT", "VERY", "least", "at least", "very least"]
    fillings = (
        "{} good",
        "{} it bad",
        "{} it was good",
        "{} it was a bad",
        "it is {} good",
        "it is {}",
        "x y z {} bad end",
    )
    texts = [filling.format(word) for word in rule_words for filling in fillings]
    texts += [text.upper() for text in texts] + [f"{text.upper()} today" for text in texts]
    assert [text for text in texts if not _agrees(text, name)] == []


@pytest.mark.parametrize("name", _LEXICONS)
def test_score_of_each_idiom_between_any_words_equals_the_reference(name: str) -> None:
    ends = ("", "a", "a b", "a b c", "not a b", "very good", "bad so", "no")
    texts = [
        f"{before} {idiom} {after}" for idiom in SPECIAL_CASES for before in ends for after in ("", "good", "to bad x")
    ]
    assert [text for text in texts if not _agrees(text, name)] == []


def test_score_with_each_emoji_equals_the_reference() -> None:
    texts = [text for emoji in _CHARACTERS for text in (f"{emoji}", f"very {emoji}good not{emoji}{emoji}!")]
    assert [text for text in texts if not _agrees(text, "finance")] == []


@pytest.mark.parametrize("marks", ["!" * n for n in range(7)] + ["?" * n for n in range(6)] + ["!?", "!!??!!??"])
@pytest.mark.parametrize("word", ["good", "bad", "Tuesday"])
def test_score_with_marks_equals_the_reference(word: str, marks: str) -> None:
    assert _agrees(f"it is {word}{marks}", "everyday")


def _score(text: str) -> float:
    return _RULES["everyday"].score(text.split(), text.lower().split())


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("it was good", "it was very good"),
        ("it was very good", "it was VERY good"),
        ("it was good", "it was GOOD"),
        ("it was good", "it was good!"),
        ("it was not good", "it was good"),
        ("it is hardly good", "it is good"),
        ("very a b good", "very good"),
        ("good but bad", "bad but good"),
    ],
)
def test_score_of_stronger_words_is_greater(weaker: str, stronger: str) -> None:
    assert _score(weaker) < _score(stronger)


def test_score_of_capitals_throughout_is_no_emphasis() -> None:
    assert _score("GOOD NEWS TODAY") == _score("good news today")


def test_score_of_two_letters_is_looked_up_with_their_punctuation() -> None:
    assert _score("ok") > 0.0
    assert _score("ok,") == 0.0
    assert _score("good,") == _score("good")


def test_score_without_words_is_zero() -> None:
    assert _RULES["finance"].score([], []) == 0.0
    assert _RULES["finance"].score(["!!!"], ["!!!"]) == 0.0


def test_describe_emojis_separates_the_description_from_what_is_before_it_only() -> None:
    rules = ValenceRules({}, {"\N{ROCKET}": "soaring high"})
    assert rules.describe_emojis(["go\N{ROCKET}now", "\N{BEAR FACE}"]) == ["go", "soaring", "highnow", "\N{BEAR FACE}"]
    assert rules.has_emoji("go\N{ROCKET}")
    assert not rules.has_emoji(["\N{BEAR FACE}"])
