"""Sentiment of one sentence of financial English.

VADER's rules (negation, emphasis, degree, contrast) run over a lexicon of our own: VADER's everyday words,
less those that only name things in finance, plus words, phrases and verb-object patterns that do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from models.text.overlay import EMOJI, NEGATORS, NEUTRAL, PATTERNS, PHRASES, WORDS
from schemas.features import content_hash

__all__ = ["FinanceSentiment", "TextScore", "Unscored"]

MAX_CHARACTERS: Final = 2_000
"""What is read of a text. A headline has 100 and a post 300; the rest of an article repeats its start."""
CACHED_TEXTS: Final = 4_096
"""One item names several instruments, and agencies repeat headlines: minutes of news, a few megabytes."""
_RULES_VERSION: Final = 1
_GAP: Final = 4
"""Most words between a verb and its object: "beats Wall Street's second-quarter estimates"."""

_NOISE: Final = re.compile(r"https?://\S+|www\.\S+|[$@][A-Za-z_]\w*|&\w+;")
_HYPHEN: Final = re.compile(r"(?<=\w)[-\u2010-\u2015/](?=[A-Za-z])")
_NUMBER: Final = re.compile(r"[$\u20ac\u00a3+-]*\d[\d.,]*(?:%|pct|bp|bps|[kmb]n?)?")
_WORD: Final = re.compile(r"[A-Za-z]{2}")
_EDGES: Final = "\"'()[]{}<>.,;:!?*#~`\u2026\u201c\u201d"


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
    a headline about a competitor counts as one about the company. About 30 microseconds a headline; repeated
    texts come from a cache.

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
        analyzer = SentimentIntensityAnalyzer()
        lexicon: dict[str, float] = {word: v for word, v in analyzer.lexicon.items() if word not in NEUTRAL}
        lexicon.update(WORDS)
        lexicon.update({_token(*phrase): valence for phrase, valence in PHRASES.items() if valence})
        lexicon.update({_token(pattern.name): pattern.valence for pattern in PATTERNS})
        analyzer.lexicon = lexicon
        analyzer.emojis = {**analyzer.emojis, **EMOJI}
        self._analyzer = analyzer
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
        cleaned = _NOISE.sub(" ", text.replace("\u2019", "'"))
        reason = self._unscored(text, cleaned)
        if reason is not None:
            return TextScore(float("nan"), reason)
        words = _HYPHEN.sub(" ", cleaned).split()
        return TextScore(float(self._analyzer.polarity_scores(" ".join(_join_phrases(words)))["compound"]), None)

    def _unscored(self, text: str, cleaned: str) -> Unscored | None:
        if not text.strip():
            return Unscored.EMPTY
        if not cleaned.isascii() and _mostly_foreign(cleaned):
            return Unscored.FOREIGN_SCRIPT
        if _WORD.search(cleaned) or any(character in self._analyzer.emojis for character in cleaned):
            return None
        return Unscored.NO_WORDS


def _mostly_foreign(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return len(letters) > 2 * sum(character < "\u0250" for character in letters)


def _token(*words: str) -> str:
    """Return a word that no text holds, to stand for a phrase."""
    return f"\u2060{'_'.join(words)}\u2060"


def _key(word: str) -> str:
    """Return the form in which a word is looked up."""
    return word.strip(_EDGES).lower()


def _index_phrases() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """Return first word to its phrases with what replaces them, the longest first."""
    replacements = {phrase: _token(*phrase) for phrase in PHRASES} | dict.fromkeys(NEGATORS, "not")
    index: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for phrase in sorted(replacements, key=len, reverse=True):
        index.setdefault(phrase[0], []).append((phrase, replacements[phrase]))
    return index


_BY_FIRST_WORD: Final = _index_phrases()
_BY_VERB: Final = {
    verb: [pattern for pattern in PATTERNS if verb in pattern.verbs] for pattern in PATTERNS for verb in pattern.verbs
}


def _join_phrases(words: list[str]) -> list[str]:
    """Return the words with each phrase, and each verb with its object, as one word."""
    keys = [_key(word) for word in words]
    joined: list[str] = []
    at = 0
    while at < len(words):
        found = _phrase_at(keys, at) or _pattern_at(words, keys, at)
        if found is None:
            joined.append(words[at])
            at += 1
        else:
            replacement, length = found
            joined.append(replacement)
            at += length
    return joined


def _phrase_at(keys: list[str], at: int) -> tuple[str, int] | None:
    for phrase, replacement in _BY_FIRST_WORD.get(keys[at], ()):
        stretch = keys[at : at + len(phrase)]
        if len(stretch) == len(phrase) and all(map(_fits, stretch, phrase)):
            return replacement, len(phrase)
    return None


def _fits(key: str, part: str) -> bool:
    return key == part or (part == "#" and _NUMBER.fullmatch(key) is not None)


def _pattern_at(words: list[str], keys: list[str], at: int) -> tuple[str, int] | None:
    for pattern in _BY_VERB.get(keys[at], ()):
        for length in range(2, _GAP + 3):
            last = at + length - 1
            if last >= len(words) or words[last - 1][-1] in ",;:.!?":
                break
            if keys[last] in pattern.objects:
                return _token(pattern.name), length
    return None
