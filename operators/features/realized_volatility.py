r"""Realised volatility: $\sqrt{\sum_{i=0}^{w-1} r^2_{t-i}}$ over a window of returns."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.log_return import step_log_returns
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["RealizedVolatility", "RealizedVolatilityConfig"]


class RealizedVolatilityConfig(ComponentConfig):
    """Realised volatility of the close over a window."""

    window: Annotated[int, Field(ge=1, le=1000)] = 60
    """returns in the window; each costs 8 bytes an instrument and a nanosecond a bar"""


class RealizedVolatility(BarFeature):
    """Square root of the sum of squared log returns of the last `window` bars.

    It is the volatility over the whole window, not of one bar, and not annualised. The sum is made afresh
    at each bar, oldest return first, so it cannot drift.

    Notes
    -----
    Warm-up is `window + 1` bars. While the window holds a return that does not exist there is no value:
    `NOT_FINITE` for a close that is not finite, else `DEGENERATE`. A window in which the price never moved has
    volatility zero, which would size a position without limit: it is `DEGENERATE`.

    Examples
    --------
    >>> RealizedVolatility.specs(RealizedVolatilityConfig(window=30))[0].warm_up
    31

    References
    ----------
    Andersen, T. and Bollerslev, T. (1998). Answering the skeptics: yes, standard volatility models do provide
    accurate forecasts. International Economic Review 39(4).
    """

    name: ClassVar[str] = "realized_volatility"
    Config: ClassVar[type[ComponentConfig]] = RealizedVolatilityConfig
    config: RealizedVolatilityConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "realized_volatility",
                "1 per window",
                "sqrt(sum of r^2 over the last window log returns of the close)",
                "Andersen and Bollerslev (1998)",
                ("bars.close",),
                {"window": config.window},
                warm_up=config.window + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "previous": Column("f8", fill=np.nan),
                "n_bars": Column("i8"),
                "ring": Column("f8", shape=(self.config.window,)),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        code = frozen(bars.code)
        returns = step_log_returns(self.state["previous"], code, bars.close)
        _sum_squares(code, returns, self.state["n_bars"], self.state["ring"], values, missing)
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sum_squares(
    code: CodeArray, returns: FloatArray, n_bars: IntArray, ring: FloatArray, values: FloatArray, missing: MissingArray
) -> None:
    window = ring.shape[1]
    for i in range(len(code)):
        c = code[i]
        n_bars[c] += 1
        if n_bars[c] > 1:
            ring[c, (n_bars[c] - 2) % window] = returns[i]
        if n_bars[c] <= window:
            missing[i, 0] = Missing.WARMING_UP
            continue
        oldest = (n_bars[c] - 1) % window
        total = 0.0
        infinite = False
        for k in range(window):
            position = oldest + k if oldest + k < window else oldest + k - window
            r = ring[c, position]
            infinite |= np.isinf(r)
            total += r * r
        if infinite:
            missing[i, 0] = Missing.NOT_FINITE
        elif total > 0.0:
            values[i, 0] = np.sqrt(total)
        else:
            missing[i, 0] = Missing.DEGENERATE
