r"""Bollinger bands: the rolling mean of the close, and a multiple of its deviation on either side."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite, ratio
from operators.features.window import moments
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Bollinger", "BollingerConfig"]


class BollingerConfig(ComponentConfig):
    """Bollinger bands of the close."""

    window: Annotated[int, Field(ge=2, le=1000)] = 20
    """bars in the window, the present one included; each costs 8 bytes an instrument and two nanoseconds a bar"""
    multiple: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """deviations from the mean to each band"""
    relative_floor: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-8
    """least deviation as a share of the mean; at or below it the close has no place between the bands"""


class Bollinger(BarFeature):
    r"""Upper and lower band, %b and bandwidth.

    With mean $m$ and deviation $s$ of the last $w$ closes, the present one included: the bands are $m \pm k s$,
    the middle one is $m$ itself; $\%b = (C - lower) / (upper - lower)$ is 0 on the lower and 1 on the upper
    band, and the bandwidth is $(upper - lower) / m$. $s$ is the deviation of a population, as in `ZScore`; both
    sums are made afresh at each bar, oldest close first.

    Notes
    -----
    Warm-up is `window` bars. While the window holds a close that is not finite, or a sum overflows, there is no
    value (`NOT_FINITE`). A deviation at or below `relative_floor` times the mean leaves %b `DEGENERATE`; the
    bands, which then lie on the mean, and the bandwidth stand: the price did not move. A mean that is not
    positive leaves the bandwidth `DEGENERATE`.

    About 40 ns a bar with the standard parameters, 168 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in Bollinger.specs(BollingerConfig())]
    ['bollinger_upper', 'bollinger_lower', 'bollinger_percent_b', 'bollinger_bandwidth']

    References
    ----------
    Bollinger, J. (2001). Bollinger on Bollinger Bands, chapters 7 and 8.
    """

    name: ClassVar[str] = "bollinger"
    Config: ClassVar[type[ComponentConfig]] = BollingerConfig
    config: BollingerConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        bands = {"window": config.window, "multiple": config.multiple}
        floor = bands | {"relative_floor": config.relative_floor}
        columns = (
            ("bollinger_upper", "price", "m + multiple s, mean and population deviation of the last closes", bands),
            ("bollinger_lower", "price", "m - multiple s, mean and population deviation of the last closes", bands),
            ("bollinger_percent_b", "1", "(close - lower) / (upper - lower); none at or below the floor", floor),
            ("bollinger_bandwidth", "1", "(upper - lower) / m", bands),
        )
        return tuple(
            FeatureSpec(name, unit, formula, "Bollinger (2001)", ("bars.close",), parameters, config.window)
            for name, unit, formula, parameters in columns
        )

    def _make_state(self) -> ArrayState:
        return ArrayState({"n_bars": Column("i8"), "ring": Column("f8", shape=(self.config.window,))}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 4)`."""
        values, missing = self.empty(len(bars), 4)
        config, state = self.config, self.state
        _band(
            frozen(bars.code), frozen(bars.close), config.multiple, config.relative_floor,
            state["n_bars"], state["ring"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _band(
    code: CodeArray, close: FloatArray, multiple: float, floor: float, n_bars: IntArray, ring: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = ring.shape[1]
    for i in range(len(code)):
        c = code[i]
        ring[c, n_bars[c] % window] = close[i]
        n_bars[c] += 1
        if n_bars[c] < window:
            missing[i, :] = Missing.WARMING_UP
            continue
        mean, std = moments(ring[c], n_bars[c] % window)
        if not np.isfinite(std):
            missing[i, :] = Missing.NOT_FINITE
            continue
        upper = mean + multiple * std
        lower = mean - multiple * std
        values[i, 0], missing[i, 0] = finite(upper)
        values[i, 1], missing[i, 1] = finite(lower)
        values[i, 2], missing[i, 2] = ratio(close[i] - lower, 0.0 if std <= floor * abs(mean) else upper - lower)
        values[i, 3], missing[i, 3] = ratio(upper - lower, mean)
