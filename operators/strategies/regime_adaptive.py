r"""Regime adaptive: follow a trend while there is one, fade extremes while there is none, by the volatility.

The state of the trend $d \in \{-1, 0, 1\}$ and of the volatility (low, normal, high) come from features that
enter and leave a state at different thresholds and keep it for a least time. Each volatility state has
parameters of its own: an entry distance $e$ and an exit distance $x$ in standard deviations, a least
efficiency ratio $r$, and whether it is traded at all. In a trend whose efficiency ratio is at least $r$ in size a
position in its direction opens, with the size of the ratio as confidence. Without a trend a close at
$z \le -e$ opens a long position and one at $z \ge e$ a short one, with confidence $|z| / 2e$, at most 1. A
position ends when there is a trend against it; when there is none and the close is back within $x$ of its mean
or beyond it; and when the volatility comes to a state that is not traded.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import numpy as np
from pydantic import Field, model_validator

from operators.columns import FloatArray, Int8Array
from operators.state import ArrayState
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["RegimeAdaptive", "RegimeAdaptiveConfig", "RegimeParameters"]

_TREND_UP, _TREND_DOWN, _BELOW, _ABOVE, _AGAINST, _BACK, _NOT_TRADED, _HELD = range(8)
_STATES: Final = ("low", "normal", "high")


class RegimeParameters(ComponentConfig):
    """Parameters in one state of the volatility."""

    trades: bool = Field(True, description="whether positions are held in this state")
    entry_zscore: float = Field(2.0, gt=0, le=20, description="distance that opens, standard deviations")
    exit_zscore: float = Field(0.5, ge=0, le=20, description="distance that ends, standard deviations")
    min_efficiency: float = Field(0.5, ge=0, le=1, description="least size of the efficiency ratio of a trend")

    @model_validator(mode="after")
    def _exit_below_entry(self) -> Self:
        if self.exit_zscore >= self.entry_zscore:
            raise ValueError(
                f"expected `exit_zscore` below `entry_zscore`, was {self.exit_zscore} and {self.entry_zscore}"
            )
        return self


def _high() -> RegimeParameters:
    return RegimeParameters(entry_zscore=3.0, exit_zscore=1.0, min_efficiency=0.6)


class RegimeAdaptiveConfig(ComponentConfig):
    """Parameters of regime adaptive."""

    interval: Duration = Field(parse_duration("1m"), description="bars that it decides on")
    low: RegimeParameters = Field(default_factory=RegimeParameters, description="at low volatility")
    normal: RegimeParameters = Field(default_factory=RegimeParameters, description="at normal volatility")
    high: RegimeParameters = Field(default_factory=_high, description="at high volatility")
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")


class RegimeAdaptive(Strategy):
    """Follows trends and fades extremes, whichever the market is in, with parameters by its volatility.

    Parameters
    ----------
    config
        A `RegimeAdaptiveConfig`.

    Notes
    -----
    A bar without one of the states decides nothing; one without a z-score opens and ends nothing in a market
    without trend. The parameters that were in force are stored with each signal, as what was derived.

    Examples
    --------
    >>> strategy = RegimeAdaptive(RegimeAdaptiveConfig())
    >>> view = StrategyView(
    ...     code=np.zeros(3, "i4"), ts=np.arange(3), price=np.array([9.0, 10.0, 11.0]),
    ...     values=np.array([[0, 0, 0.1, -2.5], [0, 0, 0.2, 0.1], [1, 1, 0.7, 1.0]], "f8"),
    ...     missing=np.zeros((3, 4), "u1"))
    >>> for reason in strategy.on_frame(view).reason:
    ...     print(strategy.reasons[reason])
    close is far below its rolling mean, without a trend
    close is back at its rolling mean, without a trend
    market trends upwards

    References
    ----------
    Kaufman, P. (1995). Smarter Trading. Ang, A. and Timmermann, A. (2012). Regime changes and financial markets.
    Annual Review of Financial Economics 4.
    """

    name: ClassVar[str] = "regime_adaptive"
    Config = RegimeAdaptiveConfig
    on: ClassVar[DecidesOn] = "bar"
    needs = ("volatility_state", "trend_state", "efficiency_ratio", "zscore")
    derived = ("entry_zscore", "exit_zscore", "min_efficiency")
    compares = ("max_holding",)
    reasons = (
        "market trends upwards",
        "market trends downwards",
        "close is far below its rolling mean, without a trend",
        "close is far above its rolling mean, without a trend",
        "trend is against the position",
        "close is back at its rolling mean, without a trend",
        "volatility is in a state that is not traded",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, RegimeAdaptiveConfig)
        known = (view.missing == Missing.OK) & np.isfinite(view.values)
        volatility, trend, efficiency, z = np.where(known, view.values, np.nan).T
        trades, entry, leave, least = _in_force(volatility, config)
        calm = trend == 0.0
        up = (trend == 1.0) & (efficiency >= least)
        down = (trend == -1.0) & (efficiency <= -least)
        below = calm & (z <= -entry)
        above = calm & (z >= entry)
        enter = np.where(trades == 1.0, up.astype(np.int8) + below - down - above, 0)
        reason = np.select((up, down, below), (_TREND_UP, _TREND_DOWN, _BELOW), _ABOVE)
        return decide(
            self.state,
            view,
            enter=enter.astype(np.int8),
            enter_reason=reason.astype(np.int8),
            confidence=np.minimum(np.where(calm, np.abs(z) / (2 * entry), np.abs(efficiency)), 1.0),
            exit_long=_exit(trades, trend == -1.0, calm & (z >= -leave)),
            exit_short=_exit(trades, trend == 1.0, calm & (z <= leave)),
            max_holding=duration_ns(config.max_holding),
            held_too_long=_HELD,
            cooldown_ns=duration_ns(config.cooldown),
            evidence=np.column_stack((entry, leave, least)),
        )


def _in_force(volatility: FloatArray, config: RegimeAdaptiveConfig) -> tuple[FloatArray, ...]:
    """Return the parameters in force at each row; NaN where the state of the volatility is not known."""
    found: list[FloatArray] = []
    for name in ("trades", "entry_zscore", "exit_zscore", "min_efficiency"):
        choices = [float(getattr(getattr(config, state), name)) for state in _STATES]
        found.append(np.select([volatility == state for state in (-1.0, 0.0, 1.0)], choices, np.nan))
    return tuple(found)


def _exit(trades: FloatArray, against: FloatArray, back: FloatArray) -> Int8Array:
    known = np.isfinite(trades)
    conditions = (trades == 0.0, known & against, known & back)
    return np.select(conditions, (_NOT_TRADED, _AGAINST, _BACK), NO_REASON).astype(np.int8)
