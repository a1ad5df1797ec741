"""Joining of phrases equals a plain reading of its rules, word by word."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.text.overlay import NEGATORS, PATTERNS, PHRASES, Pattern
from models.text.phrases import join_phrases, joined_word

_REPLACEMENTS = {phrase: joined_word(*phrase) for phrase in PHRASES} | dict.fromkeys(NEGATORS, "not")
_EDGES = "\"'()[]{}<>.,;:!?*#~`\u2026\u201c\u201d"


def _fits(key: str, part: str) -> bool:
    number = re.fullmatch(r"[$\u20ac\u00a3+-]*\d[\d.,]*(%|pct|bps?|[kmb]n?)?", key)
    return key == part or (part == "#" and number is not None)


def _join_plainly(words: list[str]) -> list[str]:
    keys = [word.strip(_EDGES).lower() for word in words]
    fitting = [phrase for phrase in _REPLACEMENTS if len(phrase) <= len(keys) and all(map(_fits, keys, phrase))]
    if fitting:
        longest = max(fitting, key=len)
        return [_REPLACEMENTS[longest], *_join_plainly(words[len(longest) :])]
    for pattern in PATTERNS:
        for last in range(1, min(len(words), 6)):
            if words[last - 1][-1] in ",;:.!?":
                break
            if keys[0] in pattern.verbs and keys[last] in pattern.objects:
                return [joined_word(pattern.name), *_join_plainly(words[last + 1 :])]
    return [words[0], *_join_plainly(words[1:])] if words else []


def _joined(words: list[str]) -> list[str]:
    written, lowered = list(words), [word.lower() for word in words]
    join_phrases(written, lowered)
    assert lowered == [word.lower() for word in written]
    return written


def _words() -> st.SearchStrategy[list[str]]:
    numbers = ("7%", "$3.5bn", "-4%", "12", "52", "11")
    phrases = sorted(_REPLACEMENTS)
    vocabulary = sorted(
        {word for phrase in phrases for word in phrase} | {w for p in PATTERNS for w in p.objects | p.verbs}
    )
    number = st.sampled_from(numbers)
    whole = st.sampled_from(phrases).flatmap(
        lambda phrase: st.tuples(*(number if word == "#" else st.just(word) for word in phrase)).map(list)
    )
    pair = st.sampled_from(PATTERNS).flatmap(
        lambda p: st.tuples(
            st.sampled_from(sorted(p.verbs)).map(lambda verb: [verb]),
            st.lists(st.sampled_from(("its", "Street's", "q2,", "annual")), max_size=5),
            st.sampled_from(sorted(p.objects)).map(lambda word: [word]),
        ).map(lambda parts: [*parts[0], *parts[1], *parts[2]])
    )
    word = st.sampled_from((*vocabulary, *numbers, "Acme", "\u2026", '"', "\u201cto", "\u0391\u03a3"))
    stretches = st.lists(st.one_of(whole, pair, st.lists(word, max_size=3)), max_size=5)
    dress = st.tuples(st.sampled_from(("", "", "", '"', "(")), st.sampled_from(("", "", "", ",", ".", "!", "\u201d")))

    def dressed(stretch: list[list[str]]) -> st.SearchStrategy[list[str]]:
        flat = [word for part in stretch for word in part]
        return st.tuples(
            *(
                st.tuples(dress, st.sampled_from((str, str, str.upper, str.title))).map(
                    lambda how, word=word: f"{how[0][0]}{how[1](word)}{how[0][1]}"
                )
                for word in flat
            )
        ).map(list)

    return stretches.flatmap(dressed)


@settings(max_examples=300, deadline=None)
@given(words=_words())
@example(words=["shares", "down", "52", "week", "low"])
@example(words=["cuts", "its", "q2,", "dividend"])
@example(words=["cuts", "a", "b", "c", "d", "dividend", "cuts", "a", "b", "c", "d", "e", "dividend"])
def test_join_phrases_of_any_words_equals_the_plain_reading(words: list[str]) -> None:
    assert _joined(words) == _join_plainly(words)


@pytest.mark.parametrize("phrase", sorted(_REPLACEMENTS), ids=" ".join)
def test_join_phrases_of_a_phrase_alone_is_its_replacement(phrase: tuple[str, ...]) -> None:
    words = ["7%" if word == "#" else word for word in phrase]
    assert _joined(["Acme", *words])[1:] == [_REPLACEMENTS[phrase]]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_join_phrases_of_a_pattern_reaches_over_four_words_and_no_further(pattern: Pattern) -> None:
    verb = next(verb for verb in sorted(pattern.verbs) if not any(verb == phrase[0] for phrase in _REPLACEMENTS))
    target = min(pattern.objects)
    assert _joined([verb, *"wxyz", target]) == [joined_word(pattern.name)]
    assert _joined([verb, *"vwxyz", target]) == [verb, *"vwxyz", target]
    for end in ",;:.!?":
        assert _joined([verb, f"w{end}", target]) == [verb, f"w{end}", target]


def test_join_phrases_without_a_phrase_leaves_the_words() -> None:
    words = ["Acme", "to", "report", "on", "Tuesday"]
    assert _joined(words) == words
    assert _joined([]) == []
