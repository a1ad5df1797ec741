r"""Distance of the close from its rolling mean in rolling standard deviations: $z_t = (C_t - m_t) / s_t$."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.window import moments
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["ZScore", "ZScoreConfig"]


class ZScoreConfig(ComponentConfig):
    """Rolling mean, standard deviation and z-score of the close."""

    window: Annotated[int, Field(ge=2, le=1000)] = 20
    """bars in the window, the present one included; each costs 8 bytes an instrument and two nanoseconds a bar"""
    relative_floor: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-8
    """least deviation as a share of the mean; below it the window counts as flat"""


class ZScore(BarFeature):
    r"""Rolling mean and standard deviation of the close, and the z-score of the present close.

    Over the last $w$ closes, the present one included: $m = \frac1w \sum C_i$ and
    $s = \sqrt{\frac1w \sum (C_i - m)^2}$, the deviation of a population, as Bollinger's bands and TA-Lib
    have it (the sample's is larger by $\sqrt{w / (w - 1)}$). Both sums are made afresh at each bar, oldest
    close first, with the deviations taken from the mean: nothing drifts and nothing cancels.

    Notes
    -----
    Warm-up is `window` bars. While the window holds a close that is not finite, or a sum overflows, there is
    no value (`NOT_FINITE`). A deviation at or below `relative_floor` times the mean is `DEGENERATE`, for the
    deviation and the z-score alike: zero would read as fair value. As the present close is in the window,
    $|z| \le \sqrt{w - 1}$: an entry threshold above that is never reached.

    Examples
    --------
    >>> [spec.name for spec in ZScore.specs(ZScoreConfig())]
    ['zscore', 'rolling_mean', 'rolling_std']

    References
    ----------
    Chan, T., Golub, G. and LeVeque, R. (1983). Algorithms for computing the sample variance. The American
    Statistician 37(3): the corrected two-pass algorithm.
    """

    name: ClassVar[str] = "zscore"
    Config: ClassVar[type[ComponentConfig]] = ZScoreConfig
    config: ZScoreConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        reference, inputs = "Chan, Golub and LeVeque (1983)", ("bars.close",)
        window, both = {"window": config.window}, {"window": config.window, "relative_floor": config.relative_floor}
        std = "sqrt(mean((close - rolling_mean)^2)) over the last window closes; none at or below the floor"
        return (
            FeatureSpec("zscore", "1", "(close - rolling_mean) / rolling_std", reference, inputs, both, config.window),
            FeatureSpec(
                "rolling_mean", "price", "mean(close) over the last window", reference, inputs, window, config.window
            ),
            FeatureSpec("rolling_std", "price", std, reference, inputs, both, config.window),
        )

    def _make_state(self) -> ArrayState:
        return ArrayState({"n_bars": Column("i8"), "ring": Column("f8", shape=(self.config.window,))}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        _standardise(
            frozen(bars.code), frozen(bars.close), self.config.relative_floor,
            self.state["n_bars"], self.state["ring"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _standardise(
    code: CodeArray, close: FloatArray, floor: float, n_bars: IntArray, ring: FloatArray,
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
        if not np.isfinite(mean):
            missing[i, :] = Missing.NOT_FINITE
            continue
        values[i, 1] = mean
        if not np.isfinite(std):
            missing[i, 0] = missing[i, 2] = Missing.NOT_FINITE
        elif std <= floor * abs(mean):
            missing[i, 0] = missing[i, 2] = Missing.DEGENERATE
        else:
            values[i, 0] = (close[i] - mean) / std
            values[i, 2] = std
