r"""Kyle's lambda: how far the price moves for a unit of signed volume.

Arrival time is cut into buckets of equal length. With $\Delta p_k$ the change of the price (mid, or last trade) from
the end of the bucket before to the end of bucket $k$, and $x_k$ the signed volume of its trades, least squares over
the last $n$ buckets that are over gives

$$ \Delta p_k = \alpha + \lambda x_k + \varepsilon_k, \qquad \lambda = \frac{S_{xy}}{S_{xx}}, \qquad
t = \lambda \Big/ \sqrt{\frac{\sum \hat\varepsilon_k^2}{(n - 2) S_{xx}}}. $$

A bucket without trades counts with $x_k = 0$; one whose price is unknown at either end does not count.

Cost: about 5 ns a trade, and 270 ns a decision with 60 buckets.

References
----------
Kyle, A. (1985). Continuous auctions and insider trading. Econometrica 53(6), 1315-1335.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from operators.columns import FloatArray, IntArray, MissingArray
from operators.flow.config import FlowConfig
from operators.flow.layout import (
    DEGENERATE,
    KYLE_BUCKET,
    KYLE_FLOW,
    KYLE_PRICE,
    LAST_PRICE,
    MID,
    NEVER,
    NO_INPUT,
    PAIRS_SEEN,
    QUOTE_TS,
    TRADE_TS,
    WARMING_UP,
    Parameters,
    put,
    skip,
    wrapped,
)
from schemas.features import FeatureSpec

__all__ = ["close_buckets", "sample_kyle", "specs"]

_FLAT: Final = 1e-20
"""A sum of squares at or below this share of the raw squares is rounding."""


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _price_at(c: int, end: int, numbers: FloatArray, marks: IntArray, p: Parameters) -> float:
    """Return the price at the end of a bucket, NaN where it is unknown or too old."""
    if p.kyle_of_trades:
        seen, price, max_age = marks[c, TRADE_TS], numbers[c, LAST_PRICE], p.max_trade_age
    else:
        seen, price, max_age = marks[c, QUOTE_TS], numbers[c, MID], p.max_quote_age
    return price if seen != NEVER and end - seen <= max_age else np.nan


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def close_buckets(c: int, now: int, numbers: FloatArray, marks: IntArray, p: Parameters) -> None:
    """Close the buckets that have ended by `now`; of a long silence only those that the window can hold."""
    present, bucket = now // p.kyle_bucket, marks[c, KYLE_BUCKET]
    if bucket == NEVER:
        marks[c, KYLE_BUCKET] = present
        return
    while bucket < present:
        price = _price_at(c, (bucket + 1) * p.kyle_bucket, numbers, marks, p)
        seen = marks[c, PAIRS_SEEN]
        at = p.pairs + seen % p.n_pairs
        numbers[c, at] = price - numbers[c, KYLE_PRICE]
        numbers[c, at + p.n_pairs] = numbers[c, KYLE_FLOW]
        marks[c, PAIRS_SEEN] = seen + 1
        numbers[c, KYLE_PRICE] = price
        numbers[c, KYLE_FLOW] = 0.0
        if present - bucket > p.n_pairs + 1:
            # nothing happens in a silence: the price before the last buckets is that at their beginning
            bucket = present - p.n_pairs - 1
            numbers[c, KYLE_PRICE] = _price_at(c, (bucket + 1) * p.kyle_bucket, numbers, marks, p)
        bucket += 1
    marks[c, KYLE_BUCKET] = present


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _means(changes: FloatArray, flows: FloatArray, oldest: int) -> tuple[int, float, float]:
    n = len(changes)
    known, y_sum, x_sum = 0, 0.0, 0.0
    for j in range(n):
        at = wrapped(oldest + j, n)
        if not np.isnan(changes[at]):
            known += 1
            y_sum += changes[at]
            x_sum += flows[at]
    if known == 0:
        return 0, 0.0, 0.0
    return known, y_sum / known, x_sum / known


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _moments(
    changes: FloatArray, flows: FloatArray, oldest: int, y_mean: float, x_mean: float
) -> tuple[float, float, float, float]:
    """Return the centred sums of squares and products, and the raw squares of x."""
    n = len(changes)
    xx = xy = yy = raw = 0.0
    for j in range(n):
        at = wrapped(oldest + j, n)
        if not np.isnan(changes[at]):
            y, x = changes[at] - y_mean, flows[at] - x_mean
            xx += x * x
            xy += x * y
            yy += y * y
            raw += flows[at] * flows[at]
    return xx, xy, yy, raw


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _residual(changes: FloatArray, flows: FloatArray, oldest: int, y_mean: float, x_mean: float, slope: float) -> float:
    """Return the sum of squared residuals."""
    n = len(changes)
    total = 0.0
    for j in range(n):
        at = wrapped(oldest + j, n)
        if not np.isnan(changes[at]):
            total += (changes[at] - y_mean - slope * (flows[at] - x_mean)) ** 2
    return total


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def sample_kyle(
    c: int,
    numbers: FloatArray,
    marks: IntArray,
    p: Parameters,
    d: int,
    k: int,
    values: FloatArray,
    missing: MissingArray,
) -> None:
    """Write lambda and its t-statistic at decision `d`; buckets are closed up to it."""
    if marks[c, TRADE_TS] == NEVER:
        skip(NO_INPUT, d, k, 2, values, missing)
        return
    n, oldest = min(marks[c, PAIRS_SEEN], p.n_pairs), 0
    if n == p.n_pairs:
        oldest = marks[c, PAIRS_SEEN] % n
    changes = numbers[c, p.pairs : p.pairs + n]
    flows = numbers[c, p.pairs + p.n_pairs : p.pairs + p.n_pairs + n]
    known, y_mean, x_mean = _means(changes, flows, oldest)
    if known < p.min_buckets:
        skip(WARMING_UP, d, k, 2, values, missing)
        return
    xx, xy, yy, raw = _moments(changes, flows, oldest, y_mean, x_mean)
    if xx <= _FLAT * raw or xx == 0.0:
        skip(DEGENERATE, d, k, 2, values, missing)
        return
    slope = xy / xx
    put(slope, d, k, values, missing)
    rest = _residual(changes, flows, oldest, y_mean, x_mean, slope)
    if rest <= _FLAT * yy or rest == 0.0:
        skip(DEGENERATE, d, k + 1, 1, values, missing)
    else:
        put(slope / math.sqrt(rest / (known - 2) / xx), d, k + 1, values, missing)


def specs(config: FlowConfig) -> tuple[FeatureSpec, ...]:
    """Return what the outputs are, in order."""
    content = config.content()
    parameters = content["kyle"] | {name: content[name] for name in ("max_quote_age", "max_trade_age")}
    reference, inputs = "Kyle (1985), Continuous auctions and insider trading", ("trades", "books", "quotes")
    least = config.kyle.min_buckets
    return (
        FeatureSpec(
            "kyle_lambda", "quote currency per base unit",
            "slope of the price change on the signed volume, least squares over the last buckets of time",
            reference, inputs, parameters, least,
        ),
        FeatureSpec(
            "kyle_lambda_t", "1", "slope / sqrt(sum residual^2 / (n - 2) / sum (x - mean x)^2)",
            reference, inputs, parameters, least,
        ),
    )  # fmt: skip
