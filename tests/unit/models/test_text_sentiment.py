"""Sentiment of financial sentences: labelled headlines, known traps, texts that cannot be scored."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from models.text.overlay import EMOJI, NEUTRAL, PATTERNS, PHRASES, WORDS
from models.text.phrases import join_phrases
from models.text.sentiment import CACHED_TEXTS, MAX_CHARACTERS, FinanceSentiment, Unscored, finance_lexicon

_POSITIVE = """
Acme beats Wall Street estimates as cloud revenue jumps
Northwind raises full-year guidance after record quarter
Contoso shares soar to all-time high on strong demand
Globex announces $5 billion share buyback, lifts dividend
Initech swings to profit in third quarter
FDA approves Umbrella's new cancer drug
Hooli wins $2 billion Pentagon contract
Stark Industries upgraded to buy at brokerage
Wayne Enterprises emerges from bankruptcy with less debt
Vandelay's quarterly loss narrows as costs fall
Profit at Tyrell tops expectations despite weak consumer
Soylent stock rallies 12% after takeover offer
Cyberdyne reports better-than-expected earnings
Gringotts cuts debt by $3 billion, credit rating upgraded
Wonka deliveries hit record high in December
Oscorp's drug meets primary endpoint in late-stage trial
Massive Dynamic avoids default after creditors agree to extension
Court dismisses lawsuit against Pied Piper
Aperture shares up 6% in premarket trading
Monsters Inc boosts outlook on robust demand
Tech stocks rebound as rate fears ease
$ACME to the moon, still buying the dip
Analysts turn bullish on Dunder Mifflin after upbeat forecast
Bluth Company to be acquired for $40 a share in cash, a 35% premium
Sirius Cybernetics gains market share, margins expand
Duff's order backlog grows, shares climb
"""
_NEGATIVE = """
Acme files for bankruptcy, shares plunge on downgrade
Northwind misses estimates, cuts full-year guidance
Contoso shares tumble after profit warning
Globex suspends dividend as cash burn worsens
Initech faces SEC probe over accounting irregularities
FDA rejects Umbrella's application for diabetes drug
Hooli to lay off 4,000 workers amid slowing growth
Stark Industries downgraded to sell on valuation
Wayne Enterprises warns of wider loss this year
Vandelay's costs rise faster than sales, margins squeezed
Tyrell falls short of revenue expectations
Soylent recalls 200,000 cars over brake defect
Cyberdyne CEO resigns abruptly amid fraud investigation
Gringotts defaults on bond payment
Wonka fails to beat estimates for second straight quarter
Oscorp's drug misses primary endpoint in late-stage trial
Massive Dynamic hit by class action lawsuit over data breach
Auditor raises going-concern doubt about Pied Piper
Aperture shares down 6% in premarket trading
Monsters Inc slashes outlook on weak demand
Tech stocks sink as inflation fears mount
$ACME is a pump and dump, bagholders everywhere
Analysts turn bearish on Dunder Mifflin after guidance cut
Bluth Company cuts 1,200 jobs, closes stores
Sirius Cybernetics loses market share to rivals
Duff's sales decline for fifth straight quarter
"""
_NEUTRAL = """
Acme to report second-quarter results on Thursday
Northwind names new chief financial officer
Contoso shares outstanding total 1.2 billion
Globex to hold annual meeting in Denver on May 4
Initech files quarterly report with SEC
Umbrella's gross margin was 41% in the quarter
Hooli to present at technology conference next week
Stark Industries prices $500 million of senior notes due 2031
Wayne Enterprises ex-dividend date is March 14
Vandelay to move headquarters to Texas
Tyrell's tax rate was 21% in fiscal 2023
Soylent stock trades at 18 times earnings
Cyberdyne's deferred tax liability disclosed in filing
Gringotts changes ticker symbol to GRNG
Wonka completes sale of vending unit
Oscorp enrols first patient in cancer study
Massive Dynamic schedules conference call for 8 a.m.
Pied Piper's fiscal year ends in September
Aperture shares little changed at the open
Monsters Inc to offer common shares on Nasdaq
Treasury to auction $40 billion of notes
$ACME earnings call starts at 4:30 pm
Dunder Mifflin appoints two directors to its board
Crude oil inventories data due on Wednesday
Sirius Cybernetics share count and interest expense by segment
Best Buy to open store in Ohio
"""
_CASES = [
    (headline, label)
    for label, headlines in ((1, _POSITIVE), (-1, _NEGATIVE), (0, _NEUTRAL))
    for headline in headlines.strip().splitlines()
]
_THRESHOLD = 0.05
"""VADER's own bound between neutral and not."""


