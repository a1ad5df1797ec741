r"""ML regression: follow a model's expected return where it is large beside its own error and beside costs.

With expected return $r$ and its standard error $u > 0$, a prediction with $r / u \ge e$ opens a long position
and one with $r / u \le -e$ a short one, when $|r|$ is at least `min_return_bps`. A long position ends at a
prediction with $r / u \le x$, a short one at $r / u \ge -x$, with $0 \le x < e$; both end after
`max_holding`, which is looked at when a bar closes too. Confidence is $2 \Phi(|r| / u) - 1$: the chance that the
sign is right, for an error that is normal, scaled from one half and one to zero and one.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.special import erf

from operators.state import ArrayState
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from operators.strategies.prediction_config import PredictionConfig
from schemas.config import Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["MLRegression", "MLRegressionConfig"]


class MLRegressionConfig(PredictionConfig):
    """Parameters of ML regression."""

    entry_ratio: float = Field(1.0, gt=0, le=20, description="return over its standard error that opens a position")
    exit_ratio: float = Field(0.0, ge=0, le=20, description="return over its standard error that ends it")
    min_return_bps: float = Field(
        5.0, ge=0, le=10_000, description="least expected return, such as costs, basis points"
    )
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")

    @model_validator(mode="after")
    def _exit_below_entry(self) -> Self:
        if self.exit_ratio >= self.entry_ratio:
            raise ValueError(f"expected `exit_ratio` below `entry_ratio`, was {self.exit_ratio} and {self.entry_ratio}")
        return self


class MLRegression(Strategy):
    """Follows the return that a regression expects, as far as the regression is sure of it.

    Parameters
    ----------
    config
        An `MLRegressionConfig`.

    Notes
    -----
    A prediction without a standard error, or with one of zero, has no ratio and decides nothing: no error is
    made up from the prediction.

    Examples
    --------
    >>> strategy = MLRegression(MLRegressionConfig(model="return"))
    >>> view = StrategyView(
    ...     code=np.zeros(2, "i4"), ts=np.arange(2), price=np.array([10.0, 11.0]),
    ...     values=np.array([[0.002, 0.001], [-0.0001, 0.001]]), missing=np.zeros((2, 2), "u1"))
    >>> decisions = strategy.on_frame(view)
    >>> [strategy.reasons[reason] for reason in decisions.reason], decisions.confidence.round(3).tolist()
    (['expected return is high beside its error', 'expected return is gone'], [0.954, 1.0])

    References
    ----------
    Gu, S., Kelly, B. and Xiu, D. (2020). Empirical asset pricing via machine learning. Review of Financial
    Studies 33(5).
    """

    name: ClassVar[str] = "ml_regression"
    Config = MLRegressionConfig
    on: ClassVar[DecidesOn] = "prediction"
    needs = ("expected_return", "uncertainty")
    derived = ("ratio",)
    compares = ("entry_ratio", "exit_ratio", "min_return_bps", "max_holding")
    reasons = (
        "expected return is high beside its error",
        "expected return is low beside its error",
        "expected return is gone",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next predictions and closes of bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, MLRegressionConfig)
        known = (view.missing == Missing.OK) & np.isfinite(view.values)
        expected, error = np.where(known, view.values, np.nan).T
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            ratio = np.where(error > 0.0, expected / error, np.nan)
        ratio[~np.isfinite(ratio)] = np.nan
        pays = np.abs(expected) >= config.min_return_bps / 1e4
        long = pays & (ratio >= config.entry_ratio)
        short = pays & (ratio <= -config.entry_ratio)
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=erf(np.abs(ratio) / np.sqrt(2.0)),
            exit_long=np.where(ratio <= config.exit_ratio, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(ratio >= -config.exit_ratio, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
            evidence=ratio[:, None],
        )
