"""The registry of strategies. Adding one is a file and a line here."""

from __future__ import annotations

from operators.strategies.base import Strategy
from operators.strategies.breakout import Breakout
from operators.strategies.mean_reversion import MeanReversion
from operators.strategies.microstructure_alpha import MicrostructureAlpha
from operators.strategies.ml_classification import MLClassification
from operators.strategies.ml_momentum import MLMomentum
from operators.strategies.ml_regression import MLRegression
from operators.strategies.momentum import Momentum
from operators.strategies.news_analytics import NewsAnalytics
from operators.strategies.regime_adaptive import RegimeAdaptive
from operators.strategies.sentiment import Sentiment
from schemas.errors import ConfigError

__all__ = ["STRATEGIES", "register"]

STRATEGIES: dict[str, type[Strategy]] = {}
"""Every strategy by name."""


def register(strategy: type[Strategy]) -> None:
    """Add a strategy to the registry.

    Raises
    ------
    ConfigError
        It has no name or declares no features, thresholds or reasons, or its name is taken.
    """
    name = getattr(strategy, "name", "")
    if not name or not all(getattr(strategy, declared, ()) for declared in ("needs", "compares", "reasons")):
        raise ConfigError(
            f"expected a strategy with `name`, `needs`, `compares` and `reasons`, was {strategy.__name__}"
        )
    if name in STRATEGIES:
        raise ConfigError(f"expected a new strategy name, was `{name}`, taken by {STRATEGIES[name].__name__}")
    STRATEGIES[name] = strategy


for _strategy in (
    MeanReversion,
    Breakout,
    Momentum,
    MicrostructureAlpha,
    Sentiment,
    NewsAnalytics,
    RegimeAdaptive,
    MLClassification,
    MLRegression,
    MLMomentum,
):
    register(_strategy)
