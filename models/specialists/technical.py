"""Trend, momentum, volatility and volume of the bars."""

from __future__ import annotations

from typing import ClassVar

from models.specialists.inputs import Bounded, ModelInput, Product
from models.specialists.online import OnlineSpecialist, features_of

__all__ = ["TechnicalSpecialist"]

_RETURN = Bounded("log_return", scale=0.01)
_VOLUME = Bounded("relative_volume", scale=1.0, log=True)
INPUTS: tuple[ModelInput, ...] = (
    Bounded("rsi", centre=50.0, scale=20.0),
    Bounded("zscore", scale=2.0),
    _RETURN,
    Bounded("rate_of_change", scale=2.0),
    Bounded("sma_slow_distance", scale=0.02),
    Bounded("bollinger_percent_b", centre=0.5, scale=0.5),
    Bounded("donchian_position", centre=0.5, scale=0.5),
    Bounded("stochastic_slow_k", centre=50.0, scale=30.0),
    Bounded("vwap_zscore", scale=2.0),
    Bounded("obv_change_share", scale=0.5),
    Bounded("money_flow_index", centre=50.0, scale=20.0),
    Bounded("ewma_volatility", centre=-7.0, scale=1.5, log=True),
    _VOLUME,
    Product("return_on_volume", _RETURN, _VOLUME),
    Product("zscore_in_trend", Bounded("zscore", scale=2.0), Bounded("adx", centre=25.0, scale=15.0)),
)
"""Distances from a mean, positions in a range and momentum, and two that depend on others: a return on high volume,
and a distance from the mean in a trend, where it goes on, rather than without one, where it reverts."""


class TechnicalSpecialist(OnlineSpecialist):
    """What prices and volumes say by themselves.

    Examples
    --------
    >>> "rsi" in TechnicalSpecialist.needs
    True
    """

    name: ClassVar[str] = "technical"
    inputs: ClassVar[tuple[ModelInput, ...]] = INPUTS
    needs: ClassVar[tuple[str, ...]] = features_of(INPUTS)
