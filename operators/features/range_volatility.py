r"""Volatility from the range of each bar: Parkinson's estimator and that of Garman and Klass."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Final

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["RangeVolatility", "RangeVolatilityConfig"]

_PARKINSON: Final = 1.0 / (4.0 * math.log(2.0))
_GARMAN_KLASS: Final = 2.0 * math.log(2.0) - 1.0


class RangeVolatilityConfig(ComponentConfig):
    """Parkinson's and Garman and Klass's volatility over a window."""

    window: Annotated[int, Field(ge=1, le=1000)] = 20
    """bars in the window, the present one included; each costs 16 bytes an instrument"""


class RangeVolatility(BarFeature):
    r"""Volatility of one bar from high and low, and from open, high, low and close.

    $$ \sigma_P^2 = \frac{1}{4 w \ln 2} \sum_{i<w} \ln^2 \frac{H_{t-i}}{L_{t-i}}, \qquad
    \sigma_{GK}^2 = \frac1w \sum_{i<w} \left[ \tfrac12 \ln^2 \frac{H_{t-i}}{L_{t-i}}
    - (2 \ln 2 - 1) \ln^2 \frac{C_{t-i}}{O_{t-i}} \right] $$

    For a price that diffuses without drift they need 4.9 and 7.4 times fewer bars than squared closing returns for
    the same precision. What happens between bars is left out, and with few trades in a bar the range, and so both
    estimates, are too small: the extremes of the path lie between trades.

    Notes
    -----
    Per bar, not annualised. Warm-up is `window` bars. While the window holds a price that is not finite there is no
    value (`NOT_FINITE`), while it holds one that is not positive neither (`DEGENERATE`). A window in which nothing
    moved has volatility zero, which would size a position without limit: `DEGENERATE`. A bar whose open or close lies
    outside its range may take Garman and Klass's variance below zero: `DEGENERATE` too.

    About 70 ns a bar, 328 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in RangeVolatility.specs(RangeVolatilityConfig())]
    ['parkinson_volatility', 'garman_klass_volatility']

    References
    ----------
    Parkinson, M. (1980). The extreme value method for estimating the variance of the rate of return. Journal of
    Business 53(1). Garman, M. and Klass, M. (1980). On the estimation of security price volatilities from historical
    data. Journal of Business 53(1), equation 20 without its small cross terms.
    """

    name: ClassVar[str] = "range_volatility"
    Config: ClassVar[type[ComponentConfig]] = RangeVolatilityConfig
    config: RangeVolatilityConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        window = {"window": config.window}
        return (
            FeatureSpec(
                "parkinson_volatility",
                "1 per bar",
                "sqrt(mean(ln(high / low)^2) / (4 ln 2)) over the last window bars",
                "Parkinson (1980)",
                ("bars.high", "bars.low"),
                window,
                config.window,
            ),
            FeatureSpec(
                "garman_klass_volatility",
                "1 per bar",
                "sqrt(mean(ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2)) over the last window bars",
                "Garman and Klass (1980)",
                ("bars.open", "bars.high", "bars.low", "bars.close"),
                window,
                config.window,
            ),
        )

    def _make_state(self) -> ArrayState:
        shape = (self.config.window,)
        return ArrayState(
            {"n_bars": Column("i8"), "range": Column("f8", shape=shape), "body": Column("f8", shape=shape)}, version=1
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 2)`."""
        values, missing = self.empty(len(bars), 2)
        state = self.state
        _estimate(
            frozen(bars.code), frozen(bars.open), frozen(bars.high), frozen(bars.low), frozen(bars.close),
            state["n_bars"], state["range"], state["body"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _estimate(
    code: CodeArray, open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray,
    n_bars: IntArray, ranges: FloatArray, bodies: FloatArray, values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = ranges.shape[1]
    for i in range(len(code)):
        c = code[i]
        ranges[c, n_bars[c] % window] = _squared_log(high[i], low[i])
        bodies[c, n_bars[c] % window] = _squared_log(close[i], open_[i])
        n_bars[c] += 1
        if n_bars[c] < window:
            missing[i, :] = Missing.WARMING_UP
            continue
        extent, wide = _total(ranges[c], n_bars[c] % window)
        body, long = _total(bodies[c], n_bars[c] % window)
        values[i, 0], missing[i, 0] = _root(_PARKINSON * extent / window, wide)
        values[i, 1], missing[i, 1] = _root((0.5 * extent - _GARMAN_KLASS * body) / window, wide or long)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _squared_log(top: float, bottom: float) -> float:
    """Return the squared log ratio: infinite where a price is not finite, NaN where one is not positive."""
    if not (np.isfinite(top) and np.isfinite(bottom)):
        return np.inf
    if top <= 0.0 or bottom <= 0.0:
        return np.nan
    log = float(np.log(top / bottom))
    return log * log


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _total(ring: FloatArray, oldest: int) -> tuple[float, bool]:
    """Return the sum, oldest first, and whether a term is infinite."""
    total = 0.0
    infinite = False
    for k in range(len(ring)):
        term = ring[oldest + k if oldest + k < len(ring) else oldest + k - len(ring)]
        total += term
        infinite |= np.isinf(term)
    return total, infinite


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _root(variance: float, infinite: bool) -> tuple[float, int]:
    if infinite:
        return np.nan, Missing.NOT_FINITE
    if variance > 0.0:
        return np.sqrt(variance), Missing.OK
    return np.nan, Missing.DEGENERATE
