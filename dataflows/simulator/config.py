"""Configuration of the simulator: what market, how fast, what is planted in it, what goes wrong in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self

import numpy as np
from pydantic import AwareDatetime, Field, model_validator

from schemas.config import ComponentConfig, Duration
from schemas.time import duration_ns

__all__ = ["STEP_NS", "FaultConfig", "SimulatorConfig"]

STEP_NS: Final = 100_000_000
"""Step of the latent prices. Tracking them costs each book one wake-up a step; at 25 % volatility a price
moves a third of a basis point in it, below every tick."""
_SLICE_EVENTS: Final = 200_000
"""Book events that a slice should hold: some 50 MB while it is made, and enough to hide the cost of a slice."""
_L2_DEFAULT: Final = 50
"""Instruments that publish L2 where the key is not set: beyond them depth would outweigh all the rest."""

_Count = Annotated[int, Field(ge=0, le=1_000_000)]


class FaultConfig(ComponentConfig):
    """How many faults of each kind are injected. Each is a record of its own (a gap is the lack of one)."""

    duplicate_trades: _Count = 0
    """trades sent a second time"""
    duplicate_news: _Count = 0
    """news items sent a second time"""
    duplicate_social: _Count = 0
    """posts sent a second time"""
    late_trades: _Count = 0
    """trades that arrive `late_by` after they happened, with a `trade_id` of their own"""
    late_by: Annotated[Duration, Field(ge=timedelta(seconds=5), le=timedelta(days=1))] = timedelta(minutes=3)
    """age of a late trade on arrival; it misses the bars of every interval shorter than this less the grace"""
    sequence_gaps: _Count = 0
    """`books` deltas that are lost; a snapshot follows after three to ten more"""
    crossed_quotes: _Count = 0
    """quotes with the bid above the offer"""
    crossed_books: _Count = 0
    """`books` snapshots with the bid above the offer"""
    malformed: _Count = 0
    """records in each topic that are no JSON: cut off, not UTF-8, or with the literal `NaN`"""
    missing_field: _Count = 0
    """records in each topic that lack a field"""
    wrong_type: _Count = 0
    """records in each topic with a field of another type"""
    naive_time: _Count = 0
    """records in each topic whose time names no zone"""
    out_of_range: _Count = 0
    """records in each topic with a value outside its bounds: a negative price, a time beyond 64 bits"""


class SimulatorConfig(ComponentConfig):
    """A synthetic market. The same configuration gives the same bytes.

    Examples
    --------
    >>> config = SimulatorConfig(instruments=30, duration="5m")
    >>> config.n_pairs, config.n_l2, config.instrument_ids[0]
    (3, 30, 'SIM000')
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """seed of every random stream"""
    start: AwareDatetime = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    """time of the first record"""
    duration: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=31))] = timedelta(minutes=30)
    """length of the market, cut to tenths of a second"""
    instruments: Annotated[int, Field(ge=1, le=10_000)] = 20
    """number of instruments, named `SIM000` and on"""
    sectors: Annotated[int, Field(ge=1, le=100)] = 4
    """number of sector factors; instrument `i` belongs to sector `i % sectors`"""
    trade_rate: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """trades a second and instrument, averaged over the regimes"""
    book_rate: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """limit orders and cancellations a second and instrument, averaged over the regimes; makers that follow the
    price come on top"""
    volatility: Annotated[float, Field(gt=0, le=5)] = 0.25
    """annualised volatility of a return in the normal regime, before jumps (252 sessions of 6.5 hours)"""
    spread_bps: Annotated[float, Field(gt=0, le=100)] = 2.0
    """spread that makers aim at, basis points of the price; never under a tick"""
    regime_dwell: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=31))] = timedelta(minutes=5)
    """mean stay in a volatility regime"""
    jump_rate: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """jumps an hour and instrument"""
    jump_bps: Annotated[float, Field(ge=0, le=1000)] = 15.0
    """standard deviation of a jump, basis points"""
    pairs: Annotated[int, Field(ge=0, le=5000)] | None = None
    """cointegrated pairs; one for every ten instruments where not set"""
    pair_half_life: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=1))] = timedelta(minutes=1)
    """half-life of a pair's spread"""
    pair_spread_bps: Annotated[float, Field(ge=0, le=500)] = 15.0
    """standard deviation of a pair's spread, basis points of the second leg's price"""
    news_rate: Annotated[float, Field(ge=0, le=3600)] = 12.0
    """news items an hour and instrument"""
    social_rate: Annotated[float, Field(ge=0, le=36_000)] = 60.0
    """posts an hour and instrument, bots left out"""
    bot_bursts: Annotated[int, Field(ge=0, le=100_000)] = 0
    """bursts of twenty like posts of one author, which move nothing"""
    news_lead: Annotated[Duration, Field(ge=timedelta(minutes=-30), le=timedelta(minutes=30))] = timedelta(seconds=2)
    """time from an item to the start of the move; negative where the item comes after it"""
    news_impact: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(seconds=10)
    """length of the move"""
    sentiment_strength: Annotated[float, Field(ge=0, le=500)] = 10.0
    """whole move after a news item with words of one sign, basis points; after a post a fifth of it"""
    imbalance_strength: Annotated[float, Field(ge=0, le=50)] = 0.3
    """drift at one-sided order flow, basis points a second"""
    imbalance_half_life: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(
        seconds=20
    )
    """half-life of the pressure that makes the order flow one-sided"""
    earnings: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """instruments that report; one of four where not set"""
    earnings_bps: Annotated[float, Field(ge=0, le=1000)] = 25.0
    """move at a surprise of one standard deviation, basis points"""
    option_instruments: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """instruments with listed options, from the first; five where not set"""
    option_interval: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=1))] = timedelta(minutes=5)
    """time between two states of an option contract"""
    l2_instruments: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """instruments that publish `books`, from the first; fifty where not set"""
    snapshot_interval: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=1))] = timedelta(minutes=1)
    """time between two snapshots of a book"""
    latency: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(milliseconds=20))] = timedelta(milliseconds=2)
    """median time from `ts_event` to `ts_recv`, clock skew left out; log-normal, at most 20 times the median"""
    clock_skew: Annotated[Duration, Field(ge=timedelta(milliseconds=-500), le=timedelta(milliseconds=500))] = timedelta(
        0
    )
    """how far the clock of the venue is ahead of ours; bounded so that only the injected late trades are late by a
    grace of one second"""
    faults: FaultConfig = FaultConfig()
    """faults to inject"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        bounds = {
            "pairs": (self.n_pairs, self.instruments // 2),
            "earnings": (self.n_earnings, self.instruments),
            "option_instruments": (self.n_options, self.instruments),
            "l2_instruments": (self.n_l2, self.instruments),
        }
        for name, (count, most) in bounds.items():
            if count > most:
                raise ValueError(f"`{name}`: expected at most {most} with {self.instruments} instruments, was {count}")
        if self.faults.late_trades and self.faults.late_by >= self.duration * 0.8:
            raise ValueError("`faults.late_by`: expected less than 80 % of `duration`, was more; simulate for longer")
        if (self.faults.sequence_gaps or self.faults.crossed_books) and not self.n_l2:
            raise ValueError("`faults`: expected `l2_instruments` above 0 for faults in `books`, was 0")
        return self

    @property
    def n_pairs(self) -> int:
        """Number of cointegrated pairs."""
        return self.instruments // 10 if self.pairs is None else self.pairs

    @property
    def n_earnings(self) -> int:
        """Number of instruments that report."""
        return self.instruments // 4 if self.earnings is None else self.earnings

    @property
    def n_options(self) -> int:
        """Number of instruments with options."""
        return min(5, self.instruments) if self.option_instruments is None else self.option_instruments

    @property
    def n_l2(self) -> int:
        """Number of instruments that publish their book."""
        return min(_L2_DEFAULT, self.instruments) if self.l2_instruments is None else self.l2_instruments

    @property
    def n_steps(self) -> int:
        """Steps of the latent prices."""
        return duration_ns(self.duration) // STEP_NS

    @property
    def slice_steps(self) -> int:
        """Steps of one slice: one second to one minute, so that a slice holds a bounded number of events."""
        seconds = _SLICE_EVENTS / (self.instruments * (self.trade_rate + self.book_rate))
        return 10 * int(np.clip(seconds, 1, 60))

    @property
    def start_ns(self) -> int:
        """Start, UTC nanoseconds."""
        return duration_ns(self.start - datetime(1970, 1, 1, tzinfo=UTC))

    @property
    def instrument_ids(self) -> tuple[str, ...]:
        """Names of the instruments."""
        return tuple(f"SIM{number:03d}" for number in range(self.instruments))
