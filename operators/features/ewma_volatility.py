r"""Exponentially weighted volatility: $\sigma^2_t = \sum_i \lambda^i r^2_{t-i} / \sum_i \lambda^i$."""

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

__all__ = ["EwmaVolatility", "EwmaVolatilityConfig"]


class EwmaVolatilityConfig(ComponentConfig):
    """Exponentially weighted volatility of the close."""

    half_life: Annotated[float, Field(ge=0.1, le=100_000)] = 11.2
    """bars after which a return has half its weight; 11.2 is RiskMetrics' decay of 0.94"""
    min_returns: Annotated[int, Field(ge=1, le=100_000)] = 20
    """returns before the first value"""
    floor: Annotated[float, Field(ge=0.0, le=0.01)] = 1e-12
    """volatility at or below it counts as none"""


class EwmaVolatility(BarFeature):
    r"""Volatility of one bar's log return, with exponentially decaying weights.

    RiskMetrics' recursion $\sigma^2_t = \lambda \sigma^2_{t-1} + (1 - \lambda) r^2_t$ with
    $\lambda = 2^{-1/h}$ and mean zero, divided by the weight that has been handed out so far, $1 - \lambda^n$:
    without that, the start value would weigh as much as all history before it. The square root is taken
    of an unbiased variance, so the volatility itself is slightly low, as is usual.

    Notes
    -----
    Per bar, not annualised. Warm-up is `min_returns` returns that exist. A bar whose return does not exist
    has no value (`NOT_FINITE` or `DEGENERATE`, as the return) and leaves the average as it was. A price that has
    not moved for long has a volatility near zero, which would size a position without limit: at or below `floor`
    it is `DEGENERATE`.

    Examples
    --------
    >>> EwmaVolatility.specs(EwmaVolatilityConfig())[0].warm_up
    21

    References
    ----------
    J.P. Morgan/Reuters (1996). RiskMetrics: Technical Document, 4th ed., section 5.2.
    """

    name: ClassVar[str] = "ewma_volatility"
    Config: ClassVar[type[ComponentConfig]] = EwmaVolatilityConfig

    def __init__(self, config: EwmaVolatilityConfig) -> None:
        super().__init__(config)
        self._decay = 0.5 ** (1.0 / config.half_life)
        self._min_returns = config.min_returns
        self._floor = config.floor

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "ewma_volatility",
                "1 per bar",
                "sqrt(sum(d^i r_{t-i}^2) / sum(d^i)), d = 2^(-1/half_life), r = log return of the close",
                "RiskMetrics Technical Document (1996)",
                ("bars.close",),
                {"half_life": config.half_life, "min_returns": config.min_returns, "floor": config.floor},
                warm_up=config.min_returns + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return ArrayState(
            {
                "previous": Column("f8", fill=np.nan),
                "n_bars": Column("i8"),
                "n_returns": Column("i8"),
                "total": Column("f8"),
                "weight": Column("f8"),
            },
            version=1,
        )

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        code = frozen(bars.code)
        state = self.state
        returns = step_log_returns(state["previous"], code, bars.close)
        _decay_squares(
            code, returns, self._decay, self._min_returns, self._floor,
            state["n_bars"], state["n_returns"], state["total"], state["weight"], values, missing,
        )  # fmt: skip
        return values, missing


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _decay_squares(
    code: CodeArray, returns: FloatArray, decay: float, min_returns: int, floor: float,
    n_bars: IntArray, n_returns: IntArray, total: FloatArray, weight: FloatArray,
    values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        c = code[i]
        r = returns[i]
        n_bars[c] += 1
        exists = n_bars[c] > 1 and np.isfinite(r)
        if exists:
            n_returns[c] += 1
            total[c] = decay * total[c] + (1.0 - decay) * r * r
            weight[c] = decay * weight[c] + (1.0 - decay)
        if n_returns[c] < min_returns:
            missing[i, 0] = Missing.WARMING_UP
        elif not exists:
            missing[i, 0] = Missing.DEGENERATE if np.isnan(r) else Missing.NOT_FINITE
        else:
            volatility = np.sqrt(total[c] / weight[c])
            if volatility > floor:
                values[i, 0] = volatility
            else:
                missing[i, 0] = Missing.DEGENERATE
