"""Directional movement: the positive and negative directional indicators and their average index."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import ratio
from operators.features.smoothing import smoothed, true_range
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Adx", "AdxConfig"]


class AdxConfig(ComponentConfig):
    """Average directional index of high, low and close."""

    period: Annotated[int, Field(ge=1, le=10_000)] = 14
    """bars that each smoothing spans"""
    relative_floor: Annotated[float, Field(ge=0.0, le=0.01)] = 1e-12
    """least mean range and mean movement as a share of the close; at or below it the series counts as flat"""


class Adx(BarFeature):
    r"""Plus and minus directional indicator and average directional index.

    With up $= h_t - h_{t-1}$ and down $= l_{t-1} - l_t$, the plus movement is up where it is positive and above
    down, the minus movement is down where that is positive and above up, and zero otherwise. With Wilder means
    of both and of the true range: $\pm DI = 100 \cdot DM^\pm / TR$, $DX = 100 |DM^+ - DM^-| / (DM^+ + DM^-)$,
    and the index is the Wilder mean of $DX$. A Wilder mean starts as the plain mean of its first $p$ inputs and
    follows $m_t = m_{t-1} + (x_t - m_{t-1}) / p$ after that.

    Notes
    -----
    Warm-up is `period + 1` bars for the indicators and `2 period` for the index. TA-Lib starts the movements
    with `period - 1` bars instead of Wilder's `period`; the difference shrinks by $1 - 1/p$ a bar and is gone
    after some hundred. A bar with a price that is not finite has no movement, nor has the one after it; these,
    and what overflows, have no value (`NOT_FINITE`) and leave the means as they were. A finite price that is
    absurd stays in them with its weight, which decays. Where the mean true range is at or below
    `relative_floor` times the close the indicators are `DEGENERATE`; where the sum of the mean movements is,
    $DX$ does not exist, the index is `DEGENERATE` and its mean stays as it was: a series without direction is
    not one with index 0.

    About 10 ns a bar with the standard parameters, 72 bytes an instrument.

    Examples
    --------
    >>> [(spec.name, spec.warm_up) for spec in Adx.specs(AdxConfig())]
    [('plus_di', 15), ('minus_di', 15), ('adx', 28)]

    References
    ----------
    Wilder, J. W. (1978). New Concepts in Technical Trading Systems, section IV.
    """

    name: ClassVar[str] = "adx"
    Config: ClassVar[type[ComponentConfig]] = AdxConfig
    config: AdxConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        columns = (
            ("plus_di", "100 W(plus movement) / W(true range), W Wilder means seeded by plain means", 1),
            ("minus_di", "100 W(minus movement) / W(true range), W Wilder means seeded by plain means", 1),
            ("adx", "W(100 |plus_di - minus_di| / (plus_di + minus_di))", config.period),
        )
        parameters = {"period": config.period, "relative_floor": config.relative_floor}
        inputs = ("bars.high", "bars.low", "bars.close")
        return tuple(
            FeatureSpec(name, "percent", formula, "Wilder (1978)", inputs, parameters, config.period + extra)
            for name, formula, extra in columns
        )

    def _make_state(self) -> ArrayState:
        previous = {f"previous_{price}": Column("f8", fill=np.nan) for price in ("high", "low", "close")}
        means = {name: Column("f8") for name in ("plus", "minus", "range", "adx")}
        return ArrayState({**previous, "n_moves": Column("i8"), **means, "n_indices": Column("i8")}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        config, state = self.config, self.state
        code = frozen(bars.code)
        high, low, close = frozen(bars.high), frozen(bars.low), frozen(bars.close)
        moves = np.empty((len(bars), 3))
        _move(
            code, high, low, close,
            state["previous_high"], state["previous_low"], state["previous_close"], moves,
        )  # fmt: skip
        _direct(
            code, close, moves, config.period, config.relative_floor,
            state["n_moves"], state["plus"], state["minus"], state["range"], state["n_indices"], state["adx"],
            values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _move(
    code: CodeArray, high: FloatArray, low: FloatArray, close: FloatArray,
    previous_high: FloatArray, previous_low: FloatArray, previous_close: FloatArray, moves: FloatArray,
) -> None:  # fmt: skip
    """Write plus movement, minus movement and true range of each bar; what does not exist is not finite."""
    for i in range(len(code)):
        c = code[i]
        up = high[i] - previous_high[c]
        down = previous_low[c] - low[i]
        known = np.isfinite(up) and np.isfinite(down)
        moves[i, 0] = up if up > down and up > 0.0 else 0.0
        moves[i, 1] = down if down > up and down > 0.0 else 0.0
        moves[i, 2] = true_range(high[i], low[i], close[i], previous_close[c]) if known else np.inf
        previous_high[c] = high[i]
        previous_low[c] = low[i]
        previous_close[c] = close[i]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _direct(
    code: CodeArray, close: FloatArray, moves: FloatArray, period: int, floor: float,
    n_moves: IntArray, plus: FloatArray, minus: FloatArray, ranges: FloatArray, n_indices: IntArray, adx: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        c = code[i]
        next_plus = smoothed(plus[c], n_moves[c], moves[i, 0], period, 1.0 / period)
        next_minus = smoothed(minus[c], n_moves[c], moves[i, 1], period, 1.0 / period)
        next_range = smoothed(ranges[c], n_moves[c], moves[i, 2], period, 1.0 / period)
        movement = next_plus + next_minus
        exists = np.isfinite(movement) and np.isfinite(next_range)
        if exists:
            plus[c] = next_plus
            minus[c] = next_minus
            ranges[c] = next_range
            n_moves[c] += 1
        if n_moves[c] < period:
            missing[i, :] = Missing.WARMING_UP
            continue
        if not exists:
            missing[i, :] = Missing.NOT_FINITE
            continue
        least = floor * abs(close[i])
        moved = next_range if next_range > least else 0.0
        values[i, 0], missing[i, 0] = ratio(100.0 * next_plus, moved)
        values[i, 1], missing[i, 1] = ratio(100.0 * next_minus, moved)
        index, no_index = ratio(100.0 * abs(next_plus - next_minus), movement if movement > least else 0.0)
        if no_index != Missing.OK:
            missing[i, 2] = no_index
            continue
        adx[c] = smoothed(adx[c], n_indices[c], index, period, 1.0 / period)
        n_indices[c] += 1
        if n_indices[c] < period:
            missing[i, 2] = Missing.WARMING_UP
        else:
            values[i, 2] = adx[c]
