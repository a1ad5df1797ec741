"""Order flow: what happens to the books between two instants, and the messages that say so.

Each instrument is a Poisson process whose rates depend on the regime. Market orders take from the best
level, limit orders arrive near the fair price, cancellations shrink a level. Makers react within some ten
milliseconds: a level that the fair price has overtaken leaves, and a best level that it has left behind is
improved. Pressure, a slow number in `(-1, 1)`, tilts the sides of all three kinds of order.

Time goes from event to event. An event's time is drawn once and kept until it comes, so what is only
written down in between (snapshots, late prints) takes no random numbers and changes nothing in the market.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from dataflows.simulator.book_state import (
    ASK,
    BID,
    LEVELS,
    MAX_CHANGES,
    order_size,
    put,
    quote_key,
    reduce_level,
    trim,
    uniform,
)
from dataflows.simulator.config import STEP_NS
from dataflows.simulator.tape import (
    DUE,
    NEXT,
    NOW,
    SEQUENCE,
    TASK,
    next_due,
    publish_book,
    publish_quote,
    write_due,
    write_snapshot,
    write_trade,
)

__all__ = ["advance"]

_REACTION_RATE: Final = 100.0
"""Reactions of makers a second while a quote is out of place: a mean of ten milliseconds."""
_STALE: Final = 0.2
"""Half spreads between fair price and quote under which the quote leaves."""
_FEWEST_LEVELS: Final = 4
_TILT_MARKET: Final = 0.4
_TILT_LIMIT: Final = 0.2


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _open(flow: Any, tape: Any, i: int, fair: float) -> None:
    """Fill an empty book around the fair price and write its first quote and snapshot."""
    book, ts = flow.book, flow.clock[i, NOW]
    book.n_changes[0] = 0
    for side in range(2):
        key = quote_key(book, i, side, fair, flow.half_spread[i])
        for level in range(LEVELS):
            put(book, i, side, key + level, order_size(book.rng, i) + order_size(book.rng, i))
    flow.clock[i, SEQUENCE] = book.n_changes[0]
    flow.traded[i, 0], flow.traded[i, 1], flow.traded[i, 2] = book.keys[i, ASK, 0], book.sizes[i, ASK, 0], 1
    publish_quote(flow, tape, i, ts)
    if i < flow.n_l2:
        write_snapshot(flow, tape, i, ts)
    flow.clock[i, DUE] = next_due(flow, i)[1]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _market_order(flow: Any, tape: Any, i: int, fair: float, pressure: float) -> None:
    book = flow.book
    side = ASK if uniform(book.rng, i) < 0.5 + _TILT_MARKET * pressure else BID
    size = min(order_size(book.rng, i), book.sizes[i, side, 0])
    key = book.keys[i, side, 0]
    traded = flow.traded[i]
    traded[0], traded[1] = (key, size) if side == ASK else (-key, size)
    traded[2] = 1 if side == ASK else -1
    write_trade(flow, tape, i, flow.clock[i, NOW], 0, traded)
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
    book, ts = flow.book, flow.clock[i, NOW]
    book.n_changes[0] = 0
    task = flow.clock[i, TASK]
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
    flow.clock[i, SEQUENCE] += book.n_changes[0]
    if i < flow.n_l2:
        publish_book(flow, tape, i, ts)
    publish_quote(flow, tape, i, ts)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _draw_next(flow: Any, i: int, fair: float, intensity: float) -> int:
    """Return the time of the next event, and note what a maker must see to."""
    task = _out_of_place(flow.book.keys, i, fair, flow.half_spread[i])
    flow.clock[i, TASK] = task
    rate = (flow.trade_rate + flow.book_rate) * intensity + (_REACTION_RATE if task else 0.0)
    return int(flow.clock[i, NOW] + 1 + int(-np.log1p(-uniform(flow.book.rng, i)) / rate * 1e9))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _step(flow: Any, tape: Any, i: int, fair: float, pressure: float, intensity: float, boundary: int) -> None:
    """Go to the next event, or to what is due before it, or to where the fair price changes."""
    clock = flow.clock
    if clock[i, NEXT] == 0:
        clock[i, NEXT] = _draw_next(flow, i, fair, intensity)
    coming = clock[i, NEXT]
    if clock[i, DUE] < min(coming, boundary):
        write_due(flow, tape, i)
    elif coming >= boundary:
        clock[i, NOW], clock[i, NEXT] = boundary, 0
    else:
        clock[i, NOW], clock[i, NEXT] = coming, 0
        _act(flow, tape, i, fair, pressure, intensity)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def advance(flow: Any, tape: Any, fair: Any, pressure: Any, intensity: Any, origin: int, end: int, first: int) -> int:
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
        while flow.clock[i, NOW] < end:
            most = max(tape.counts[0], tape.counts[1], tape.counts[2])
            if most + 4 > len(tape.trades) or tape.counts[3] + 2 * MAX_CHANGES > len(tape.levels):
                return i
            step = (flow.clock[i, NOW] - origin) // STEP_NS
            if flow.book.depth[i, BID] == 0:
                _open(flow, tape, i, fair[step, i])
            boundary = origin + (step + 1) * STEP_NS
            _step(flow, tape, i, fair[step, i], pressure[step, i], intensity[step], boundary)
    return len(flow.clock)
