r"""Amihud's illiquidity: $\frac1w \sum |R_t| / N_t$, how far the price moves for the money that changes hands."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite
from operators.features.return_window import next_window, return_state
from operators.state import ArrayState
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Amihud", "AmihudConfig"]

_MILLION: Final = 1e6


class AmihudConfig(ComponentConfig):
    """Amihud's illiquidity over a window."""

    window: Annotated[int, Field(ge=1, le=1000)] = 60
    """bars in the mean, the present one included; each costs 8 bytes an instrument"""


class Amihud(BarFeature):
    r"""Mean of the absolute simple return over the notional of its bar, for a million of the quote currency.

    $\frac{10^6}{w} \sum_{i<w} |C_{t-i} / C_{t-i-1} - 1| / N_{t-i}$ with the notional $N$ traded in the bar. The
    author takes days; over shorter bars it measures the same with more of the bounce between bid and offer in it.

    Notes
    -----
    Warm-up is `window + 1` bars. While the window holds a bar with a close, a close before it or a notional that is
    not finite, or a ratio or the sum overflows, there is no value (`NOT_FINITE`); while it holds one that is not
    positive, neither (`DEGENERATE`). Zero, of a price that did not move, is a value.

    About 90 ns a bar, 496 bytes an instrument.

    Examples
    --------
    >>> Amihud.specs(AmihudConfig())[0].unit
    'return per million of quote currency'

    References
    ----------
    Amihud, Y. (2002). Illiquidity and stock returns: cross-section and time-series effects. Journal of Financial
    Markets 5(1).
    """

    name: ClassVar[str] = "amihud"
    Config: ClassVar[type[ComponentConfig]] = AmihudConfig
    config: AmihudConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "amihud_illiquidity",
                "return per million of quote currency",
                "1e6 mean(|close_t / close_{t-1} - 1| / notional_t) over the last window bars",
                "Amihud (2002)",
                ("bars.close", "bars.notional"),
                {"window": config.window},
                config.window + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return return_state(self.config.window)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        state = self.state
        _average(
            frozen(bars.code), frozen(bars.close), frozen(bars.notional), state["previous"], state["n_bars"],
            state["ring"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _average(
    code: CodeArray, close: FloatArray, notional: FloatArray, previous: FloatArray, n_bars: IntArray, ring: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = np.empty(ring.shape[1])
    for i in range(len(code)):
        c = code[i]
        impact = _impact(close[i], previous[c], notional[i])
        previous[c] = close[i]
        reason = next_window(c, impact, n_bars, ring, window)
        if reason != Missing.OK:
            missing[i, 0] = reason
            continue
        total = 0.0
        for value in window:
            total += value
        values[i, 0], missing[i, 0] = finite(total / len(window))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _impact(close: float, previous: float, notional: float) -> float:
    """Return the ratio of one bar: infinite where an input is not finite, NaN where one is not positive."""
    if not (np.isfinite(close) and np.isfinite(previous) and np.isfinite(notional)):
        return np.inf
    if close <= 0.0 or previous <= 0.0 or notional <= 0.0:
        return np.nan
    return abs(close / previous - 1.0) / notional * _MILLION
