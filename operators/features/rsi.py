r"""Wilder's relative strength index: $100 \cdot G / (G + L)$ of smoothed gains and losses."""

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

__all__ = ["Rsi", "RsiConfig"]


class RsiConfig(ComponentConfig):
    """Relative strength index of the close."""

    period: Annotated[int, Field(ge=2, le=10_000)] = 14
    """changes that the smoothing spans"""
    relative_floor: Annotated[float, Field(ge=0.0, le=0.01)] = 1e-12
    """least mean change as a share of the close; at or below it the series counts as flat"""


class Rsi(BarFeature):
    r"""Relative strength index.

    The mean gain $G$ and mean loss $L$ of the close start as plain means of the first $p$ changes and follow
    $G_t = G_{t-1} + (g_t - G_{t-1}) / p$ after that. The index is $100 G / (G + L)$: 100 when every change was
    a gain, 0 when every one was a loss.

    Notes
    -----
    Warm-up is `period + 1` bars. A flat series has no index (`DEGENERATE`), where many libraries say 0, 50 or
    100. A change from or to a close that is not finite, or one that overflows, does not exist: that bar has
    no value (`NOT_FINITE`) and leaves the means as they were.

    Examples
    --------
    >>> Rsi.specs(RsiConfig(period=14))[0].warm_up
    15

    References
    ----------
    Wilder, J. W. (1978). New Concepts in Technical Trading Systems, section VI.
    """

    name: ClassVar[str] = "rsi"
    Config: ClassVar[type[ComponentConfig]] = RsiConfig
    config: RsiConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "rsi",
                "percent",
                "100 G / (G + L), G and L Wilder means of gains and losses of the close, seeded by their plain mean",
                "Wilder (1978)",
                ("bars.close",),
                {"period": config.period, "relative_floor": config.relative_floor},
                warm_up=config.period + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "previous": Column("f8", fill=np.nan),
                "n_changes": Column("i8"),
                "gain": Column("f8"),
                "loss": Column("f8"),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        state = self.state
        _smooth(
            frozen(bars.code), frozen(bars.close), self.config.period, self.config.relative_floor,
            state["previous"], state["n_changes"], state["gain"], state["loss"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _smooth(
    code: CodeArray, close: FloatArray, period: int, floor: float,
    previous: FloatArray, n_changes: IntArray, gain: FloatArray, loss: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        c = code[i]
        change = close[i] - previous[c]
        previous[c] = close[i]
        exists = np.isfinite(change)
        if exists:
            gain[c] = _next_mean(gain[c], n_changes[c], max(change, 0.0), period)
            loss[c] = _next_mean(loss[c], n_changes[c], max(-change, 0.0), period)
            n_changes[c] += 1
        if n_changes[c] < period:
            missing[i, 0] = Missing.WARMING_UP
        elif not exists:
            missing[i, 0] = Missing.NOT_FINITE
        elif gain[c] + loss[c] <= floor * abs(close[i]):
            missing[i, 0] = Missing.DEGENERATE
        elif np.isinf(gain[c] + loss[c]):
            missing[i, 0] = Missing.NOT_FINITE
        else:
            values[i, 0] = 100.0 * (gain[c] / (gain[c] + loss[c]))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _next_mean(mean: float, n_obs: int, x: float, period: int) -> float:
    if n_obs < period:
        return mean + x / period
    return mean + (x - mean) / period
