"""Sentiment of one sentence of financial English.

VADER's rules (negation, emphasis, degree, contrast) run over a lexicon of our own: VADER's everyday words,
less those that only name things in finance, plus words, phrases and verb-object patterns that do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from models.text.overlay import EMOJI, NEGATORS, NEUTRAL, PATTERNS, PHRASES, WORDS
from models.text.phrases import join_phrases, joined_word
from models.text.rules import ValenceRules
from schemas.features import content_hash

__all__ = ["FinanceSentiment", "TextScore", "Unscored", "finance_lexicon"]

MAX_CHARACTERS: Final = 2_000
"""What is read of a text. A headline has 100 and a post 300; the rest of an article repeats its start."""
CACHED_TEXTS: Final = 4_096
"""One item names several instruments, and agencies repeat headlines: minutes of news, a few megabytes."""
_RULES_VERSION: Final = 1
_NAN: Final = float("nan")

# alternatives that begin with a literal, so that the scan skips to the characters that may begin one
_NOISE: Final = re.compile(r"https?://\S+|www\.\S+|\$[A-Za-z_]\w*|@[A-Za-z_]\w*|&\w+;")
_NOISE_SIGNS: Final = ("$", "@", "&", "://", "www.")
"""A text without any of these has no noise."""
_HYPHEN: Final = re.compile(r"[-\u2010-\u2015/](?<=\w.)(?=[A-Za-z])")
_WORD: Final = re.compile(r"[A-Za-z]{2}")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_FIRST_NOT_LATIN: Final = "\u0250"


class Unscored(StrEnum):
    """Why a text has no score."""

    EMPTY = "empty"
    """nothing but white space"""
    NO_WORDS = "no_words"
    """links, tickers, numbers and signs only"""
    FOREIGN_SCRIPT = "foreign_script"
    """most letters are not Latin: the lexicon knows none of the words"""


class TextScore(NamedTuple):
    """Score of one text."""

    value: float
    """in [-1, 1]; NaN where there is none"""
    reason: Unscored | None
    """why there is none"""


class FinanceSentiment:
    r"""Score headlines and posts from -1 (bad news for the holder) to 1 (good news).

    Phrases and verb-object patterns are found first and stand as one word each. Then the valences $v_i$ of
    the words, changed by negation, degree and emphasis, give

    $$ s = \frac{\sum_i v_i}{\sqrt{(\sum_i v_i)^2 + 15}} $$

    Notes
    -----
    A text without a word to score (empty, links and tickers only, another script) is NaN with a reason; a
    text of words that carry no feeling is 0, which is an observation. Only the first 2,000 characters are
    read. English in Latin script is assumed: a Spanish headline scores near 0. Irony is not understood, and
    a headline about a competitor counts as one about the company. About 7 microseconds a headline of 60
    characters; repeated texts come from a cache.

    Examples
    --------
    >>> model = FinanceSentiment()
    >>> round(model.score("Acme files for bankruptcy, shares plunge on downgrade"), 2)
    -0.88
    >>> round(model.score("Acme beats Wall Street estimates and raises full-year guidance"), 2)
    0.8
    >>> model.score("Acme to report results on Tuesday")
    0.0
    >>> model.assess("$ACME https://example.com").reason.value
    'no_words'

    References
    ----------
    Hutto, C. and Gilbert, E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
    Media Text. ICWSM-14.
    Loughran, T. and McDonald, B. (2011). When Is a Liability Not a Liability? Journal of Finance 66(1).
    """

    def __init__(self) -> None:
        vader = SentimentIntensityAnalyzer()
        lexicon = finance_lexicon(vader.lexicon)
        self._rules = ValenceRules(lexicon, {**vader.emojis, **EMOJI})
        self._assess = lru_cache(maxsize=CACHED_TEXTS)(self._assess_bounded)
        verbs = {pattern.name: [sorted(pattern.verbs), sorted(pattern.objects)] for pattern in PATTERNS}
        negators = sorted(NEGATORS)
        self._version = content_hash([_RULES_VERSION, MAX_CHARACTERS, lexicon, EMOJI, verbs, negators])

    @property
    def version(self) -> str:
        """Content hash of the lexicon and the rules that read it; it names the model behind a score."""
        return self._version

    def score(self, text: str | None) -> float:
        """Return the score in [-1, 1], or NaN where the text cannot be scored."""
        return self.assess(text).value

    def assess(self, text: str | None) -> TextScore:
        """Return the score, or NaN and why there is none."""
        return self._assess((text or "")[:MAX_CHARACTERS])

    def scores(self, texts: Iterable[str | None]) -> npt.NDArray[np.float64]:
        """Return the score of each text, shape `(n,)`."""
        return np.array([self.score(text) for text in texts], dtype=np.float64)

    def _assess_bounded(self, text: str) -> TextScore:
        cleaned = _clean(text)
        signs = [] if cleaned.isascii() else _NOT_ASCII.findall(cleaned)
        emoji = bool(signs) and self._rules.has_emoji(signs)
        reason = _unscored(text, cleaned, signs, emoji)
        if reason is not None:
            return TextScore(_NAN, reason)
        if signs or "-" in cleaned or "/" in cleaned:
            cleaned = _HYPHEN.sub(" ", cleaned)
        words, lowered = cleaned.split(), cleaned.lower().split()
        join_phrases(words, lowered)
        if emoji:
            words = self._rules.describe_emojis(words)
            lowered = [word.lower() for word in words]
        return TextScore(self._rules.score(words, lowered), None)


def finance_lexicon(everyday: Mapping[str, float]) -> dict[str, float]:
    """Return a lexicon of financial English.

    Parameters
    ----------
    everyday
        Word to valence in everyday English, from -4 to 4: what `NEUTRAL` does not name stays, what `WORDS`,
        `PHRASES` and `PATTERNS` name is added or replaced.
    """
    lexicon = {word: valence for word, valence in everyday.items() if word not in NEUTRAL}
    lexicon.update(WORDS)
    lexicon.update({joined_word(*phrase): valence for phrase, valence in PHRASES.items() if valence})
    lexicon.update({joined_word(pattern.name): pattern.valence for pattern in PATTERNS})
    return lexicon


def _clean(text: str) -> str:
    """Return the text without links, tickers and names of users, and with one kind of apostrophe."""
    text = text.replace("\u2019", "'")
    for sign in _NOISE_SIGNS:
        if sign in text:
            return _NOISE.sub(" ", text)
    return text


def _unscored(text: str, cleaned: str, signs: list[str], emoji: bool) -> Unscored | None:
    """Return why a text has no score; `signs` are its characters beyond ASCII."""
    if signs and _mostly_foreign(cleaned, signs):
        return Unscored.FOREIGN_SCRIPT
    if emoji or _WORD.search(cleaned):
        return None
    return Unscored.NO_WORDS if text.strip() else Unscored.EMPTY


def _mostly_foreign(text: str, signs: list[str]) -> bool:
    foreign = sum(sign >= _FIRST_NOT_LATIN and sign.isalpha() for sign in signs)
    return foreign > 0 and 2 * foreign > sum(map(str.isalpha, text))
