r"""The first levels of a book: slope, weighted imbalance, and the order flow below the best prices.

With $p_l$ and $V_l$ the price of level $l$ and the quantity on the first $l$ levels of a side, $v_l = \ln(1 + V_l)$ and
$N$ levels, the slope of a side is

$$\frac{1}{N} \left( \frac{v_1}{|p_1 / m - 1|}
  + \sum_{l=1}^{N-1} \frac{v_{l+1} / v_l - 1}{|p_{l+1} / p_l - 1|} \right),$$

$m$ the mid, and that of the book the mean of both. The paper has $\ln V$: the same for shares by the hundred, where
ours is defined for a fraction of a coin too.

Order flow at a level is that of `operators.book_features` with the level's price and quantity. A level that a side does
not have is one of quantity 0 at the worst price there is.

References
----------
Naes, R. and Skjeltorp, J. A. (2006). Order book characteristics and the volume-volatility relation: empirical
evidence from a limit order market. Journal of Financial Markets 9(4), 408-432.
Xu, K., Gould, M. D. and Howison, S. D. (2018). Multi-level order-flow imbalance in a limit order book. Market
Microstructure and Liquidity 4(3-4).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.book_feature_table import NAMES
from operators.state import Column
from schemas.enums import Missing

__all__ = ["depth_columns", "measure_depth"]

_MID: Final = NAMES.index("mid_price")
_SLOPE: Final = NAMES.index("book_slope")
_WEIGHTED: Final = NAMES.index("weighted_depth_imbalance")
_FLOW: Final = NAMES.index("multi_level_order_flow_imbalance")
_KEY, _SIZE, _TOTAL, _LOG = range(4)
"""of a level as it was: price for bids and its negation for offers, quantity, quantity on the levels up to it, and the
logarithm of one plus that, kept because it stays the same until one of those levels changes"""
_STEPS, _WEIGHTED_SIZE, _LOG_DEPTH = range(3)
"""of a side: slope, quantities divided by the ranks of their levels, logarithm of one plus all of them"""
_OK: Final = int(Missing.OK)
_WARMING_UP: Final = int(Missing.WARMING_UP)
_NOT_FINITE: Final = int(Missing.NOT_FINITE)


def depth_columns(depth: int) -> dict[str, Column]:
    """Return the state: how many levels were known at the update before, and the levels of both sides."""
    return {"n_levels": Column("i4"), "levels": Column("f8", shape=(depth, 2, 4))}


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _net(key: float, size: float, key_before: float, size_before: float) -> float:
    """Return what came to a level of a side less what left it; higher keys are better prices."""
    came = size if key >= key_before else 0.0
    left = size_before if key <= key_before else 0.0
    return came - left


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _imbalance(bid: float, ask: float) -> float:
    total = bid + ask
    return (bid - ask) / (total if total < np.inf else np.nan)


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def measure_depth(
    code: Any,
    top: Any,
    levels: Any,
    top_missing: Any,
    n_known: Any,
    book: Any,
    values: Any,
    missing: Any,
    log_depth: Any,
) -> None:
    """Fill the columns of this module, and `log_depth`, the sum of both sides' logarithms, NaN where there is no top.

    `levels` has a row for each of `code`, or none where no row has levels below the best. The mid, and the order flow
    at the best prices in the column of the multi-level one, stand in `values` already.
    """
    bids, bid_sizes, asks, ask_sizes = top
    n_below = levels.shape[1] if len(levels) > 0 else 0
    sides = np.empty((2, 3))
    for i in range(len(code)):
        c = np.uint64(code[i])
        log_depth[i] = np.nan
        n_before = n_known[c]
        n_known[c] = 0
        if top_missing[i] != _OK:
            continue
        n_levels = 1 + n_below if n_below > 0 and not np.isnan(levels[i, 0, 1]) else 1
        n_known[c] = n_levels
        flow = 0.0
        for s in range(2):
            price_before, log_before, from_log = values[i, _MID], 1.0, 0.0
            total = steps = weighted = 0.0
            n = 0
            for k in range(n_levels):
                if k == 0:
                    price, size = (bids[i], bid_sizes[i]) if s == 0 else (asks[i], ask_sizes[i])
                else:
                    price, size = levels[i, k - 1, 2 * s], levels[i, k - 1, 2 * s + 1]
                key = (price if s == 0 else -price) if size > 0.0 else -np.inf
                net = _net(key, size, book[c, k, s, _KEY], book[c, k, s, _SIZE]) if k > 0 else 0.0
                flow += net if s == 0 else -net
                book[c, k, s, _KEY] = key
                book[c, k, s, _SIZE] = size
                if not size > 0.0:
                    continue
                total += size
                if total != book[c, k, s, _TOTAL]:
                    book[c, k, s, _TOTAL] = total
                    book[c, k, s, _LOG] = np.log(1.0 + total)
                log = book[c, k, s, _LOG]
                steps += (log / log_before - from_log) / abs(price / price_before - 1.0)
                weighted += size / (k + 1)
                n += 1
                price_before, log_before, from_log = price, log, 1.0
            sides[s, _STEPS] = steps / n
            sides[s, _WEIGHTED_SIZE] = weighted
            sides[s, _LOG_DEPTH] = log_before
        slope = 0.5 * (sides[0, _STEPS] + sides[1, _STEPS])
        imbalance = _imbalance(sides[0, _WEIGHTED_SIZE], sides[1, _WEIGHTED_SIZE])
        log_depth[i] = sides[0, _LOG_DEPTH] + sides[1, _LOG_DEPTH]
        values[i, _SLOPE] = slope if np.isfinite(slope) else np.nan
        values[i, _WEIGHTED] = imbalance
        missing[i, _SLOPE] = _OK if np.isfinite(slope) else _NOT_FINITE
        missing[i, _WEIGHTED] = _OK if np.isfinite(imbalance) else _NOT_FINITE
        if n_levels > 1 and missing[i, _FLOW] == _OK:
            flow += values[i, _FLOW]
            known = n_before == n_levels
            values[i, _FLOW] = flow if known and np.isfinite(flow) else np.nan
            missing[i, _FLOW] = (_OK if np.isfinite(flow) else _NOT_FINITE) if known else _WARMING_UP
