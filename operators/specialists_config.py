"""Which specialists answer, about what horizon, and how they learn."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from models.specialists import SPECIALISTS
from models.specialists.config import EnsembleConfig, LearningConfig
from schemas.config import ComponentConfig, Duration
from schemas.time import parse_duration

__all__ = ["SpecialistsConfig"]


class SpecialistsConfig(ComponentConfig):
    """Specialists, their outcomes and their ensemble."""

    enabled: Annotated[tuple[str, ...], Field(max_length=64)] = Field(
        tuple(SPECIALISTS), description="names of the specialists that answer; none switches the ensemble off too"
    )
    horizon: Duration = Field(
        parse_duration("15m"), gt=timedelta(0), description="time from a prediction to its outcome"
    )
    tolerance: Duration = Field(
        parse_duration("5m"),
        ge=timedelta(0),
        description="an instrument without a bar at the horizon is judged by its first close up to this much later; "
        "after that the outcome is given up",
    )
    cost_band_bps: float = Field(
        5.0, ge=0, le=10_000,
        description="cost of trading, basis points: a return within it either way is no outcome and teaches nothing",
    )  # fmt: skip
    max_pending: int = Field(
        100_000, ge=1, le=100_000_000,
        description="predictions that await their outcome, some 500 bytes each; those made beyond it are not followed",
    )  # fmt: skip
    explained_inputs: int = Field(
        5, ge=1, le=64, description="inputs stored with a prediction, those that add most; the rest as their sum"
    )
    learning: LearningConfig = Field(default_factory=LearningConfig)
    ensemble: EnsembleConfig = Field(default_factory=EnsembleConfig)

    @model_validator(mode="after")
    def _enabled_are_known(self) -> Self:
        unknown = [name for name in self.enabled if name not in SPECIALISTS]
        if unknown or len(set(self.enabled)) != len(self.enabled):
            raise ValueError(
                f"expected distinct names among {list(SPECIALISTS)} in `enabled`, was {list(self.enabled)}"
            )
        if self.enabled and self.ensemble.quorum > len(self.enabled):
            raise ValueError(
                f"expected `ensemble.quorum` of at most {len(self.enabled)}, the number of `enabled` specialists, was "
                f"{self.ensemble.quorum}; lower it or enable more"
            )
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """Features that the enabled specialists read, each once."""
        return tuple(dict.fromkeys(need for name in self.enabled for need in SPECIALISTS[name].needs))
