"""Parameters of the text features, for news and for posts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schemas.config import ComponentConfig, Duration
from schemas.time import parse_duration

__all__ = [
    "OTHER",
    "BuzzConfig",
    "DampingConfig",
    "NewsConfig",
    "PostBuzzConfig",
    "PostStoryConfig",
    "SocialConfig",
    "StoryConfig",
    "TextConfig",
]

OTHER: Final = "other"
"""Name of the weight that all sources without one of their own share."""
_TOLERANCE: Final = 1e-9
_MAX_WEIGHTS: Final = 64
"""Each costs 32 bytes an instrument."""
_TICKER: Final = r"^[A-Z0-9.\-]{1,16}$"


def _sum_to_one(weights: dict[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    if weights and abs(total - 1.0) > _TOLERANCE:
        raise ValueError(
            f"expected weights that sum to 1, was {total:.12g}; scale them; `{OTHER}` stands for all that are not named"
        )
    return weights


Weights = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[float, Field(gt=0, le=1)]],
    Field(max_length=_MAX_WEIGHTS),
    AfterValidator(_sum_to_one),
]
"""Name to weight, on the simplex: they sum to one. None at all means that everything is one source."""


class StoryConfig(ComponentConfig):
    """Which items tell the same story, and what a repeat counts."""

    similarity: float = Field(
        0.5, ge=0.05, le=1, description="Jaccard similarity from which an item belongs to an earlier story"
    )
    window: Duration = Field(
        parse_duration("2d"), gt=timedelta(0), description="a story without an item this long is forgotten"
    )
    repeat_factor: float = Field(
        0.5, ge=0, le=1, description="novelty of an item is this to the power of the repeats before it"
    )
    repeat_half_life: Duration = Field(
        parse_duration("6h"), gt=timedelta(0), description="a repeat counts half after this time"
    )


class PostStoryConfig(StoryConfig):
    """Which posts say the same, and what a repeat counts."""

    window: Duration = Field(
        parse_duration("6h"), gt=timedelta(0), description="a story without a post this long is forgotten"
    )
    repeat_half_life: Duration = Field(
        parse_duration("30m"), gt=timedelta(0), description="a repeat counts half after this time"
    )


class BuzzConfig(ComponentConfig):
    """How many items there are, against what is usual for the instrument."""

    interval: Duration = Field(
        parse_duration("15m"), gt=timedelta(0), description="items are counted in intervals of this length"
    )
    half_life: Duration = Field(
        parse_duration("1d"), gt=timedelta(0), description="an interval's weight in what is usual halves in this time"
    )
    min_intervals: int = Field(8, ge=2, le=100_000, description="intervals before the first value")
    min_deviation: float = Field(
        0.5, ge=0.01, le=1000, description="items per interval; a deviation below it counts as it"
    )


class PostBuzzConfig(BuzzConfig):
    """How many posts there are, against what is usual for the instrument."""

    interval: Duration = Field(
        parse_duration("1m"), gt=timedelta(0), description="posts are counted in intervals of this length"
    )
    half_life: Duration = Field(
        parse_duration("2h"), gt=timedelta(0), description="an interval's weight in what is usual halves in this time"
    )


class DampingConfig(ComponentConfig):
    """What a post counts that looks automated, copied or not about the instrument."""

    window: Duration = Field(
        parse_duration("10m"),
        ge=timedelta(minutes=1),
        description="posts of an instrument are compared over this time",
    )
    copies: int = Field(1, ge=1, le=64, description="posts of one story in the window that count in full")
    author_share: float = Field(
        0.5, gt=0, le=1, description="share of the window's posts above which an author's posts are damped"
    )
    min_posts: int = Field(4, ge=1, le=64, description="posts in the window before an author's share is looked at")
    author_rate: float = Field(2.0, gt=0, le=64, description="posts per minute of an author that count in full")
    instrument_rate: float = Field(
        30.0, gt=0, le=1e6, description="posts per minute of an instrument that count in full"
    )
    retweet_factor: float = Field(0.5, ge=0, le=1, description="what a retweet counts")
    max_cashtags: int = Field(
        5, ge=1, le=100, description="cashtags in a post that share its weight without loss; more lower it"
    )
    ambiguous: tuple[Annotated[str, Field(pattern=_TICKER)], ...] = Field(
        (
            "A", "ALL", "AN", "ARE", "BE", "BIG", "C", "CAN", "CAR", "CAT", "COST", "D", "DD", "DO", "EAT", "F", "FAST",
            "FOR", "FUN", "GO", "HAS", "HE", "IT", "K", "KEY", "L", "LOVE", "LOW", "M", "MA", "MO", "NICE", "NOW", "O",
            "ON", "ONE", "OPEN", "OUT", "PLAY", "REAL", "RUN", "SEE", "SNAP", "SO", "T", "TRUE", "U", "UN", "V", "W",
            "WELL", "X", "Y", "Z",
        ),
        max_length=10_000,
        description="tickers that are also words or letters: a post counts only where it has them as a cashtag",
    )  # fmt: skip
    ambiguous_factor: float = Field(
        0.0, ge=0, le=1, description="what a post counts that does not have an ambiguous ticker as a cashtag"
    )


class TextConfig(ComponentConfig):
    """Decayed sentiment of a text stream."""

    half_life: Duration = Field(
        parse_duration("30m"), gt=timedelta(0), description="an item's weight halves in this time"
    )
    min_weight: float = Field(0.01, gt=0, le=1, description="decayed weight below which the sentiment is stale")
    story: StoryConfig = Field(default_factory=StoryConfig)
    buzz: BuzzConfig = Field(default_factory=BuzzConfig)

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each source or platform by name; `{"other": 1}` where none is configured."""
        return {OTHER: 1.0}


class NewsConfig(TextConfig):
    """Decayed sentiment of news.

    Examples
    --------
    >>> NewsConfig(sources={"wire": 0.75, "other": 0.25}).weights
    {'wire': 0.75, 'other': 0.25}
    """

    sources: Weights = Field(
        default_factory=dict,
        description="weight of each source; they sum to 1, `other` is all that are not named; without it those count "
        "nowhere; an empty table makes one source of all",
    )

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each source by name."""
        return self.sources or super().weights


class SocialConfig(TextConfig):
    """Decayed sentiment of posts, which are forgotten sooner than news."""

    half_life: Duration = Field(
        parse_duration("10m"), gt=timedelta(0), description="an item's weight halves in this time"
    )
    story: PostStoryConfig = Field(default_factory=PostStoryConfig)
    buzz: PostBuzzConfig = Field(default_factory=PostBuzzConfig)
    platforms: Weights = Field(
        default_factory=dict,
        description="weight of each platform; they sum to 1, `other` is all that are not named; without it those count "
        "nowhere; an empty table makes one platform of all",
    )
    damping: DampingConfig = Field(default_factory=DampingConfig)

    @property
    def weights(self) -> Mapping[str, float]:
        """Return the weight of each platform by name."""
        return self.platforms or super().weights
