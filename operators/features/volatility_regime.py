"""State of volatility: low, normal or high, by the ratio of recent to longer volatility, with hysteresis."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from operators.columns import BarColumns, CodeArray, FloatArray, Int8Array, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.hysteresis import next_state
from operators.features.log_return import step_log_returns
from operators.features.return_window import next_window
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["VolatilityRegime", "VolatilityRegimeConfig"]


class VolatilityRegimeConfig(ComponentConfig):
    """Ratio of short to long volatility, and the state that follows from it."""

    short: Annotated[int, Field(ge=2, le=1000)] = 20
    """log returns of the recent volatility"""
    long: Annotated[int, Field(ge=4, le=1000)] = 120
    """log returns of the volatility that it is compared with, the recent ones included; above `short`; each costs 8
    bytes an instrument"""
    enter_low: Annotated[float, Field(gt=0, le=100)] = 0.6
    """ratio at or below which volatility becomes low"""
    leave_low: Annotated[float, Field(gt=0, le=100)] = 0.8
    """ratio above which it is no longer low; above `enter_low`"""
    leave_high: Annotated[float, Field(gt=0, le=100)] = 1.2
    """ratio below which it is no longer high; not below `leave_low`"""
    enter_high: Annotated[float, Field(gt=0, le=100)] = 1.5
    """ratio at or above which volatility becomes high; above `leave_high`, below the root of `long / short`"""
    min_dwell: Annotated[int, Field(ge=1, le=10_000)] = 5
    """bars that a state lasts at least"""
    floor: Annotated[float, Field(ge=1e-15, le=0.01)] = 1e-12
    """long volatility at or below it counts as none; returns are exact to about 1e-16"""

    @model_validator(mode="after")
    def _thresholds_are_in_order(self) -> Self:
        if self.short >= self.long:
            raise ValueError(f"expected `short` below `long` = {self.long}, was {self.short}")
        if not self.enter_low < self.leave_low <= self.leave_high < self.enter_high:
            raise ValueError(
                "expected `enter_low` < `leave_low` <= `leave_high` < `enter_high`, was "
                f"{self.enter_low}, {self.leave_low}, {self.leave_high}, {self.enter_high}"
            )
        if self.enter_high >= math.sqrt(self.long / self.short):
            raise ValueError(
                f"expected `enter_high` below {math.sqrt(self.long / self.short):.4g}, the root of `long` / `short`, "
                f"was {self.enter_high}; the ratio does not get there"
            )
        return self


class VolatilityRegime(BarFeature):
    r"""Short over long volatility, the state of volatility, and for how many bars it has lasted.

    The ratio is $\rho = \sqrt{\frac1s \sum_{i<s} r_{t-i}^2} \big/ \sqrt{\frac1l \sum_{i<l} r_{t-i}^2}$ of log
    returns. The state is 1 (high) from $\rho \ge$ `enter_high` until $\rho <$ `leave_high`, -1 (low) from $\rho \le$
    `enter_low` until $\rho >$ `leave_low`, and 0 (normal) otherwise; it may go from high to low at once. A state
    lasts `min_dwell` bars at least, the first one included.

    Notes
    -----
    The state is relative to the instrument's own recent past: volatility that stays high becomes normal as the long
    window fills with it. As the short window is part of the long one, $\rho \le \sqrt{l / s}$. Warm-up is `long + 1`
    bars. While the window holds a return that does not exist there is no value: `NOT_FINITE` for a close that is not
    finite, else `DEGENERATE`; so is a long volatility at or below `floor`. A bar without a value leaves the state and
    its count as they were.

    About 170 ns a bar, 985 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in VolatilityRegime.specs(VolatilityRegimeConfig())]
    ['volatility_ratio', 'volatility_state', 'volatility_state_bars']

    References
    ----------
    Ang, A. and Timmermann, A. (2012). Regime changes and financial markets. Annual Review of Financial Economics 4:
    what regimes are; the rule here is a plain threshold with hysteresis, not an estimated model.
    """

    name: ClassVar[str] = "volatility_regime"
    Config: ClassVar[type[ComponentConfig]] = VolatilityRegimeConfig
    config: VolatilityRegimeConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        windows = {"short": config.short, "long": config.long, "floor": config.floor}
        columns = (
            ("volatility_ratio", "1", "sqrt(mean(r^2) of the last short log returns / mean(r^2) of the last long)"),
            (
                "volatility_state",
                "state",
                "-1 low, 0 normal, 1 high: by volatility_ratio, entered and left at thresholds, kept min_dwell bars",
            ),
            ("volatility_state_bars", "bars", "bars that volatility_state has lasted, this one included"),
        )
        return tuple(
            FeatureSpec(
                name,
                unit,
                formula,
                "definition",
                ("bars.close",),
                windows if name == "volatility_ratio" else config.content(),
                config.long + 1,
            )
            for name, unit, formula in columns
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "previous": Column("f8", fill=np.nan),
                "n_bars": Column("i8"),
                "ring": Column("f8", shape=(self.config.long,)),
                "state": Column("i1"),
                "bars": Column("i8"),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        config, state = self.config, self.state
        code = frozen(bars.code)
        returns = step_log_returns(state["previous"], code, bars.close)
        _follow(
            code, returns, config.short, config.floor,
            (config.enter_low, config.leave_low, config.leave_high, config.enter_high), config.min_dwell,
            state["n_bars"], state["ring"], state["state"], state["bars"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _follow(
    code: CodeArray, returns: FloatArray, short: int, floor: float,
    thresholds: tuple[float, float, float, float], min_dwell: int,
    n_bars: IntArray, ring: FloatArray, state: Int8Array, lasted: IntArray, values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    long = ring.shape[1]
    window = np.empty(long)
    for i in range(len(code)):
        c = code[i]
        reason = next_window(c, returns[i], n_bars, ring, window)
        if reason != Missing.OK:
            missing[i, :] = reason
            continue
        usual = np.sqrt(_mean_square(window, 0))
        if usual <= floor:
            missing[i, :] = Missing.DEGENERATE
            continue
        ratio = np.sqrt(_mean_square(window, long - short)) / usual
        state[c], lasted[c] = next_state(state[c], lasted[c], ratio, thresholds, min_dwell)
        values[i, 0] = ratio
        values[i, 1] = state[c]
        values[i, 2] = lasted[c]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mean_square(window: FloatArray, start: int) -> float:
    total = 0.0
    for k in range(start, len(window)):
        total += window[k] * window[k]
    return total / (len(window) - start)
