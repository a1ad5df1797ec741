"""Times are int64 UTC nanoseconds in data and `timedelta` in configuration; naive times are refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final

from schemas.errors import DataError

__all__ = ["END_OF_TIME", "duration_ns", "format_duration", "format_time", "parse_duration", "parse_time"]

END_OF_TIME: Final = 2**63 - 1
"""Arrival clock of a source that has delivered everything."""

_UNITS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_DURATION: Final = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h|d)")
_ZONE: Final = re.compile(r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)$")
"""How a time ends. Python also reads seconds of an offset, and their decimals would be taken for the time's own."""
_LONGEST: Final = 36_525 * _UNITS["d"]
"""A century: a time of today less or plus it still fits into 64 bits."""
_LONGEST_TEXT: Final = 40
"""Characters of a duration: a century in nanoseconds with as many decimals, and no more digits than Python converts."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str) -> int:
    """Return UTC nanoseconds of an RFC 3339 time; up to nine decimals are kept.

    Raises
    ------
    DataError
        The text is not such a time (`wrong_type`), or it names no zone (`naive_time`).

    Examples
    --------
    >>> parse_time("2024-08-08T23:54:13.937085768Z")
    1723161253937085768
    >>> parse_time("2024-08-08T19:54:13-04:00")
    1723161253000000000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError("wrong_type", f"expected an RFC 3339 time, was {text!r}") from error
    if moment.tzinfo is None:
        raise DataError("naive_time", f"expected a time with its zone, was {text!r}; add `Z` or an offset")
    if not _ZONE.search(text):
        raise DataError("wrong_type", f"expected an RFC 3339 time, was {text!r} with an offset below a minute")
    seconds = moment.replace(microsecond=0) - _EPOCH
    return (seconds.days * 86400 + seconds.seconds) * 10**9 + _fraction_ns(text)


def _fraction_ns(text: str) -> int:
    """Return the decimals of the second as nanoseconds; `datetime` keeps only six."""
    _, dot, tail = text.replace(",", ".").partition(".")
    if not dot:
        return 0
    digits = ""
    for character in tail:
        if not character.isdigit():
            break
        digits += character
    return int(digits[:9].ljust(9, "0"))


def format_time(ts: int) -> str:
    """Return UTC nanoseconds as RFC 3339 with nine decimals.

    Examples
    --------
    >>> format_time(1723161253937085768)
    '2024-08-08T23:54:13.937085768Z'
    """
    seconds, nanoseconds = divmod(ts, 10**9)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def parse_duration(text: str) -> timedelta:
    """Return the duration that a number and a unit name (`ns us ms s m h d`), exactly.

    Raises
    ------
    ValueError
        The text is not a number and a unit, or the duration is not a whole number of microseconds, which is all
        that a `timedelta` holds, or is longer than a century.

    Examples
    --------
    >>> parse_duration("90s") == parse_duration("1.5m")
    True
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a number and one of {list(_UNITS)} such as `1m`, was `{text}`")
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"expected at most 36525d, was `{text[:_LONGEST_TEXT]}` and more")
    nanoseconds = Fraction(match[1]) * _UNITS[match[2]]
    if abs(nanoseconds) > _LONGEST:
        raise ValueError(f"expected at most 36525d, was `{text}`")
    if nanoseconds % 1000:
        raise ValueError(f"expected whole microseconds, was `{text}`")
    return timedelta(microseconds=int(nanoseconds // 1000))


def duration_ns(duration: timedelta) -> int:
    """Return a duration as int nanoseconds, exactly.

    Examples
    --------
    >>> duration_ns(parse_duration("1m"))
    60000000000
    """
    return ((duration.days * 86400 + duration.seconds) * 10**6 + duration.microseconds) * 1000


def format_duration(nanoseconds: int) -> str:
    """Return the shortest exact text of a duration, the inverse of `parse_duration`.

    Examples
    --------
    >>> format_duration(60_000_000_000), format_duration(1_500_000_000)
    ('1m', '1500ms')
    """
    for unit in ("d", "h", "m", "s", "ms", "us"):
        if nanoseconds and nanoseconds % _UNITS[unit] == 0:
            return f"{nanoseconds // _UNITS[unit]}{unit}"
    return f"{nanoseconds}ns"
