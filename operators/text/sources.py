"""Which configured source an item comes from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from operators.columns import CodeArray, FloatArray
from operators.text.config import OTHER
from schemas.batches import symbols

__all__ = ["SourceWeights"]

_NONE = -1


class SourceWeights:
    """Index and weight of each item's source.

    Parameters
    ----------
    weights
        Name to weight; they sum to one. `other` is every source that is not named: without it, such items have no
        weight.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> batch = make_batch("news", {"ts_recv": [1, 2], "source": ["wire", "blog"]}, 2)
    >>> index, weight = SourceWeights({"wire": 1.0}).of(batch, "source")
    >>> index.tolist(), weight.tolist()
    ([0, 0], [1.0, 0.0])
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._index = {name: at for at, name in enumerate(sorted(weights))}
        self.values = tuple(weights[name] for name in self._index)
        """weight of each source, by index"""

    def of(self, batch: pa.RecordBatch, column: str) -> tuple[CodeArray, FloatArray]:
        """Return the index of each record's source and its weight, shape `(n,)`; one without weight has index 0."""
        codes, names = symbols(batch, column)
        unnamed = self._index.get(OTHER, _NONE)
        # the last entry is what a null, code -1, looks up
        lookup = np.array([*(self._index.get(name or "", unnamed) for name in names), unnamed], dtype=np.int32)
        index = lookup[codes]
        known = index != _NONE
        return np.where(known, index, 0).astype(np.int32), np.where(known, np.array(self.values)[index], 0.0)
