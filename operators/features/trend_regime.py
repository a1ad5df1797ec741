"""State of the trend: down, none or up, by Kaufman's efficiency ratio with a sign, with hysteresis."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from operators.columns import BarColumns, CodeArray, FloatArray, Int8Array, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.hysteresis import next_state
from operators.features.return_window import next_window
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["TrendRegime", "TrendRegimeConfig"]


class TrendRegimeConfig(ComponentConfig):
    """Efficiency ratio of the close, and the state of the trend that follows from it."""

    window: Annotated[int, Field(ge=2, le=1000)] = 30
    """changes of the close in the ratio; each costs 8 bytes an instrument"""
    enter: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """size of the ratio at or above which there is a trend"""
    leave: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """size of the ratio below which there is none any more; below `enter`"""
    min_dwell: Annotated[int, Field(ge=1, le=10_000)] = 5
    """bars that a state lasts at least"""
    relative_floor: Annotated[float, Field(ge=1e-15, le=0.01)] = 1e-12
    """length of the path as a share of the close, at or below which the price counts as still"""

    @model_validator(mode="after")
    def _thresholds_are_in_order(self) -> Self:
        if self.leave >= self.enter:
            raise ValueError(f"expected `leave` below `enter` = {self.enter}, was {self.leave}")
        return self


class TrendRegime(BarFeature):
    r"""Signed efficiency ratio, the state of the trend, and for how many bars it has lasted.

    $E = \sum_{i<w} \Delta_{t-i} \big/ \sum_{i<w} |\Delta_{t-i}|$ of the changes $\Delta_t = C_t - C_{t-1}$: how far
    the price came of the way that it went, from -1 (straight down) to 1 (straight up). Its size is Kaufman's
    efficiency ratio. The state is 1 (up) from $E \ge$ `enter` until $E <$ `leave`, -1 (down) from $E \le$
    -`enter` until $E >$ -`leave`, and 0 (none) otherwise; it may turn from one trend to the other at once. A state
    lasts `min_dwell` bars at least, the first one included.

    Notes
    -----
    Of a random walk the ratio scatters by about $1.25 / \sqrt w$ around zero, 0.23 with 30 changes: at 0.5 a trend is
    about two deviations from chance. Warm-up is `window + 1` bars. While the window holds a change that is not
    finite, or the sum overflows, there is no value (`NOT_FINITE`); where the path is no longer than `relative_floor`
    times the close, neither (`DEGENERATE`). A bar without a value leaves the state and its count as they were.

    About 50 ns a bar, 265 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in TrendRegime.specs(TrendRegimeConfig())]
    ['efficiency_ratio', 'trend_state', 'trend_state_bars']

    References
    ----------
    Kaufman, P. (1995). Smarter Trading, chapter 7.
    """

    name: ClassVar[str] = "trend_regime"
    Config: ClassVar[type[ComponentConfig]] = TrendRegimeConfig
    config: TrendRegimeConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        ratio = {"window": config.window, "relative_floor": config.relative_floor}
        columns = (
            ("efficiency_ratio", "1", "sum(close_t - close_{t-1}) / sum(|close_t - close_{t-1}|) over window changes"),
            (
                "trend_state",
                "state",
                "-1 down, 0 none, 1 up: by efficiency_ratio, entered and left at thresholds, kept min_dwell bars",
            ),
            ("trend_state_bars", "bars", "bars that trend_state has lasted, this one included"),
        )
        return tuple(
            FeatureSpec(
                name,
                unit,
                formula,
                "Kaufman (1995)",
                ("bars.close",),
                ratio if name == "efficiency_ratio" else config.content(),
                config.window + 1,
            )
            for name, unit, formula in columns
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "previous": Column("f8", fill=np.nan),
                "n_bars": Column("i8"),
                "ring": Column("f8", shape=(self.config.window,)),
                "state": Column("i1"),
                "bars": Column("i8"),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        config, state = self.config, self.state
        _follow(
            frozen(bars.code), frozen(bars.close), config.relative_floor,
            (-config.enter, -config.leave, config.leave, config.enter), config.min_dwell,
            state["previous"], state["n_bars"], state["ring"], state["state"], state["bars"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _follow(
    code: CodeArray, close: FloatArray, floor: float, thresholds: tuple[float, float, float, float], min_dwell: int,
    previous: FloatArray, n_bars: IntArray, ring: FloatArray, state: Int8Array, lasted: IntArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = np.empty(ring.shape[1])
    for i in range(len(code)):
        c = code[i]
        change = close[i] - previous[c]
        previous[c] = close[i]
        reason = next_window(c, change if np.isfinite(change) else np.inf, n_bars, ring, window)
        if reason == Missing.OK:
            reason, ratio = _efficiency(window, floor * abs(close[i]))
        if reason != Missing.OK:
            missing[i, :] = reason
            continue
        state[c], lasted[c] = next_state(state[c], lasted[c], ratio, thresholds, min_dwell)
        values[i, 0] = ratio
        values[i, 1] = state[c]
        values[i, 2] = lasted[c]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _efficiency(changes: FloatArray, least: float) -> tuple[int, float]:
    """Return a `Missing` code and the ratio; both sums have one order, so that it is within -1 and 1."""
    way = 0.0
    path = 0.0
    for change in changes:
        way += change
        path += abs(change)
    if np.isinf(path):
        return Missing.NOT_FINITE, np.nan
    if path <= least:
        return Missing.DEGENERATE, np.nan
    return Missing.OK, way / path
