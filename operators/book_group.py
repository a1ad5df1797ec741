"""The features of books as a group: what each update said, as it stood at decision times."""

from __future__ import annotations

from collections.abc import Mapping

from operators.book_features import BookFeatureState
from operators.book_sampler import BookSampler
from operators.columns import FloatArray, MissingArray
from operators.sampled import DecisionColumns, FeatureGroup, FrameInputs, InstrumentRows
from operators.shard_config import BookConfig
from schemas.features import FeatureSpec
from schemas.time import duration_ns

__all__ = ["BookGroup"]


class BookGroup(FeatureGroup):
    """Features of the order book: what each update of it says, as it stood at decision times.

    Prices, spreads, imbalances, micro-price, slope and resiliency are those of the last update before a decision; flows
    and moves of the touch are summed over the updates since the decision before. See `BookFeatureState`.

    Parameters
    ----------
    config
        Depth, and when a book is stale.
    n_intervals
        Number of bar lengths: each has its own sums since the decision before.

    Notes
    -----
    No value: `NO_INPUT` before the first update, and for sums without an update since the decision before; `STALE`
    where the last update is older than `max_age`; `OUT_OF_SYNC` where the book waits for a snapshot, is crossed, locked
    or one-sided; `WARMING_UP` before the state behind a feature is full; `DEGENERATE` where the formula has no value,
    such as an imbalance of no depth; `NOT_FINITE` where it overflowed.
    """

    def __init__(self, config: BookConfig, n_intervals: int) -> None:
        self._config = config
        self._sampler = BookSampler(n_intervals, max_age_ns=duration_ns(config.max_age))

    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return what each column is, in order."""
        return BookFeatureState.specs(self._config.depth, self._config.features)

    def states(self) -> Mapping[str, InstrumentRows]:
        """Return every state of the group, by name."""
        return {"sampler": self._sampler}

    def update(self, frame: FrameInputs, decisions: DecisionColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next updates and return the features at the next decisions."""
        return self._sampler.sample(frame.book, decisions.code, decisions.interval, decisions.ts)
