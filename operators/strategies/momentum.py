r"""Momentum: follow a return that is large for the volatility, in a market that moves one way.

The log return $R$ over the last $h = 60$ bars is scaled by what chance would give over as many bars,
$s = R / (\sigma \sqrt h)$, with the exponentially weighted volatility of a bar $\sigma$. A bar with
$s \ge e$ opens a long position and one with $s \le -e$ a short one, when the average directional index is
at least `min_adx`. A long position ends when $s$ is back at $x$ or below, a short one at $-x$ or above,
with $0 \le x < e$. Confidence is $|s| / 2e$, at most 1.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import numpy as np
from pydantic import Field, model_validator

from operators.state import ArrayState
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["Momentum", "MomentumConfig"]

_BARS: Final = 60


class MomentumConfig(ComponentConfig):
    """Parameters of momentum."""

    interval: Duration = Field(parse_duration("1m"), description="bars that it decides on")
    entry_scaled_return: float = Field(1.0, gt=0, le=20, description="scaled return that opens a position")
    exit_scaled_return: float = Field(0.0, ge=0, le=20, description="scaled return that ends it")
    min_adx: float = Field(20.0, ge=0, le=100, description="least average directional index of an entry, percent")
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")

    @model_validator(mode="after")
    def _exit_below_entry(self) -> Self:
        if self.exit_scaled_return >= self.entry_scaled_return:
            raise ValueError(
                f"expected `exit_scaled_return` below `entry_scaled_return`, was {self.exit_scaled_return} and "
                f"{self.entry_scaled_return}"
            )
        return self


class Momentum(Strategy):
    """Follows volatility-scaled returns that directional movement confirms.

    Parameters
    ----------
    config
        A `MomentumConfig`.

    Notes
    -----
    A bar without a return, without a volatility, or with a volatility of zero has no scaled return: it
    neither opens nor ends a position. The paper scales monthly returns; here the bars are those of `interval`.

    Examples
    --------
    >>> strategy = Momentum(MomentumConfig())
    >>> view = StrategyView(
    ...     code=np.zeros(2, "i4"), ts=np.arange(2), price=np.array([11.0, 10.0]),
    ...     values=np.array([[0.1, 0.01, 30.0], [-0.01, 0.01, 30.0]]), missing=np.zeros((2, 3), "u1"))
    >>> [strategy.reasons[reason] for reason in strategy.on_frame(view).reason]
    ['return is high for the volatility', 'momentum is gone']

    References
    ----------
    Moskowitz, T., Ooi, Y. and Pedersen, L. (2012). Time series momentum. Journal of Financial Economics 104(2).
    """

    name: ClassVar[str] = "momentum"
    Config = MomentumConfig
    on: ClassVar[DecidesOn] = "bar"
    needs = (f"log_return_{_BARS}", "ewma_volatility", "adx")
    derived = ("scaled_return",)
    compares = ("entry_scaled_return", "exit_scaled_return", "min_adx", "max_holding")
    reasons = (
        "return is high for the volatility",
        "return is low for the volatility",
        "momentum is gone",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, MomentumConfig)
        change, volatility, adx = np.where(view.missing == Missing.OK, view.values, np.nan).T
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            scaled = np.where(volatility > 0.0, change / (volatility * np.sqrt(_BARS)), np.nan)
        scaled[~np.isfinite(scaled)] = np.nan
        armed = adx >= config.min_adx
        long = armed & (scaled >= config.entry_scaled_return)
        short = armed & (scaled <= -config.entry_scaled_return)
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.minimum(np.abs(scaled) / (2 * config.entry_scaled_return), 1.0),
            exit_long=np.where(scaled <= config.exit_scaled_return, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(scaled >= -config.exit_scaled_return, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
            evidence=scaled[:, None],
        )
