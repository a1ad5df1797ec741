"""Part of what a partition delivered, by arrival time.

Times never go back within a partition, so the rows of a range stand side by side, and once the clock has come to its
end no row of it can follow. The rows are those that a replay of an archive of the same records selects: both look at
the time after it was raised.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dataflows.sources.kafka_decode import Delivery
from dataflows.sources.replay_range import ReplayRange
from schemas.batches import times

__all__ = ["within"]


def within(delivery: Delivery, part: ReplayRange) -> Delivery:
    """Return the rows of a delivery that are in the range, with the clock as it is.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> rows = make_batch("news", {"ts_recv": [4, 5, 9], "partition": [0, 0, 0], "offset": [0, 1, 2]}, 3)
    >>> cut = within(Delivery(rows, 9, np.array([1])), ReplayRange(5, 9))
    >>> cut.batch.column("offset").to_pylist(), cut.clock, cut.order_violations
    ([1], 9, 1)
    """
    if delivery.batch is None:
        return delivery
    recv = times(delivery.batch, "ts_recv")
    first, last = np.searchsorted(recv, [part.start, part.stop], side="left").tolist()
    if last - first == len(recv):
        return delivery
    raised = delivery.raised[(delivery.raised >= first) & (delivery.raised < last)] - first
    return replace(delivery, batch=delivery.batch.slice(first, last - first) if first < last else None, raised=raised)
