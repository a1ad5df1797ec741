"""What the catalogue says of each item: plain data, from which the command and the pages are written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from dataflows.catalogue.keys import Key
from schemas.features import FeatureSpec

__all__ = ["Family", "FeatureEntry", "Item", "SpecialistEntry", "StrategyEntry"]


@dataclass(frozen=True, slots=True)
class Family:
    """Features that are computed together, by one class.

    Parameters
    ----------
    name
        Registered name.
    source
        What they are computed from: `bars`, a group's name, or `universe`.
    section
        Section of the configuration that holds the parameters.
    summary
        What it is, in a line.
    text
        The mechanism.
    notes
        Warm-up, and when a value is missing.
    references
        Papers and books, in full; empty where the formula says it all.
    keys
        Its parameters.
    specs
        Its features, in order.
    """

    name: str
    source: str
    section: str
    summary: str
    text: str
    notes: str
    references: str
    keys: tuple[Key, ...]
    specs: tuple[FeatureSpec, ...]

    def content(self) -> dict[str, Any]:
        """Return it as plain JSON values, with the names of its features."""
        content = _content(self)
        content["features"] = [spec.name for spec in content.pop("specs")]
        return content


@dataclass(frozen=True, slots=True)
class FeatureEntry:
    """One column of features.

    Parameters
    ----------
    spec
        What the column is.
    family
        What computes it.
    """

    kind: ClassVar[str] = "features"
    spec: FeatureSpec
    family: Family

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.spec.name

    def content(self) -> dict[str, Any]:
        """Return it as plain JSON values; `values` are the parameters in force that the column depends on."""
        spec = asdict(self.spec)
        spec["values"] = spec.pop("parameters")
        spec["inputs"] = list(spec["inputs"])
        return spec | {"family": self.family.name, "source": self.family.source, "summary": self.family.summary}


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """One strategy.

    Parameters
    ----------
    name
        Registered name.
    on
        What it decides on, by name.
    decides_on
        The same in words.
    section
        Section of the configuration that holds the parameters.
    summary
        What it does, in a line.
    text
        The rule.
    notes
        What it does where something is missing.
    needs
        What it reads.
    derived
        What it computes from that and decides on.
    compares
        Parameters that it compares them with.
    reasons
        Why it decides, in sentences.
    warm_up
        Observations until every feature that it reads has a value; None where it reads none.
    inactive
        Why it decides nothing with the default configuration, where it does not.
    references
        Papers and books.
    keys
        Its parameters.
    """

    kind: ClassVar[str] = "strategies"
    name: str
    on: str
    decides_on: str
    section: str
    summary: str
    text: str
    notes: str
    needs: tuple[str, ...]
    derived: tuple[str, ...]
    compares: tuple[str, ...]
    reasons: tuple[str, ...]
    warm_up: int | None
    inactive: str | None
    references: str
    keys: tuple[Key, ...]

    def content(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return _content(self)


@dataclass(frozen=True, slots=True)
class SpecialistEntry:
    """One specialist, or their ensemble.

    Parameters
    ----------
    name
        Registered name.
    section
        Section of the configuration that holds the parameters.
    summary
        What it looks at, in a line.
    text
        The mechanism.
    notes
        How it learns, and what it costs.
    needs
        Features that it reads; of the ensemble, its members.
    inputs
        What its model reads, with the formula of each.
    required
        Inputs without which it does not answer.
    answers
        When it answers, in words.
    warm_up
        Effective outcomes before the first answer.
    references
        Papers and books.
    keys
        Its parameters.
    """

    kind: ClassVar[str] = "specialists"
    name: str
    section: str
    summary: str
    text: str
    notes: str
    needs: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...]
    required: tuple[str, ...]
    answers: str
    warm_up: float
    references: str
    keys: tuple[Key, ...]

    def content(self) -> dict[str, Any]:
        """Return it as plain JSON values, with a map of its inputs to their formulas."""
        return _content(self) | {"inputs": dict(self.inputs)}


Item = FeatureEntry | StrategyEntry | SpecialistEntry
"""What has a name in the catalogue."""


def _content(entry: Any) -> dict[str, Any]:
    """Return the fields of an entry, keys as maps and tuples as lists."""
    content = {field.name: getattr(entry, field.name) for field in fields(entry)}
    content["keys"] = [asdict(key) for key in entry.keys]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}
