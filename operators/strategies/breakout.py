r"""Breakout: follow a close that leaves a narrow channel on volume.

The channel is the highest high $H$ and lowest low $L$ of the bars before the present one, and its
width $2(H - L)/(H + L)$. When the width is at most `max_range` (the market was consolidating), a close
above $H$ opens a long position and one below $L$ a short one, if the bar's volume is at least
`min_relative_volume` times the average before it. A position ends when the close falls back behind
the middle of the present channel. Confidence is $\frac12 + \frac12 (v - 1)$ for relative volume $v$,
between 0 and 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from operators.state import ArrayState
from operators.strategies.base import Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["Breakout", "BreakoutConfig"]


class BreakoutConfig(ComponentConfig):
    """Parameters of breakout."""

    interval: Duration = Field(parse_duration("1m"), description="bars that it decides on")
    max_range: float = Field(0.02, gt=0, le=1, description="widest channel that counts as consolidation, fraction")
    min_relative_volume: float = Field(1.5, ge=0, le=100, description="least volume over its average")
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")


class Breakout(Strategy):
    """Follows closes that leave a consolidation with volume.

    Parameters
    ----------
    config
        A `BreakoutConfig`.

    Notes
    -----
    A bar without a channel or without a relative volume (warm-up, no volume before) opens nothing. A
    bar without a channel ends nothing.

    Examples
    --------
    >>> strategy = Breakout(BreakoutConfig())
    >>> view = StrategyView(
    ...     code=np.zeros(2, "i4"), ts=np.arange(2), price=np.array([10.2, 10.0]),
    ...     values=np.array([[10.1, 9.95, 0.015, 3.0], [10.2, 9.95, 0.02, 1.0]]),
    ...     missing=np.zeros((2, 4), "u1"))
    >>> decisions = strategy.on_frame(view)
    >>> [strategy.reasons[reason] for reason in decisions.reason], decisions.confidence.tolist()
    (['close left the channel upwards on volume', 'close fell back into the channel'], [1.0, 1.0])

    References
    ----------
    Brock, W., Lakonishok, J. and LeBaron, B. (1992). Simple technical trading rules and the stochastic
    properties of stock returns. Journal of Finance 47(5).
    """

    name: ClassVar[str] = "breakout"
    Config = BreakoutConfig
    on: ClassVar[Literal["bar", "book"]] = "bar"
    needs = ("channel_high", "channel_low", "channel_range", "relative_volume")
    compares = ("max_range", "min_relative_volume", "max_holding")
    reasons = (
        "close left the channel upwards on volume",
        "close left the channel downwards on volume",
        "close fell back into the channel",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, BreakoutConfig)
        high, low, width, volume = np.where(view.missing == Missing.OK, view.values, np.nan).T
        # comparisons with NaN are false, so a missing value opens and ends nothing
        armed = (width <= config.max_range) & (volume >= config.min_relative_volume)
        long = armed & (view.price > high)
        short = armed & (view.price < low)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite inputs give NaN, which opens nothing
            middle = high / 2 + low / 2
            confidence = 0.5 + 0.5 * (volume - 1.0)
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.where(np.isnan(confidence), np.nan, np.clip(confidence, 0.0, 1.0)),
            exit_long=np.where(view.price < middle, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(view.price > middle, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
        )
