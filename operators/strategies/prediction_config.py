"""What every strategy on a model's predictions is told."""

from __future__ import annotations

from pydantic import Field

from schemas.config import ComponentConfig, Duration
from schemas.time import parse_duration

__all__ = ["PredictionConfig"]


class PredictionConfig(ComponentConfig):
    """Parameters of a strategy on predictions.

    Examples
    --------
    >>> PredictionConfig(model="direction").content()["model"]
    'direction'
    """

    model: str = Field("", max_length=128, description="model whose predictions it decides on; inactive without one")
    interval: Duration = Field(parse_duration("1m"), description="bars at whose close a position is looked at")
    cooldown: Duration = Field(parse_duration("0s"), description="least time from an exit to the next entry")
