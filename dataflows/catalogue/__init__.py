"""What there is: every feature, strategy and specialist, described from the registries and the types themselves.

The command `signalbox catalogue` and the generated pages of `docs/` show the same entries.
"""

from __future__ import annotations

from dataflows.catalogue.catalogue import Catalogue, collect
from dataflows.catalogue.entries import Family, FeatureEntry, SpecialistEntry, StrategyEntry
from dataflows.catalogue.keys import Key

__all__ = ["Catalogue", "Family", "FeatureEntry", "Key", "SpecialistEntry", "StrategyEntry", "collect"]
