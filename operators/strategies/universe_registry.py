"""The registry of strategies over several instruments. Adding one is a file and a line here."""

from __future__ import annotations

from operators.strategies.correlation import Correlation
from operators.strategies.pairs_trading import PairsTrading
from operators.strategies.statistical_arbitrage import StatisticalArbitrage
from operators.strategies.universe_base import UniverseStrategy
from schemas.errors import ConfigError

__all__ = ["UNIVERSE_STRATEGIES", "register_universe"]

UNIVERSE_STRATEGIES: dict[str, type[UniverseStrategy]] = {}
"""Every strategy over several instruments by name."""


def register_universe(strategy: type[UniverseStrategy]) -> None:
    """Add a strategy to the registry.

    Raises
    ------
    ConfigError
        It has no name or declares no evidence, thresholds or reasons, or its name is taken.
    """
    name = getattr(strategy, "name", "")
    if not name or not all(getattr(strategy, declared, ()) for declared in ("derived", "compares", "reasons")):
        raise ConfigError(
            f"expected a strategy with `name`, `derived`, `compares` and `reasons`, was {strategy.__name__}"
        )
    if name in UNIVERSE_STRATEGIES:
        raise ConfigError(f"expected a new strategy name, was `{name}`, taken by {UNIVERSE_STRATEGIES[name].__name__}")
    UNIVERSE_STRATEGIES[name] = strategy


for _strategy in (PairsTrading, StatisticalArbitrage, Correlation):
    register_universe(_strategy)
