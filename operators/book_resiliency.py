r"""Resiliency: the share of a disturbance of liquidity that is gone at the next update.

Liquidity $L$ (here the logarithm of spread or depth) returns to its mean as
$L_t - L_{t-1} = \kappa (\theta - L_{t-1}) + \varepsilon_t$. The resiliency $\kappa$ is the least-squares slope, with
its sign turned, of the change on the value before, over updates whose weight halves in a number of updates: 0 where
what was taken does not come back, 1 where it is back at once, above 1 where more comes back than was taken.

References
----------
Kempf, A., Mayston, D., Gehde-Trapp, M. and Yadav, P. K. (2015). Resiliency: a dynamic view of liquidity. CFR working
paper 15-04.
Large, J. (2007). Measuring the resiliency of an electronic limit order book. Journal of Financial Markets 10(1), 1-25.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.book_feature_table import NAMES
from operators.state import Column
from schemas.enums import Missing

__all__ = ["RESILIENCY_COLUMNS", "measure_resiliency"]

_SPREAD: Final = NAMES.index("spread")
_SPREAD_RESILIENCY: Final = NAMES.index("spread_resiliency")
_DEPTH_RESILIENCY: Final = NAMES.index("depth_resiliency")
_COUNT, _WEIGHT, _X_MEAN, _Y_MEAN, _X_SQUARES, _XY_PRODUCTS = range(6)
"""of a series: changes seen, their weight, weighted means of value before and change, and the weighted sums of squares
and products about them"""
_LEAST_VARIANCE: Final = 1e-12
"""Liquidity that deviates from its mean by less than a millionth is constant."""
_OK: Final = int(Missing.OK)
_WARMING_UP: Final = int(Missing.WARMING_UP)
_DEGENERATE: Final = int(Missing.DEGENERATE)
RESILIENCY_COLUMNS: Final = {
    "spread": Column("f8", shape=(2,)),
    "liquidity": Column("f8", fill=float("nan"), shape=(2,)),
    "moments": Column("f8", shape=(2, 6)),
}
"""the state: last spread and its logarithm; of spread and depth the logarithm at the update before, NaN where there is
none, and the moments"""


@njit(cache=True, nogil=True, inline="always", error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _slope(count: float, warm_up: float, weight: float, squares: float, products: float) -> tuple[float, int]:
    """Return the resiliency, NaN where there is none, and why."""
    if count < warm_up:
        return np.nan, _WARMING_UP
    if squares <= _LEAST_VARIANCE * weight:
        return np.nan, _DEGENERATE
    return -products / squares, _OK


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def measure_resiliency(
    code: Any, top_missing: Any, log_depth: Any, half_life: int, spread: Any, liquidity: Any, moments: Any,
    values: Any, missing: Any,
) -> None:  # fmt: skip
    """Fill both columns from the spread, which stands in `values` already, and the logarithm of the depth."""
    fade = 2.0 ** (-1.0 / half_life)
    warm_up = float(half_life)
    for i in range(len(code)):
        c = np.uint64(code[i])
        if top_missing[i] != _OK:
            liquidity[c, 0] = np.nan
            liquidity[c, 1] = np.nan
            continue
        if values[i, _SPREAD] != spread[c, 0]:
            spread[c, 0] = values[i, _SPREAD]
            spread[c, 1] = np.log(values[i, _SPREAD])
        for s in range(2):
            now = log_depth[i] if s == 1 else spread[c, 1]
            before = liquidity[c, s]
            change = now - before
            liquidity[c, s] = now
            if np.isfinite(change):
                weight = fade * moments[c, s, _WEIGHT] + 1.0
                share = 1.0 / weight
                x = before - moments[c, s, _X_MEAN]
                y = change - moments[c, s, _Y_MEAN]
                x_mean = moments[c, s, _X_MEAN] + share * x
                y_mean = moments[c, s, _Y_MEAN] + share * y
                moments[c, s, _COUNT] += 1.0
                moments[c, s, _WEIGHT] = weight
                moments[c, s, _X_MEAN] = x_mean
                moments[c, s, _Y_MEAN] = y_mean
                moments[c, s, _X_SQUARES] = fade * moments[c, s, _X_SQUARES] + x * (before - x_mean)
                moments[c, s, _XY_PRODUCTS] = fade * moments[c, s, _XY_PRODUCTS] + x * (change - y_mean)
            value, reason = _slope(
                moments[c, s, _COUNT], warm_up, moments[c, s, _WEIGHT], moments[c, s, _X_SQUARES],
                moments[c, s, _XY_PRODUCTS],
            )  # fmt: skip
            k = _DEPTH_RESILIENCY if s == 1 else _SPREAD_RESILIENCY
            values[i, k] = value
            missing[i, k] = reason
