"""What a shard computes: bars, books, sentiment, features and strategies, each with its parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import Field, create_model, model_validator

from operators.bars import BarState
from operators.book_feature_table import BookFeatureConfig
from operators.decode import DecodeLimits
from operators.event_bars import EventBarsConfig
from operators.events.config import EarningsConfig, OptionsConfig
from operators.features import BAR_FEATURES
from operators.flow.config import FlowConfig
from operators.strategies import STRATEGIES
from operators.text.config import NewsConfig, SocialConfig
from schemas.config import ComponentConfig, Duration
from schemas.errors import ConfigError
from schemas.time import duration_ns, format_duration, parse_duration

__all__ = ["GROUP_NAMES", "BarsConfig", "BookConfig", "FeaturesConfig", "ShardConfig", "StrategiesConfig"]


class BarsConfig(ComponentConfig):
    """Bars of trades."""

    intervals: Annotated[tuple[Duration, ...], Field(min_length=1, max_length=16)] = Field(
        (parse_duration("1s"), parse_duration("1m")), description="lengths of the bars, all at once"
    )
    grace: Duration = Field(
        parse_duration("1s"), description="how long after its end a bar waits for trades still on their way"
    )

    @model_validator(mode="after")
    def _intervals_are_distinct_and_positive(self) -> Self:
        lengths = [duration_ns(interval) for interval in self.intervals]
        if min(lengths) <= 0 or len(set(lengths)) != len(lengths):
            raise ValueError(f"expected distinct `intervals` above zero, was {self.content()['intervals']}")
        if duration_ns(self.grace) < 0:
            raise ValueError(f"expected `grace` of zero or more, was {self.content()['grace']}")
        return self


class BookConfig(ComponentConfig):
    """Order books and the best bid and offer."""

    depth: int = Field(5, ge=1, le=50, description="levels of a side that count as its depth")
    max_levels: int = Field(4096, ge=16, le=65_536, description="levels kept on a side; the worst is dropped beyond")
    max_pending: int = Field(1024, ge=1, le=65_536, description="updates held for an instrument that awaits a snapshot")
    max_age: Duration = Field(
        parse_duration("1m"), gt=timedelta(0), description="a book without news this long is stale"
    )
    features: BookFeatureConfig = Field(
        default_factory=BookFeatureConfig, description="parameters of the features at each update"
    )


def _components(name: str, doc: str, classes: dict[str, Any]) -> type[ComponentConfig]:
    fields: dict[str, Any] = {
        key: (cls.Config, Field(default_factory=cls.Config, description=cls.__doc__.splitlines()[0]))
        for key, cls in classes.items()
    }
    return create_model(name, __base__=ComponentConfig, __doc__=doc, **fields)


if TYPE_CHECKING:

    class FeatureParameters(ComponentConfig):
        """Parameters of each registered bar feature, by name."""

    class StrategyParameters(ComponentConfig):
        """Parameters of each registered strategy, by name."""
else:
    FeatureParameters = _components(
        "FeatureParameters", "Parameters of each registered bar feature, by name.", BAR_FEATURES
    )
    StrategyParameters = _components(
        "StrategyParameters", "Parameters of each registered strategy, by name.", STRATEGIES
    )


GROUP_NAMES: Final = ("book", "flow", "news", "social", "earnings", "options")
"""Groups of features that are sampled at the closes of bars, in the order of their columns."""


class FeaturesConfig(FeatureParameters):
    """Which features are computed, and the parameters of bar features."""

    enabled: tuple[str, ...] = Field(tuple(BAR_FEATURES), description="names of the bar features that are computed")
    groups: tuple[str, ...] = Field(
        GROUP_NAMES,
        description="names of the groups that are computed beside them; a group that is left out costs nothing, and "
        "its features are in no row",
    )

    @model_validator(mode="after")
    def _enabled_are_known(self) -> Self:
        _check_enabled(self.enabled, BAR_FEATURES)
        _check_enabled(self.groups, GROUP_NAMES, key="groups")
        return self


class StrategiesConfig(StrategyParameters):
    """Which strategies decide, and their parameters."""

    enabled: tuple[str, ...] = Field(tuple(STRATEGIES), description="names of the strategies that decide")

    @model_validator(mode="after")
    def _enabled_are_known(self) -> Self:
        _check_enabled(self.enabled, STRATEGIES)
        return self


def _check_enabled(enabled: tuple[str, ...], registered: Collection[str], *, key: str = "enabled") -> None:
    if len(set(enabled)) != len(enabled) or not set(registered) >= set(enabled):
        raise ValueError(f"expected distinct names among {list(registered)} in `{key}`, was {list(enabled)}")


class ShardConfig(ComponentConfig):
    """Everything that decides what a shard computes."""

    max_instruments: int = Field(
        100_000, ge=1, le=10_000_000, description="instruments that a shard keeps state for; more are refused"
    )
    idle_expiry: Duration = Field(
        parse_duration("7d"),
        description="an instrument without any record this long is forgotten, with the positions that strategies hold "
        "in it, and starts anew; longer than any bar stays open",
    )
    decode: DecodeLimits = Field(default_factory=DecodeLimits)
    bars: BarsConfig = Field(default_factory=BarsConfig)
    event_bars: EventBarsConfig = Field(default_factory=EventBarsConfig)
    book: BookConfig = Field(default_factory=BookConfig)
    flow: FlowConfig = Field(default_factory=FlowConfig)
    news: NewsConfig = Field(default_factory=NewsConfig)
    social: SocialConfig = Field(default_factory=SocialConfig)
    earnings: EarningsConfig = Field(default_factory=EarningsConfig)
    options: OptionsConfig = Field(default_factory=OptionsConfig)
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    strategies: StrategiesConfig = Field(default_factory=StrategiesConfig)

    @model_validator(mode="after")
    def _durations_are_not_negative(self) -> Self:
        for path, value in _durations(self):
            if value < timedelta(0):
                raise ValueError(f"expected `{path}` of zero or more, was {format_duration(duration_ns(value))}")
        return self

    @model_validator(mode="after")
    def _bars_can_be_kept(self) -> Self:
        intervals = tuple(duration_ns(interval) for interval in self.bars.intervals)
        grace, ahead = duration_ns(self.bars.grace), duration_ns(self.decode.max_ahead)
        try:
            BarState(intervals, grace, ahead)
        except ConfigError as error:
            raise ValueError(f"`bars.intervals`, `bars.grace` and `decode.max_ahead`: {error}") from error
        open_at_most = max(intervals) + grace + ahead
        if duration_ns(self.idle_expiry) <= open_at_most:
            raise ValueError(
                f"expected `idle_expiry` above {format_duration(open_at_most)}, the longest of `bars.intervals` with "
                f"`bars.grace` and `decode.max_ahead`, was {self.content()['idle_expiry']}; an instrument with an open "
                "bar must not be forgotten"
            )
        return self

    @model_validator(mode="after")
    def _strategies_have_their_bars(self) -> Self:
        for name in self.strategies.enabled:
            interval = getattr(getattr(self.strategies, name), "interval", None)
            if interval is not None and interval not in self.bars.intervals:
                raise ValueError(
                    f"expected `strategies.{name}.interval` among `bars.intervals` "
                    f"{self.bars.content()['intervals']}, was {getattr(self.strategies, name).content()['interval']}"
                )
        return self

    @model_validator(mode="after")
    def _strategies_have_their_items(self) -> Self:
        items = [name for name in self.strategies.enabled if STRATEGIES[name].on == "item"]
        if items and "news" not in self.features.groups:
            raise ValueError(
                f"expected `news` among `features.groups` for the strategies {items}, "
                f"was {list(self.features.groups)}; add it, or leave them out of `strategies.enabled`"
            )
        return self


def _durations(config: ComponentConfig, prefix: str = "") -> Iterator[tuple[str, timedelta]]:
    """Return every duration of a configuration with its key."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, ComponentConfig):
            yield from _durations(value, f"{prefix}{name}.")
        elif isinstance(value, timedelta):
            yield f"{prefix}{name}", value
