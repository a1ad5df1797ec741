"""Donchian's channel: highest high and lowest low of the bars before, and its width."""

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

__all__ = ["Channel", "ChannelConfig"]


class ChannelConfig(ComponentConfig):
    """Highest high and lowest low of the bars before."""

    window: Annotated[int, Field(ge=1, le=1000)] = 20
    """bars in the channel, the present one excluded; each costs 16 bytes an instrument and a nanosecond a bar"""


class Channel(BarFeature):
    r"""Price channel over the `window` bars before the present one.

    $H = \max_{1 \le i \le w} h_{t-i}$, $L = \min_{1 \le i \le w} l_{t-i}$, and the range $(H - L) / ((H + L) / 2)$.
    The present bar is left out: a close cannot leave a channel that contains it.

    Notes
    -----
    Warm-up is `window + 1` bars. While the window holds a high or low that is not finite there is no value
    (`NOT_FINITE`). Where the mean of high and low is not positive the range is `DEGENERATE`; high and low stand.
    A range of zero is a value: the price did not move.

    Examples
    --------
    >>> [spec.name for spec in Channel.specs(ChannelConfig())]
    ['channel_high', 'channel_low', 'channel_range']

    References
    ----------
    Donchian, R. (1960). Donchian's trend timing rules: the four-week rule.
    """

    name: ClassVar[str] = "channel"
    Config: ClassVar[type[ComponentConfig]] = ChannelConfig
    config: ChannelConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        columns = (
            ("channel_high", "price", "max(high_{t-window} .. high_{t-1})", ("bars.high",)),
            ("channel_low", "price", "min(low_{t-window} .. low_{t-1})", ("bars.low",)),
            (
                "channel_range",
                "1",
                "(channel_high - channel_low) / ((channel_high + channel_low) / 2)",
                ("bars.high", "bars.low"),
            ),
        )
        return tuple(
            FeatureSpec(name, unit, formula, "Donchian (1960)", inputs, {"window": config.window}, config.window + 1)
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
            frozen(bars.code), frozen(bars.high), frozen(bars.low),
            state["n_bars"], state["high"], state["low"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _bound(
    code: CodeArray, high: FloatArray, low: FloatArray, n_bars: IntArray, highs: FloatArray, lows: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = highs.shape[1]
    for i in range(len(code)):
        c = code[i]
        if n_bars[c] < window:
            missing[i, :] = Missing.WARMING_UP
        else:
            top, bottom = extremes(highs[c], lows[c])
            values[i, 0], missing[i, 0] = finite(top)
            values[i, 1], missing[i, 1] = finite(bottom)
            values[i, 2], missing[i, 2] = ratio(top - bottom, 0.5 * top + 0.5 * bottom)
        highs[c, n_bars[c] % window] = high[i]
        lows[c, n_bars[c] % window] = low[i]
        n_bars[c] += 1
