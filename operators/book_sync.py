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
import numpy.typing as npt
from numba import njit

from operators.book_levels import fill_side, set_level, side_depth
from operators.columns import FloatArray, Int8Array, IntArray
from schemas.enums import BookKind, DeadLetterReason, Missing

__all__ = ["BookRefusal", "BookStatus", "Output", "Stop", "advance", "emit_top", "make_output"]


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


class Stop(IntEnum):
    """Why the kernel stopped."""

    END = 0
    GROW = 1
    """the sides of the message's book need room; then the same message again"""
    REPLAY = 2
    """a snapshot was taken over, and the held deltas of its book come next"""


class Output(NamedTuple):
    """What the kernel writes: tops, refusals and held messages, and how many of each in `n`."""

    n: IntArray
    top_row: IntArray
    top_missing: npt.NDArray[np.uint8]
    top: FloatArray
    """shape `(n, 6)`: bid price, bid size, offer price, offer size, bid depth, offer depth"""
    refused_row: IntArray
    refusal: Int8Array
    held_row: IntArray


def make_output(n_rows: int) -> Output:
    """Return room for the output of `n_rows` messages."""
    return Output(
        np.zeros(3, dtype=np.int64),
        np.empty(n_rows, dtype=np.int64),
        np.empty(n_rows, dtype=np.uint8),
        np.empty((n_rows, 6)),
        np.empty(n_rows, dtype=np.int64),
        np.empty(n_rows, dtype=np.int8),
        np.empty(n_rows, dtype=np.int64),
    )


