"""The catalogue: every registered item with the default configuration, by kind and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from dataflows.catalogue.deciding import specialists, strategies
from dataflows.catalogue.entries import Family, FeatureEntry, Item, SpecialistEntry, StrategyEntry
from dataflows.catalogue.families import families
from schemas.errors import ConfigError

__all__ = ["Catalogue", "collect"]

_NEAR = 3
_SIMILAR = 0.5


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that there is.

    Parameters
    ----------
    families
        Features that are computed together, by name, in the order of their columns.
    strategies
        Strategies by name, those over one instrument first.
    specialists
        Specialists by name, their ensemble last.

    Examples
    --------
    >>> catalogue = collect()
    >>> catalogue.features["rsi"].spec.unit
    'percent'
    >>> [entry.name for entry in catalogue.named("features", "bollinger")][:2]
    ['bollinger_upper', 'bollinger_lower']
    """

    families: Mapping[str, Family]
    strategies: Mapping[str, StrategyEntry]
    specialists: Mapping[str, SpecialistEntry]

    @property
    def features(self) -> dict[str, FeatureEntry]:
        """Every column of features by name, in order."""
        return {spec.name: FeatureEntry(spec, family) for family in self.families.values() for spec in family.specs}

    def kinds(self) -> dict[str, Mapping[str, Item]]:
        """Return the items of each kind, by name."""
        return {kind.kind: items for kind, items in (
            (FeatureEntry, self.features), (StrategyEntry, self.strategies), (SpecialistEntry, self.specialists),
        )}  # fmt: skip

    def named(self, kind: str, name: str) -> Sequence[Item]:
        """Return the item of a name; of a family that is no feature itself, all of its features.

        Raises
        ------
        ConfigError
            There is none of that kind and name.
        """
        items = self.kinds()[kind]
        if name in items:
            return (items[name],)
        known = list(items)
        if kind == FeatureEntry.kind:
            if name in self.families:
                return tuple(entry for entry in self.features.values() if entry.family.name == name)
            known = list(dict.fromkeys([*known, *self.families]))
        near = get_close_matches(name, known, n=_NEAR, cutoff=_SIMILAR)
        remedy = f"did you mean {' or '.join(f'`{item}`' for item in near)}? " if near else ""
        raise ConfigError(
            f"expected the name of one of the {kind}, found `{name}`; {remedy}`signalbox catalogue {kind}` lists them"
        )

    def content(self) -> dict[str, list[dict[str, Any]]]:
        """Return everything as plain JSON values."""
        return {
            "families": [family.content() for family in self.families.values()],
            **{kind: [item.content() for item in items.values()] for kind, items in self.kinds().items()},
        }


def collect() -> Catalogue:
    """Return the catalogue of what is registered."""
    return Catalogue(families(), strategies(), specialists())
