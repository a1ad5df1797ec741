r"""Stochastic oscillator: where the close lies between the lowest low and the highest high of a window."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite
from operators.features.window import extremes
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Stochastic", "StochasticConfig"]


class StochasticConfig(ComponentConfig):
    """Stochastic oscillator of high, low and close."""

    window: Annotated[int, Field(ge=1, le=1000)] = 14
    """bars of the range, the present one included; each costs 16 bytes an instrument and a nanosecond a bar"""
    slow_k: Annotated[int, Field(ge=1, le=1000)] = 3
    """fast %K in the plain mean that is slow %K"""
    slow_d: Annotated[int, Field(ge=1, le=1000)] = 3
    """slow %K in the plain mean that is %D"""


class Stochastic(BarFeature):
    r"""Fast %K, slow %K and %D.

    Fast $\%K_t = 100 (C_t - L) / (H - L)$ with $H = \max_{i<w} h_{t-i}$ and $L = \min_{i<w} l_{t-i}$, the
    present bar included. Slow %K is the mean of the last `slow_k` fast ones, %D the mean of the last `slow_d`
    slow ones, both made afresh at each bar, oldest first.

    Notes
    -----
    Warm-up is `window` bars for fast %K, `slow_k - 1` more for slow %K, and `slow_d - 1` more for %D. A range
    of zero has no place in it (`DEGENERATE`), where many libraries say 0, 50 or 100. A high, low or close that
    is not finite, or an overflow, is `NOT_FINITE`. A mean has no value while its window holds a bar without
    one: `NOT_FINITE` if any is that, else `DEGENERATE`. Nothing is clamped: with a close inside its bar all are
    within 0 and 100.

    About 60 ns a bar with the standard parameters, 280 bytes an instrument.

    Examples
    --------
    >>> [(spec.name, spec.warm_up) for spec in Stochastic.specs(StochasticConfig())]
    [('stochastic_fast_k', 14), ('stochastic_slow_k', 16), ('stochastic_d', 18)]

    References
    ----------
    Lane, G. C. (1984). Lane's stochastics. Technical Analysis of Stocks & Commodities 2(3).
    """

    name: ClassVar[str] = "stochastic"
    Config: ClassVar[type[ComponentConfig]] = StochasticConfig
    config: StochasticConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        window = {"window": config.window}
        slow = window | {"slow_k": config.slow_k}
        both = slow | {"slow_d": config.slow_d}
        first = config.window + config.slow_k - 1
        columns = (
            (
                "stochastic_fast_k",
                "100 (close - lowest low) / (highest high - lowest low) over the last window bars",
                window,
                config.window,
            ),
            ("stochastic_slow_k", "mean(stochastic_fast_k) over the last slow_k bars", slow, first),
            ("stochastic_d", "mean(stochastic_slow_k) over the last slow_d bars", both, first + config.slow_d - 1),
        )
        inputs = ("bars.high", "bars.low", "bars.close")
        return tuple(
            FeatureSpec(name, "percent", formula, "Lane (1984)", inputs, parameters, warm_up)
            for name, formula, parameters, warm_up in columns
        )

    def _make_state(self) -> ArrayState:
        config = self.config
        return ArrayState(
            {
                "n_bars": Column("i8"),
                "high": Column("f8", shape=(config.window,)),
                "low": Column("f8", shape=(config.window,)),
                "fast_k": Column("f8", shape=(config.slow_k,)),
                "slow_k": Column("f8", shape=(config.slow_d,)),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        state = self.state
        _oscillate(
            frozen(bars.code), frozen(bars.high), frozen(bars.low), frozen(bars.close),
            state["n_bars"], state["high"], state["low"], state["fast_k"], state["slow_k"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _oscillate(
    code: CodeArray, high: FloatArray, low: FloatArray, close: FloatArray,
    n_bars: IntArray, highs: FloatArray, lows: FloatArray, fast_ks: FloatArray, slow_ks: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = highs.shape[1]
    for i in range(len(code)):
        c = code[i]
        highs[c, n_bars[c] % window] = high[i]
        lows[c, n_bars[c] % window] = low[i]
        n_bars[c] += 1
        n = n_bars[c] - window
        if n < 0:
            missing[i, :] = Missing.WARMING_UP
            continue
        fast_k = _fast_k(close[i], highs[c], lows[c])
        values[i, 0], missing[i, 0] = _reported(fast_k)
        slow_k = _next_mean(fast_ks[c], fast_k)
        n -= fast_ks.shape[1] - 1
        if n < 0:
            missing[i, 1] = missing[i, 2] = Missing.WARMING_UP
            continue
        values[i, 1], missing[i, 1] = _reported(slow_k)
        d = _next_mean(slow_ks[c], slow_k)
        if n < slow_ks.shape[1] - 1:
            missing[i, 2] = Missing.WARMING_UP
        else:
            values[i, 2], missing[i, 2] = _reported(d)


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fast_k(close: float, highs: FloatArray, lows: FloatArray) -> float:
    """Return fast %K: infinite where an input is not finite, NaN where the range is not above zero."""
    top, bottom = extremes(highs, lows)
    if np.isnan(top) or np.isinf(top - bottom) or not np.isfinite(close - bottom):
        return np.inf
    if top <= bottom:
        return np.nan
    ratio = 100.0 * ((close - bottom) / (top - bottom))
    return ratio if np.isfinite(ratio) else np.inf


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _next_mean(last: FloatArray, value: float) -> float:
    """Shift a value in as the newest and return the mean: infinite if one of them is, else NaN if one is."""
    total = 0.0
    infinite = np.isinf(value)
    for k in range(len(last) - 1):
        last[k] = last[k + 1]
        total += last[k]
        infinite |= np.isinf(last[k])
    last[-1] = value
    return np.inf if infinite else (total + value) / len(last)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _reported(value: float) -> tuple[float, int]:
    """Return a value and its `Missing` code: NaN stands for one without meaning."""
    if np.isnan(value):
        return np.nan, Missing.DEGENERATE
    reported: tuple[float, int] = finite(value)
    return reported
