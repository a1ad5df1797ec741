"""State of many small limit order books and what may be done to one of them.

Both sides of a book sort upwards by a key, the negated tick for bids and the tick for offers, so that the
best level is at 0 and one code serves both. Every change is noted, so that a message can carry it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = [
    "ASK",
    "BID",
    "LEVELS",
    "MAX_CHANGES",
    "BookState",
    "make_book_state",
    "order_size",
    "put",
    "quote_key",
    "reduce_level",
    "trim",
    "uniform",
]

BID: Final = 0
ASK: Final = 1
LEVELS: Final = 10
"""Levels of a side."""
MAX_CHANGES: Final = 4 * LEVELS
"""Most changes of one message: a side leaves, a level enters; with room to spare."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_ROUND_LOT: Final = 100
_MOST_LOTS: Final = 50

IntArray = npt.NDArray[np.int64]


class BookState(NamedTuple):
    """Books of `n` instruments; all arrays are int64 unless said otherwise."""

    rng: npt.NDArray[np.uint64]
    """state of the random stream, shape `(n,)`"""
    keys: IntArray
    """sorted keys of a side, shape `(n, 2, LEVELS)`"""
    sizes: IntArray
    """quantity at each key, shape `(n, 2, LEVELS)`"""
    depth: IntArray
    """levels in use, shape `(n, 2)`"""
    changes: IntArray
    """side, key and new size of each change of the message in the making, shape `(MAX_CHANGES, 3)`"""
    n_changes: IntArray
    """how many of them, shape `(1,)`"""


def make_book_state(seeds: npt.NDArray[np.uint64]) -> BookState:
    """Return empty books, one for each seed."""
    n = len(seeds)
    return BookState(
        seeds.copy(),
        np.zeros((n, 2, LEVELS), np.int64),
        np.zeros((n, 2, LEVELS), np.int64),
        np.zeros((n, 2), np.int64),
        np.zeros((MAX_CHANGES, 3), np.int64),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def uniform(rng: Any, i: int) -> float:
    """Return the next number of stream `i`, uniform in `[0, 1)` (SplitMix64, Steele et al. 2014)."""
    rng[i] += _GOLDEN
    z = rng[i]
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def order_size(rng: Any, i: int) -> int:
    """Return the size of an order: three in ten are odd lots, the others round lots with a Pareto tail."""
    if uniform(rng, i) < 0.3:
        return 1 + int(uniform(rng, i) ** 2 * 98.0)
    lots = int((1.0 - uniform(rng, i)) ** (-1.0 / 1.5))
    return _ROUND_LOT * min(lots, _MOST_LOTS)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _note(book: Any, side: int, key: int, size: int) -> None:
    row = book.n_changes[0]
    book.changes[row, 0] = side
    book.changes[row, 1] = key
    book.changes[row, 2] = size
    book.n_changes[0] = row + 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _remove(book: Any, i: int, side: int, level: int) -> None:
    keys, sizes = book.keys[i, side], book.sizes[i, side]
    _note(book, side, keys[level], 0)
    last = book.depth[i, side] - 1
    for j in range(level, last):
        keys[j] = keys[j + 1]
        sizes[j] = sizes[j + 1]
    book.depth[i, side] = last


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def reduce_level(book: Any, i: int, side: int, level: int, size: int) -> None:
    """Take a quantity from a level; the level goes with the last of it."""
    left = book.sizes[i, side, level] - size
    if left <= 0:
        _remove(book, i, side, level)
        return
    book.sizes[i, side, level] = left
    _note(book, side, book.keys[i, side, level], left)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def put(book: Any, i: int, side: int, key: int, size: int) -> None:
    """Add a quantity at a key; a full side loses its worst level, or takes the order there if it is worse still."""
    keys, sizes = book.keys[i, side], book.sizes[i, side]
    at = 0
    while at < book.depth[i, side] and keys[at] < key:
        at += 1
    if at == LEVELS:
        at -= 1
        key = keys[at]
    if at < book.depth[i, side] and keys[at] == key:
        sizes[at] += size
        _note(book, side, key, sizes[at])
        return
    if book.depth[i, side] == LEVELS:
        _remove(book, i, side, LEVELS - 1)
    for j in range(book.depth[i, side], at, -1):
        keys[j] = keys[j - 1]
        sizes[j] = sizes[j - 1]
    keys[at] = key
    sizes[at] = size
    book.depth[i, side] += 1
    _note(book, side, key, size)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def trim(book: Any, i: int, side: int, limit: float) -> None:
    """Remove every level whose key is under the limit."""
    while book.depth[i, side] > 0 and book.keys[i, side, 0] < limit:
        _remove(book, i, side, 0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def quote_key(book: Any, i: int, side: int, fair: float, half_spread: float) -> int:
    """Return the best key at which a maker quotes: half a spread from the fair price, and never across the book."""
    sign = 1.0 if side == ASK else -1.0
    key = int(np.ceil(sign * fair + half_spread))
    other = 1 - side
    if book.depth[i, other] > 0:
        key = max(key, 1 - book.keys[i, other, 0])
    return key
