r"""What a model reads: features brought to a bounded scale, so that one hostile number cannot run away with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bounded", "FloatArray", "ModelInput", "Product", "row_sums"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounded:
    r"""A feature on the scale from -1 to 1: $\tanh((g(x) - c) / s)$, where $g$ is the identity or the logarithm.

    Parameters
    ----------
    feature
        Name of the feature; also the name of the input.
    centre
        Value $c$ that becomes 0, after the logarithm.
    scale
        Distance $s$ from the centre that becomes 0.76, above 0. About a large but ordinary deviation: the
        transform is near linear below it and keeps what is beyond apart less and less.
    log
        Take the logarithm first, for ratios and sizes; a value of zero or below then has none.

    Notes
    -----
    NaN and infinities give NaN: an overflow is no extreme value.

    Examples
    --------
    >>> Bounded("rsi", centre=50.0, scale=20.0).compute({"rsi": np.array([50.0, 70.0, np.inf])}).round(2)
    array([0.  , 0.76,  nan])
    """

    feature: str
    centre: float = 0.0
    scale: float = 1.0
    log: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"input `{self.feature}`: expected a `scale` above 0 and finite, was {self.scale}")

    @property
    def name(self) -> str:
        """Name of the input."""
        return self.feature

    @property
    def reads(self) -> tuple[str, ...]:
        """Features that it is computed from."""
        return (self.feature,)

    def compute(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Return the input at each row, NaN where the feature has no finite value, shape `(n,)`."""
        values = columns[self.feature]
        usable = np.isfinite(values) & (values > 0.0) if self.log else np.isfinite(values)
        held = np.where(usable, values, 1.0)
        with np.errstate(over="ignore"):  # a difference that overflows is as far away as can be: 1 or -1
            scaled = ((np.log(held) if self.log else held) - self.centre) / self.scale
        return np.where(usable, np.tanh(scaled), np.nan)

    def content(self) -> list[Any]:
        """Return what decides its values, as plain values."""
        return [self.feature, self.centre, self.scale, self.log]


@dataclass(frozen=True, slots=True)
class Product:
    """The product of two inputs: the first counts by how much there is of the second.

    Parameters
    ----------
    name
        Name of the input.
    left, right
        Its factors. It has no value where either has none.

    Examples
    --------
    >>> backed = Product("backed", Bounded("tone"), Bounded("items", scale=5.0, log=True))
    >>> backed.reads
    ('tone', 'items')
    """

    name: str
    left: Bounded
    right: Bounded

    @property
    def reads(self) -> tuple[str, ...]:
        """Features that it is computed from."""
        return (*self.left.reads, *self.right.reads)

    def compute(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Return the input at each row, NaN where a factor has no finite value, shape `(n,)`."""
        return self.left.compute(columns) * self.right.compute(columns)

    def content(self) -> list[Any]:
        """Return what decides its values, as plain values."""
        return [self.name, self.left.content(), self.right.content()]


ModelInput = Bounded | Product
"""What a model can read."""


def row_sums(values: FloatArray) -> FloatArray:
    """Return the sums of rows, shape `(n,)`, first column first: a sum does not depend on how many rows there are.

    Examples
    --------
    >>> row_sums(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([3., 7.])
    """
    total = np.zeros(len(values))
    for column in range(values.shape[1]):
        total += values[:, column]
    return total
