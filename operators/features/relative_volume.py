r"""Volume against its recent mean: $V_t / \frac1w \sum_{i=1}^{w} V_{t-i}$."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["RelativeVolume", "RelativeVolumeConfig"]


class RelativeVolumeConfig(ComponentConfig):
    """Volume of a bar against the mean of the bars before it."""

    window: Annotated[int, Field(ge=1, le=1000)] = 20
    """bars in the mean, the present one excluded; each costs 8 bytes an instrument and a nanosecond a bar"""


class RelativeVolume(BarFeature):
    """Volume of the bar over the mean volume of the `window` bars before it.

    The present bar is left out of the mean, or a burst would hide itself. Bars without trades do not exist,
    so the mean is over bars that traded.

    Notes
    -----
    Warm-up is `window + 1` bars. A mean of zero, or a negative volume, is `DEGENERATE`; a volume that is not
    finite, in the window or at the bar, or a ratio that overflows, is `NOT_FINITE`.

    Examples
    --------
    >>> RelativeVolume.specs(RelativeVolumeConfig())[0].warm_up
    21
    """

    name: ClassVar[str] = "relative_volume"
    Config: ClassVar[type[ComponentConfig]] = RelativeVolumeConfig
    config: RelativeVolumeConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "relative_volume",
                "1",
                "volume_t / mean(volume_{t-window} .. volume_{t-1})",
                "definition",
                ("bars.volume",),
                {"window": config.window},
                warm_up=config.window + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return ArrayState({"n_bars": Column("i8"), "ring": Column("f8", shape=(self.config.window,))}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        _compare(frozen(bars.code), frozen(bars.volume), self.state["n_bars"], self.state["ring"], values, missing)
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _compare(
    code: CodeArray, volume: FloatArray, n_bars: IntArray, ring: FloatArray, values: FloatArray, missing: MissingArray
) -> None:
    window = ring.shape[1]
    for i in range(len(code)):
        c = code[i]
        if n_bars[c] < window:
            missing[i, 0] = Missing.WARMING_UP
        else:
            missing[i, 0], values[i, 0] = _ratio(volume[i], ring[c], n_bars[c] % window)
        ring[c, n_bars[c] % window] = volume[i]
        n_bars[c] += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _ratio(volume: float, ring: FloatArray, oldest: int) -> tuple[int, float]:
    """Return a `Missing` code and the ratio; the sum is made oldest first."""
    window = len(ring)
    total = 0.0
    lowest = volume
    for k in range(window):
        value = ring[oldest + k if oldest + k < window else oldest + k - window]
        total += value
        lowest = min(lowest, value)
    if not np.isfinite(total) or not np.isfinite(volume):
        return Missing.NOT_FINITE, np.nan
    mean = total / window
    if lowest < 0.0 or mean <= 0.0:
        return Missing.DEGENERATE, np.nan
    ratio = volume / mean
    if np.isinf(ratio):
        return Missing.NOT_FINITE, np.nan
    return Missing.OK, ratio
