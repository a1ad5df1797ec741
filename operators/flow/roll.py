r"""Roll's spread: the bounce between bid and offer, seen in trade prices alone.

With $\Delta p_t$ the price changes between the last $n$ trades,

$$ s = 2 \sqrt{-\mathrm{cov}(\Delta p_t, \Delta p_{t-1})}, $$

the covariance over the $n - 2$ pairs of neighbouring changes, each side about its own mean, divided by their number.
In basis points of the mean price of the window. A covariance that is not negative, or so close to zero (1e-8 of the
mean square of the changes) that it may be the rounding of prices, has no root: no value.

Cost: about 10 ns a trade, and 130 ns a decision with 64 trades.

References
----------
Roll, R. (1984). A simple implicit measure of the effective bid-ask spread in an efficient market. Journal of Finance
39(4), 1127-1139.
"""

from __future__ import annotations

import math
from typing import Final

from numba import njit

from operators.columns import FloatArray, IntArray, MissingArray
from operators.flow.config import FlowConfig
from operators.flow.layout import (
    DEGENERATE,
    NEVER,
    NO_INPUT,
    PRICES_SEEN,
    STALE,
    TRADE_TS,
    WARMING_UP,
    Parameters,
    put,
    skip,
    wrapped,
)
from schemas.features import FeatureSpec

__all__ = ["add_price", "sample_roll", "specs"]

_ROUNDING: Final = 1e-8
"""A covariance this small beside the mean square of the changes counts as zero. A price of ten million ticks is rounded
by up to 1e-9 of a tick."""


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_price(c: int, price: float, numbers: FloatArray, marks: IntArray, p: Parameters) -> None:
    """Take the price of a trade."""
    seen = marks[c, PRICES_SEEN]
    numbers[c, p.trades + seen % p.n_trades] = price
    marks[c, PRICES_SEEN] = seen + 1


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _covariance(ring: FloatArray, oldest: int) -> tuple[float, float, float]:
    """Return the covariance of neighbouring changes, their mean square, and the mean price, oldest first."""
    n = len(ring)
    # the sum of the changes up to the last but one, and from the second on
    former = (ring[wrapped(oldest + n - 2, n)] - ring[wrapped(oldest, n)]) / (n - 2)
    latter = (ring[wrapped(oldest + n - 1, n)] - ring[wrapped(oldest + 1, n)]) / (n - 2)
    total, square, mean = 0.0, 0.0, ring[wrapped(oldest, n)] + ring[wrapped(oldest + 1, n)]
    before, price = ring[wrapped(oldest + 1, n)] - ring[wrapped(oldest, n)], ring[wrapped(oldest + 1, n)]
    for k in range(2, n):
        following = ring[wrapped(oldest + k, n)]
        mean += following
        total += (following - price - latter) * (before - former)
        square += (following - price) ** 2
        before, price = following - price, following
    return total / (n - 2), square / (n - 2), mean / n


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def sample_roll(
    c: int,
    ts: int,
    numbers: FloatArray,
    marks: IntArray,
    p: Parameters,
    d: int,
    k: int,
    values: FloatArray,
    missing: MissingArray,
) -> None:
    """Write the spread at decision `d`."""
    seen, ring = marks[c, PRICES_SEEN], numbers[c, p.trades : p.trades + p.n_trades]
    if marks[c, TRADE_TS] == NEVER:
        skip(NO_INPUT, d, k, 1, values, missing)
    elif seen < len(ring):
        skip(WARMING_UP, d, k, 1, values, missing)
    elif ts - marks[c, TRADE_TS] > p.max_trade_age:
        skip(STALE, d, k, 1, values, missing)
    else:
        covariance, square, mean = _covariance(ring, seen % len(ring))
        if -covariance > _ROUNDING * square:
            put(2e4 * math.sqrt(-covariance) / mean, d, k, values, missing)
        else:
            skip(DEGENERATE, d, k, 1, values, missing)


def specs(config: FlowConfig) -> tuple[FeatureSpec, ...]:
    """Return what the output is."""
    content = config.content()
    return (
        FeatureSpec(
            "roll_trade_spread_bps", "basis points",
            "2e4 sqrt(-cov(dp_t, dp_t-1)) / mean price over the last trades; none where the covariance is not negative",
            "Roll (1984), A simple implicit measure of the effective bid-ask spread in an efficient market",
            ("trades",), content["roll"] | {"max_trade_age": content["max_trade_age"]}, config.roll.trades,
        ),
    )  # fmt: skip