def _label(score: float) -> int:
    return int(score > _THRESHOLD) - int(score < -_THRESHOLD)


@pytest.fixture(scope="module")
def model() -> FinanceSentiment:
    return FinanceSentiment()


def test_score_of_labelled_headlines_is_clearly_better_than_plain_vader(model: FinanceSentiment) -> None:
    plain = SentimentIntensityAnalyzer()
    ours = sum(_label(model.score(text)) == label for text, label in _CASES) / len(_CASES)
    vader = sum(_label(plain.polarity_scores(text)["compound"]) == label for text, label in _CASES) / len(_CASES)
    assert ours >= 0.9
    assert ours >= vader + 0.3


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Acme files for bankruptcy, shares plunge on downgrade", -1),
        ("ACME FILES FOR BANKRUPTCY", -1),
        ("Acme does not beat estimates", -1),
        ("Acme averts bankruptcy", 1),
        ("Acme cuts costs", 1),
        ("Acme cuts dividend", -1),
        ("Acme's costs surge", -1),
        ("Acme beats Wall Street's second-quarter estimates", 1),
        ("Shares, gross margin, tax liability and interest", 0),
        ("\N{ROCKET}\N{ROCKET}\N{ROCKET}", 1),
        ("Acme down 3.5%, sector up 1%", 0),
        ("Acme drifts -4%", 0),
    ],
)
def test_score_of_known_trap_has_the_right_sign(model: FinanceSentiment, text: str, label: int) -> None:
    assert _label(model.score(text)) == label


def test_pattern_does_not_reach_into_the_next_clause(model: FinanceSentiment) -> None:
    assert model.score("Acme cuts ribbon, dividend unchanged") >= 0.0
    assert model.score("Acme cuts its annual dividend") < -0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Unscored.EMPTY),
        (" \n\t", Unscored.EMPTY),
        (None, Unscored.EMPTY),
        ("$AAPL $MSFT https://example.com/a-good-story @someone", Unscored.NO_WORDS),
        ("+4.2% !!! 100", Unscored.NO_WORDS),
        ("株価が急落しました", Unscored.FOREIGN_SCRIPT),
        ("Акции компании упали на 5% ACME", Unscored.FOREIGN_SCRIPT),
    ],
)
def test_assess_without_english_words_is_nan_with_the_reason(
    model: FinanceSentiment, text: str | None, reason: Unscored
) -> None:
    score = model.assess(text)
    assert math.isnan(score.value)
    assert score.reason is reason
    assert math.isnan(model.score(text))


