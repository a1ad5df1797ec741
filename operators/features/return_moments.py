r"""Skewness and excess kurtosis of log returns: $g_1 = m_3 / m_2^{3/2}$ and $g_2 = m_4 / m_2^2 - 3$."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.log_return import step_log_returns
from operators.features.return_window import centred, next_window, return_state
from operators.state import ArrayState
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["ReturnMoments", "ReturnMomentsConfig"]


class ReturnMomentsConfig(ComponentConfig):
    """Skewness and excess kurtosis of log returns over a window."""

    window: Annotated[int, Field(ge=4, le=1000)] = 60
    """log returns in the window; each costs 8 bytes an instrument"""
    floor: Annotated[float, Field(ge=1e-15, le=0.01)] = 1e-12
    """deviation of the returns at or below it counts as none; returns are exact to about 1e-16"""


class ReturnMoments(BarFeature):
    r"""Skewness and excess kurtosis of the last `window` log returns.

    With $m_k = \frac1n \sum (r_t - m)^k$ and the mean $m$ of the window: $g_1 = m_3 / m_2^{3/2}$ and
    $g_2 = m_4 / m_2^2 - 3$, both zero for a normal distribution. They are the population's figures of the window, not
    corrected for its length, as scipy has them by default.

    Notes
    -----
    With $n$ returns $|g_1| < \sqrt n$ and $-2 \le g_2 < n$: a single jump in 60 bars gives up to 7.6 and 55, so they
    say more about the largest return than about a tail. Of normal returns their standard deviations are about
    $\sqrt{6/n}$ and $\sqrt{24/n}$. Warm-up is `window + 1` bars. While the window holds a return that does not exist
    there is no value: `NOT_FINITE` for a close that is not finite, else `DEGENERATE`; so is a deviation at or below
    `floor`.

    About 200 ns a bar, 496 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in ReturnMoments.specs(ReturnMomentsConfig())]
    ['return_skew', 'return_kurtosis']

    References
    ----------
    Joanes, D. and Gill, C. (1998). Comparing measures of sample skewness and kurtosis. The Statistician 47(1).
    """

    name: ClassVar[str] = "return_moments"
    Config: ClassVar[type[ComponentConfig]] = ReturnMomentsConfig
    config: ReturnMomentsConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        parameters = {"window": config.window, "floor": config.floor}
        columns = (
            ("return_skew", "mean(d^3) / mean(d^2)^1.5"),
            ("return_kurtosis", "mean(d^4) / mean(d^2)^2 - 3"),
        )
        return tuple(
            FeatureSpec(
                name,
                "1",
                f"{formula}, d = deviations of the last window log returns of the close from their mean",
                "Joanes and Gill (1998), g1 and g2",
                ("bars.close",),
                parameters,
                config.window + 1,
            )
            for name, formula in columns
        )

    def _make_state(self) -> ArrayState:
        return return_state(self.config.window)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 2)`."""
        values, missing = self.empty(len(bars), 2)
        code = frozen(bars.code)
        returns = step_log_returns(self.state["previous"], code, bars.close)
        _describe(code, returns, self.config.floor, self.state["n_bars"], self.state["ring"], values, missing)
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _describe(
    code: CodeArray, returns: FloatArray, floor: float, n_bars: IntArray, ring: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    n = ring.shape[1]
    window = np.empty(n)
    for i in range(len(code)):
        reason = next_window(code[i], returns[i], n_bars, ring, window)
        if reason != Missing.OK:
            missing[i, :] = reason
            continue
        std = np.sqrt(centred(window))
        if std <= floor:
            missing[i, :] = Missing.DEGENERATE
            continue
        cubes = 0.0
        fourths = 0.0
        for deviation in window:
            z = deviation / std
            square = z * z
            cubes += square * z
            fourths += square * square
        values[i, 0] = cubes / n
        values[i, 1] = fourths / n - 3.0
