r"""Features of a book at each of its updates; one pass over the rows.

With best bid $b$ and offer $a$ and their quantities $q^b$ and $q^a$, order flow imbalance adds what each update brought
to the bid and took from the offer,

$$e_n = 1_{b_n \ge b_{n-1}} q^b_n - 1_{b_n \le b_{n-1}} q^b_{n-1}
      - 1_{a_n \le a_{n-1}} q^a_n + 1_{a_n \ge a_{n-1}} q^a_{n-1},$$

and the same at every level, with the prices and quantities of that level. A level that a side does not have is one of
quantity 0 at the worst price there is. What else is computed stands in `operators.book_feature_table`.

References
----------
Cont, R., Kukanov, A. and Stoikov, S. (2014). The price impact of order book events. Journal of Financial
Econometrics 12(1), 47-88.
Gatheral, J. and Oomen, R. (2010). Zero-intelligence realized variance estimation. Finance and Stochastics 14(2),
249-283.
Gould, M. D. and Bonart, J. (2016). Queue imbalance as a one-tick-ahead price predictor in a limit order book. Market
Microstructure and Liquidity 2(2).
Naes, R. and Skjeltorp, J. A. (2006). Order book characteristics and the volume-volatility relation: empirical
evidence from a limit order market. Journal of Financial Markets 9(4), 408-432.
Xu, K., Gould, M. D. and Howison, S. D. (2018). Multi-level order-flow imbalance in a limit order book. Market
Microstructure and Liquidity 4(3-4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit

from operators.book_depth import depth_columns, measure_depth
from operators.book_feature_table import NAMES, BookFeatureConfig, book_specs
from operators.book_microprice import follow_microprice, microprice_columns, microprice_rules
from operators.book_resiliency import RESILIENCY_COLUMNS, measure_resiliency
from operators.columns import BookColumns, CodeArray, Columns, FloatArray, IntArray, MissingArray, frozen
from operators.state import Column, InstrumentState
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["NAMES", "BookFeatureColumns", "BookFeatureConfig", "BookFeatureState"]

_N: Final = len(NAMES)
_BID: Final = NAMES.index("bid_price")
_ASK: Final = NAMES.index("ask_price")
_BID_SIZE: Final = NAMES.index("bid_size")
_ASK_SIZE: Final = NAMES.index("ask_size")
_MID: Final = NAMES.index("mid_price")
_SPREAD: Final = NAMES.index("spread")
_SPREAD_BPS: Final = NAMES.index("spread_bps")
_WEIGHTED_MID: Final = NAMES.index("weighted_mid")
_DEPTH_IMBALANCE: Final = NAMES.index("depth_imbalance")
_QUEUE_IMBALANCE: Final = NAMES.index("queue_imbalance")
_TICK: Final = NAMES.index("tick_size")
_TICKS: Final = NAMES.index("spread_ticks")
_FLOW: Final = NAMES.index("order_flow_imbalance")
_LEVELS_FLOW: Final = NAMES.index("multi_level_order_flow_imbalance")
_BID_ADDED: Final = NAMES.index("bid_size_added")
_BID_REMOVED: Final = NAMES.index("bid_size_removed")
_ASK_ADDED: Final = NAMES.index("ask_size_added")
_ASK_REMOVED: Final = NAMES.index("ask_size_removed")
_UP_MOVES: Final = NAMES.index("touch_up_moves")
_DOWN_MOVES: Final = NAMES.index("touch_down_moves")
_TOUCH: Final = (
    _BID, _ASK, _BID_SIZE, _ASK_SIZE, _MID, _SPREAD, _SPREAD_BPS, _WEIGHTED_MID, _QUEUE_IMBALANCE, _FLOW, _LEVELS_FLOW,
)  # fmt: skip
"""what may overflow"""
_FLOWS: Final = (
    _FLOW, _LEVELS_FLOW, _BID_ADDED, _BID_REMOVED, _ASK_ADDED, _ASK_REMOVED, _UP_MOVES, _DOWN_MOVES,
)  # fmt: skip

_OK: Final = int(Missing.OK)
_WARMING_UP: Final = int(Missing.WARMING_UP)
_DEGENERATE: Final = int(Missing.DEGENERATE)
_NOT_FINITE: Final = int(Missing.NOT_FINITE)

_L_KNOWN, _L_BID, _L_BID_SIZE, _L_ASK, _L_ASK_SIZE = range(5)
"""the update before: 1 where it had a value, best prices and quantities"""
_T_COUNT, _T_LEAST, _T_BEFORE = range(5, 8)
"""updates in this span, smallest increment of this span and of the one before (0 or inf: none)"""
_SPAN: Final = 65_536
"""Updates after which the smallest increment before the present span is forgotten: one price off the grid makes the
tick too small for twice as many updates at most, and a grid is seen in far fewer."""
_NOISE: Final = 1e-9
"""Differences of prices below this share of the price may be rounding: no feed of ours has a finer grid."""
_WHOLE: Final = 1e-6
"""Relative deviation from a whole number of ticks that is rounding."""


@dataclass(frozen=True, slots=True)
class BookFeatureColumns(Columns):
    """Book features at each update, rows in arrival order."""

    code: CodeArray
    ts: IntArray
    """`ts_recv` of the update"""
    values: FloatArray
    """shape `(n, len(NAMES))`, columns as in `NAMES`; NaN where there is no value"""
    missing: MissingArray
    """shape `(n, len(NAMES))`, a `Missing` code: `OK` exactly where the value is finite"""


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _ratios(bid: float, bid_size: float, ask: float, ask_size: float) -> tuple[float, float, float, float]:
    """Return mid, spread in basis points, weighted mid and queue imbalance."""
    prices, sizes = bid + ask, bid_size + ask_size
    mid = 0.5 * prices if prices < np.inf else np.nan
    total = sizes if sizes < np.inf else np.nan
    weighted_mid = (ask * bid_size + bid * ask_size) / total
    return mid, 1e4 * (ask - bid) / mid, weighted_mid, (bid_size - ask_size) / total


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _imbalance(bid: float, ask: float) -> tuple[float, int]:
    total = bid + ask
    imbalance = (bid - ask) / (total if total < np.inf else np.nan)
    reason = _NOT_FINITE if total > 0.0 else _DEGENERATE
    return imbalance, _OK if np.isfinite(imbalance) else reason


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _queue(move: float, size: float, size_before: float) -> tuple[float, float]:
    """Return what came to and left the queue at the best price; `move` is above 0 where that became better."""
    change = size - size_before
    more = change if change > 0.0 else 0.0
    less = -change if change < 0.0 else 0.0
    added = size if move > 0.0 else (more if move == 0.0 else 0.0)
    return added, size_before if move < 0.0 else (less if move == 0.0 else 0.0)


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _order_flow(
    bid_move: float, bid_size: float, bid_size_before: float, ask_move: float, ask_size: float, ask_size_before: float
) -> float:
    flow = bid_size if bid_move >= 0.0 else 0.0
    flow -= bid_size_before if bid_move <= 0.0 else 0.0
    flow -= ask_size if ask_move <= 0.0 else 0.0
    return flow + (ask_size_before if ask_move >= 0.0 else 0.0)


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _smaller(least: float, increment: float, floor: float) -> float:
    return increment if floor < increment < least else least


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _ticks(spread: float, tick: float, count: float, warm_up: float) -> tuple[float, int, float, int]:
    """Return the tick, the spread in it, each with the reason that it is missing."""
    if count < warm_up:
        return np.nan, _WARMING_UP, np.nan, _WARMING_UP
    if tick == np.inf:
        return np.nan, _DEGENERATE, np.nan, _DEGENERATE
    ticks = spread / tick
    if ticks == np.inf:
        return tick, _OK, np.nan, _NOT_FINITE
    whole = np.floor(ticks + 0.5)
    return tick, _OK, whole if abs(ticks - whole) <= _WHOLE * ticks else ticks, _OK


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mark(values: Any, missing: Any, i: int, known: bool) -> None:
    """Give the touch's values that are not finite, and the flows from an update that is not known, their reason."""
    for k in _TOUCH:
        if not np.isfinite(values[i, k]):
            values[i, k] = np.nan
            missing[i, k] = _NOT_FINITE
    if not known:
        for k in _FLOWS:
            values[i, k] = np.nan
            missing[i, k] = _WARMING_UP


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _compute(
    code: Any, top: Any, depths: Any, top_missing: Any, warm_up: float, last: Any, values: Any, missing: Any
) -> None:
    """Fill what touch and depth say; rows without top are missing everywhere."""
    bids, bid_sizes, asks, ask_sizes = top
    bid_depths, ask_depths = depths
    for i in range(len(code)):
        c = np.uint64(code[i])
        for k in range(_N):
            missing[i, k] = top_missing[i]
        known = last[c, _L_KNOWN] > 0.0
        if top_missing[i] != _OK:
            for k in range(_N):
                values[i, k] = np.nan
            last[c, _L_KNOWN] = 0.0
            continue
        bid, bid_size, ask, ask_size = bids[i], bid_sizes[i], asks[i], ask_sizes[i]
        bid_size_before, ask_size_before = last[c, _L_BID_SIZE], last[c, _L_ASK_SIZE]
        bid_move, ask_move = bid - last[c, _L_BID], ask - last[c, _L_ASK]
        floor = _NOISE * ask
        least = last[c, _T_LEAST] if last[c, _T_LEAST] > 0.0 else np.inf
        least = _smaller(least, ask - bid, floor)
        if known:
            least = _smaller(_smaller(least, abs(bid_move), floor), abs(ask_move), floor)
        before = last[c, _T_BEFORE] if last[c, _T_BEFORE] > 0.0 else np.inf
        count = last[c, _T_COUNT] + 1.0
        seen = count if last[c, _T_BEFORE] == 0.0 else warm_up
        smallest = least if least < before else before
        tick, tick_reason, ticks, ticks_reason = _ticks(ask - bid, smallest, seen, warm_up)
        mid, spread_bps, weighted_mid, queue_imbalance = _ratios(bid, bid_size, ask, ask_size)
        imbalance, imbalance_reason = _imbalance(bid_depths[i], ask_depths[i])
        flow = _order_flow(bid_move, bid_size, bid_size_before, ask_move, ask_size, ask_size_before)
        bid_added, bid_removed = _queue(bid_move, bid_size, bid_size_before)
        ask_added, ask_removed = _queue(-ask_move, ask_size, ask_size_before)
        values[i, _BID] = bid
        values[i, _ASK] = ask
        values[i, _BID_SIZE] = bid_size
        values[i, _ASK_SIZE] = ask_size
        values[i, _MID] = mid
        values[i, _SPREAD] = ask - bid
        values[i, _SPREAD_BPS] = spread_bps
        values[i, _WEIGHTED_MID] = weighted_mid
        values[i, _DEPTH_IMBALANCE] = imbalance
        missing[i, _DEPTH_IMBALANCE] = imbalance_reason
        values[i, _QUEUE_IMBALANCE] = queue_imbalance
        values[i, _TICK] = tick
        values[i, _TICKS] = ticks
        missing[i, _TICK] = tick_reason
        missing[i, _TICKS] = ticks_reason
        values[i, _FLOW] = flow
        values[i, _LEVELS_FLOW] = flow
        values[i, _BID_ADDED] = bid_added
        values[i, _BID_REMOVED] = bid_removed
        values[i, _ASK_ADDED] = ask_added
        values[i, _ASK_REMOVED] = ask_removed
        values[i, _UP_MOVES] = (1.0 if bid_move > 0.0 else 0.0) + (1.0 if ask_move > 0.0 else 0.0)
        values[i, _DOWN_MOVES] = (1.0 if bid_move < 0.0 else 0.0) + (1.0 if ask_move < 0.0 else 0.0)
        if not (known and np.isfinite((mid + spread_bps) + (weighted_mid + queue_imbalance) + flow)):
            _mark(values, missing, i, known)
        if count >= _SPAN:
            last[c, _T_BEFORE] = least
            least = np.inf
            count = 0.0
        last[c, _T_COUNT] = count
        last[c, _T_LEAST] = least
        last[c, _L_KNOWN] = 1.0
        last[c, _L_BID] = bid
        last[c, _L_BID_SIZE] = bid_size
        last[c, _L_ASK] = ask
        last[c, _L_ASK_SIZE] = ask_size


