r"""Rate of change of the close: $100 (C_t / C_{t-p} - 1)$."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numba
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import ratio
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["RateOfChange", "RateOfChangeConfig"]


class RateOfChangeConfig(ComponentConfig):
    """Rate of change of the close."""

    period: Annotated[int, Field(ge=1, le=1000)] = 10
    """bars back; each costs 8 bytes an instrument"""


class RateOfChange(BarFeature):
    """Change of the close over `period` bars, in percent of the close then.

    Bars without trades do not exist, so the change may span more time than `period` intervals.

    Notes
    -----
    Warm-up is `period + 1` bars. A close that is not finite, now or then, or a change that overflows, gives
    `NOT_FINITE`; a close then that is not positive gives `DEGENERATE`.

    About 4 ns a bar with the standard parameters, 88 bytes an instrument.

    Examples
    --------
    >>> RateOfChange.specs(RateOfChangeConfig())[0].warm_up
    11

    References
    ----------
    Murphy, J. J. (1999). Technical Analysis of the Financial Markets, chapter 10.
    """

    name: ClassVar[str] = "rate_of_change"
    Config: ClassVar[type[ComponentConfig]] = RateOfChangeConfig
    config: RateOfChangeConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "rate_of_change",
                "percent",
                "100 (close_t - close_{t-period}) / close_{t-period}",
                "Murphy (1999)",
                ("bars.close",),
                {"period": config.period},
                warm_up=config.period + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return ArrayState({"n_bars": Column("i8"), "ring": Column("f8", shape=(self.config.period,))}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        _change(frozen(bars.code), frozen(bars.close), self.state["n_bars"], self.state["ring"], values, missing)
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _change(
    code: CodeArray, close: FloatArray, n_bars: IntArray, ring: FloatArray, values: FloatArray, missing: MissingArray
) -> None:
    period = ring.shape[1]
    for i in range(len(code)):
        c = code[i]
        position = n_bars[c] % period
        if n_bars[c] < period:
            missing[i, 0] = Missing.WARMING_UP
        else:
            values[i, 0], missing[i, 0] = ratio(100.0 * (close[i] - ring[c, position]), ring[c, position])
        ring[c, position] = close[i]
        n_bars[c] += 1