def test_score_of_long_text_reads_a_bounded_start(model: FinanceSentiment) -> None:
    start = "Acme holds its meeting. " * (MAX_CHARACTERS // 24 + 1)
    assert model.score(start + "Shares plunge. " * 10_000) == model.score(start) == 0.0


def test_score_with_full_cache_is_the_same_as_without(model: FinanceSentiment) -> None:
    first = model.score("Acme beats estimates")
    for number in range(CACHED_TEXTS + 1):
        model.score(f"Acme item {number}")
    assert model.score("Acme beats estimates") == first == FinanceSentiment().score("Acme beats estimates")


def test_scores_of_many_texts_are_those_of_each(model: FinanceSentiment) -> None:
    values = model.scores(["Acme soars", None, "Acme plunges"])
    assert values[0] == model.score("Acme soars")
    assert math.isnan(values[1])
    assert values[2] == model.score("Acme plunges")
    assert model.scores([]).shape == (0,)


def test_version_names_the_lexicon(model: FinanceSentiment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.version == FinanceSentiment().version
    monkeypatch.setitem(WORDS, "frobnicates", 1.0)
    assert model.version != FinanceSentiment().version


def test_overlay_entries_are_sane_and_each_has_an_effect() -> None:
    plain = SentimentIntensityAnalyzer().lexicon
    assert set(plain) >= NEUTRAL
    assert not NEUTRAL & set(WORDS)
    assert len(WORDS) + len(PHRASES) >= 150
    assert all(-4.0 <= valence <= 4.0 for valence in (*WORDS.values(), *PHRASES.values()))
    assert all(len(phrase) >= 2 and all(phrase) for phrase in PHRASES)
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS)


@pytest.mark.parametrize("phrase", sorted(phrase for phrase, valence in PHRASES.items() if valence))
def test_phrase_alone_scores_with_its_own_sign(model: FinanceSentiment, phrase: tuple[str, ...]) -> None:
    text = "Acme " + " ".join("7%" if word == "#" else word for word in phrase)
    assert _label(model.score(text)) == (1 if PHRASES[phrase] > 0 else -1)


_NOISE = re.compile(r"https?://\S+|www\.\S+|[$@][A-Za-z_]\w*|&\w+;")
_HYPHEN = re.compile(r"(?<=\w)[-\u2010-\u2015/](?=[A-Za-z])")
_VADER = SentimentIntensityAnalyzer()
_LEXICON = finance_lexicon(_VADER.lexicon)
_EMOJIS = {**_VADER.emojis, **EMOJI}


def _reason(text: str, emojis: dict[str, str]) -> Unscored | None:
    """Return why a text has no score, read character by character."""
    cleaned = _NOISE.sub(" ", text.replace("\u2019", "'"))
    letters = [character for character in cleaned if character.isalpha()]
    if not text.strip():
        return Unscored.EMPTY
    if len(letters) > 2 * sum(character < "\u0250" for character in letters):
        return Unscored.FOREIGN_SCRIPT
    if re.search("[A-Za-z]{2}", cleaned) or any(character in emojis for character in cleaned):
        return None
    return Unscored.NO_WORDS


_PIECES = st.one_of(
    st.sampled_from(
        ["Acme ", "beats ", "estimates", "better-than-expected ", "down 3%", "can\u2019t ", "plunge!", "but "]
    ),
    st.sampled_from(
        ["$", "@", "&amp;", "https://a.b/good ", "www.bad.com", "/", "-", "\u2013", "\u2014fraud ", " ", "\n", "7"]
    ),
    st.sampled_from(
        ["\N{ROCKET}", "\N{BEAR FACE}", "\N{COPYRIGHT SIGN}", "\u682a\u4fa1", "\u0410\u043a", "\u00e9", "\u00a0"]
    ),
    st.text(max_size=4),
)


@settings(max_examples=500, deadline=None)
@given(text=st.lists(_PIECES, max_size=12).map("".join))
@example(text="Acme gains/plunges")
@example(text="Acme gains\u2013plunges")
def test_assess_of_any_text_equals_the_plain_reading(model: FinanceSentiment, text: str) -> None:
    reference = SentimentIntensityAnalyzer.__new__(SentimentIntensityAnalyzer)
    reference.lexicon, reference.emojis = _LEXICON, _EMOJIS
    score = model.assess(text)
    assert score.reason == _reason(text, _EMOJIS)
    if score.reason is None:
        words = _HYPHEN.sub(" ", _NOISE.sub(" ", text.replace("\u2019", "'"))).split()
        join_phrases(words, [word.lower() for word in words])
        assert score.value == reference.polarity_scores(" ".join(words))["compound"]
    else:
        assert math.isnan(score.value)
