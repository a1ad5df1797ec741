"""Donchian channel with the present bar in it, and where the close lies between its bounds."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite, ratio
from operators.features.window import extremes
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Donchian", "DonchianConfig"]


class DonchianConfig(ComponentConfig):
    """Donchian channel of high and low, the present bar included."""

    window: Annotated[int, Field(ge=1, le=1000)] = 20
    """bars in the channel, the present one included; each costs 16 bytes an instrument and a nanosecond a bar"""


class Donchian(BarFeature):
    r"""Highest high and lowest low of the last `window` bars, and the position of the close between them.

    $H = \max_{i<w} h_{t-i}$, $L = \min_{i<w} l_{t-i}$, and the position $(C_t - L) / (H - L)$: 0 at the low and
    1 at the high. As the present bar is included the close cannot leave the channel; `Channel` has that of the
    bars before it, for breakouts.

    Notes
    -----
    Warm-up is `window` bars. While the window holds a high or low that is not finite there is no value
    (`NOT_FINITE`). A channel without width has no position in it (`DEGENERATE`); high and low stand.

    About 18 ns a bar with the standard parameters, 328 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in Donchian.specs(DonchianConfig())]
    ['donchian_high', 'donchian_low', 'donchian_position']

    References
    ----------
    Donchian, R. (1960). Donchian's trend timing rules: the four-week rule.
    """

    name: ClassVar[str] = "donchian"
    Config: ClassVar[type[ComponentConfig]] = DonchianConfig
    config: DonchianConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        bounds = ("bars.high", "bars.low")
        position = "(close - donchian_low) / (donchian_high - donchian_low)"
        columns: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
            ("donchian_high", "price", "max(high) over the last window bars", ("bars.high",)),
            ("donchian_low", "price", "min(low) over the last window bars", ("bars.low",)),
            ("donchian_position", "1", position, (*bounds, "bars.close")),
        )
        return tuple(
            FeatureSpec(name, unit, formula, "Donchian (1960)", inputs, {"window": config.window}, config.window)
            for name, unit, formula, inputs in columns
        )

    def _make_state(self) -> ArrayState:
        shape = (self.config.window,)
        return ArrayState(
            {"n_bars": Column("i8"), "high": Column("f8", shape=shape), "low": Column("f8", shape=shape)}, version=1
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 3)`."""
        values, missing = self.empty(len(bars), 3)
        state = self.state
        _bound(
            frozen(bars.code), frozen(bars.high), frozen(bars.low), frozen(bars.close),
            state["n_bars"], state["high"], state["low"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _bound(
    code: CodeArray, high: FloatArray, low: FloatArray, close: FloatArray,
    n_bars: IntArray, highs: FloatArray, lows: FloatArray, values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = highs.shape[1]
    for i in range(len(code)):
        c = code[i]
        highs[c, n_bars[c] % window] = high[i]
        lows[c, n_bars[c] % window] = low[i]
        n_bars[c] += 1
        if n_bars[c] < window:
            missing[i, :] = Missing.WARMING_UP
            continue
        top, bottom = extremes(highs[c], lows[c])
        values[i, 0], missing[i, 0] = finite(top)
        values[i, 1], missing[i, 1] = finite(bottom)
        values[i, 2], missing[i, 2] = ratio(close[i] - bottom, top - bottom)
