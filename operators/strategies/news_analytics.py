r"""News analytics: react to each news item, once for a burst of them, and let the reaction decay.

What the items of an instrument say adds up and decays in event time: after an item of sentiment $x$ and weight $w$
(novelty and damping), $L_t = L_{t'} \, 2^{-(t - t') / h} + w x$ with half-life $h$. An item that brings $L$ to
$e$ or above opens a long position, one that brings it to $-e$ or below a short one; a position ends when $L$
has come back to $x$ from its side, which is looked at when an item comes and when a bar closes. Confidence is
$|L| / 2e$, at most 1.

Items that come within `coalesce` of a reaction are part of one reaction, taken with all of them at the next item
or bar after it. Reactions of an instrument pass a token bucket of `burst` tokens that refills with
`reactions_per_hour`: without a token there is none, however many items come.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from operators.columns import BoolArray, CodeArray, FloatArray, Int8Array, IntArray, frozen
from operators.state import ArrayState, Column
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["NewsAnalytics", "NewsAnalyticsConfig"]

_HOUR: Final = 3_600_000_000_000
_NEVER: Final = -(2**62)


class NewsAnalyticsConfig(ComponentConfig):
    """Parameters of news analytics."""

    interval: Duration = Field(parse_duration("1m"), description="bars at whose close a position is looked at")
    half_life: Duration = Field(parse_duration("10m"), description="half-life of what an item says")
    entry_level: float = Field(0.4, gt=0, le=100, description="sum of decayed sentiment that opens a position")
    exit_level: float = Field(0.1, ge=0, le=100, description="sum of decayed sentiment that ends it")
    max_price_age: Duration = Field(parse_duration("1m"), description="oldest price at which a position opens")
    coalesce: Duration = Field(parse_duration("5s"), description="items this soon after a reaction wait for the next")
    reactions_per_hour: float = Field(12.0, gt=0, le=3600, description="tokens that an instrument gets an hour")
    burst: float = Field(3.0, ge=1, le=1000, description="most tokens that an instrument has")
    max_holding: Duration = Field(parse_duration("1h"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.exit_level >= self.entry_level:
            raise ValueError(f"expected `exit_level` below `entry_level`, was {self.exit_level} and {self.entry_level}")
        if duration_ns(self.half_life) <= 0:
            raise ValueError(f"expected `half_life` above zero, was {self.content()['half_life']}")
        return self


class NewsAnalytics(Strategy):
    """Reacts to news items, at a bounded rate, and lets go as they grow old.

    Parameters
    ----------
    config
        A `NewsAnalyticsConfig`.

    Notes
    -----
    An item without a score, or before the first price of its instrument, says nothing. A repeat of a story has a
    small weight, and so adds little. A reaction spends its token also where a position is held already: the bucket
    bounds how often news of an instrument are acted on, not how often a position opens.

    Examples
    --------
    >>> strategy = NewsAnalytics(NewsAnalyticsConfig())
    >>> nan = float("nan")
    >>> minute = 60 * 10**9
    >>> values = np.array([[0.6, 1.0, 0.5], [nan, nan, nan], [nan, nan, nan]])
    >>> view = StrategyView(
    ...     code=np.zeros(3, "i4"), ts=np.array([0, minute, 30 * minute]), price=np.full(3, 10.0),
    ...     values=values, missing=np.isnan(values).astype("u1"))
    >>> decisions = strategy.on_frame(view)
    >>> decisions.row.tolist(), [strategy.reasons[reason] for reason in decisions.reason]
    ([0, 2], ['news are good', 'news have grown old'])

    References
    ----------
    Tetlock, P. (2007). Giving content to investor sentiment. Journal of Finance 62(3). Turner, J. (1986). New
    directions in communications (the token bucket). IEEE Communications Magazine 24(10).
    """

    name: ClassVar[str] = "news_analytics"
    Config = NewsAnalyticsConfig
    on: ClassVar[DecidesOn] = "item"
    needs = ("score", "weight", "price_age")
    derived = ("level", "tokens")
    compares = ("entry_level", "exit_level", "max_price_age", "max_holding")
    reasons = ("news are good", "news are bad", "news have grown old", "held as long as allowed")

    def _make_state(self) -> ArrayState:
        assert isinstance(self.config, NewsAnalyticsConfig)
        own = {
            "level": Column("f8"),
            "ts_level": Column("i8", fill=_NEVER),
            "tokens": Column("f8", fill=self.config.burst),
            "ts_tokens": Column("i8", fill=_NEVER),
            "ts_reacted": Column("i8", fill=_NEVER),
            "waiting": Column("i1"),
        }
        return ArrayState(POSITION_COLUMNS | own, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next items and closes of bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, NewsAnalyticsConfig)
        score, weight, age = np.where(view.missing == Missing.OK, view.values, np.nan).T
        item = (np.abs(score) <= 1.0) & (weight >= 0.0) & (weight <= 1.0)
        said = np.where(item, score, 0.0) * np.where(item, weight, 0.0)
        # the close of a bar is a price of its own time, and has no age
        fresh = (age <= config.max_price_age.total_seconds()) | ~np.isfinite(view.values).any(axis=1)
        level, tokens = np.empty(len(view.code)), np.empty(len(view.code))
        reacts = np.zeros(len(view.code), dtype=np.bool_)
        state = self.state
        _react(
            frozen(view.code), frozen(view.ts), frozen(said), frozen(item), frozen(fresh),
            duration_ns(config.half_life), config.entry_level, duration_ns(config.coalesce),
            config.reactions_per_hour, config.burst,
            state["level"], state["ts_level"], state["tokens"], state["ts_tokens"], state["ts_reacted"],
            state["waiting"], level, tokens, reacts,
        )  # fmt: skip
        return decide(
            state,
            view,
            enter=np.where(reacts, np.sign(level), 0.0).astype(np.int8),
            enter_reason=np.where(level > 0.0, 0, 1).astype(np.int8),
            confidence=np.minimum(np.abs(level) / (2 * config.entry_level), 1.0),
            exit_long=np.where(level <= config.exit_level, 2, NO_REASON).astype(np.int8),
            exit_short=np.where(level >= -config.exit_level, 2, NO_REASON).astype(np.int8),
            max_holding=duration_ns(config.max_holding),
            held_too_long=3,
            cooldown_ns=duration_ns(config.cooldown),
            evidence=np.column_stack((level, tokens)),
        )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _react(
    code: CodeArray, ts: IntArray, said: FloatArray, item: BoolArray, fresh: BoolArray, half_life: int, entry: float,
    coalesce: int, per_hour: float, burst: float, level: FloatArray, ts_level: IntArray, tokens: FloatArray,
    ts_tokens: IntArray, ts_reacted: IntArray, waiting: Int8Array, out_level: FloatArray, out_tokens: FloatArray,
    out_reacts: BoolArray,
) -> None:  # fmt: skip
    for i in range(len(code)):
        c = code[i]
        if item[i]:
            level[c] = level[c] * 2.0 ** (-(ts[i] - ts_level[c]) / half_life) + said[i]
            ts_level[c] = ts[i]
            waiting[c] = 1
        now = level[c] * 2.0 ** (-(ts[i] - ts_level[c]) / half_life)
        out_level[i] = now
        if waiting[c] == 1 and ts[i] - ts_reacted[c] >= coalesce:
            waiting[c] = 0
            refilled = min(burst, tokens[c] + (ts[i] - ts_tokens[c]) / _HOUR * per_hour)
            if fresh[i] and abs(now) >= entry and refilled >= 1.0:
                out_reacts[i] = True
                ts_reacted[c] = ts[i]
                tokens[c] = refilled - 1.0
                ts_tokens[c] = ts[i]
        out_tokens[i] = min(burst, tokens[c] + (ts[i] - ts_tokens[c]) / _HOUR * per_hour)
