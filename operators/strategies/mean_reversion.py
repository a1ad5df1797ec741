r"""Mean reversion: fade a close that is far from its rolling mean.

With $z_t = (p_t - \mu_t) / \sigma_t$ over a window of bars, a close at $z \le -e$ opens a long
position and one at $z \ge e$ a short one; a long position ends when $z$ is back above $-x$, a short
one when it is below $x$, with $0 \le x < e$. Confidence is $|z| / 2e$, at most 1: one half at the
threshold, one at twice the threshold.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from operators.state import ArrayState
from operators.strategies.base import Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["MeanReversion", "MeanReversionConfig"]


class MeanReversionConfig(ComponentConfig):
    """Parameters of mean reversion."""

    interval: Duration = Field(parse_duration("1m"), description="bars that it decides on")
    entry_zscore: float = Field(2.0, gt=0, le=20, description="distance that opens a position, standard deviations")
    exit_zscore: float = Field(0.5, ge=0, le=20, description="distance that ends it, standard deviations")
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")

    @model_validator(mode="after")
    def _exit_below_entry(self) -> Self:
        if self.exit_zscore >= self.entry_zscore:
            raise ValueError(
                f"expected `exit_zscore` below `entry_zscore`, was {self.exit_zscore} and {self.entry_zscore}"
            )
        return self


class MeanReversion(Strategy):
    """Fades z-score extremes of the close.

    Parameters
    ----------
    config
        A `MeanReversionConfig`.

    Notes
    -----
    A bar without a z-score (warm-up, no dispersion) decides nothing: it neither opens nor ends a
    position, so a degenerate window is never read as fair value.

    Examples
    --------
    >>> strategy = MeanReversion(MeanReversionConfig())
    >>> view = StrategyView(
    ...     code=np.zeros(3, "i4"), ts=np.arange(3), price=np.array([9.0, 10.0, 10.0]),
    ...     values=np.array([[-3.0], [-0.4], [-0.4]]), missing=np.zeros((3, 1), "u1"))
    >>> [strategy.reasons[reason] for reason in strategy.on_frame(view).reason]
    ['close is far below its rolling mean', 'close came back to its rolling mean']

    References
    ----------
    Poterba, J. and Summers, L. (1988). Mean reversion in stock prices: evidence and implications.
    Journal of Financial Economics 22(1).
    """

    name: ClassVar[str] = "mean_reversion"
    Config = MeanReversionConfig
    on: ClassVar[Literal["bar", "book"]] = "bar"
    needs = ("zscore",)
    compares = ("entry_zscore", "exit_zscore", "max_holding")
    reasons = (
        "close is far below its rolling mean",
        "close is far above its rolling mean",
        "close came back to its rolling mean",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, MeanReversionConfig)
        z = np.where(view.missing[:, 0] == Missing.OK, view.values[:, 0], np.nan)
        long = z <= -config.entry_zscore
        short = z >= config.entry_zscore
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.where(np.isnan(z), np.nan, np.minimum(np.abs(z) / (2 * config.entry_zscore), 1.0)),
            exit_long=np.where(z >= -config.exit_zscore, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(z <= config.exit_zscore, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
        )
