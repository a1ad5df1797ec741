"""Parameters of the features of trade flow."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.config import ComponentConfig, Duration
from schemas.time import duration_ns, parse_duration

__all__ = ["FlowConfig", "IntensityConfig", "KyleConfig", "RollConfig", "SpreadConfig", "SweepConfig", "VpinConfig"]

_Length = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=30))]
_MAX_HALF_LIVES = 400
"""A sum that is still fresh after this many half-lives is above 1e-60 * 2**-400, well within a float."""


class SpreadConfig(ComponentConfig):
    """Effective spread, realised spread and price impact."""

    half_life: _Length = Field(parse_duration("5m"), description="a trade's weight halves in this time")
    horizon: _Length = Field(
        parse_duration("5s"), description="time after a trade at which the mid shows what the trade had moved"
    )
    horizon_steps: int = Field(
        20,
        ge=1,
        le=1000,
        description="trades of one step, a `horizon` over this number, are looked at together at the end of their "
        "step plus `horizon`; 32 bytes an instrument each",
    )

    @property
    def step_ns(self) -> int:
        """Length of a step, ns."""
        return duration_ns(self.horizon) // self.horizon_steps

    @model_validator(mode="after")
    def _steps_fill_the_horizon(self) -> Self:
        if duration_ns(self.horizon) % self.horizon_steps:
            raise ValueError(
                f"expected `horizon_steps` that divide `horizon` into whole nanoseconds, was {self.horizon_steps} for "
                f"{self.content()['horizon']}"
            )
        return self


class VpinConfig(ComponentConfig):
    """Volume-synchronised probability of informed trading."""

    classification: Literal["sign", "bulk"] = Field(
        "sign",
        description="how volume is called bought or sold: `sign` takes the sign of each trade, `bulk` the standardised "
        "price change of each `bar`",
    )
    buckets: int = Field(50, ge=1, le=1000, description="buckets in the window; 16 bytes an instrument each")
    bucket_size: float | None = Field(
        None, gt=0, le=1e30, description="volume of a bucket, base units; where not set, `bucket_share` of a day's"
    )
    bucket_share: float = Field(
        0.0002,
        gt=0,
        le=1,
        description="volume of a bucket as a share of a day's volume; the paper's 0.02 makes 50 buckets of a day",
    )
    volume_half_life: _Length = Field(
        parse_duration("1d"), description="a trade's weight in the day's volume halves in this time"
    )
    volume_warm_up: _Length = Field(
        parse_duration("5m"), description="time from the first trade until the day's volume can be told"
    )
    bar: _Length = Field(parse_duration("1m"), description="length of the bars of `bulk` classification")
    bars: int = Field(
        50, ge=2, le=1000, description="bars whose price changes give the deviation; 8 bytes an instrument each"
    )


class KyleConfig(ComponentConfig):
    """Kyle's lambda."""

    price: Literal["mid", "trade"] = Field("mid", description="price whose changes are explained: mid or last trade")
    bucket: _Length = Field(parse_duration("5s"), description="length of a bucket of arrival time")
    buckets: int = Field(60, ge=3, le=1000, description="buckets in the regression; 16 bytes an instrument each")
    min_buckets: int = Field(20, ge=3, le=1000, description="least buckets with a known price change")

    @model_validator(mode="after")
    def _window_reaches_the_least(self) -> Self:
        if self.min_buckets > self.buckets:
            raise ValueError(f"expected `min_buckets` of at most {self.buckets} (`buckets`), was {self.min_buckets}")
        return self


class RollConfig(ComponentConfig):
    """Roll's implied spread."""

    trades: int = Field(64, ge=4, le=1000, description="trades in the window; 8 bytes an instrument each")


class IntensityConfig(ComponentConfig):
    """Intensity of trading."""

    half_life: _Length = Field(parse_duration("10s"), description="excitement by a trade halves in this time")
    baseline_half_life: _Length = Field(
        parse_duration("10m"), description="half-life of the slow intensity that the fast one is compared with"
    )

    @model_validator(mode="after")
    def _baseline_is_slower(self) -> Self:
        if self.baseline_half_life <= self.half_life:
            raise ValueError(
                f"expected `baseline_half_life` above {self.content()['half_life']} (`half_life`), was "
                f"{self.content()['baseline_half_life']}"
            )
        return self


class SweepConfig(ComponentConfig):
    """Sweeps through price levels."""

    window: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(minutes=1))] = Field(
        parse_duration("50ms"),
        description="longest time by the venue's clock from the first trade of a run to its last",
    )
    levels: int = Field(3, ge=2, le=1000, description="least number of price levels that a sweep goes through")
    half_life: _Length = Field(parse_duration("5m"), description="a sweep's weight in the count halves in this time")


class FlowConfig(ComponentConfig):
    """Features of trade flow.

    Examples
    --------
    >>> FlowConfig(kyle={"bucket": "1s"}).kyle.buckets
    60
    """

    max_quote_age: _Length = Field(
        parse_duration("1m"), description="a quote without update this long says nothing about a trade"
    )
    max_trade_age: _Length = Field(
        parse_duration("15m"), description="what rests on trades is stale when the last of them is older than this"
    )
    half_life: _Length = Field(
        parse_duration("1m"), description="a trade's weight in the decayed volume imbalance halves in this time"
    )
    spread: SpreadConfig = Field(default_factory=SpreadConfig)
    vpin: VpinConfig = Field(default_factory=VpinConfig)
    kyle: KyleConfig = Field(default_factory=KyleConfig)
    roll: RollConfig = Field(default_factory=RollConfig)
    intensity: IntensityConfig = Field(default_factory=IntensityConfig)
    sweep: SweepConfig = Field(default_factory=SweepConfig)

    @model_validator(mode="after")
    def _fresh_sums_are_not_lost(self) -> Self:
        half_lives: dict[str, Any] = {"half_life": self.half_life, "spread.half_life": self.spread.half_life}
        for name, half_life in half_lives.items():
            if self.max_trade_age > _MAX_HALF_LIVES * half_life:
                raise ValueError(
                    f"expected `max_trade_age` of at most {_MAX_HALF_LIVES} times `{name}`, was "
                    f"{self.content()['max_trade_age']}; nothing would be left of the trades"
                )
        return self
