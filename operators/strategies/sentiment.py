r"""Sentiment: follow blended news and social sentiment that volume and RSI confirm.

The blend is $s = \sum_k w_k m_k / \sum_k w_k$ over the sources that say something: news and social
sentiment $m_k$ with configured weights $w_k$ that sum to one. A source without sentiment, or whose intensity
is below `min_intensity`, is absent, and the weights of the others are renormalised. A bar with
$s \ge e$ opens a long position and one with $s \le -e$ a short one, when the bar's volume is at least
`min_relative_volume` times the average before it and the RSI has room to go: at most `overbought` for a long
position, at least `oversold` for a short one. A position ends when $s$ is back within `exit_sentiment`, or
when no source is left. Confidence is $|s| / 2e$, at most 1, times the share of the way from an RSI of 50
to the bound that is left.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from operators.columns import FloatArray
from operators.state import ArrayState
from operators.strategies.base import DecidesOn, Decisions, Strategy, StrategyView
from operators.strategies.positions import NO_REASON, POSITION_COLUMNS, decide
from schemas.config import ComponentConfig, Duration
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration

__all__ = ["Sentiment", "SentimentConfig"]

_FADED, _ABSENT = 2, 3


class SentimentConfig(ComponentConfig):
    """Parameters of sentiment."""

    interval: Duration = Field(parse_duration("1m"), description="bars that it decides on")
    news_weight: float = Field(0.4, ge=0, le=1, description="weight of news; sums to one with that of social media")
    social_weight: float = Field(0.6, ge=0, le=1, description="weight of social media")
    min_intensity: float = Field(0.1, ge=0, le=1e6, description="least decayed weight at which a source counts")
    entry_sentiment: float = Field(0.3, gt=0, le=1, description="blended sentiment that opens a position")
    exit_sentiment: float = Field(0.1, ge=0, le=1, description="blended sentiment that ends it")
    min_relative_volume: float = Field(1.0, ge=0, le=100, description="least volume over its average")
    overbought: float = Field(70.0, gt=50, le=100, description="highest RSI of a long entry, percent")
    oversold: float = Field(30.0, ge=0, lt=50, description="lowest RSI of a short entry, percent")
    max_holding: Duration = Field(parse_duration("4h"), description="a position this old ends")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        total = self.news_weight + self.social_weight
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"expected `news_weight` and `social_weight` to sum to one, was {total}")
        if self.exit_sentiment >= self.entry_sentiment:
            raise ValueError(
                f"expected `exit_sentiment` below `entry_sentiment`, was {self.exit_sentiment} and "
                f"{self.entry_sentiment}"
            )
        return self


class Sentiment(Strategy):
    """Follows what news and social media say together, where volume and RSI confirm it.

    Parameters
    ----------
    config
        A `SentimentConfig`.

    Notes
    -----
    A bar without relative volume or RSI opens nothing. Where no source is left, what was said has decayed
    below the least weight: that ends a position, and is not read as a sentiment of zero.

    Examples
    --------
    >>> strategy = Sentiment(SentimentConfig())
    >>> nan = float("nan")
    >>> values = [[0.6, 2.0, nan, nan, 1.5, 60.0], [0.6, 2.0, -0.4, 1.0, 1.5, 60.0]]
    >>> view = StrategyView(
    ...     code=np.zeros(2, "i4"), ts=np.arange(2), price=np.array([11.0, 10.0]),
    ...     values=np.array(values), missing=np.isnan(values).astype("u1"))
    >>> decisions = strategy.on_frame(view)
    >>> [strategy.reasons[reason] for reason in decisions.reason], decisions.evidence.round(9).tolist()
    (['sentiment is good', 'sentiment has faded'], [[0.6], [0.0]])

    References
    ----------
    Tetlock, P., Saar-Tsechansky, M. and Macskassy, S. (2008). More than words: quantifying language to measure
    firms' fundamentals. Journal of Finance 63(3).
    """

    name: ClassVar[str] = "sentiment"
    Config = SentimentConfig
    on: ClassVar[DecidesOn] = "bar"
    needs = ("news_sentiment", "news_intensity", "social_sentiment", "social_intensity", "relative_volume", "rsi")
    derived = ("blended_sentiment",)
    compares = (
        "news_weight", "social_weight", "min_intensity", "entry_sentiment", "exit_sentiment", "min_relative_volume",
        "overbought", "oversold", "max_holding",
    )  # fmt: skip
    reasons = (
        "sentiment is good",
        "sentiment is bad",
        "sentiment has faded",
        "no source of sentiment is left",
        "held as long as allowed",
    )

    def _make_state(self) -> ArrayState:
        return ArrayState(POSITION_COLUMNS, version=1)

    def on_frame(self, view: StrategyView) -> Decisions:
        """Take the next bars; see the module for the rule."""
        config = self.config
        assert isinstance(config, SentimentConfig)
        columns = np.where((view.missing == Missing.OK) & np.isfinite(view.values), view.values, np.nan).T
        blend = _blend(columns[:4], config)
        volume, rsi = columns[4:]
        busy = volume >= config.min_relative_volume
        long = busy & (blend >= config.entry_sentiment) & (rsi <= config.overbought)
        short = busy & (blend <= -config.entry_sentiment) & (rsi >= config.oversold)
        room = np.where(
            long,
            (config.overbought - rsi) / (config.overbought - 50.0),
            (rsi - config.oversold) / (50.0 - config.oversold),
        )
        absent = np.isnan(blend)
        return decide(
            self.state,
            view,
            enter=(long.astype(np.int8) - short.astype(np.int8)),
            enter_reason=np.where(long, 0, 1).astype(np.int8),
            confidence=np.minimum(np.abs(blend) / (2 * config.entry_sentiment), 1.0) * np.clip(room, 0.0, 1.0),
            exit_long=np.where(absent, _ABSENT, np.where(blend <= config.exit_sentiment, _FADED, NO_REASON)).astype(
                np.int8
            ),
            exit_short=np.where(absent, _ABSENT, np.where(blend >= -config.exit_sentiment, _FADED, NO_REASON)).astype(
                np.int8
            ),
            max_holding=duration_ns(config.max_holding),
            held_too_long=4,
            cooldown_ns=duration_ns(config.cooldown),
            evidence=blend[:, None],
        )


def _blend(columns: FloatArray, config: SentimentConfig) -> FloatArray:
    """Return the weighted mean over the sources that are present, NaN where none is."""
    news, news_intensity, social, social_intensity = columns
    total = np.zeros(len(news))
    weights = np.zeros(len(news))
    for weight, level, intensity in (
        (config.news_weight, news, news_intensity),
        (config.social_weight, social, social_intensity),
    ):
        present = (np.abs(level) <= 1.0) & (intensity >= config.min_intensity)
        total += np.where(present, weight * level, 0.0)
        weights += np.where(present, weight, 0.0)
    blend = np.full(len(news), np.nan)
    np.divide(total, weights, out=blend, where=weights > 0.0)
    return blend
