"""Messages of the order flow: the tape that they are written to, and the counters that number them.

A change of a book is published as a delta of the levels that changed, and as a quote where the best levels
did. A sequence number counts level changes, so a message covers a range of them.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from dataflows.simulator.book_state import ASK, BID, BookState, IntArray, make_book_state

__all__ = [
    "DUE",
    "NEVER",
    "NEXT",
    "NOW",
    "SEQUENCE",
    "TASK",
    "Flow",
    "Tape",
    "make_flow",
    "make_tape",
    "next_due",
    "publish_book",
    "publish_quote",
    "write_due",
    "write_snapshot",
    "write_trade",
]

FloatArray = npt.NDArray[np.float64]

NEVER: Final = 2**62
_TAPE_ROWS: Final = 65_536

# columns of `Flow.clock`
NOW: Final = 0
NEXT: Final = 1
SEQUENCE: Final = 2
_TRADE_ID: Final = 3
_SNAPSHOT_DUE: Final = 4
_GAP_LEFT: Final = 5
_GAP_AT: Final = 6
_SEEN_AT: Final = 7
_LATE_AT: Final = 8
TASK: Final = 9
DUE: Final = 10
_CLOCKS: Final = 11

_SNAPSHOT: Final = 1
_SEEN: Final = 2
_LATE: Final = 3


class Tape(NamedTuple):
    """Messages, int64, a row each; prices are ticks."""

    trades: IntArray
    """instrument, time, tick, size, side, trade id, late print or not"""
    quotes: IntArray
    """instrument, time, bid tick, bid size, ask tick, ask size, sequence"""
    books: IntArray
    """instrument, time, delta or not, first, last, previous sequence, bid levels, ask levels, in a gap or not"""
    levels: IntArray
    """tick and size of the levels of `books`, in order, bids of a message before its offers"""
    counts: IntArray
    """rows used of each of the above, shape `(4,)`"""


class Flow(NamedTuple):
    """Everything that `advance` works on."""

    book: BookState
    clock: IntArray
    """times and counters of each instrument, shape `(n, 11)`"""
    quoted: IntArray
    """last quote: bid tick, bid size, ask tick, ask size; shape `(n, 4)`"""
    traded: IntArray
    """last trade: tick, size, side; shape `(n, 3)`"""
    late_ts: IntArray
    """when each late print arrives, ascending, `NEVER` behind the last; shape `(n, k)`"""
    late_trades: IntArray
    """tick, size, side of each late print, taken from the last trade at its event time; shape `(n, k, 3)`"""
    gap_ts: IntArray
    """when the next delta is to be lost, ascending, `NEVER` behind the last; shape `(n, k)`"""
    gap_length: IntArray
    """deltas between the loss and the snapshot, shape `(n, k)`"""
    gaps: IntArray
    """first and last sequence lost by each gap, 0 where it has not come; shape `(n, k, 2)`"""
    half_spread: FloatArray
    """ticks, shape `(n,)`"""
    trade_rate: float
    book_rate: float
    late_by: int
    snapshot_interval: int
    n_l2: int


def make_tape() -> Tape:
    """Return an empty tape."""
    rows = _TAPE_ROWS
    trades, quotes, books, levels = (
        np.zeros(shape, np.int64) for shape in ((rows, 7), (rows, 7), (rows, 9), (8 * rows, 2))
    )
    return Tape(trades, quotes, books, levels, np.zeros(4, np.int64))


def make_flow(
    seeds: npt.NDArray[np.uint64],
    half_spread: FloatArray,
    start: int,
    rates: tuple[float, float],
    late: tuple[IntArray, int],
    gaps: tuple[IntArray, IntArray],
    snapshots: tuple[int, int],
) -> Flow:
    """Return the flow at its start.

    Parameters
    ----------
    seeds
        Seed of each instrument, shape `(n,)`.
    half_spread
        Half spread that makers aim at, ticks, shape `(n,)`.
    start
        Time of the opening, UTC ns.
    rates
        Trades, and limit orders with cancellations, a second and instrument.
    late
        Arrival times of the late prints, shape `(n, k)`, and their age, ns.
    gaps
        Times of the sequence gaps and their lengths in deltas, shape `(n, k)` each.
    snapshots
        Interval of the snapshots, ns, and how many instruments publish their book.
    """
    n = len(seeds)
    clock = np.zeros((n, _CLOCKS), np.int64)
    clock[:, NOW] = start
    interval, n_l2 = snapshots
    clock[:, _SNAPSHOT_DUE] = start + interval + (interval // max(n, 1)) * np.arange(n)
    clock[n_l2:, _SNAPSHOT_DUE] = NEVER
    return Flow(
        make_book_state(seeds),
        clock,
        np.zeros((n, 4), np.int64),
        np.zeros((n, 3), np.int64),
        late[0],
        np.zeros((*late[0].shape, 3), np.int64),
        gaps[0],
        gaps[1],
        np.zeros((*gaps[0].shape, 2), np.int64),
        half_spread,
        rates[0],
        rates[1],
        late[1],
        interval,
        n_l2,
    )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _write_level(tape: Any, side: int, key: int, size: int) -> None:
    row = tape.counts[3]
    tape.levels[row, 0] = key if side == ASK else -key
    tape.levels[row, 1] = size
    tape.counts[3] = row + 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def write_snapshot(flow: Any, tape: Any, i: int, ts: int) -> None:
    """Write the whole book, and move on the time of the next snapshot."""
    book, clock = flow.book, flow.clock[i]
    for side in range(2):
        for level in range(book.depth[i, side]):
            _write_level(tape, side, book.keys[i, side, level], book.sizes[i, side, level])
    row = tape.books[tape.counts[2]]
    row[0], row[1], row[2] = i, ts, 0
    row[3], row[4], row[5] = -1, clock[SEQUENCE], -1
    row[6], row[7], row[8] = book.depth[i, BID], book.depth[i, ASK], 0
    tape.counts[2] += 1
    while clock[_SNAPSHOT_DUE] <= ts:
        clock[_SNAPSHOT_DUE] += flow.snapshot_interval


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _write_delta(flow: Any, tape: Any, i: int, ts: int, in_gap: int) -> None:
    book, changes = flow.book, flow.book.n_changes[0]
    row = tape.books[tape.counts[2]]
    row[0], row[1], row[2] = i, ts, 1
    row[4] = flow.clock[i, SEQUENCE]
    row[5] = row[4] - changes
    row[3] = row[5] + 1
    row[6], row[7], row[8] = 0, 0, in_gap
    for side in range(2):
        for change in range(changes):
            if book.changes[change, 0] == side:
                _write_level(tape, side, book.changes[change, 1], book.changes[change, 2])
                row[6 + side] += 1
    tape.counts[2] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def next_due(flow: Any, i: int) -> tuple[int, int]:
    """Return what is to be written next, whatever the market does, and when."""
    clock = flow.clock[i]
    what, when = _SNAPSHOT, NEVER
    if clock[_GAP_LEFT] == 0:
        when = clock[_SNAPSHOT_DUE]
    seen = flow.late_ts[i, clock[_SEEN_AT]]
    if seen < NEVER and seen - flow.late_by < when:
        what, when = _SEEN, seen - flow.late_by
    if flow.late_ts[i, clock[_LATE_AT]] < when:
        what, when = _LATE, flow.late_ts[i, clock[_LATE_AT]]
    return what, when


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def publish_book(flow: Any, tape: Any, i: int, ts: int) -> None:
    """Write the delta, or lose it where a gap is due; end a gap by a snapshot."""
    clock = flow.clock[i]
    gap = clock[_GAP_AT]
    if clock[_GAP_LEFT] > 0:
        clock[_GAP_LEFT] -= 1
        _write_delta(flow, tape, i, ts, 1)
        if clock[_GAP_LEFT] == 0:
            write_snapshot(flow, tape, i, ts)
            clock[DUE] = next_due(flow, i)[1]
    elif ts >= flow.gap_ts[i, gap]:
        flow.gaps[i, gap, 0] = clock[SEQUENCE] - flow.book.n_changes[0] + 1
        flow.gaps[i, gap, 1] = clock[SEQUENCE]
        clock[_GAP_LEFT] = flow.gap_length[i, gap]
        clock[_GAP_AT] = gap + 1
        clock[DUE] = next_due(flow, i)[1]
    else:
        _write_delta(flow, tape, i, ts, 0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def publish_quote(flow: Any, tape: Any, i: int, ts: int) -> None:
    """Write the best levels where they changed."""
    keys, sizes, quoted = flow.book.keys, flow.book.sizes, flow.quoted
    bid, bid_size = -keys[i, BID, 0], sizes[i, BID, 0]
    ask, ask_size = keys[i, ASK, 0], sizes[i, ASK, 0]
    if quoted[i, 0] == bid and quoted[i, 1] == bid_size and quoted[i, 2] == ask and quoted[i, 3] == ask_size:
        return
    quoted[i, 0], quoted[i, 1], quoted[i, 2], quoted[i, 3] = bid, bid_size, ask, ask_size
    row = tape.quotes[tape.counts[1]]
    row[0], row[1], row[6] = i, ts, flow.clock[i, SEQUENCE]
    row[2], row[3], row[4], row[5] = bid, bid_size, ask, ask_size
    tape.counts[1] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def write_trade(flow: Any, tape: Any, i: int, ts: int, late: int, trade: Any) -> None:
    """Write a trade (tick, size, side) under the next trade id."""
    row = tape.trades[tape.counts[0]]
    flow.clock[i, _TRADE_ID] += 1
    row[0], row[1], row[5], row[6] = i, ts, flow.clock[i, _TRADE_ID], late
    row[2], row[3], row[4] = trade[0], trade[1], trade[2]
    tape.counts[0] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def write_due(flow: Any, tape: Any, i: int) -> None:
    """Write what is due: a snapshot, or a late print; or note the trade that a late print will repeat."""
    clock = flow.clock[i]
    what, when = next_due(flow, i)
    if what == _SNAPSHOT:
        write_snapshot(flow, tape, i, max(when, clock[NOW]))
    elif what == _SEEN:
        for part in range(3):
            flow.late_trades[i, clock[_SEEN_AT], part] = flow.traded[i, part]
        clock[_SEEN_AT] += 1
    else:
        write_trade(flow, tape, i, max(when, clock[NOW]), 1, flow.late_trades[i, clock[_LATE_AT]])
        clock[_LATE_AT] += 1
    clock[DUE] = next_due(flow, i)[1]
