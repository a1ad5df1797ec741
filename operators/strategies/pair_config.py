"""Parameters that every strategy on pairs has."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from operators.strategies.pair_positions import PairRules
from schemas.config import ComponentConfig, Duration
from schemas.time import duration_ns, parse_duration

__all__ = ["PairConfig"]


class PairConfig(ComponentConfig):
    """When pairs are opened and ended."""

    spread: Literal["log", "price"] = Field("log", description="whether the spread is of log prices or of prices")
    entry_zscore: float = Field(2.0, gt=0, le=20, description="distance that opens a pair, standard deviations")
    exit_zscore: float = Field(0.5, ge=0, le=20, description="distance that ends it, standard deviations")
    stop_zscore: float = Field(4.0, gt=0, le=100, description="distance at which it is given up, standard deviations")
    max_holding: Duration = Field(parse_duration("7d"), gt=timedelta(0), description="a pair held this long ends")
    cooldown: Duration = Field(
        timedelta(0), ge=timedelta(0), description="least time from the end of a pair to its next entry"
    )
    max_price_age: Duration = Field(
        parse_duration("1h"), gt=timedelta(0), description="a pair ends when a leg closed no bar for longer"
    )
    max_abs_return: float = Field(
        0.5, gt=0, le=10, description="a leg whose log return is beyond it opens nothing and is no observation"
    )
    min_hedge_ratio: float = Field(0.05, gt=0, le=1e6, description="least hedge ratio that is traded")
    max_hedge_ratio: float = Field(20.0, gt=0, le=1e6, description="greatest hedge ratio that is traded")

    @model_validator(mode="after")
    def _levels_are_in_order(self) -> Self:
        if not self.exit_zscore < self.entry_zscore < self.stop_zscore:
            raise ValueError(
                "expected `exit_zscore` below `entry_zscore` below `stop_zscore`, was "
                f"{self.exit_zscore}, {self.entry_zscore} and {self.stop_zscore}"
            )
        if self.min_hedge_ratio > self.max_hedge_ratio:
            raise ValueError(
                "expected `min_hedge_ratio` up to `max_hedge_ratio`, was "
                f"{self.min_hedge_ratio} and {self.max_hedge_ratio}"
            )
        return self

    @property
    def rules(self) -> PairRules:
        """The parameters as the positions read them."""
        return PairRules(
            self.entry_zscore, self.exit_zscore, self.stop_zscore, duration_ns(self.max_holding),
            duration_ns(self.cooldown), duration_ns(self.max_price_age), self.max_abs_return, self.min_hedge_ratio,
            self.max_hedge_ratio, self.spread == "log",
        )  # fmt: skip
