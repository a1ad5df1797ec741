r"""Keltner channel: an exponential average of the close, and a multiple of the average true range on either side."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite, ratio
from operators.features.smoothing import smoothed, true_range
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Keltner", "KeltnerConfig"]


class KeltnerConfig(ComponentConfig):
    """Keltner channel of high, low and close."""

    span: Annotated[int, Field(ge=1, le=10_000)] = 20
    """span of the exponential average in the middle"""
    atr_period: Annotated[int, Field(ge=1, le=10_000)] = 10
    """true ranges that the smoothing of the average true range spans"""
    multiple: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """average true ranges from the middle to each band"""
    relative_floor: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-8
    """least average true range as a share of the middle; at or below it the close has no place in the channel"""


class Keltner(BarFeature):
    r"""Upper and lower band, width, and position of the close between the bands.

    The bands are $E_t \pm k A_t$, $E$ the exponential average of the close and $A$ Wilder's average true range,
    both started with a plain mean as in `MovingAverages` and `Atr`. The width is $(upper - lower) / E$, the
    position $(C - lower) / (upper - lower)$: 0 on the lower and 1 on the upper band. This is Raschke's form;
    Keltner's own channel had simple averages of typical price and range.

    Notes
    -----
    Warm-up is the longer of `span` and `atr_period + 1` bars. A close that is not finite does not exist for the
    exponential average; a bar with any price that is not finite has no true range, nor has the one after it.
    What does not exist, or overflows, leaves its average as it was, and its bar has no value (`NOT_FINITE`). A
    finite price that is absurd stays in the averages with its weight, which decays. Where the average true
    range is at or below `relative_floor` times the middle the position is `DEGENERATE`, and bands and width
    stand; a middle that is not positive leaves the width `DEGENERATE`.

    About 8 ns a bar with the standard parameters, 40 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in Keltner.specs(KeltnerConfig())]
    ['keltner_upper', 'keltner_lower', 'keltner_width', 'keltner_position']

    References
    ----------
    Keltner, C. W. (1960). How to Make Money in Commodities. Connors, L. A. and Raschke, L. B. (1995). Street
    Smarts.
    """

    name: ClassVar[str] = "keltner"
    Config: ClassVar[type[ComponentConfig]] = KeltnerConfig
    config: KeltnerConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are."""
        bands = {"span": config.span, "atr_period": config.atr_period, "multiple": config.multiple}
        floor = bands | {"relative_floor": config.relative_floor}
        columns = (
            ("keltner_upper", "price", "EMA(close, span) + multiple ATR(atr_period)", bands),
            ("keltner_lower", "price", "EMA(close, span) - multiple ATR(atr_period)", bands),
            ("keltner_width", "1", "(keltner_upper - keltner_lower) / EMA(close, span)", bands),
            ("keltner_position", "1", "(close - lower) / (upper - lower); none at or below the floor", floor),
        )
        inputs = ("bars.high", "bars.low", "bars.close")
        reference = "Keltner (1960), Connors and Raschke (1995)"
        warm_up = max(config.span, config.atr_period + 1)
        return tuple(
            FeatureSpec(name, unit, formula, reference, inputs, parameters, warm_up)
            for name, unit, formula, parameters in columns
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "previous": Column("f8", fill=np.nan),
                "n_closes": Column("i8"),
                "middle": Column("f8"),
                "n_ranges": Column("i8"),
                "range": Column("f8"),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 4)`."""
        values, missing = self.empty(len(bars), 4)
        config, state = self.config, self.state
        _band(
            frozen(bars.code), frozen(bars.high), frozen(bars.low), frozen(bars.close),
            config.span, config.atr_period, config.multiple, config.relative_floor,
            state["previous"], state["n_closes"], state["middle"], state["n_ranges"], state["range"],
            values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _band(
    code: CodeArray, high: FloatArray, low: FloatArray, close: FloatArray,
    span: int, period: int, multiple: float, floor: float,
    previous: FloatArray, n_closes: IntArray, middle: FloatArray, n_ranges: IntArray, ranges: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        c = code[i]
        current = true_range(high[i], low[i], close[i], previous[c])
        average = smoothed(middle[c], n_closes[c], close[i], span, 2.0 / (span + 1.0))
        spread = smoothed(ranges[c], n_ranges[c], current, period, 1.0 / period)
        previous[c] = close[i]
        if np.isfinite(average):
            middle[c] = average
            n_closes[c] += 1
        if np.isfinite(spread):
            ranges[c] = spread
            n_ranges[c] += 1
        if n_closes[c] < span or n_ranges[c] < period:
            missing[i, :] = Missing.WARMING_UP
        elif not (np.isfinite(average) and np.isfinite(spread)):
            missing[i, :] = Missing.NOT_FINITE
        else:
            half = multiple * spread
            moved = half if spread > floor * abs(average) else 0.0
            values[i, 0], missing[i, 0] = finite(average + half)
            values[i, 1], missing[i, 1] = finite(average - half)
            values[i, 2], missing[i, 2] = ratio(2.0 * half, average)
            values[i, 3], missing[i, 3] = ratio(close[i] - (average - half), 2.0 * moved)
