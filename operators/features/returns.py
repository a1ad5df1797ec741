r"""Returns of the close over several horizons: $C_t / C_{t-h} - 1$ and $\ln(C_t / C_{t-h})$."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numba
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.output import finite
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Returns", "ReturnsConfig"]


class ReturnsConfig(ComponentConfig):
    """Simple and log returns of the close over several horizons."""

    horizons: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1, max_length=8)] = (
        5,
        15,
        60,
    )
    """bars that the returns span, ascending; the longest costs 8 bytes an instrument for each bar"""

    @model_validator(mode="after")
    def _horizons_ascend(self) -> Self:
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(f"expected distinct `horizons` in ascending order, was {list(self.horizons)}")
        return self


class Returns(BarFeature):
    r"""Simple and log return of the close over each horizon $h$.

    $R_t = C_t / C_{t-h} - 1$ is what a position earned, $\ln(C_t / C_{t-h})$ what adds up over time. Bars without
    trades do not exist, so $h$ bars may span more than $h$ intervals.

    Notes
    -----
    Warm-up is `horizon + 1` bars. A close that is not finite gives `NOT_FINITE`, as does an overflow; one that is
    not positive gives `DEGENERATE`. Each affects the returns that begin or end with it and no others.

    About 30 ns a bar, 488 bytes an instrument.

    Examples
    --------
    >>> [spec.name for spec in Returns.specs(ReturnsConfig(horizons=(5,)))]
    ['simple_return_5', 'log_return_5']

    References
    ----------
    Campbell, J., Lo, A. and MacKinlay, A. C. (1997). The Econometrics of Financial Markets, section 1.4.
    """

    name: ClassVar[str] = "returns"
    Config: ClassVar[type[ComponentConfig]] = ReturnsConfig
    config: ReturnsConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output columns are: for each horizon the simple and the log return."""
        return tuple(
            FeatureSpec(
                f"{kind}_return_{horizon}",
                "1",
                formula.format(horizon),
                "Campbell, Lo and MacKinlay (1997), section 1.4",
                ("bars.close",),
                {"horizons": list(config.horizons)},
                horizon + 1,
            )
            for horizon in config.horizons
            for kind, formula in (("simple", "close_t / close_{{t-{0}}} - 1"), ("log", "ln(close_t / close_{{t-{0}}})"))
        )

    def _make_state(self) -> ArrayState:
        return ArrayState({"n_bars": Column("i8"), "ring": Column("f8", shape=(self.config.horizons[-1],))}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each, shape `(n, 2 h)`."""
        values, missing = self.empty(len(bars), 2 * len(self.config.horizons))
        horizons = frozen(np.array(self.config.horizons, dtype=np.int64))
        _compare(
            frozen(bars.code), frozen(bars.close), horizons, self.state["n_bars"], self.state["ring"], values, missing
        )
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _compare(
    code: CodeArray, close: FloatArray, horizons: npt.NDArray[np.int64], n_bars: IntArray, ring: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    length = ring.shape[1]
    for i in range(len(code)):
        c = code[i]
        n = n_bars[c]
        for j in range(len(horizons)):
            if n < horizons[j]:
                missing[i, 2 * j] = missing[i, 2 * j + 1] = Missing.WARMING_UP
                continue
            before = ring[c, (n - horizons[j]) % length]
            if not (np.isfinite(close[i]) and np.isfinite(before)):
                missing[i, 2 * j] = missing[i, 2 * j + 1] = Missing.NOT_FINITE
            elif close[i] <= 0.0 or before <= 0.0:
                missing[i, 2 * j] = missing[i, 2 * j + 1] = Missing.DEGENERATE
            else:
                growth = close[i] / before
                values[i, 2 * j], missing[i, 2 * j] = finite(growth - 1.0)
                values[i, 2 * j + 1], missing[i, 2 * j + 1] = finite(np.log(growth) if growth > 0.0 else -np.inf)
        ring[c, n % length] = close[i]
        n_bars[c] += 1
