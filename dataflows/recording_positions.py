r"""Where a partition goes on behind the last of its records that was archived.

A partition delivers ahead of what may be archived: only records below the slowest clock $F$ are. Delivered rows
$r_1 \dots r_n$ have times that never decrease, so the archived ones are a prefix $r_1 \dots r_k$ with
$\mathrm{ts\_recv} < F$. Reading that resumes behind $r_k$ with the clock that the partition had there gives every
later row the time that it had before, because each is raised to the latest time before it in its partition.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batches import integers, times
from schemas.time import END_OF_TIME

__all__ = ["PartitionPosition", "ResumePoint"]


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where reading resumes.

    Parameters
    ----------
    offset
        Offset of the next record to read.
    clock
        Arrival clock of the partition there, ns.
    last
        Offset in the archive of the last archived row, -1 where there is none. A record of many rows may be archived
        in part; it is then read again, and rows up to this one are left out.
    """

    offset: int
    clock: int
    last: int


@dataclass(slots=True)
class _Delivery:
    """Rows delivered together, and where the partition stood behind them."""

    stamps: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    offset: int
    clock: int


class PartitionPosition:
    """Follows one partition through what it delivers and what of it is archived.

    Parameters
    ----------
    start
        Where reading began.
    rows_per_record
        Rows that a record has room for: row `i` of the record at offset `o` stands at `o * rows_per_record + i`.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> position = PartitionPosition(ResumePoint(7, 0, -1), rows_per_record=1)
    >>> batch = make_batch("trades", {"ts_recv": [5, 6, 9], "partition": [0] * 3, "offset": [7, 8, 9]}, 3)
    >>> position.deliver(batch, offset=10, clock=9)
    >>> position.archive_below(9)
    >>> position.point
    ResumePoint(offset=9, clock=6, last=8)
    >>> position.archive_below(10)
    >>> position.point
    ResumePoint(offset=10, clock=9, last=9)
    """

    def __init__(self, start: ResumePoint, *, rows_per_record: int) -> None:
        self._rows_per_record = rows_per_record
        self._deliveries: deque[_Delivery] = deque()
        self._point = start
        self._clock = start.clock

    @property
    def point(self) -> ResumePoint:
        """Where reading resumes so that every row that is not archived comes again, and no other."""
        return self._point

    def fresh(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """Return the rows of a batch that are not in the archive already, or None if all are."""
        archived = int(np.searchsorted(integers(batch, "offset"), self._point.last, side="right"))
        return batch.slice(archived) if archived < batch.num_rows else None

    def deliver(self, batch: pa.RecordBatch | None, *, offset: int, clock: int) -> None:
        """Note what the partition delivered.

        Parameters
        ----------
        batch
            Fresh rows, or None where only the clock moved.
        offset
            Offset of the next record.
        clock
            Clock of the partition behind them; the end of time is none, since more may come when it is read again.
        """
        if clock != END_OF_TIME:
            self._clock = clock
        if batch is not None:
            self._deliveries.append(_Delivery(times(batch, "ts_recv"), integers(batch, "offset"), offset, self._clock))
        elif self._deliveries:
            self._deliveries[-1].offset, self._deliveries[-1].clock = offset, self._clock
        else:
            self._point = ResumePoint(offset, self._clock, self._point.last)

    def archive_below(self, frontier: int) -> None:
        """Note that every row delivered so far with `ts_recv` below a time is in the archive."""
        while self._deliveries:
            first = self._deliveries[0]
            count = int(np.searchsorted(first.stamps, frontier, side="left"))
            if not count:
                return
            last = int(first.offsets[count - 1])
            if count < len(first.stamps):
                self._point = self._within(first, count, last)
                first.stamps, first.offsets = first.stamps[count:], first.offsets[count:]
                return
            self._point = ResumePoint(first.offset, first.clock, last)
            self._deliveries.popleft()

    def _within(self, delivery: _Delivery, count: int, last: int) -> ResumePoint:
        # behind the archived row, not at the next: records without rows between them move the clock
        record = last // self._rows_per_record
        whole = int(delivery.offsets[count]) // self._rows_per_record != record
        return ResumePoint(record + whole, int(delivery.stamps[count - 1]), last)
