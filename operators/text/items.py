"""Items of a text topic with what was found about each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.columns import CodeArray, Columns, FloatArray, IntArray

__all__ = ["ClusterArray", "TextItems"]

ClusterArray = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class TextItems(Columns):
    """News items or posts that were accepted, in arrival order.

    Examples
    --------
    >>> len(TextItems.empty())
    0
    """

    code: CodeArray
    ts: IntArray
    """`ts_recv`"""
    score: FloatArray
    """sentiment in [-1, 1]; NaN where the text has no word to score"""
    weight: FloatArray
    """`novelty` times `damping`, in [0, 1]; 0 also where the source has no weight"""
    novelty: FloatArray
    """1 for the first item of a story, less for a repeat"""
    cluster: ClusterArray
    """fingerprint of the story's first item: the same for every instrument that the story is about"""
    damping: FloatArray
    """what is left after bursts, copies, retweets and doubtful tickers, in [0, 1]; 1 for news"""
    source_weight: FloatArray
    """configured weight of the source or platform, in [0, 1]"""

    @classmethod
    def empty(cls) -> TextItems:
        """Return no items."""
        none: FloatArray = np.empty(0)
        code, ts, cluster = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
        return cls(code, ts, none, none, none, cluster, none, none)
