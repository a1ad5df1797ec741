r"""Compiled scanner of JSON objects: the members of a topic's messages, written straight into columns.

It takes what producers write and leaves everything else alone. A message is *declined* where it has an escape or a
byte outside ASCII in a string, a nested value, a number that is not exactly a float64 by one multiplication or
division, a member twice, a value of another type, or any fault: what is right or wrong is for `schemas.wire` to say,
which decodes the declined ones. What is taken has exactly the values that it would give.

A decimal number $m \cdot 10^e$ with $m \le 2^{53}$ and $|e| \le 22$ is the product or quotient of two numbers that
float64 holds exactly, so a single rounding gives the nearest float64 (Clinger 1990).

The functions below hand on addresses and not arrays: of an array every call counts a reference, which took ten times
as long as the scanning.

References
----------
W. D. Clinger, "How to read floating point numbers accurately", PLDI 1990.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.extending import intrinsic

from operators.columns import BoolArray, CodeArray, FloatArray, IntArray

__all__ = [
    "ABSENT",
    "FLOAT",
    "INTEGER",
    "LEVELS",
    "LITERALS",
    "NAME",
    "NULL",
    "SYMBOL",
    "TEXT",
    "Layout",
    "Members",
    "scan",
]

INTEGER: Final = 0
FLOAT: Final = 1
NAME: Final = 2
SYMBOL: Final = 3
TEXT: Final = 4
LEVELS: Final = 5

ABSENT: Final = -1
"""Size of a member that the message does not have."""
NULL: Final = -2
"""Size of a member that is null."""
LITERALS: Final = b"nulltruefalse"
"""What `Layout.words` begins with."""

_KIND, _NUMBER, _REQUIRED, _FIRST, _LAST, _FIRST_NAME, _LAST_NAME, _WIDTH = range(8)
"""Columns of `Layout.fields`, and how many they are."""
_DECLINED: Final = -1
_DIGITS: Final = 19
"""Most significant digits of a number: so many fit into 64 bits, and what outgrows int64 turns negative."""
_EXACT: Final = 2**53
_POWERS: Final = 10.0 ** np.arange(23)
"""Powers of ten that float64 holds exactly."""
_PROBES: Final = 64
"""Most entries of the symbol table that are compared with a symbol: a bound on what chosen names can cost."""
_SEED: Final = 0x811C9DC5
_PRIME: Final = 0x01000193
_MASK: Final = 2**31 - 1

_QUOTE, _BACKSLASH, _COMMA, _COLON = 0x22, 0x5C, 0x2C, 0x3A
_MINUS, _PLUS, _POINT, _ZERO, _NINE = 0x2D, 0x2B, 0x2E, 0x30, 0x39
_LETTER_E, _LETTER_N = 0x65, 0x6E
_OPEN_BRACE, _CLOSE_BRACE, _OPEN_BRACKET, _CLOSE_BRACKET = 0x7B, 0x7D, 0x5B, 0x5D

ByteArray = npt.NDArray[np.uint8]


class Layout(NamedTuple):
    """Fields of a topic, read-only."""

    words: ByteArray
    """`LITERALS`, and the names of the fields and of the members of their enumerations, each in quotes"""
    fields: IntArray
    """for each field: kind, `INTEGER` to `LEVELS`; number among the fields of its kind; whether a message must have
    it; begin and end of its name in `words`; index of its first name in `names`, and the one behind its last"""
    names: IntArray
    """for each name of an enumeration: begin and end in `words`, code"""


class Members(NamedTuple):
    """What is found; written by `scan`, which wants `sizes` to be `ABSENT`, and tables and counters to be 0.

    The first axis of `sizes` and `values` is the field; of the others, its number among those of its kind.
    """

    sizes: CodeArray
    """shape `(fields, n)`: `ABSENT`, `NULL`, or 0 and above: of text its bytes, of levels their number"""
    values: IntArray
    """shape `(fields, n)`: the integer, the bits of the float64, the code of the name, where the text begins in the
    data, or the number of the symbol among those of its field in the order of their first appearance"""
    tables: CodeArray
    """hash table of each symbol field: number and 1, or 0; its length is a power of two, at least twice `n`"""
    entries: IntArray
    """shape `(symbol fields, n, 2)`: where each distinct symbol begins in the data, and its bytes"""
    counts: IntArray
    """distinct symbols of each field"""
    levels: FloatArray
    """levels of all messages, one after the other; as many columns as there can be levels"""
    filled: IntArray
    """levels of each field"""


class _Places(NamedTuple):
    """Addresses of the arrays above, which read like flat arrays, and their dimensions."""

    words: ByteArray
    fields: IntArray
    names: IntArray
    sizes: CodeArray
    values: IntArray
    floats: FloatArray
    tables: CodeArray
    entries: IntArray
    counts: IntArray
    levels: FloatArray
    filled: IntArray
    n_fields: int
    n_rows: int
    table_length: int
    most_levels: int


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _address(typing_context: Any, array: Any) -> Any:
    """Return the address of an array's first value. The array must outlive it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(array)(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def scan(data: ByteArray, bounds: IntArray, layout: Layout, members: Members, declined: BoolArray) -> None:
    """Read messages into `members` and mark those that are declined.

    Parameters
    ----------
    data
        Bytes of the messages, one after the other.
    bounds
        Where each begins, and the end; one more than messages.
    layout
        Fields of the topic.
    members
        Filled with what is found. The sizes of a declined message are `ABSENT`; its other values mean nothing.
    declined
        Set for every message that is not taken.
    """
    floats = members.values.view(np.float64)
    places = _Places(
        _address(layout.words), _address(layout.fields), _address(layout.names), _address(members.sizes),
        _address(members.values), _address(floats), _address(members.tables), _address(members.entries),
        _address(members.counts), _address(members.levels), _address(members.filled), len(layout.fields),
        len(bounds) - 1, members.tables.shape[1], members.levels.shape[1],
    )  # fmt: skip
    before = members.filled.copy()
    for row in range(len(bounds) - 1):
        before[:] = members.filled
        if not _message(_address(data), bounds[row], bounds[row + 1], row, places):
            declined[row] = True
            members.sizes[:, row] = ABSENT
            members.filled[:] = before


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _message(data: ByteArray, start: int, end: int, row: int, places: _Places) -> bool:
    """Read one object; return whether it is taken."""
    pos = _space(data, start, end)
    if not _at(data, pos, end, _OPEN_BRACE):
        return False
    expected = 0
    while not _at(data, pos, end, _CLOSE_BRACE):
        # here stands the opening brace or a comma: no topic has a message without members
        field, pos = _key(data, _space(data, pos + 1, end), end, expected, places)
        if pos < 0 or not _at(data, pos, end, _COLON):
            return False
        pos = _space(data, pos + 1, end)
        if field < 0:
            pos = _unknown(data, pos, end, places.words)
        else:
            pos = _member(data, pos, end, field, row, places)
            expected = field + 1
        if pos < 0:
            return False
        pos = _space(data, pos, end)
        if not (_at(data, pos, end, _COMMA) or _at(data, pos, end, _CLOSE_BRACE)):
            return False
    complete: bool = _space(data, pos + 1, end) == end and _is_complete(row, places)
    return complete


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _is_complete(row: int, places: _Places) -> bool:
    for field in range(places.n_fields):
        if places.fields[field * _WIDTH + _REQUIRED] and places.sizes[field * places.n_rows + row] < 0:
            return False
    return True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _at(data: ByteArray, pos: int, end: int, byte: int) -> bool:
    return pos < end and data[pos] == byte


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _space(data: ByteArray, pos: int, end: int) -> int:
    """Return the position of the next byte that is no white space."""
    while pos < end and (data[pos] == 0x20 or data[pos] == 0x0A or data[pos] == 0x0D or data[pos] == 0x09):
        pos += 1
    return pos


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _matches(data: ByteArray, pos: int, end: int, words: ByteArray, first: int, last: int) -> bool:
    """Return whether the bytes `first` to `last` of some words stand at a position."""
    if end - pos < last - first:
        return False
    for i in range(last - first):  # noqa: SIM110 - generators are not compiled
        if data[pos + i] != words[first + i]:
            return False
    return True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _key(data: ByteArray, pos: int, end: int, expected: int, places: _Places) -> tuple[int, int]:
    """Return the field that a key names, -1 for none, and the position behind it and white space.

    Messages mostly have their members in one order: the field after the last one is tried first.
    """
    for i in range(places.n_fields):
        field = expected + i if expected + i < places.n_fields else expected + i - places.n_fields
        first, last = places.fields[field * _WIDTH + _FIRST], places.fields[field * _WIDTH + _LAST]
        if _matches(data, pos, end, places.words, first, last):
            return field, _space(data, pos + last - first, end)
    pos = _text(data, pos, end)
    return -1, _space(data, pos, end) if pos >= 0 else pos


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _text(data: ByteArray, pos: int, end: int) -> int:
    """Return the position behind a string of ASCII without escapes, whose first quote stands here."""
    if not _at(data, pos, end, _QUOTE):
        return _DECLINED
    pos += 1
    while pos < end and data[pos] >= 0x20 and data[pos] < 0x80 and data[pos] != _BACKSLASH:
        if data[pos] == _QUOTE:
            return pos + 1
        pos += 1
    return _DECLINED


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _unknown(data: ByteArray, pos: int, end: int, words: ByteArray) -> int:
    """Return the position behind a value that nobody reads."""
    behind: int
    if _at(data, pos, end, _QUOTE):
        behind = _text(data, pos, end)
    elif _matches(data, pos, end, words, 0, 4) or _matches(data, pos, end, words, 4, 8):
        behind = pos + 4
    elif _matches(data, pos, end, words, 8, 13):
        behind = pos + 5
    else:
        behind = _number(data, pos, end)[0]
    return behind


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _member(data: ByteArray, pos: int, end: int, field: int, row: int, places: _Places) -> int:
    """Read the value of a field and return the position behind it."""
    place = field * places.n_rows + row
    if places.sizes[place] != ABSENT:
        return _DECLINED
    size = 0
    if _at(data, pos, end, _LETTER_N):
        size = NULL
        pos = pos + 4 if _matches(data, pos, end, places.words, 0, 4) else _DECLINED
    else:
        kind = places.fields[field * _WIDTH + _KIND]
        if kind == INTEGER:
            pos, places.values[place] = _integer(data, pos, end)
        elif kind == FLOAT:
            pos, places.floats[place] = _float(data, pos, end)
        elif kind == NAME:
            pos, places.values[place] = _name(data, pos, end, field, places)
        elif kind == LEVELS:
            pos, size = _levels(data, pos, end, field, places)
        else:
            places.values[place] = pos + 1
            size = -2 - pos
            pos = _text(data, pos, end)
            size += pos
            if kind == SYMBOL and pos >= 0:
                places.values[place] = _symbol(data, pos - 1 - size, size, field, places)
                pos = pos if places.values[place] >= 0 else _DECLINED
    places.sizes[place] = size
    return pos


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _digits(data: ByteArray, pos: int, end: int, mantissa: int, significant: int) -> tuple[int, int, int]:
    """Return the position behind a run of digits, the number with them appended, and its significant digits."""
    while pos < end and data[pos] >= _ZERO and data[pos] <= _NINE:
        mantissa = mantissa * 10 + (int(data[pos]) - _ZERO)
        significant += significant > 0 or mantissa != 0
        pos += 1
    return pos, mantissa, significant


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _exponent(data: ByteArray, pos: int, end: int) -> tuple[int, int]:
    """Return the position behind an exponent whose `e` stands before it, and the exponent."""
    sign = 1
    if _at(data, pos, end, _MINUS) or _at(data, pos, end, _PLUS):
        sign = -1 if data[pos] == _MINUS else 1
        pos += 1
    behind, exponent, significant = _digits(data, pos, end, 0, 0)
    if behind == pos or significant > 4:
        return _DECLINED, 0
    return behind, sign * exponent


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _number(data: ByteArray, pos: int, end: int) -> tuple[int, int, int, bool, bool]:
    """Return the position behind a number, its digits, exponent of ten, whether it is negative, and an integer."""
    negative = _at(data, pos, end, _MINUS)
    first = pos + 1 if negative else pos
    pos, mantissa, significant = _digits(data, first, end, 0, 0)
    if pos == first or (data[first] == _ZERO and pos > first + 1):
        return _DECLINED, 0, 0, False, False
    integral, exponent = True, 0
    if _at(data, pos, end, _POINT):
        integral, point = False, pos + 1
        pos, mantissa, significant = _digits(data, point, end, mantissa, significant)
        if pos == point:
            return _DECLINED, 0, 0, False, False
        exponent = point - pos
    if pos < end and data[pos] | 0x20 == _LETTER_E:
        integral = False
        pos, shift = _exponent(data, pos + 1, end)
        exponent += shift
    if significant > _DIGITS or mantissa < 0 or (negative and mantissa == 0):
        pos = _DECLINED  # a negative zero is for the type to judge
    return pos, mantissa, exponent, negative, integral


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _integer(data: ByteArray, pos: int, end: int) -> tuple[int, int]:
    pos, mantissa, _, negative, integral = _number(data, pos, end)
    return pos if integral else _DECLINED, -mantissa if negative else mantissa


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _float(data: ByteArray, pos: int, end: int) -> tuple[int, float]:
    pos, mantissa, exponent, negative, _ = _number(data, pos, end)
    if pos < 0 or mantissa > _EXACT or exponent > 22 or exponent < -22:
        return _DECLINED, 0.0
    value = float(-mantissa if negative else mantissa)
    return pos, value / _POWERS[-exponent] if exponent < 0 else value * _POWERS[exponent]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _name(data: ByteArray, pos: int, end: int, field: int, places: _Places) -> tuple[int, int]:
    """Return the position behind a name of the field's enumeration, and its code."""
    spec = field * _WIDTH
    for i in range(places.fields[spec + _FIRST_NAME], places.fields[spec + _LAST_NAME]):
        first, last = places.names[3 * i], places.names[3 * i + 1]
        if _matches(data, pos, end, places.words, first, last):
            return pos + last - first, places.names[3 * i + 2]
    return _DECLINED, 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _levels(data: ByteArray, pos: int, end: int, field: int, places: _Places) -> tuple[int, int]:
    """Append an array of numbers to the field's levels; return the position behind it and how many they are."""
    if not _at(data, pos, end, _OPEN_BRACKET):
        return _DECLINED, 0
    pos = _space(data, pos + 1, end)
    if _at(data, pos, end, _CLOSE_BRACKET):
        return pos + 1, 0
    number = places.fields[field * _WIDTH + _NUMBER]
    first = places.filled[number]
    while True:
        pos, value = _float(data, pos, end)
        if pos < 0:
            return _DECLINED, 0
        places.levels[number * places.most_levels + places.filled[number]] = value
        places.filled[number] += 1
        pos = _space(data, pos, end)
        if _at(data, pos, end, _CLOSE_BRACKET):
            return pos + 1, places.filled[number] - first
        if not _at(data, pos, end, _COMMA):
            return _DECLINED, 0
        pos = _space(data, pos + 1, end)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _symbol(data: ByteArray, start: int, size: int, field: int, places: _Places) -> int:
    """Return the number of a symbol, the next one if it is new; declined where too many others are in its place."""
    number = places.fields[field * _WIDTH + _NUMBER]
    table, entries = number * places.table_length, number * places.n_rows
    mixed = _SEED
    for i in range(start, start + size):
        mixed = ((mixed ^ int(data[i])) * _PRIME) & _MASK
    slot = mixed ^ (mixed >> 15)
    for probe in range(_PROBES):
        at = table + ((slot + probe) & (places.table_length - 1))
        found: int = places.tables[at] - 1
        if found < 0:
            found = places.counts[number]
            places.counts[number] += 1
            places.tables[at] = found + 1
            places.entries[2 * (entries + found)] = start
            places.entries[2 * (entries + found) + 1] = size
            return found
        first = places.entries[2 * (entries + found)]
        known = places.entries[2 * (entries + found) + 1]
        if known == size and _matches(data, start, start + size, data, first, first + size):
            return found
    return _DECLINED
