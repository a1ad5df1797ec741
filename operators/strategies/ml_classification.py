r"""ML classification: follow a model's probability of a rise.

A prediction with probability $p \ge e$ opens a long position and one with $p \le 1 - e$ a short one. A long
position ends at a prediction with $p \le x$, a short one at $p \ge 1 - x$, with $x < e$; both end
after `max_holding`, which is looked at when a bar closes too. Confidence is $|2p - 1|$.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from operators.state import ArrayState
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from operators.strategies.prediction_config import PredictionConfig
from schemas.config import Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["MLClassification", "MLClassificationConfig"]


class MLClassificationConfig(PredictionConfig):
    """Parameters of ML classification."""

    entry_probability: float = Field(0.6, gt=0.5, le=1, description="probability that opens a position")
    exit_probability: float = Field(0.5, ge=0, le=1, description="probability that ends it")
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")

    @model_validator(mode="after")
    def _exit_below_entry(self) -> Self:
        if self.exit_probability >= self.entry_probability:
            raise ValueError(
                f"expected `exit_probability` below `entry_probability`, was {self.exit_probability} and "
                f"{self.entry_probability}"
            )
        return self


class MLClassification(Strategy):
    """Follows the probability of a rise that a classifier gives.

    Parameters
    ----------
    config
        An `MLClassificationConfig`.

    Notes
    -----
    What is no probability (missing, or outside of [0, 1]) decides nothing. The probability has to be
    calibrated: the thresholds are read as probabilities.

    Examples
    --------
    >>> strategy = MLClassification(MLClassificationConfig(model="direction"))
    >>> view = StrategyView(
    ...     code=np.zeros(2, "i4"), ts=np.arange(2), price=np.array([10.0, 11.0]),
    ...     values=np.array([[0.75], [0.4]]), missing=np.zeros((2, 1), "u1"))
    >>> decisions = strategy.on_frame(view)
    >>> [strategy.reasons[reason] for reason in decisions.reason], decisions.confidence.tolist()
    (['a rise is likely', 'probability is gone', 'a fall is likely'], [0.5, 1.0, 0.19999999999999996])

    References
    ----------
    Leung, M., Daouk, H. and Chen, A. (2000). Forecasting stock indices: a comparison of classification and level
    estimation models. International Journal of Forecasting 16(2).
    """

    name: ClassVar[str] = "ml_classification"
    Config = MLClassificationConfig
    on: ClassVar[DecidesOn] = "prediction"
    needs = ("probability",)
    compares = ("entry_probability", "exit_probability", "max_holding")
    reasons = ("a rise is likely", "a fall is likely", "probability is gone", "held as long as allowed")

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next predictions and closes of bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, MLClassificationConfig)
        rise = view.values[:, 0]
        rise = np.where((view.missing[:, 0] == Missing.OK) & (rise >= 0.0) & (rise <= 1.0), rise, np.nan)
        long = rise >= config.entry_probability
        short = 1.0 - rise >= config.entry_probability
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.abs(2.0 * rise - 1.0),
            exit_long=np.where(rise <= config.exit_probability, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(1.0 - rise <= config.exit_probability, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
        )