class BookFeatureState(InstrumentState):
    """Prices, spread, imbalances, flows, micro-price, slope and resiliency at each update of a book.

    A row whose top says that it has no value (the book is lost, locked or one-sided) has no feature either, and
    gives that reason for all of them.

    Parameters
    ----------
    depth
        Levels of each side that the rows may have, the best included. A row of a quote has one.
    config
        Parameters of single features.

    Raises
    ------
    ValueError
        `depth` is below 1.

    Notes
    -----
    Flows need the update before: the first one of an instrument, and the first after a row without value, says
    `WARMING_UP`; so does the flow over several levels at the first update that has them. Zero depth on both sides
    gives no imbalance, a book whose liquidity never changes no resiliency, one whose two sides never mix no
    micro-price, and one without any increment of price no tick (`DEGENERATE`). What overflows says `NOT_FINITE`.

    The tick is inferred, point in time: the smallest increment of the best prices seen so far. The quantities of the
    slope are `ln(1 + V)` where the paper has `ln V`: the same for shares by the hundred, and defined for a fraction
    of a coin.

    A hostile number stays bounded: a price off the grid spoils the tick, and with it the micro-price, which starts
    anew when the tick changes, for at most 131,072 updates; a jump of the mid above 1 % is not counted by the
    micro-price; the resiliency is one of logarithms, where a huge value is at most 710 and fades with its half-life.

    Cost is about 60 ns a row of quotes, 110 ns where ten thousand instruments take turns, and 120 ns a row of a book
    of five levels. An instrument takes 1.7 kB, two thirds of it the micro-price's counts.

    Examples
    --------
    >>> state = BookFeatureState(depth=1)
    >>> state.ensure(1)
    >>> column = lambda *values: np.array(values)
    >>> bid_size, ask_size = column(3.0, 5.0), column(1.0, 1.0)
    >>> top = BookColumns(np.zeros(2, dtype=np.int32), column(10, 20), column(9.0, 9.0), bid_size, column(10.0, 10.0),
    ...     ask_size, bid_size, ask_size, np.zeros(2, dtype=np.uint8), np.empty((2, 0, 4)))
    >>> features = state.update(top)
    >>> dict(zip(NAMES, features.values[1].tolist()))["order_flow_imbalance"]
    2.0
    >>> Missing(features.missing[0, NAMES.index("order_flow_imbalance")]).name
    'WARMING_UP'
    """

    def __init__(self, depth: int = 5, config: BookFeatureConfig | None = None) -> None:
        if depth < 1:
            raise ValueError(f"expected `depth` of at least 1, was {depth}")
        config = config or BookFeatureConfig()
        self._depth = depth
        self._tick_warm_up = float(config.tick_warm_up)
        self._half_life = config.resiliency_half_life
        self._microprice = microprice_rules(config)
        columns = (
            {"last": Column("f8", shape=(8,))} | depth_columns(depth) | microprice_columns(config) | RESILIENCY_COLUMNS
        )
        super().__init__(columns, version=2)

    @staticmethod
    def specs(depth: int, config: BookFeatureConfig | None = None) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in the order of `NAMES`; `depth` is the number of levels in a book's depth."""
        return book_specs(depth, config or BookFeatureConfig())

    def update(self, top: BookColumns) -> BookFeatureColumns:
        """Take the next tops in arrival order and return the features at each; every code must have its row.

        Raises
        ------
        ValueError
            The rows have other levels than the state keeps.
        """
        n = len(top)
        levels = self._levels_of(top)
        values, log_depth = np.empty((n, _N)), np.empty(n)
        missing = np.empty((n, _N), dtype=np.uint8)
        code, top_missing, state = frozen(top.code), frozen(top.missing), self._state
        touch = tuple(map(frozen, (top.bid_price, top.bid_size, top.ask_price, top.ask_size)))
        depths = frozen(top.bid_depth), frozen(top.ask_depth)
        _compute(code, touch, depths, top_missing, self._tick_warm_up, state["last"], values, missing)
        book = state["n_levels"], state["levels"]
        measure_depth(code, touch, levels, top_missing, *book, values, missing, log_depth)
        follow_microprice(code, top_missing, self._microprice, state["place"], state["chain"], values, missing)
        liquidity = state["spread"], state["liquidity"], state["moments"]
        measure_resiliency(code, top_missing, log_depth, self._half_life, *liquidity, values, missing)
        return BookFeatureColumns(top.code, top.ts, values, missing)

    def _levels_of(self, top: BookColumns) -> FloatArray:
        """Return the levels below the best; no row at all where no row has them."""
        levels = top.levels
        if levels.shape[1] not in (0, self._depth - 1):
            raise ValueError(
                f"expected rows of 1 or {self._depth} levels, found {levels.shape[1] + 1}; "
                "make the state with the depth of the books"
            )
        return frozen(levels if levels.strides[0] else levels[:0])
