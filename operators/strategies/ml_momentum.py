r"""ML momentum: follow a model's probability of a rise where the price already moves that way.

Momentum is $m = \ln P - A$, the price over its own average in event time: between two prices at $t'$ and $t$ the
average of the logarithm follows $A_t = A_{t'} + (1 - 2^{-(t - t') / h}) (\ln P_{t} - A_{t'})$ with half-life
$h$, from the first price on. A prediction with probability $p \ge e$ and $m > 0$ opens a long position, one with
$p \le 1 - e$ and $m < 0$ a short one. A position ends at a prediction on the other side of one half, when the
price has crossed its average against it, and once `max_sessions` closes of the market have passed since it was
opened. Confidence is $|2p - 1|$.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import CodeArray, FloatArray, IntArray, frozen
from operators.events.config import DEFAULT_CALENDAR, Calendar
from operators.events.sessions import session_table
from operators.state import ArrayState, Column
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from operators.strategies.prediction_config import PredictionConfig
from schemas.config import Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["MLMomentum", "MLMomentumConfig"]


class MLMomentumConfig(PredictionConfig):
    """Parameters of ML momentum."""

    entry_probability: float = Field(0.55, gt=0.5, le=1, description="probability that opens a position")
    half_life: Duration = Field(
        parse_duration("10m"), gt=timedelta(0), description="half-life of the average that the price is compared with"
    )
    max_sessions: int = Field(5, ge=1, le=1000, description="closes of the market after which a position ends")
    calendar: Calendar = Field(DEFAULT_CALENDAR, description="trading calendar that sessions are counted in")


class MLMomentum(Strategy):
    """Follows a classifier where the price already moves its way.

    Parameters
    ----------
    config
        An `MLMomentumConfig`.

    Notes
    -----
    The average takes the price at each prediction and at each close of a bar. A price that is not positive and finite
    has no momentum and leaves the average as it was.

    Examples
    --------
    >>> strategy = MLMomentum(MLMomentumConfig(model="direction"))
    >>> nan = float("nan")
    >>> values = np.array([[nan], [0.75], [nan]])
    >>> view = StrategyView(
    ...     code=np.zeros(3, "i4"), ts=np.arange(3) * 60 * 10**9, price=np.array([10.0, 10.5, 9.5]),
    ...     values=values, missing=np.isnan(values).astype("u1"))
    >>> decisions = strategy.on_frame(view)
    >>> decisions.row.tolist(), [strategy.reasons[reason] for reason in decisions.reason]
    ([1, 2], ['a rise is likely and the price is above its average', 'price crossed its average'])

    References
    ----------
    Moskowitz, T., Ooi, Y. and Pedersen, L. (2012). Time series momentum. Journal of Financial Economics 104(2).
    Eckner, A. (2012). Algorithms for unevenly spaced time series: moving averages and other rolling operators.
    """

    name: ClassVar[str] = "ml_momentum"
    Config = MLMomentumConfig
    on: ClassVar[DecidesOn] = "prediction"
    needs = ("probability",)
    derived = ("momentum",)
    compares = ("entry_probability", "max_sessions")
    reasons = (
        "a rise is likely and the price is above its average",
        "a fall is likely and the price is below its average",
        "the other direction is more likely",
        "price crossed its average",
        "held for as many sessions as allowed",
    )

    def _make_state(self) -> ArrayState:
        average = {"average": Column("f8", fill=np.nan), "ts_average": Column("i8")}
        return ArrayState(POSITION_COLUMNS | average, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next predictions and closes of bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, MLMomentumConfig)
        rise = view.values[:, 0]
        rise = np.where((view.missing[:, 0] == Missing.OK) & (rise >= 0.0) & (rise <= 1.0), rise, np.nan)
        momentum = np.full(len(view.code), np.nan)
        _average(
            frozen(view.code), frozen(view.ts), frozen(view.price), duration_ns(config.half_life),
            self.state["average"], self.state["ts_average"], momentum,
        )  # fmt: skip
        long = (rise >= config.entry_probability) & (momentum > 0.0)
        short = (1.0 - rise >= config.entry_probability) & (momentum < 0.0)
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.abs(2.0 * rise - 1.0),
            exit_long=np.select((rise < 0.5, momentum < 0.0), (2, 3), NO_REASON).astype(np.int8),
            exit_short=np.select((rise > 0.5, momentum > 0.0), (2, 3), NO_REASON).astype(np.int8),
            max_holding=config.max_sessions,
            held_too_long=4,
            cooldown_ns=duration_ns(config.cooldown),
            clock=session_table(config.calendar).index(view.ts),
            evidence=momentum[:, None],
        )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _average(
    code: CodeArray, ts: IntArray, price: FloatArray, half_life: int, average: FloatArray, ts_average: IntArray,
    out_momentum: FloatArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        if not (price[i] > 0.0 and np.isfinite(price[i])):
            continue
        c = code[i]
        log_price = np.log(price[i])
        if np.isnan(average[c]):
            average[c] = log_price
        else:
            share = 1.0 - 2.0 ** (-(ts[i] - ts_average[c]) / half_life)
            average[c] += share * (log_price - average[c])
        ts_average[c] = ts[i]
        out_momentum[i] = log_price - average[c]
