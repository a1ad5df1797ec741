"""What a feature is, and the content hash of an ordered set of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FeatureSet", "FeatureSpec", "content_hash"]


def content_hash(content: Any) -> str:
    """Return 16 hexadecimal digits that name plain JSON content, whatever the order of its keys.

    Examples
    --------
    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature: its name and what it means.

    Parameters
    ----------
    name
        Column name, distinct in the set.
    unit
        Unit of the value; `1` for a pure number.
    formula
        The formula, in the terms of its reference.
    reference
        Paper or book, or `definition` where the formula says it all.
    inputs
        Topics or columns that it is computed from.
    parameters
        Parameters that the value depends on, as plain JSON values.
    warm_up
        Observations before the first value.
    """

    name: str
    unit: str
    formula: str
    reference: str
    inputs: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    warm_up: int = 1


@dataclass(frozen=True)
class FeatureSet:
    """An ordered set of features and the hash of its content, which travels with every row.

    Raises
    ------
    ValueError
        Two features have one name.
    """

    specs: tuple[FeatureSpec, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"expected distinct feature names, was {self.names}")

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return tuple(spec.name for spec in self.specs)

    @property
    def hash(self) -> str:
        """Content hash over names, order, formulas and parameters."""
        return content_hash([[s.name, s.unit, s.formula, s.parameters, s.warm_up] for s in self.specs])
