"""The features of the registries, by the class that computes them."""

from __future__ import annotations

import inspect
from typing import Any

from dataflows.catalogue import docstrings
from dataflows.catalogue.entries import Family
from dataflows.catalogue.keys import every_key
from operators.cross_section import CrossSectionConfig, CrossSectionState, cross_section_set
from operators.feature_groups import make_groups
from operators.features import BAR_FEATURES
from operators.features.base import BarFeature
from operators.sampled import FeatureGroup
from operators.shard_config import ShardConfig
from schemas.config import ComponentConfig
from schemas.features import FeatureSpec

__all__ = ["families"]


def families() -> dict[str, Family]:
    """Return every family of features by name: of bars, of groups, and across instruments.

    Examples
    --------
    >>> [spec.name for spec in families()["macd"].specs]
    ['macd', 'macd_signal', 'macd_histogram']
    """
    found = [_of_bars(feature) for feature in BAR_FEATURES.values()]
    found += [_of_group(name, group) for name, group in make_groups(ShardConfig()).items()]
    return {family.name: family for family in (*found, _across_instruments())}


def _of_bars(cls: type[BarFeature]) -> Family:
    said = (docstrings.summary(inspect.getmodule(cls)), docstrings.text(cls))
    return _family(cls.name, "bars", f"compute.features.{cls.name}", cls, said, cls.Config, cls.specs(cls.Config()))


def _of_group(name: str, group: FeatureGroup) -> Family:
    cls, config = type(group), type(getattr(ShardConfig(), name))
    said = (docstrings.summary(cls), docstrings.body(cls))
    return _family(name, name, f"compute.{name}", cls, said, config, group.specs())


def _across_instruments() -> Family:
    config, module = CrossSectionConfig, inspect.getmodule(CrossSectionState)
    said = (docstrings.summary(module), docstrings.body(module))
    specs = cross_section_set(config()).specs
    return _family("cross_section", "universe", "universe.cross_section", CrossSectionState, said, config, specs)


def _family(
    name: str,
    source: str,
    section: str,
    cls: type[Any],
    said: tuple[str, str],
    config: type[ComponentConfig],
    specs: tuple[FeatureSpec, ...],
) -> Family:
    summary, text = said
    return Family(
        name=name,
        source=source,
        section=section,
        summary=summary,
        text=text,
        notes=docstrings.section(cls, "Notes"),
        references=docstrings.section(cls, "References"),
        keys=tuple(every_key(config)),
        specs=specs,
    )
