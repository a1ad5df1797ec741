"""Parameters of the features of earnings and of option chains."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from operators.events.sessions import check_calendar
from schemas.config import ComponentConfig, Duration
from schemas.time import duration_ns, parse_duration

__all__ = ["DEFAULT_CALENDAR", "Calendar", "EarningsConfig", "OptionsConfig"]

DEFAULT_CALENDAR: Final = "XNYS"
_LONGEST: Final = timedelta(days=3650)


def _known_calendar(name: str) -> str:
    if name != DEFAULT_CALENDAR:  # reading the list of calendars takes a second
        check_calendar(name)
    return name


Calendar = Annotated[str, AfterValidator(_known_calendar)]
"""Name of a trading calendar as `exchange_calendars` has it: `XNYS`, `XLON`, `24/7`."""
_Positive = Annotated[Duration, Field(gt=timedelta(0), le=_LONGEST)]


class EarningsConfig(ComponentConfig):
    """Features of earnings reports."""

    window: _Positive = Field(
        parse_duration("10d"), description="the pre-announcement window: this long before a report is due"
    )
    n_reports: int = Field(
        4, ge=1, le=64, description="reports whose surprises are averaged; 36 bytes each for an instrument with reports"
    )
    max_reports: int = Field(
        4,
        ge=1,
        le=64,
        description="announced reports kept for an instrument, 49 bytes each; beyond it the one due last is dropped",
    )
    min_estimate: float = Field(
        0.01, gt=0, le=1e6, description="least absolute estimate, currency units a share, that a surprise is divided by"
    )
    max_age: _Positive = Field(
        parse_duration("120d"), description="a surprise, and the drift since a report, are stale after this time"
    )
    max_overdue: _Positive = Field(
        parse_duration("30d"), description="how long after it was due the figures of a report are waited for"
    )
    calendar: Calendar = Field(DEFAULT_CALENDAR, description="trading calendar that sessions are counted in")


class OptionsConfig(ComponentConfig):
    """Features of option chains."""

    maturity: _Positive = Field(
        parse_duration("30d"), description="constant maturity of the implied volatility and of the skew"
    )
    far_maturity: _Positive = Field(
        parse_duration("90d"), description="the other maturity of the term slope; above `maturity`"
    )
    maturity_tolerance: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="share of a maturity by which the nearest expiry may be off where none lies on the other side",
    )
    moneyness_band: float = Field(
        0.1, gt=0, le=1, description="how far from the spot, as ln(strike / spot), strikes at the money may be"
    )
    rate: float = Field(
        0.0,
        ge=-0.5,
        le=0.5,
        description="continuously compounded annual rate in the volatilities and deltas computed here",
    )
    window: int = Field(
        252,
        ge=2,
        le=2520,
        description="sessions that volatility is ranked among; 8 bytes each for an instrument with options",
    )
    min_sessions: int = Field(20, ge=1, le=2520, description="sessions with a volatility before it is ranked")
    volume_span: int = Field(
        20, ge=1, le=2520, description="span of the average of session volumes: weight 2 / (span + 1) for the last one"
    )
    min_volume_sessions: int = Field(
        5, ge=1, le=2520, description="sessions in the average of volumes before volume is compared with it"
    )
    max_contracts: int = Field(
        1024,
        ge=2,
        le=16_384,
        description="contracts kept for an instrument, about 90 bytes each; expired ones make room for new ones, and "
        "where there is none a new one is left out",
    )
    max_age: _Positive = Field(
        parse_duration("4d"), description="a volatility, and what follows from a chain, is stale after this time"
    )
    calendar: Calendar = Field(DEFAULT_CALENDAR, description="trading calendar that sessions are counted in")

    @model_validator(mode="after")
    def _parameters_agree(self) -> Self:
        if duration_ns(self.far_maturity) <= duration_ns(self.maturity):
            raise ValueError(
                f"expected `far_maturity` above `maturity` {self.content()['maturity']}, "
                f"was {self.content()['far_maturity']}"
            )
        if self.min_sessions > self.window:
            raise ValueError(f"expected `min_sessions` of at most `window` {self.window}, was {self.min_sessions}")
        return self
