"""Where one partition stands between its worker's consumer and the graph."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

from confluent_kafka import Message

__all__ = ["Lane"]


@dataclass(slots=True, eq=False)
class Lane:
    """One partition within its worker's consumer.

    Parameters
    ----------
    source
        Our name of it.
    name, partition
        Where it is on the brokers.
    position
        Offset of the next record to hand on.
    high
        Offset behind the last record that the brokers told of.
    end
        Offset at which the input ends, or None.
    """

    source: str
    name: str
    partition: int
    position: int
    high: int
    end: int | None
    queue: list[Message] = field(default_factory=list)
    queued: int = 0
    """bytes in the queue"""
    fetched: int = -1
    """offset of the next record to come from the consumer"""
    eof: int = -1
    """offset at which the consumer last came to the end of the partition"""
    heard: bool = False
    """whether anything came from the consumer since it was told to read on"""
    paused: bool = False
    contact: int = 0
    """when the leader last answered, ns of the monotonic clock"""
    committed: int = 0
    """when the position was last committed"""

    @property
    def lag(self) -> int:
        """Offsets between the position and the end."""
        return max((self.high if self.end is None else self.end) - self.position, 0)

    @property
    def fetched_all(self) -> bool:
        """Whether nothing more is to come from the consumer."""
        return self.end is not None and self.fetched >= self.end

    def is_complete(self) -> bool:
        """Return whether everything before the end has been handed on."""
        return self.fetched_all and not self.queue

    def extend(self, messages: list[Message]) -> None:
        """Put records in the queue, but for those behind the end and those that it has had."""
        first, last = messages[0].offset() or 0, messages[-1].offset() or 0
        if first < self.fetched:
            messages = [message for message in messages if (message.offset() or 0) >= self.fetched]
        if self.end is not None and last >= self.end:
            messages = [message for message in messages if (message.offset() or 0) < self.end]
        self.queue.extend(messages)
        self.queued += sum(map(len, messages))
        self.heard = True
        self.reach(last + 1)

    def reach(self, offset: int) -> None:
        """Note that everything before an offset is in the queue or does not exist."""
        self.fetched = max(self.fetched, offset)
        if not self.queue:
            self.position = max(self.position, self.fetched)

    def cut(self) -> None:
        """End the input here: what is queued behind the position is not needed."""
        self.end, self.queue, self.queued = self.position, [], 0

    def take(self, records: int, size: int) -> list[Message]:
        """Return the next records, at most so many and at least one; together at most `size` bytes if they can be."""
        taken, count = self.queue, len(self.queue)
        if count > records or self.queued > size:
            count = max(bisect_left(list(accumulate(map(len, taken[:records]))), size + 1), 1)
        taken, self.queue = taken[:count], taken[count:]
        self.queued -= sum(map(len, taken)) if self.queue else self.queued
        # what is skipped behind the last record, compacted or a transaction's marker, is handed on with it
        last = taken[-1].offset() or 0
        self.position = last + 1 if self.queue else self.fetched
        return taken
