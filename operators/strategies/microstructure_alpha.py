r"""Microstructure alpha: follow pressure in the order book that is unusual for the instrument.

Two streams are kept per instrument, book update by book update, with exponential weights of half-life
`half_life` updates ($\alpha = 1 - 2^{-1/h}$): mean $m$ and variance $s^2$ of the depth imbalance $q$,
and the mean $f$ of the order-flow imbalance. With $z = (q - m) / s$, taken before the update enters
$m$ and $s$, a long position opens at $z \ge e$ while $f > 0$, a short one at $z \le -e$ while
$f < 0$, when the spread is at most `max_spread_bps`. A position ends when $z$ reaches zero from its
own side, or after `max_holding`. Confidence is $|z| / 2e$, at most 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numba
import numpy as np
from pydantic import Field

from operators.columns import CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.state import ArrayState, Column
from operators.strategies.base import Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.time import duration_ns, parse_duration

__all__ = ["MicrostructureAlpha", "MicrostructureAlphaConfig"]


class MicrostructureAlphaConfig(ComponentConfig):
    """Parameters of microstructure alpha."""

    entry_zscore: float = Field(2.5, gt=0, le=20, description="unusual imbalance that opens, standard deviations")
    half_life: int = Field(200, ge=1, le=1_000_000, description="half-life of the running moments, book updates")
    warm_up: int = Field(50, ge=2, le=1_000_000, description="book updates before the first decision")
    min_deviation: float = Field(1e-6, gt=0, le=1, description="least deviation of the imbalance; below it no z-score")
    max_spread_bps: float = Field(20.0, gt=0, le=10_000, description="widest spread that is traded, basis points")
    max_holding: Duration = Field(parse_duration("1m"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("5s"), description="least time from an exit to the next entry")


class MicrostructureAlpha(Strategy):
    """Follows unusual depth imbalance that order flow confirms.

    Parameters
    ----------
    config
        A `MicrostructureAlphaConfig`.

    Notes
    -----
    Updates without imbalance or flow (book out of sync, locked, one-sided) decide nothing and leave
    the running moments as they are. A Python process reacts in milliseconds, not microseconds: read
    the signals as a forecast over seconds.

    Examples
    --------
    >>> strategy = MicrostructureAlpha(MicrostructureAlphaConfig(warm_up=2, half_life=1))
    >>> view = StrategyView(
    ...     code=np.zeros(4, "i4"), ts=np.arange(4), price=np.full(4, 10.0),
    ...     values=np.array([[0.1, 1.0, 1.0], [-0.1, 1.0, 1.0], [0.9, 5.0, 1.0], [-0.9, -5.0, 1.0]]),
    ...     missing=np.zeros((4, 3), "u1"))
    >>> [strategy.reasons[reason] for reason in strategy.on_frame(view).reason]
    ['bid depth and order flow press upwards', 'imbalance is gone']

    References
    ----------
    Cont, R., Kukanov, A. and Stoikov, S. (2014). The price impact of order book events. Journal of
    Financial Econometrics 12(1).
    """

    name: ClassVar[str] = "microstructure_alpha"
    Config = MicrostructureAlphaConfig
    on: ClassVar[Literal["bar", "book"]] = "book"
    needs = ("depth_imbalance", "order_flow_imbalance", "spread_bps")
    derived = ("depth_imbalance_zscore", "mean_order_flow_imbalance")
    compares = ("entry_zscore", "max_spread_bps", "max_holding")
    reasons = (
        "bid depth and order flow press upwards",
        "offer depth and order flow press downwards",
        "imbalance is gone",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        moments = {"count": Column("i8"), "mean": Column("f8"), "variance": Column("f8"), "flow": Column("f8")}
        return ArrayState(POSITION_COLUMNS | moments, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next book updates; see the module for the rule."""
        config = self.config
        assert isinstance(config, MicrostructureAlphaConfig)
        z, flow = self._moments(view, config)
        calm = (view.missing[:, 2] == 0) & (view.values[:, 2] <= config.max_spread_bps)
        long = calm & (z >= config.entry_zscore) & (flow > 0)
        short = calm & (z <= -config.entry_zscore) & (flow < 0)
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.where(np.isnan(z), np.nan, np.minimum(np.abs(z) / (2 * config.entry_zscore), 1.0)),
            exit_long=np.where(z <= 0.0, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(z >= 0.0, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
            evidence=np.column_stack((z, flow)),
        )

    def _moments(self, view: StrategyView, config: MicrostructureAlphaConfig) -> tuple[FloatArray, FloatArray]:
        """Return z-score and mean flow at each row, NaN where there is none, and move the moments."""
        z = np.full(len(view.code), np.nan)
        flow = np.full(len(view.code), np.nan)
        alpha = 1.0 - 2.0 ** (-1.0 / config.half_life)
        moments = [self.state[name] for name in ("count", "mean", "variance", "flow")]
        _update_moments(
            frozen(view.code), frozen(view.values), frozen(view.missing), alpha, config.warm_up,
            config.min_deviation, *moments, z, flow,
        )  # fmt: skip
        return z, flow


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _update_moments(
    code: CodeArray, values: FloatArray, missing: MissingArray, alpha: float, warm_up: int, min_deviation: float,
    count: IntArray, mean: FloatArray, variance: FloatArray, flow: FloatArray, out_z: FloatArray, out_flow: FloatArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        if missing[i, 0] != 0 or missing[i, 1] != 0:
            continue
        c = code[i]
        difference = values[i, 0] - mean[c]
        if count[c] >= warm_up:
            deviation = np.sqrt(variance[c])
            if deviation >= min_deviation:
                out_z[i] = difference / deviation
        if count[c] == 0:
            mean[c] = values[i, 0]
            flow[c] = values[i, 1]
        else:
            # West (1979): exponentially weighted mean and variance in one pass
            mean[c] += alpha * difference
            variance[c] = (1.0 - alpha) * (variance[c] + alpha * difference * difference)
            flow[c] += alpha * (values[i, 1] - flow[c])
        count[c] += 1
        out_flow[i] = flow[c]
