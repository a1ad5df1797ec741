"""Configuration of the universe: which instruments are looked at together, and when they are complete."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.config import ComponentConfig, Duration
from schemas.time import parse_duration

__all__ = ["UniverseConfig", "UniverseFilters"]

_Names = Annotated[tuple[str, ...], Field(max_length=100_000)]


class UniverseFilters(ComponentConfig):
    """Which instruments the universe admits. Every filter that is given must hold."""

    min_price: float | None = Field(None, gt=0, le=1e15, description="least last close, quote currency")
    max_price: float | None = Field(None, gt=0, le=1e15, description="greatest last close, quote currency")
    min_volume: float | None = Field(None, ge=0, le=1e18, description="least decayed volume, base units")
    min_notional: float | None = Field(
        None, ge=0, le=1e18, description="least decayed close times volume, quote currency"
    )
    max_spread_bps: float | None = Field(
        None, gt=0, le=1e6,
        description="greatest last known `spread_bps`; an instrument that never had one is left out",
    )  # fmt: skip
    min_listing_age: Duration = Field(
        timedelta(0), ge=timedelta(0), description="least time since the first bar that was seen of the instrument"
    )
    allow: _Names = Field((), description="if any are named, only these instruments are admitted")
    deny: _Names = Field((), description="instruments that are never admitted")

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"expected `min_price` up to `max_price`, was {self.min_price} and {self.max_price}")
        if both := sorted(set(self.allow) & set(self.deny)):
            raise ValueError(f"expected instruments in `allow` or `deny`, found in both {both[:9]}")
        return self


class UniverseConfig(ComponentConfig):
    """The universe and the barrier that makes one frame of it for each decision time."""

    interval: Duration = Field(parse_duration("1m"), gt=timedelta(0), description="length of the bars it is made of")
    live_within: Duration = Field(
        parse_duration("5m"), gt=timedelta(0), description="an instrument is live this long after it closed a bar"
    )
    min_coverage: float = Field(
        0.8, gt=0, le=1, description="share of the live instruments that a complete frame has; fewer open nothing"
    )
    max_instruments: int = Field(
        1_000, ge=1, le=1_000_000, description="most instruments, those with the greatest decayed notional"
    )
    half_life: Duration = Field(
        parse_duration("1h"), gt=timedelta(0), description="a bar's share of the decayed volume and notional halves"
    )
    idle_expiry: Duration = Field(
        parse_duration("7d"), gt=timedelta(0), description="an instrument that closed no bar this long starts anew"
    )
    max_known: int = Field(
        100_000, ge=1, le=10_000_000, description="instruments that filters and ranks are kept for; no others enter"
    )
    max_held_rows: int = Field(
        10_000_000, ge=1, le=1_000_000_000,
        description="rows that wait for a slower shard before the run stops; some 100 bytes each",
    )  # fmt: skip
    filters: UniverseFilters = Field(default_factory=UniverseFilters)

    @model_validator(mode="after")
    def _expiry_is_longer_than_life(self) -> Self:
        if self.idle_expiry < self.live_within:
            raise ValueError("expected `idle_expiry` of at least `live_within`; an instrument must not expire alive")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """Features that the filters read."""
        return () if self.filters.max_spread_bps is None else ("spread_bps",)
