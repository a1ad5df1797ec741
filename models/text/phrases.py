"""Phrases, and verbs with their objects, joined into one word each, so that a lexicon of words can value them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from models.text.overlay import NEGATORS, PATTERNS, PHRASES, Pattern

__all__ = ["join_phrases", "joined_word"]

_GAP: Final = 4
"""Most words between a verb and its object: "beats Wall Street's second-quarter estimates"."""
_EDGES: Final = "\"'()[]{}<>.,;:!?*#~`\u2026\u201c\u201d"
_CLAUSE_END: Final = ",;:.!?"
_ANY_NUMBER: Final = "#"
_NUMBER: Final = re.compile(r"[$\u20ac\u00a3+-]*\d[\d.,]*(?:%|pct|bp|bps|[kmb]n?)?")

_Phrase = tuple[tuple[str, ...], str]


class _Opening(NamedTuple):
    """What may begin with a word; phrases are the longest first, each with the word that replaces it."""

    by_second: dict[str, tuple[_Phrase, ...]]
    otherwise: tuple[_Phrase, ...]
    patterns: tuple[Pattern, ...]


def joined_word(*words: str) -> str:
    """Return a word that no text holds, to stand for a phrase."""
    return f"\u2060{'_'.join(words)}\u2060"


def join_phrases(words: list[str], lowered: list[str]) -> None:
    r"""Replace, in place, each phrase and each verb with its object by one word.

    The text is read from left to right. A phrase goes before a pattern, a longer phrase before a shorter one,
    and no word is used twice. A pattern does not reach beyond the end of a clause.

    Parameters
    ----------
    words
        The words of a text, as written.
    lowered
        The same words in lower case.

    Notes
    -----
    Quotation marks, brackets and stops around a word do not matter, and go with a word that is replaced.

    Examples
    --------
    >>> words = "Acme beats profit estimates, fails to rise".split()
    >>> join_phrases(words, lowered := [word.lower() for word in words])
    >>> [word.strip("\u2060") for word in words]
    ['Acme', 'beat_benchmark', 'not', 'rise']
    """
    keys = [word if word.isalnum() else word.strip(_EDGES) for word in lowered]
    openings = [at for at, key in enumerate(keys) if key in _OPENINGS]
    joins: list[tuple[int, int, str]] = []
    free = 0
    for at in openings:
        if at < free:
            continue
        opening = _OPENINGS[keys[at]]
        found = _phrase_at(opening, keys, at) or (_pattern_at(opening, words, keys, at) if opening.patterns else None)
        if found is not None:
            free, replacement = found
            joins.append((at, free, replacement))
    for at, end, replacement in reversed(joins):
        words[at:end] = lowered[at:end] = [replacement]


def _phrase_at(opening: _Opening, keys: list[str], at: int) -> tuple[int, str] | None:
    second = keys[at + 1] if at + 1 < len(keys) else ""
    for phrase, replacement in opening.by_second.get(second, opening.otherwise):
        end = at + len(phrase)
        stretch = keys[at:end]
        if len(stretch) == len(phrase) and all(map(_fits, stretch, phrase)):
            return end, replacement
    return None


def _fits(key: str, part: str) -> bool:
    return key == part or (part == _ANY_NUMBER and _NUMBER.fullmatch(key) is not None)


def _pattern_at(opening: _Opening, words: list[str], keys: list[str], at: int) -> tuple[int, str] | None:
    following = keys[at + 1 : at + _GAP + 2]
    for pattern in opening.patterns:
        if pattern.objects.isdisjoint(following):
            continue
        for last, key in enumerate(following, at + 1):
            if words[last - 1][-1] in _CLAUSE_END:
                break
            if key in pattern.objects:
                return last + 1, joined_word(pattern.name)
    return None


def _index() -> dict[str, _Opening]:
    """Return first word to what may begin with it."""
    replacements = {phrase: joined_word(*phrase) for phrase in PHRASES} | dict.fromkeys(NEGATORS, "not")
    phrases: dict[str, list[_Phrase]] = {}
    for phrase in sorted(replacements, key=len, reverse=True):
        phrases.setdefault(phrase[0], []).append((phrase, replacements[phrase]))
    patterns = {verb: tuple(p for p in PATTERNS if verb in p.verbs) for pattern in PATTERNS for verb in pattern.verbs}
    return {word: _opening(phrases.get(word, []), patterns.get(word, ())) for word in phrases.keys() | patterns}


def _opening(phrases: list[_Phrase], patterns: tuple[Pattern, ...]) -> _Opening:
    seconds = {phrase[1] for phrase, _ in phrases if len(phrase) > 1} - {_ANY_NUMBER}

    def fitting(second: str) -> tuple[_Phrase, ...]:
        return tuple(entry for entry in phrases if len(entry[0]) == 1 or _fits(second, entry[0][1]))

    otherwise = tuple(entry for entry in phrases if len(entry[0]) == 1 or entry[0][1] == _ANY_NUMBER)
    return _Opening({second: fitting(second) for second in seconds}, otherwise, patterns)


_OPENINGS: Final = _index()
