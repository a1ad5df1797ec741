r"""Moving average convergence and divergence: a fast less a slow exponential average, and its own average."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite
from operators.features.smoothing import smoothed
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Macd", "MacdConfig"]


class MacdConfig(ComponentConfig):
    """Moving average convergence and divergence of the close."""

    fast: Annotated[int, Field(ge=1, le=10_000)] = 12
    """span of the fast average of the close"""
    slow: Annotated[int, Field(ge=2, le=10_000)] = 26
    """span of the slow average of the close, above the fast"""
    signal: Annotated[int, Field(ge=1, le=10_000)] = 9
    """span of the average of the line"""

    @model_validator(mode="after")
    def _fast_is_shorter(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"expected `fast` below `slow`, found {self.fast} and {self.slow}; swap or part them")
        return self


class Macd(BarFeature):
    r"""Moving average convergence and divergence.

    The line is $E^{fast}_t - E^{slow}_t$ of the close, the signal the exponential average of the line, and the
    histogram line less signal. Each average of span $p$ starts as the plain mean of its first $p$ inputs and
    follows $E_t = E_{t-1} + \frac{2}{p+1} (x_t - E_{t-1})$ after that.

    Notes
    -----
    Warm-up is `slow` bars for the line, and `slow + signal - 1` for signal and histogram. TA-Lib starts the
    fast average not at the first close but so that it begins together with the slow one; the difference shrinks
    by $1 - 2 / (fast + 1)$ a bar and is gone after some hundred. A close that is not finite, or with which an
    average would overflow, does not exist: that bar has no value (`NOT_FINITE`) and leaves the averages as they
    were. A finite one that is absurd stays in them with its weight, which decays. A line of zero is a value.

    About 5 ns a bar with the standard parameters, 40 bytes an instrument.

    Examples
    --------
    >>> [(spec.name, spec.warm_up) for spec in Macd.specs(MacdConfig())]
    [('macd', 26), ('macd_signal', 34), ('macd_histogram', 34)]

    References
    ----------
    Appel, G. (2005). Technical Analysis: Power Tools for Active Investors, chapter 8.
    """

    name: ClassVar[str] = "macd"
    Config: ClassVar[type[ComponentConfig]] = MacdConfig
    config: MacdConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        line = {"fast": config.fast, "slow": config.slow}
        both = line | {"signal": config.signal}
        last = config.slow + config.signal - 1
        columns = (
            ("macd", "EMA(close, fast) - EMA(close, slow), each from the mean of its first closes", line, config.slow),
            ("macd_signal", "EMA(macd, signal), from the mean of its first lines", both, last),
            ("macd_histogram", "macd - macd_signal", both, last),
        )
        return tuple(
            FeatureSpec(name, "price", formula, "Appel (2005)", ("bars.close",), parameters, warm_up)
            for name, formula, parameters, warm_up in columns
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "n_closes": Column("i8"),
                "fast": Column("f8"),
                "slow": Column("f8"),
                "n_lines": Column("i8"),
                "signal": Column("f8"),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        config, state = self.config, self.state
        _converge(
            frozen(bars.code), frozen(bars.close), config.fast, config.slow, config.signal,
            state["n_closes"], state["fast"], state["slow"], state["n_lines"], state["signal"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _converge(
    code: CodeArray, close: FloatArray, fast_span: int, slow_span: int, signal_span: int,
    n_closes: IntArray, fast: FloatArray, slow: FloatArray, n_lines: IntArray, signal: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        c = code[i]
        fast_average = smoothed(fast[c], n_closes[c], close[i], fast_span, 2.0 / (fast_span + 1.0))
        slow_average = smoothed(slow[c], n_closes[c], close[i], slow_span, 2.0 / (slow_span + 1.0))
        line = fast_average - slow_average
        if np.isfinite(line):
            fast[c] = fast_average
            slow[c] = slow_average
            n_closes[c] += 1
        if n_closes[c] < slow_span:
            missing[i, :] = Missing.WARMING_UP
            continue
        average = smoothed(signal[c], n_lines[c], line, signal_span, 2.0 / (signal_span + 1.0))
        if np.isfinite(average):
            signal[c] = average
            n_lines[c] += 1
        values[i, 0], missing[i, 0] = finite(line)
        if n_lines[c] < signal_span:
            missing[i, 1] = missing[i, 2] = Missing.WARMING_UP
        else:
            values[i, 1], missing[i, 1] = finite(average)
            values[i, 2], missing[i, 2] = finite(line - average)
