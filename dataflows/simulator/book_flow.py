"""Order flow: what happens to the books between two instants, and the messages that say so.

Each instrument is a Poisson process whose rates depend on the regime. Market orders take from the best
level, limit orders arrive near the fair price, cancellations shrink a level. Makers react within some ten
milliseconds: a level that the fair price has overtaken leaves, and a best level that it has left behind is
improved. Pressure, a slow number in `(-1, 1)`, tilts the sides of all three kinds of order.

Time goes from event to event. An event's time is drawn once and kept until it comes, so what is only
written down in between (snapshots, late prints) takes no random numbers and changes nothing in the market.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from dataflows.simulator.book_state import (
    ASK,
    BID,
    LEVELS,
    MAX_CHANGES,
    BookState,
    IntArray,
    make_book_state,
    order_size,
    put,
    quote_key,
    reduce_level,
    trim,
    uniform,
)
from dataflows.simulator.config import STEP_NS

__all__ = ["NEVER", "Flow", "Tape", "advance", "make_flow", "make_tape"]

FloatArray = npt.NDArray[np.float64]

NEVER: Final = 2**62
_TAPE_ROWS: Final = 65_536
_REACTION_RATE: Final = 100.0
"""Reactions of makers a second while a quote is out of place: a mean of ten milliseconds."""
_STALE: Final = 0.2
"""Half spreads between fair price and quote under which the quote leaves."""
_FEWEST_LEVELS: Final = 4
_TILT_MARKET: Final = 0.4
_TILT_LIMIT: Final = 0.2

# columns of `Flow.clock`
_NOW: Final = 0
_NEXT: Final = 1
_SEQUENCE: Final = 2
_TRADE_ID: Final = 3
_SNAPSHOT_DUE: Final = 4
_GAP_LEFT: Final = 5
_GAP_AT: Final = 6
_SEEN_AT: Final = 7
_LATE_AT: Final = 8
_TASK: Final = 9
_DUE: Final = 10
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
    shapes = ((rows, 7), (rows, 7), (rows, 9), (8 * rows, 2))
    return Tape(*(np.zeros(shape, np.int64) for shape in shapes), np.zeros(4, np.int64))


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
    clock[:, _NOW] = start
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
def _write_snapshot(flow: Any, tape: Any, i: int, ts: int) -> None:
    book, clock = flow.book, flow.clock[i]
    for side in range(2):
        for level in range(book.depth[i, side]):
            _write_level(tape, side, book.keys[i, side, level], book.sizes[i, side, level])
    row = tape.books[tape.counts[2]]
    row[0], row[1], row[2] = i, ts, 0
    row[3], row[4], row[5] = -1, clock[_SEQUENCE], -1
    row[6], row[7], row[8] = book.depth[i, BID], book.depth[i, ASK], 0
    tape.counts[2] += 1
    while clock[_SNAPSHOT_DUE] <= ts:
        clock[_SNAPSHOT_DUE] += flow.snapshot_interval


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _write_delta(flow: Any, tape: Any, i: int, ts: int, in_gap: int) -> None:
    book, changes = flow.book, flow.book.n_changes[0]
    row = tape.books[tape.counts[2]]
    row[0], row[1], row[2] = i, ts, 1
    row[4] = flow.clock[i, _SEQUENCE]
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
def _due(flow: Any, i: int) -> tuple[int, int]:
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
def _publish_book(flow: Any, tape: Any, i: int, ts: int) -> None:
    """Write the delta, or lose it where a gap is due; end a gap by a snapshot."""
    clock = flow.clock[i]
    gap = clock[_GAP_AT]
    if clock[_GAP_LEFT] > 0:
        clock[_GAP_LEFT] -= 1
        _write_delta(flow, tape, i, ts, 1)
        if clock[_GAP_LEFT] == 0:
            _write_snapshot(flow, tape, i, ts)
            clock[_DUE] = _due(flow, i)[1]
    elif ts >= flow.gap_ts[i, gap]:
        flow.gaps[i, gap, 0] = clock[_SEQUENCE] - flow.book.n_changes[0] + 1
        flow.gaps[i, gap, 1] = clock[_SEQUENCE]
        clock[_GAP_LEFT] = flow.gap_length[i, gap]
        clock[_GAP_AT] = gap + 1
        clock[_DUE] = _due(flow, i)[1]
    else:
        _write_delta(flow, tape, i, ts, 0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _publish_quote(flow: Any, tape: Any, i: int, ts: int) -> None:
    keys, sizes, quoted = flow.book.keys, flow.book.sizes, flow.quoted
    bid, bid_size = -keys[i, BID, 0], sizes[i, BID, 0]
    ask, ask_size = keys[i, ASK, 0], sizes[i, ASK, 0]
    if quoted[i, 0] == bid and quoted[i, 1] == bid_size and quoted[i, 2] == ask and quoted[i, 3] == ask_size:
        return
    quoted[i, 0], quoted[i, 1], quoted[i, 2], quoted[i, 3] = bid, bid_size, ask, ask_size
    row = tape.quotes[tape.counts[1]]
    row[0], row[1], row[6] = i, ts, flow.clock[i, _SEQUENCE]
    row[2], row[3], row[4], row[5] = bid, bid_size, ask, ask_size
    tape.counts[1] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _write_trade(flow: Any, tape: Any, i: int, ts: int, late: int, trade: Any) -> None:
    row = tape.trades[tape.counts[0]]
    flow.clock[i, _TRADE_ID] += 1
    row[0], row[1], row[5], row[6] = i, ts, flow.clock[i, _TRADE_ID], late
    row[2], row[3], row[4] = trade[0], trade[1], trade[2]
    tape.counts[0] += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _open(flow: Any, tape: Any, i: int, fair: float) -> None:
    """Fill an empty book around the fair price and write its first quote and snapshot."""
    book, ts = flow.book, flow.clock[i, _NOW]
    book.n_changes[0] = 0
    for side in range(2):
        key = quote_key(book, i, side, fair, flow.half_spread[i])
        for level in range(LEVELS):
            put(book, i, side, key + level, order_size(book.rng, i) + order_size(book.rng, i))
    flow.clock[i, _SEQUENCE] = book.n_changes[0]
    flow.traded[i, 0], flow.traded[i, 1], flow.traded[i, 2] = book.keys[i, ASK, 0], book.sizes[i, ASK, 0], 1
    _publish_quote(flow, tape, i, ts)
    if i < flow.n_l2:
        _write_snapshot(flow, tape, i, ts)
    flow.clock[i, _DUE] = _due(flow, i)[1]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _market_order(flow: Any, tape: Any, i: int, fair: float, pressure: float) -> None:
    book = flow.book
    side = ASK if uniform(book.rng, i) < 0.5 + _TILT_MARKET * pressure else BID
    size = min(order_size(book.rng, i), book.sizes[i, side, 0])
    key = book.keys[i, side, 0]
    traded = flow.traded[i]
    traded[0], traded[1] = (key, size) if side == ASK else (-key, size)
    traded[2] = 1 if side == ASK else -1
    _write_trade(flow, tape, i, flow.clock[i, _NOW], 0, traded)
    reduce_level(book, i, side, 0, size)
    if book.depth[i, side] == 0:
        refill = max(quote_key(book, i, side, fair, flow.half_spread[i]), key + 1)
        put(book, i, side, refill, order_size(book.rng, i))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _limit_order(flow: Any, i: int, side: int, fair: float) -> None:
    book = flow.book
    behind = int(uniform(book.rng, i) ** 2 * LEVELS)
    put(book, i, side, quote_key(book, i, side, fair, flow.half_spread[i]) + behind, order_size(book.rng, i))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _cancellation(flow: Any, i: int, side: int, fair: float) -> None:
    """Shrink a level, or remove it in three of ten cases; a thin side gets an order instead."""
    book = flow.book
    if book.depth[i, side] < _FEWEST_LEVELS:
        _limit_order(flow, i, side, fair)
        return
    level = int(uniform(book.rng, i) * book.depth[i, side])
    size = book.sizes[i, side, level]
    if uniform(book.rng, i) >= 0.3:
        size = 1 + int(uniform(book.rng, i) * size)
    reduce_level(book, i, side, level, size)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _out_of_place(keys: Any, i: int, fair: float, half: float) -> int:
    """Return which quote a maker must see to: 1 + side where it is stale, 3 + side where it is too far, or 0."""
    bid, ask = keys[i, BID, 0], keys[i, ASK, 0]
    if bid < _STALE * half - fair:
        return 1 + BID
    if ask < _STALE * half + fair:
        return 1 + ASK
    room = max(1.0, half)
    if bid > max(np.ceil(half - fair), 1.0 - ask) + room:
        return 3 + BID
    if ask > max(np.ceil(half + fair), 1.0 - bid) + room:
        return 3 + ASK
    return 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _react(flow: Any, i: int, fair: float, task: int) -> None:
    """Withdraw the stale levels of a side, or quote anew at its best key."""
    book = flow.book
    side = (task - 1) % 2
    half = flow.half_spread[i]
    if task <= 2:
        trim(book, i, side, (1.0 if side == ASK else -1.0) * fair + _STALE * half)
    if task > 2 or book.depth[i, side] == 0:
        put(book, i, side, quote_key(book, i, side, fair, half), order_size(book.rng, i))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _act(flow: Any, tape: Any, i: int, fair: float, pressure: float, intensity: float) -> None:
    """Let one event happen and publish it."""
    book, ts = flow.book, flow.clock[i, _NOW]
    book.n_changes[0] = 0
    task = flow.clock[i, _TASK]
    market, limit = flow.trade_rate * intensity, flow.book_rate * intensity
    total = market + limit + (_REACTION_RATE if task else 0.0)
    draw = uniform(book.rng, i) * total
    if draw < market:
        _market_order(flow, tape, i, fair, pressure)
    elif draw < market + 0.5 * limit:
        _limit_order(flow, i, BID if uniform(book.rng, i) < 0.5 + _TILT_LIMIT * pressure else ASK, fair)
    elif draw < market + limit:
        _cancellation(flow, i, ASK if uniform(book.rng, i) < 0.5 + _TILT_LIMIT * pressure else BID, fair)
    else:
        _react(flow, i, fair, task)
    flow.clock[i, _SEQUENCE] += book.n_changes[0]
    if i < flow.n_l2:
        _publish_book(flow, tape, i, ts)
    _publish_quote(flow, tape, i, ts)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _write_due(flow: Any, tape: Any, i: int) -> None:
    clock = flow.clock[i]
    what, when = _due(flow, i)
    if what == _SNAPSHOT:
        _write_snapshot(flow, tape, i, max(when, clock[_NOW]))
    elif what == _SEEN:
        flow.late_trades[i, clock[_SEEN_AT]] = flow.traded[i]
        clock[_SEEN_AT] += 1
    else:
        _write_trade(flow, tape, i, max(when, clock[_NOW]), 1, flow.late_trades[i, clock[_LATE_AT]])
        clock[_LATE_AT] += 1
    clock[_DUE] = _due(flow, i)[1]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _draw_next(flow: Any, i: int, fair: float, intensity: float) -> int:
    """Return the time of the next event, and note what a maker must see to."""
    task = _out_of_place(flow.book.keys, i, fair, flow.half_spread[i])
    flow.clock[i, _TASK] = task
    rate = (flow.trade_rate + flow.book_rate) * intensity + (_REACTION_RATE if task else 0.0)
    return int(flow.clock[i, _NOW] + 1 + int(-np.log1p(-uniform(flow.book.rng, i)) / rate * 1e9))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _step(flow: Any, tape: Any, i: int, fair: float, pressure: float, intensity: float, boundary: int) -> None:
    """Go to the next event, or to what is due before it, or to where the fair price changes."""
    clock = flow.clock
    if clock[i, _NEXT] == 0:
        clock[i, _NEXT] = _draw_next(flow, i, fair, intensity)
    coming = clock[i, _NEXT]
    if clock[i, _DUE] <= min(coming, boundary):
        _write_due(flow, tape, i)
    elif coming >= boundary:
        clock[i, _NOW], clock[i, _NEXT] = boundary, 0
    else:
        clock[i, _NOW], clock[i, _NEXT] = coming, 0
        _act(flow, tape, i, fair, pressure, intensity)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def advance(
    flow: Any, tape: Any, fair: Any, pressure: Any, intensity: Any, origin: int, end: int, first: int
) -> int:
    """Let the instruments from `first` on live until `end`, as far as the tape reaches.

    Parameters
    ----------
    flow, tape
        Changed in place; messages are written behind those on the tape.
    fair, pressure
        Fair price in ticks, and pressure in `(-1, 1)`, shape `(steps, n)`.
    intensity
        Factor of the order rates, shape `(steps,)`.
    origin, end
        Time of the first step and of the end of the last, UTC ns.
    first
        Instrument to go on with.

    Returns
    -------
    The instrument at which the tape was full, or the number of instruments.
    """
    for i in range(first, len(flow.clock)):
        while flow.clock[i, _NOW] < end:
            most = max(tape.counts[0], tape.counts[1], tape.counts[2])
            if most + 4 > len(tape.trades) or tape.counts[3] + 2 * MAX_CHANGES > len(tape.levels):
                return i
            step = (flow.clock[i, _NOW] - origin) // STEP_NS
            if flow.book.depth[i, BID] == 0:
                _open(flow, tape, i, fair[step, i])
            boundary = origin + (step + 1) * STEP_NS
            _step(flow, tape, i, fair[step, i], pressure[step, i], intensity[step], boundary)
    return len(flow.clock)
