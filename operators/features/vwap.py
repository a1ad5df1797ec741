r"""Volume-weighted average price of the last bars, and the distance of the close from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite, ratio
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Vwap", "VwapConfig"]


class VwapConfig(ComponentConfig):
    """Rolling volume-weighted average price."""

    window: Annotated[int, Field(ge=1, le=1000)] = 20
    """bars in the window, the present one included; each costs 16 bytes an instrument and four nanoseconds a bar"""
    relative_floor: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-8
    """least deviation as a share of the average; at or below it the window counts as flat"""


class Vwap(BarFeature):
    r"""Rolling volume-weighted average price, and the distance of the close in basis points and in deviations.

    Over the last $w$ bars with notional $N_i$ and volume $V_i$, the present one included: $P = \sum N_i / \sum
    V_i$, which is the exact average over all trades of the window. The distance is $10^4 (C - P) / P$ in basis
    points and $(C - P) / s$ in deviations, $s = \sqrt{\sum V_i (N_i / V_i - P)^2 / \sum V_i}$: the
    volume-weighted deviation of the bars' average prices. All sums are made afresh at each bar, oldest first.
    It does not start anew with a session: for markets that never close there is none.

    Notes
    -----
    Warm-up is `window` bars. While the window holds a notional or volume that is not finite, or a sum
    overflows, there is no value (`NOT_FINITE`); while it holds a negative volume, or no volume, none either
    (`DEGENERATE`). A bar without volume has no weight. An average that is not positive leaves the basis points
    `DEGENERATE`, a deviation at or below `relative_floor` times the average the deviations. Prices within a bar
    are not seen, so $s$ is below the deviation of the trades; with a window of 1 it is zero always.

    About 85 ns a bar with the standard parameters, 328 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in Vwap.specs(VwapConfig())]
    ['rolling_vwap', 'vwap_deviation_bps', 'vwap_zscore']

    References
    ----------
    Berkowitz, S. A., Logue, D. E. and Noser, E. A. (1988). The total cost of transactions on the NYSE. Journal
    of Finance 43(1).
    """

    name: ClassVar[str] = "vwap"
    Config: ClassVar[type[ComponentConfig]] = VwapConfig
    config: VwapConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        window, inputs = {"window": config.window}, ("bars.notional", "bars.volume")
        both, with_close = window | {"relative_floor": config.relative_floor}, (*inputs, "bars.close")
        std = "sqrt(sum(volume (notional / volume - rolling_vwap)^2) / sum(volume))"
        columns: tuple[tuple[str, str, str, tuple[str, ...], dict[str, Any]], ...] = (
            ("rolling_vwap", "price", "sum(notional) / sum(volume) over the last window bars", inputs, window),
            ("vwap_deviation_bps", "bps", "10000 (close - rolling_vwap) / rolling_vwap", with_close, window),
            ("vwap_zscore", "1", f"(close - rolling_vwap) / {std}; none at or below the floor", with_close, both),
        )
        reference = "Berkowitz, Logue and Noser (1988)"
        return tuple(
            FeatureSpec(name, unit, formula, reference, needed, parameters, config.window)
            for name, unit, formula, needed, parameters in columns
        )

    def _make_state(self) -> ArrayState:
        shape = (self.config.window,)
        return ArrayState(
            {"n_bars": Column("i8"), "notional": Column("f8", shape=shape), "volume": Column("f8", shape=shape)},
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        state = self.state
        _weigh(
            frozen(bars.code), frozen(bars.close), frozen(bars.notional), frozen(bars.volume),
            self.config.relative_floor, state["n_bars"], state["notional"], state["volume"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _weigh(
    code: CodeArray, close: FloatArray, notional: FloatArray, volume: FloatArray, floor: float,
    n_bars: IntArray, notionals: FloatArray, volumes: FloatArray, values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = volumes.shape[1]
    for i in range(len(code)):
        c = code[i]
        notionals[c, n_bars[c] % window] = notional[i]
        volumes[c, n_bars[c] % window] = volume[i]
        n_bars[c] += 1
        if n_bars[c] < window:
            missing[i, :] = Missing.WARMING_UP
            continue
        reason, price, std = _weighted_moments(notionals[c], volumes[c], n_bars[c] % window)
        if reason != Missing.OK:
            missing[i, :] = reason
            continue
        away = close[i] - price
        values[i, 0], missing[i, 0] = finite(price)
        values[i, 1], missing[i, 1] = ratio(1e4 * away, price)
        values[i, 2], missing[i, 2] = ratio(away, 0.0 if std <= floor * abs(price) else std)


@numba.njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _weighted_moments(notionals: FloatArray, volumes: FloatArray, oldest: int) -> tuple[int, float, float]:
    """Return a `Missing` code, the average price and the deviation of the bars' prices from it."""
    window = len(volumes)
    notional = 0.0
    volume = 0.0
    lowest = np.inf
    for k in range(window):
        position = oldest + k if oldest + k < window else oldest + k - window
        notional += notionals[position]
        volume += volumes[position]
        lowest = min(lowest, volumes[position])
    if not (np.isfinite(notional) and np.isfinite(volume)):
        return Missing.NOT_FINITE, np.nan, np.nan
    if lowest < 0.0 or volume <= 0.0:
        return Missing.DEGENERATE, np.nan, np.nan
    price = notional / volume
    if np.isinf(price):
        return Missing.NOT_FINITE, np.nan, np.nan
    squares = 0.0
    for k in range(window):
        position = oldest + k if oldest + k < window else oldest + k - window
        if volumes[position] > 0.0:
            squares += volumes[position] * (notionals[position] / volumes[position] - price) ** 2
    return Missing.OK, price, np.sqrt(squares / volume)