# The kernels know the vocabularies as plain integers: numba compiles those into the code.
_DELTA: Final = int(BookKind.DELTA)
_SNAPSHOT: Final = int(BookKind.SNAPSHOT)
_OK: Final = int(Missing.OK)
_OUT_OF_SYNC: Final = int(Missing.OUT_OF_SYNC)
_DUPLICATE: Final = int(BookRefusal.DUPLICATE)
_SUPERSEDED: Final = int(BookRefusal.SUPERSEDED)
_SEQUENCE_GAP: Final = int(BookRefusal.SEQUENCE_GAP)
_CROSSED_BOOK: Final = int(BookRefusal.CROSSED_BOOK)
_OUT_OF_RANGE: Final = int(BookRefusal.OUT_OF_RANGE)
_SYNCHRONISED: Final = int(BookStatus.SYNCHRONISED)
_LOST: Final = int(BookStatus.LOST)
_END: Final = int(Stop.END)
_GROW: Final = int(Stop.GROW)
_REPLAY: Final = int(Stop.REPLAY)
_TOPS, _REFUSALS, _HELD = 0, 1, 2


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _sane(prices: Any, sizes: Any, start: int, end: int) -> bool:
    sane = True
    for i in range(start, end):
        sane &= 0.0 < prices[i] < np.inf and 0.0 <= sizes[i] < np.inf
    return sane


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _content_sane(m: Any, i: int) -> bool:
    return bool(
        (m.kind[i] == _DELTA or m.kind[i] == _SNAPSHOT)
        and m.last_sequence[i] >= 0
        and m.first_sequence[i] <= m.last_sequence[i]
        and _sane(m.bid_prices, m.bid_sizes, m.bid_offsets[i], m.bid_offsets[i + 1])
        and _sane(m.ask_prices, m.ask_sizes, m.ask_offsets[i], m.ask_offsets[i + 1])
    )


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _snapshot_crossed(m: Any, i: int) -> bool:
    bid, ask = 0.0, np.inf
    for j in range(m.bid_offsets[i], m.bid_offsets[i + 1]):
        if m.bid_sizes[j] > 0.0:
            bid = max(bid, m.bid_prices[j])
    for j in range(m.ask_offsets[i], m.ask_offsets[i + 1]):
        if m.ask_sizes[j] > 0.0:
            ask = min(ask, m.ask_prices[j])
    return bool(bid >= ask)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _snapshot_refusal(m: Any, i: int, book: Any) -> int:
    """Return why a snapshot is refused, 0 if it is not.

    A snapshot older than its book, but not older than the snapshot that the book was built from, only comes late.
    One that is older than that too starts a feed whose numbers began anew.
    """
    if not _content_sane(m, i):
        return _OUT_OF_RANGE
    if _snapshot_crossed(m, i):
        return _CROSSED_BOOK
    code = m.code[i]
    if book.status[code] == _SYNCHRONISED and book.anchor[code] <= m.last_sequence[i] < book.last[code]:
        return _SUPERSEDED
    return 0


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _delta_refusal(m: Any, i: int, book: Any) -> int:
    """Return why a delta on a synchronised book is refused, 0 if it is the next one."""
    code = m.code[i]
    last, final = book.last[code], m.last_sequence[i]
    if 0 <= final <= last:
        return _DUPLICATE if final > book.anchor[code] else _SUPERSEDED
    if not _content_sane(m, i):
        return _OUT_OF_RANGE
    previous = m.previous_sequence[i]
    if previous >= 0:
        after_snapshot = last == book.anchor[code]
        return 0 if previous == last or (after_snapshot and previous < last) else _SEQUENCE_GAP
    first = m.first_sequence[i] if m.first_sequence[i] >= 0 else final
    return 0 if first <= last + 1 else _SEQUENCE_GAP


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _has_room(levels: Any, side: int, needed: int, max_levels: int) -> bool:
    return bool(levels.capacity[side] >= min(needed, max_levels))


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _crossed(levels: Any, code: int) -> bool:
    bids, asks = levels.used[2 * code], levels.used[2 * code + 1]
    if bids == 0 or asks == 0:
        return False
    bid = levels.key[levels.start[2 * code] + bids - 1]
    ask = -levels.key[levels.start[2 * code + 1] + asks - 1]
    return bool(bid >= ask)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def emit_top(book: Any, levels: Any, out: Any, row: int, code: int, depth: int) -> None:
    """Write the top of a book as the output of message `row`."""
    n = out.n[_TOPS]
    out.n[_TOPS] = n + 1
    out.top_row[n] = row
    out.top[n, :] = np.nan
    out.top_missing[n] = _OUT_OF_SYNC
    if book.status[code] != _SYNCHRONISED:
        return
    sides = 0
    for s in range(2):
        side = 2 * code + s
        count = levels.used[side]
        if count > 0:
            best = levels.start[side] + count - 1
            out.top[n, 2 * s] = levels.key[best] if s == 0 else -levels.key[best]
            out.top[n, 2 * s + 1] = levels.size[best]
            out.top[n, 4 + s] = side_depth(levels, side, depth)
            sides += 1
    if sides == 2:
        out.top_missing[n] = _OK


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _refuse(out: Any, row: int, refusal: int) -> None:
    n = out.n[_REFUSALS]
    out.n[_REFUSALS] = n + 1
    out.refused_row[n] = row
    out.refusal[n] = refusal


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _take_snapshot(m: Any, i: int, book: Any, levels: Any, out: Any, max_levels: int, depth: int) -> int:
    refusal = _snapshot_refusal(m, i, book)
    if refusal:
        _refuse(out, i, refusal)
        return _END
    code = m.code[i]
    bid_start, bid_end, ask_start, ask_end = (
        m.bid_offsets[i],
        m.bid_offsets[i + 1],
        m.ask_offsets[i],
        m.ask_offsets[i + 1],
    )
    if not _has_room(levels, 2 * code, bid_end - bid_start, max_levels):
        return _GROW
    if not _has_room(levels, 2 * code + 1, ask_end - ask_start, max_levels):
        return _GROW
    bid_prices, bid_sizes = m.bid_prices[bid_start:bid_end], m.bid_sizes[bid_start:bid_end]
    ask_prices, ask_sizes = m.ask_prices[ask_start:ask_end], m.ask_sizes[ask_start:ask_end]
    book.dropped[code] += fill_side(levels, 2 * code, 1.0, bid_prices, bid_sizes, max_levels)
    book.dropped[code] += fill_side(levels, 2 * code + 1, -1.0, ask_prices, ask_sizes, max_levels)
    book.last[code] = book.anchor[code] = m.last_sequence[i]
    if book.held[code] > 0:
        return _REPLAY
    book.status[code] = _SYNCHRONISED
    emit_top(book, levels, out, i, code, depth)
    return _END


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _apply_delta(m: Any, i: int, book: Any, levels: Any, max_levels: int) -> None:
    code = m.code[i]
    dropped = 0
    for j in range(m.bid_offsets[i], m.bid_offsets[i + 1]):
        dropped += set_level(levels, 2 * code, m.bid_prices[j], m.bid_sizes[j], max_levels)
    for j in range(m.ask_offsets[i], m.ask_offsets[i + 1]):
        dropped += set_level(levels, 2 * code + 1, -m.ask_prices[j], m.ask_sizes[j], max_levels)
    book.dropped[code] += dropped
    book.last[code] = m.last_sequence[i]


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _hold_delta(m: Any, i: int, book: Any, out: Any) -> None:
    if not _content_sane(m, i):
        _refuse(out, i, _OUT_OF_RANGE)
        return
    book.held[m.code[i]] += 1
    out.held_row[out.n[_HELD]] = i
    out.n[_HELD] += 1


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _take_delta(m: Any, i: int, book: Any, levels: Any, out: Any, max_levels: int, depth: int) -> int:
    code = m.code[i]
    if book.status[code] != _SYNCHRONISED:
        _hold_delta(m, i, book, out)
        return _END
    refusal = _delta_refusal(m, i, book)
    if refusal == 0:
        for s in range(2):
            offsets = m.bid_offsets if s == 0 else m.ask_offsets
            needed = levels.used[2 * code + s] + offsets[i + 1] - offsets[i]
            if not _has_room(levels, 2 * code + s, needed, max_levels):
                return _GROW
        _apply_delta(m, i, book, levels, max_levels)
        if not _crossed(levels, code):
            emit_top(book, levels, out, i, code, depth)
            return _END
        refusal = _CROSSED_BOOK
    _refuse(out, i, refusal)
    if refusal != _DUPLICATE and refusal != _SUPERSEDED:
        book.status[code] = _LOST
        emit_top(book, levels, out, i, code, depth)
    return _END


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def advance(m: Any, start: int, book: Any, levels: Any, out: Any, max_levels: int, depth: int) -> tuple[int, int]:
    """Take messages from `start` on. Return a `Stop`, and the message at which the kernel stopped."""
    for i in range(start, len(m.code)):
        if m.kind[i] == _SNAPSHOT:
            stop = _take_snapshot(m, i, book, levels, out, max_levels, depth)
        else:
            stop = _take_delta(m, i, book, levels, out, max_levels, depth)
        if stop != _END:
            return stop, i
    return _END, len(m.code)
