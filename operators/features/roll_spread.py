r"""Roll's spread: the bounce between bid and offer makes neighbouring returns covary by $-s^2 / 4$."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.log_return import step_log_returns
from operators.features.return_window import next_window, return_state
from operators.state import ArrayState
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["RollSpread", "RollSpreadConfig"]

_ROUNDING: Final = 1e-12
"""A covariance below this share of the variance is rounding: its root would be noise that looks like a spread."""


class RollSpreadConfig(ComponentConfig):
    """Roll's effective spread from closes over a window."""

    window: Annotated[int, Field(ge=4, le=1000)] = 60
    """log returns in the window; each costs 8 bytes an instrument"""
    floor: Annotated[float, Field(ge=1e-15, le=0.01)] = 1e-12
    """deviation of the returns at or below it counts as none; returns are exact to about 1e-16"""


class RollSpread(BarFeature):
    r"""Effective spread in basis points of the price, from the serial covariance of log returns.

    $s = 2 \cdot 10^4 \sqrt{-c}$ with the sample covariance $c$ of $r_t$ and $r_{t-1}$ over the $n - 1$ pairs in the
    last $n$ = `window` returns. Where $c$ is positive there is no such spread; as its author does, the sign is
    kept: $s = -2 \cdot 10^4 \sqrt{c}$. A negative value says that returns go on, not that trading is paid for; it
    keeps averages unbiased and must not be used as a cost.

    Notes
    -----
    The bounce is there only when closes are prints at bid or offer, and drowns where the price moves much further in
    a bar than the spread is wide: of $n$ independent returns of deviation $\sigma$ the value scatters by about
    $2 \sigma n^{-1/4}$ around zero. Warm-up is `window + 1` bars. While the window holds a return that does not exist
    there is no value: `NOT_FINITE` for a close that is not finite, else `DEGENERATE`; so is a deviation at or
    below `floor`. A covariance below 1e-12 of the variance is rounding and gives a spread of zero.

    About 140 ns a bar, 496 bytes an instrument.

    Examples
    --------
    >>> RollSpread.specs(RollSpreadConfig())[0].name
    'roll_spread_bps'

    References
    ----------
    Roll, R. (1984). A simple implicit measure of the effective bid-ask spread in an efficient market. Journal of
    Finance 39(4).
    """

    name: ClassVar[str] = "roll_spread"
    Config: ClassVar[type[ComponentConfig]] = RollSpreadConfig
    config: RollSpreadConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "roll_spread_bps",
                "basis points",
                "-sign(c) 2e4 sqrt(|c|), c = cov(r_t, r_{t-1}) over the last window log returns of the close",
                "Roll (1984)",
                ("bars.close",),
                {"window": config.window, "floor": config.floor},
                config.window + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return return_state(self.config.window)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        code = frozen(bars.code)
        returns = step_log_returns(self.state["previous"], code, bars.close)
        _imply(code, returns, self.config.floor, self.state["n_bars"], self.state["ring"], values, missing)
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _imply(
    code: CodeArray, returns: FloatArray, floor: float, n_bars: IntArray, ring: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = np.empty(ring.shape[1])
    for i in range(len(code)):
        reason = next_window(code[i], returns[i], n_bars, ring, window)
        if reason != Missing.OK:
            missing[i, 0] = reason
            continue
        covariance, variance = _serial_covariance(window)
        if np.sqrt(variance) <= floor:
            missing[i, 0] = Missing.DEGENERATE
        elif abs(covariance) <= _ROUNDING * variance:
            values[i, 0] = 0.0
        else:
            values[i, 0] = -np.sign(covariance) * 2e4 * np.sqrt(abs(covariance))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _serial_covariance(window: FloatArray) -> tuple[float, float]:
    """Return the sample covariance of each return with the one before, and the population variance of all."""
    n = len(window)
    total = 0.0
    for r in window:
        total += r
    later = (total - window[0]) / (n - 1)
    earlier = (total - window[n - 1]) / (n - 1)
    mean = total / n
    products = 0.0
    squares = (window[0] - mean) * (window[0] - mean)
    for t in range(1, n):
        products += (window[t] - later) * (window[t - 1] - earlier)
        squares += (window[t] - mean) * (window[t] - mean)
    return products / (n - 2), squares / n
