r"""When a message of an order-book feed may be applied, and the compiled walk over the messages.

With $L$ the last number that a book holds, and $[U, u]$ the numbers of a delta that says $p$, the last
number of the message before it, or does not say it:

- $u \le L$: applied before (`DUPLICATE`), or older than the book's snapshot (`SUPERSEDED`);
- $p = L$, or $U \le L + 1$ where the feed gives no $p$: the next one. Straight after a snapshot, which is taken
  between two messages, $p \le L$ is enough: the message before this one is then inside the snapshot;
- otherwise a message is missing (`SEQUENCE_GAP`), and the book is lost until the next snapshot.

Deltas that come while a book waits for its snapshot are held. The kernel stops, and is called again, where
memory must grow and where a snapshot arrives for a book with held deltas.

References
----------
Binance, "How to manage a local order book correctly", spot and USD-M futures documentation.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from operators.book_levels import CAPACITY, START, USED, copy_side, fill_side, set_level, side_depth
from operators.columns import FloatArray, IntArray
from schemas.enums import BookKind, DeadLetterReason, Missing

__all__ = [
    "BOOK_COLUMNS",
    "DROPPED",
    "HELD",
    "HOLDS",
    "STATUS",
    "BookRefusal",
    "BookStatus",
    "Output",
    "Verdict",
    "advance",
    "emit_top",
    "make_output",
]

CODE, KIND, FIRST, LAST, PREVIOUS, BID_START, BID_END, ASK_START, ASK_END = range(9)
"""columns of the message table"""
STATUS, APPLIED, ANCHOR, HELD, DROPPED = range(5)
"""columns of the book table: `BookStatus`, last number applied, number of the snapshot that the book was built from,
1 while deltas are held, levels that the cap on levels cost"""
BOOK_COLUMNS: Final = 5
TOPS, REFUSALS, HOLDS = range(3)
"""positions in `Output.n`"""


class BookRefusal(IntEnum):
    """Why a message did not become part of its book."""

    DUPLICATE = 1
    """all that it says was applied before"""
    SUPERSEDED = 2
    """older than the snapshot that the book was built from, or a snapshot older than its book"""
    SEQUENCE_GAP = 3
    """a message before it is missing, and no snapshot closed the gap in time"""
    CROSSED_BOOK = 4
    """the best bid would not be below the best offer"""
    OUT_OF_RANGE = 5
    """a price not finite and positive, a size not finite or negative, or numbers out of order"""

    @property
    def dead_letter(self) -> DeadLetterReason:
        """The reason that the dead letter carries."""
        return DeadLetterReason(self.name.lower())


class BookStatus(IntEnum):
    """Whether a book may be read."""

    NEW = 0
    """no snapshot yet"""
    SYNCHRONISED = 1
    LOST = 2
    """a gap or a refused delta: waits for a snapshot"""


class Verdict(IntEnum):
    """What becomes of a message, where it is not a `BookRefusal`."""

    APPLY = 0
    HOLD = 6
    GROW = 7
    """the kernel stops: the sides of the book need room, then the same message comes again"""
    REPLAY = 8
    """the kernel stops: a snapshot was taken over, and the held deltas of its book come next"""


class Output(NamedTuple):
    """What the kernel writes, and in `n` how much of each: tops, refusals, held messages."""

    n: IntArray
    top: FloatArray
    """shape `(n, 6)`: bid price, bid size, offer price, offer size, bid depth, offer depth"""
    levels: FloatArray
    """shape `(n, depth - 1, 4)`, as in `BookColumns`"""
    top_row: IntArray
    """shape `(n, 2)`: message, `Missing` code"""
    refused: IntArray
    """shape `(n, 2)`: message, `BookRefusal`"""
    held: IntArray
    """shape `(n,)`: message"""


def make_output(n_rows: int, depth: int) -> Output:
    """Return room for the output of `n_rows` messages and books of `depth` levels."""
    integers = np.empty((3, 2 * n_rows), dtype=np.int64)
    top_row, refused, held = integers[0].reshape(-1, 2), integers[1].reshape(-1, 2), integers[2, :n_rows]
    top, levels = np.empty((n_rows, 6)), np.empty((n_rows, depth - 1, 4))
    return Output(np.zeros(3, dtype=np.int64), top, levels, top_row, refused, held)


# The kernels know the vocabularies as plain integers: numba compiles those into the code.
_DELTA: Final = int(BookKind.DELTA)
_SNAPSHOT: Final = int(BookKind.SNAPSHOT)
_OK: Final = int(Missing.OK)
_OUT_OF_SYNC: Final = int(Missing.OUT_OF_SYNC)
_APPLY: Final = int(Verdict.APPLY)
_DUPLICATE: Final = int(BookRefusal.DUPLICATE)
_SUPERSEDED: Final = int(BookRefusal.SUPERSEDED)
_SEQUENCE_GAP: Final = int(BookRefusal.SEQUENCE_GAP)
_CROSSED_BOOK: Final = int(BookRefusal.CROSSED_BOOK)
_OUT_OF_RANGE: Final = int(BookRefusal.OUT_OF_RANGE)
_HOLD: Final = int(Verdict.HOLD)
_GROW: Final = int(Verdict.GROW)
_REPLAY: Final = int(Verdict.REPLAY)
_SYNCHRONISED: Final = int(BookStatus.SYNCHRONISED)
_LOST: Final = int(BookStatus.LOST)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _in_range(m: Any, i: int, keys: Any, sizes: Any) -> bool:
    """Return whether kind, numbers and levels of a message are what they may be."""
    sane = m[i, KIND] == _DELTA or m[i, KIND] == _SNAPSHOT
    sane &= m[i, LAST] >= 0 and m[i, FIRST] <= m[i, LAST]
    for j in range(m[i, BID_START], m[i, BID_END]):
        sane &= 0.0 < keys[j] < np.inf and 0.0 <= sizes[j] < np.inf
    for j in range(m[i, ASK_START], m[i, ASK_END]):
        sane &= 0.0 < -keys[j] < np.inf and 0.0 <= sizes[j] < np.inf
    return bool(sane)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _best_key(keys: Any, sizes: Any, start: int, end: int) -> float:
    best = -np.inf
    for j in range(start, end):
        if sizes[j] > 0.0:
            best = max(best, keys[j])
    return best


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _judge_snapshot(m: Any, i: int, keys: Any, sizes: Any, book: Any) -> int:
    """Return why a snapshot is refused, or that it applies.

    A snapshot older than its book, but not older than the snapshot that the book was built from, only comes late.
    One that is older than that too starts a feed whose numbers began anew.
    """
    if not _in_range(m, i, keys, sizes):
        return _OUT_OF_RANGE
    bid = _best_key(keys, sizes, m[i, BID_START], m[i, BID_END])
    ask = -_best_key(keys, sizes, m[i, ASK_START], m[i, ASK_END])
    if bid >= ask:
        return _CROSSED_BOOK
    code = m[i, CODE]
    if book[code, STATUS] == _SYNCHRONISED and book[code, ANCHOR] <= m[i, LAST] < book[code, APPLIED]:
        return _SUPERSEDED
    return _APPLY


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _judge_sequence(first: int, last: int, previous: int, applied: int, anchor: int) -> int:
    """Return whether a delta on a synchronised book is the next one, by its numbers; -1 is none."""
    if 0 <= last <= applied:
        return _DUPLICATE if last > anchor else _SUPERSEDED
    if previous >= 0:
        follows = previous == applied or (applied == anchor and previous < applied)
    else:
        follows = (first if first >= 0 else last) <= applied + 1
    return _APPLY if follows else _SEQUENCE_GAP


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _has_room(m: Any, i: int, sides: Any, max_levels: int) -> bool:
    code = m[i, CODE]
    bids, asks = m[i, BID_END] - m[i, BID_START], m[i, ASK_END] - m[i, ASK_START]
    if m[i, KIND] == _DELTA:
        bids += sides[2 * code, USED]
        asks += sides[2 * code + 1, USED]
    bid_room = sides[2 * code, CAPACITY] >= min(bids, max_levels)
    return bool(bid_room and sides[2 * code + 1, CAPACITY] >= min(asks, max_levels))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _take_snapshot(
    m: Any, i: int, keys: Any, sizes: Any, book: Any, sides: Any, pool_keys: Any, pool_sizes: Any, max_levels: int
) -> int:
    verdict: int = _judge_snapshot(m, i, keys, sizes, book)
    if verdict != _APPLY:
        return verdict
    if not _has_room(m, i, sides, max_levels):
        return _GROW
    code = m[i, CODE]
    for s in range(2):
        start, end = m[i, BID_START + 2 * s], m[i, BID_END + 2 * s]
        side = 2 * code + s
        new_keys, new_sizes = keys[start:end], sizes[start:end]
        book[code, DROPPED] += fill_side(pool_keys, pool_sizes, sides, side, new_keys, new_sizes, max_levels)
    book[code, APPLIED] = m[i, LAST]
    book[code, ANCHOR] = m[i, LAST]
    if book[code, HELD] > 0:
        return _REPLAY
    book[code, STATUS] = _SYNCHRONISED
    return _APPLY


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _crossed(sides: Any, pool_keys: Any, code: int) -> bool:
    bids, asks = sides[2 * code, USED], sides[2 * code + 1, USED]
    if bids == 0 or asks == 0:
        return False
    bid = pool_keys[sides[2 * code, START] + bids - 1]
    ask = -pool_keys[sides[2 * code + 1, START] + asks - 1]
    return bool(bid >= ask)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _take_delta(
    m: Any, i: int, keys: Any, sizes: Any, book: Any, sides: Any, pool_keys: Any, pool_sizes: Any, max_levels: int
) -> int:
    """Judge a delta on a synchronised book, and apply it; a refusal that loses the book marks it so."""
    code = m[i, CODE]
    applied, anchor = book[code, APPLIED], book[code, ANCHOR]
    verdict: int = _judge_sequence(m[i, FIRST], m[i, LAST], m[i, PREVIOUS], applied, anchor)
    if verdict in (_DUPLICATE, _SUPERSEDED):
        return verdict
    if not _in_range(m, i, keys, sizes):
        verdict = _OUT_OF_RANGE
    if verdict == _APPLY:
        if not _has_room(m, i, sides, max_levels):
            return _GROW
        dropped = 0
        for s in range(2):
            for j in range(m[i, BID_START + 2 * s], m[i, BID_END + 2 * s]):
                dropped += set_level(pool_keys, pool_sizes, sides, 2 * code + s, keys[j], sizes[j], max_levels)
        book[code, DROPPED] += dropped
        book[code, APPLIED] = m[i, LAST]
        if not _crossed(sides, pool_keys, code):
            return verdict
        verdict = _CROSSED_BOOK
    book[code, STATUS] = _LOST
    return verdict


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def emit_top(
    row: int,
    code: int,
    synchronised: bool,
    sides: Any,
    pool_keys: Any,
    pool_sizes: Any,
    depth: int,
    n: Any,
    top: Any,
    levels: Any,
    top_row: Any,
) -> None:
    """Write the top of a book as the output of message `row`."""
    at = n[TOPS]
    n[TOPS] = at + 1
    n_sides = 0
    if not synchronised:
        levels[at, :, :] = np.nan
    for s in range(2):
        side = 2 * code + s
        used = sides[side, USED] if synchronised else 0
        if synchronised:
            copy_side(pool_keys, pool_sizes, sides, side, levels[at])
        if used > 0:
            best = sides[side, START] + used - 1
            top[at, 2 * s] = pool_keys[best] if s == 0 else -pool_keys[best]
            top[at, 2 * s + 1] = pool_sizes[best]
            top[at, 4 + s] = side_depth(pool_sizes, sides, side, depth)
            n_sides += 1
        else:
            top[at, 2 * s] = np.nan
            top[at, 2 * s + 1] = np.nan
            top[at, 4 + s] = np.nan
    top_row[at, 0] = row
    top_row[at, 1] = _OK if n_sides == 2 else _OUT_OF_SYNC


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _note(verdict: int, i: int, code: int, book: Any, n: Any, refused: Any, held: Any) -> None:
    """Write down a message that was not applied."""
    if verdict == _HOLD:
        held[n[HOLDS]] = i
        n[HOLDS] += 1
        book[code, HELD] = 1
    else:
        refused[n[REFUSALS], 0] = i
        refused[n[REFUSALS], 1] = verdict
        n[REFUSALS] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def advance(
    m: Any,
    start: int,
    keys: Any,
    sizes: Any,
    book: Any,
    sides: Any,
    pool_keys: Any,
    pool_sizes: Any,
    n: Any,
    top: Any,
    levels: Any,
    top_row: Any,
    refused: Any,
    held: Any,
    max_levels: int,
    depth: int,
) -> tuple[int, int]:
    """Take messages from `start` on. Return a `Verdict`, and the message at which the kernel stopped."""
    for i in range(start, len(m)):
        code = m[i, CODE]
        synchronised = book[code, STATUS] == _SYNCHRONISED
        if m[i, KIND] == _SNAPSHOT:
            verdict = _take_snapshot(m, i, keys, sizes, book, sides, pool_keys, pool_sizes, max_levels)
        elif synchronised:
            verdict = _take_delta(m, i, keys, sizes, book, sides, pool_keys, pool_sizes, max_levels)
        else:
            verdict = _HOLD if _in_range(m, i, keys, sizes) else _OUT_OF_RANGE
        if verdict in (_GROW, _REPLAY):
            return verdict, i
        now = book[code, STATUS] == _SYNCHRONISED
        if verdict != _APPLY:
            _note(verdict, i, code, book, n, refused, held)
        if verdict == _APPLY or synchronised != now:
            emit_top(i, code, now, sides, pool_keys, pool_sizes, depth, n, top, levels, top_row)
    return _APPLY, len(m)
