"""The contract of a bar feature: one file, one registration.

A feature is computed from the closed bars of one interval, instrument by instrument. The engine makes
one instance for each configured interval, and calls `update` once per frame with the bars of that
interval in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from operators.columns import BarColumns, FloatArray, MissingArray
from operators.state import ArrayState
from schemas.config import ComponentConfig
from schemas.features import FeatureSpec

__all__ = ["BarFeature"]


class BarFeature(ABC):
    """One streaming feature over the closed bars of one interval.

    A subclass names itself, declares its `Config` (bounds in the types) and its outputs, makes its
    state, and computes. It must give the same values however the bars are cut into calls, keep
    instruments independent, and leave its inputs as they are.

    Parameters
    ----------
    config
        Parameters of the feature.
    """

    name: ClassVar[str]
    """registered name; also the key of its configuration"""
    Config: ClassVar[type[ComponentConfig]]
    """configuration type"""

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config
        self.state = self._make_state()

    @classmethod
    @abstractmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what each output column is, in order."""

    @abstractmethod
    def _make_state(self) -> ArrayState:
        """Return the fresh state; called once."""

    @abstractmethod
    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the features at each.

        Parameters
        ----------
        bars
            Closed bars of the one interval, each instrument's in time order. The state already has a
            row for every code.

        Returns
        -------
        values
            Shape `(n, k)`, `k` outputs; NaN where there is no value.
        missing
            Shape `(n, k)`, a `Missing` code: `OK` exactly where the value is finite.
        """

    @staticmethod
    def empty(n_rows: int, n_outputs: int) -> tuple[FloatArray, MissingArray]:
        """Return arrays for a kernel to fill."""
        return np.full((n_rows, n_outputs), np.nan), np.zeros((n_rows, n_outputs), dtype=np.uint8)
