"""The strategies, over one instrument and over several, the specialists and their ensemble."""

from __future__ import annotations

import inspect
from typing import Any, Final

from dataflows.catalogue import docstrings
from dataflows.catalogue.entries import SpecialistEntry, StrategyEntry
from dataflows.catalogue.keys import every_key
from models.specialists import ENSEMBLE, SPECIALISTS
from models.specialists.base import Specialist
from models.specialists.config import EnsembleConfig, LearningConfig
from models.specialists.ensemble import Ensemble
from models.specialists.inputs import Bounded, ModelInput
from operators.feature_engine import feature_set
from operators.shard_config import ShardConfig
from operators.strategies import STRATEGIES
from operators.strategies.base import Strategy
from operators.strategies.universe_base import UniverseStrategy
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES

__all__ = ["specialists", "strategies"]

_DECIDES_ON: Final = {
    "bar": "the close of each bar of its `interval`",
    "book": "each update of the order book",
    "item": "each news item",
    "prediction": "each prediction of its `model`; it is inactive until one is live",
    "universe": "each frame of the universe: all of its instruments at one decision time",
}


def strategies() -> dict[str, StrategyEntry]:
    """Return every strategy by name, those over one instrument first.

    Examples
    --------
    >>> entry = strategies()["mean_reversion"]
    >>> entry.needs, entry.warm_up, entry.section
    (('zscore',), 20, 'compute.strategies.mean_reversion')
    """
    warm_ups = {spec.name: spec.warm_up for spec in feature_set(ShardConfig()).specs}
    found = {name: _over_one(cls, warm_ups) for name, cls in STRATEGIES.items()}
    return found | {name: _over_several(cls, warm_ups) for name, cls in UNIVERSE_STRATEGIES.items()}


def _over_one(cls: type[Strategy], warm_ups: dict[str, int]) -> StrategyEntry:
    inactive = getattr(cls(cls.Config()), "inactive", None)
    return _strategy(cls, f"compute.strategies.{cls.name}", _warm_up(cls.needs, warm_ups), inactive)


def _over_several(cls: type[UniverseStrategy], warm_ups: dict[str, int]) -> StrategyEntry:
    fresh = cls(cls.Config())
    warm_up = max(_warm_up(cls.needs, warm_ups) or 0, fresh.min_history) or None
    return _strategy(cls, f"universe.strategies.{cls.name}", warm_up, fresh.inactive)


def _warm_up(needs: tuple[str, ...], warm_ups: dict[str, int]) -> int | None:
    return max((warm_ups[need] for need in needs if need in warm_ups), default=None)


def _strategy(
    cls: type[Strategy] | type[UniverseStrategy], section: str, warm_up: int | None, inactive: str | None
) -> StrategyEntry:
    module = inspect.getmodule(cls)
    return StrategyEntry(
        name=cls.name,
        on=cls.on,
        decides_on=_DECIDES_ON[cls.on],
        section=section,
        summary=docstrings.summary(module),
        text=docstrings.body(module),
        notes=docstrings.section(cls, "Notes"),
        needs=tuple(cls.needs),
        derived=tuple(cls.derived),
        compares=tuple(cls.compares),
        reasons=tuple(cls.reasons),
        warm_up=warm_up,
        inactive=inactive,
        references=docstrings.section(cls, "References"),
        keys=tuple(every_key(cls.Config)),
    )


def specialists() -> dict[str, SpecialistEntry]:
    """Return every specialist by name, and their ensemble last.

    Examples
    --------
    >>> dict(specialists()["technical"].inputs)["rsi"]
    'tanh((rsi - 50) / 20)'
    """
    return {name: _specialist(cls) for name, cls in SPECIALISTS.items()} | {ENSEMBLE: _ensemble()}


def _specialist(cls: type[Specialist]) -> SpecialistEntry:
    learning = LearningConfig()
    inputs = tuple((item.name, _formula(item)) for item in getattr(cls, "inputs", ()))
    base = cls.__mro__[1]
    return SpecialistEntry(
        name=cls.name,
        section="specialists.learning",
        summary=docstrings.summary(inspect.getmodule(cls)),
        text=docstrings.text(cls),
        notes="\n\n".join(filter(None, (docstrings.section(cls, "Notes"), docstrings.section(base, "Notes")))),
        needs=cls.needs,
        inputs=inputs,
        required=tuple(getattr(cls, "required", ())),
        answers=_answers(cls, len(inputs), learning),
        warm_up=learning.min_outcomes,
        references=docstrings.section(cls, "References"),
        keys=tuple(every_key(LearningConfig)),
    )


def _answers(cls: type[Specialist], n_inputs: int, learning: LearningConfig) -> str:
    least = getattr(cls, "min_inputs", None)
    share = f"at least a share of {learning.min_coverage:g} of its inputs has a value (`min_coverage`)"
    parts = [share if least is None else f"at least {least} of its {n_inputs} inputs have a value"]
    required = getattr(cls, "required", ())
    if required:
        parts.append(f"{', '.join(f'`{name}`' for name in required)} among them")
    parts.append(f"{learning.min_outcomes:g} effective outcomes have matured (`min_outcomes`)")
    return ", and ".join(parts)


def _formula(item: ModelInput | Any) -> str:
    """Return what a model's input is, in terms of features."""
    if isinstance(item, Bounded):
        argument = f"ln({item.feature})" if item.log else item.feature
        sign = "+" if item.centre < 0 else "-"
        difference = f"({argument} {sign} {abs(item.centre):g})" if item.centre else argument
        return f"tanh({difference} / {item.scale:g})"
    return f"{_formula(item.left)} * {_formula(item.right)}"


def _ensemble() -> SpecialistEntry:
    config = EnsembleConfig()
    return SpecialistEntry(
        name=ENSEMBLE,
        section="specialists.ensemble",
        summary=docstrings.summary(Ensemble),
        text=docstrings.body(Ensemble),
        notes=docstrings.section(Ensemble, "Notes"),
        needs=tuple(SPECIALISTS),
        inputs=(),
        required=(),
        answers=f"at least {config.quorum} specialists answer (`quorum`)",
        warm_up=0.0,
        references=docstrings.section(Ensemble, "References"),
        keys=tuple(every_key(EnsembleConfig)),
    )
