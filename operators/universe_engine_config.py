"""What is computed across instruments: the universe, its features and its strategies, each with its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, create_model, model_validator

from operators.cross_section import CrossSectionConfig
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES
from operators.universe_config import UniverseConfig
from schemas.config import ComponentConfig

__all__ = ["UniverseEngineConfig", "UniverseStrategiesConfig"]

if TYPE_CHECKING:

    class UniverseStrategyParameters(ComponentConfig):
        """Parameters of each registered strategy over several instruments, by name."""
else:
    UniverseStrategyParameters = create_model(
        "UniverseStrategyParameters",
        __base__=ComponentConfig,
        __doc__="Parameters of each registered strategy over several instruments, by name.",
        **{
            name: (cls.Config, Field(default_factory=cls.Config, description=cls.__doc__.splitlines()[0]))
            for name, cls in UNIVERSE_STRATEGIES.items()
        },
    )


class UniverseStrategiesConfig(UniverseStrategyParameters):
    """Which strategies over several instruments decide, and their parameters."""

    enabled: tuple[str, ...] = Field(tuple(UNIVERSE_STRATEGIES), description="names of the strategies that decide")

    @model_validator(mode="after")
    def _enabled_are_known(self) -> Self:
        if len(set(self.enabled)) != len(self.enabled) or not set(self.enabled) <= set(UNIVERSE_STRATEGIES):
            raise ValueError(
                f"expected distinct names among {list(UNIVERSE_STRATEGIES)} in `enabled`, was {list(self.enabled)}"
            )
        return self


class UniverseEngineConfig(ComponentConfig):
    """Everything that decides what is computed across instruments."""

    enabled: bool = Field(True, description="whether instruments are looked at together; specialists need it too")
    members: UniverseConfig = Field(
        default_factory=UniverseConfig, description="which instruments, and when they are complete"
    )
    cross_section: CrossSectionConfig = Field(default_factory=CrossSectionConfig)
    strategies: UniverseStrategiesConfig = Field(default_factory=UniverseStrategiesConfig)

    @model_validator(mode="after")
    def _history_is_long_enough(self) -> Self:
        for name in self.strategies.enabled:
            needed = UNIVERSE_STRATEGIES[name](getattr(self.strategies, name)).min_history
            if needed > self.cross_section.window:
                raise ValueError(
                    f"expected `cross_section.window` of at least the {needed} frames that strategy `{name}` reads, "
                    f"was {self.cross_section.window}"
                )
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """Features of bars that slices must carry: of filters, ranks and strategies, in alphabetical order.

        Examples
        --------
        >>> UniverseEngineConfig(cross_section={"ranked": ("zscore",)}).needs
        ('zscore',)
        """
        found = {*self.members.needs, *self.cross_section.needs}
        for name in self.strategies.enabled:
            found.update(UNIVERSE_STRATEGIES[name].needs)
        return tuple(sorted(found))
