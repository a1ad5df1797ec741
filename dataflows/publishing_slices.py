"""The records of an archive in slices of time, and when each is due."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dataflows.publishing_messages import IntArray, Messages
from dataflows.sources.archive import slice_cuts
from dataflows.sources.archive_reader import TopicReader, group_spans
from schemas.batches import times
from schemas.records import topic as topic_schema
from schemas.time import END_OF_TIME
from sinks.archive import Archive

__all__ = ["Merged", "Schedule", "Shift", "Slices", "merge"]


class Slices:
    """The records of several topics, a slice of time after the other.

    Parameters
    ----------
    archive
        The archive.
    topics
        Topics that it has records of.
    batch_rows
        About how many rows of all topics a slice has.

    Attributes
    ----------
    rows
        Rows of the topics.
    first
        When the first record arrived, UTC ns.

    Raises
    ------
    InputError
        A file is unreadable or not of the archive.
    """

    def __init__(self, archive: Archive, topics: list[str], batch_rows: int) -> None:
        files = {topic: archive.files(topic) for topic in topics}
        spans = [span for topic in topics for span in group_spans(topic, files[topic])]
        self.rows = sum(span.rows for span in spans)
        self.first = min(span.first for span in spans)
        self._cuts = [*slice_cuts(spans, batch_rows), END_OF_TIME]
        whole = -(2**62), END_OF_TIME
        self._readers = {topic: TopicReader(topic, files[topic], *whole) for topic in topics}

    def __iter__(self) -> Iterator[dict[str, pa.RecordBatch]]:
        for cut in self._cuts:
            batches = {topic: reader.take_below(cut) for topic, reader in self._readers.items()}
            yield {topic: batch for topic, batch in batches.items() if batch is not None}

    def close(self) -> None:
        """Stop reading ahead."""
        for reader in self._readers.values():
            reader.close()


class Schedule:
    """When records are due: at a multiple of the speed at which they arrived, by a clock that never goes back.

    Parameters
    ----------
    first
        Time of the records that are due now, UTC ns.
    speed
        Multiple of the speed at which they arrived; with 0 all are due at once.
    """

    def __init__(self, first: int, speed: float) -> None:
        self._first = first
        self._speed = speed
        self._began = time.monotonic_ns()

    def now(self) -> int:
        """Return the time of the records that are due."""
        if not self._speed:
            return END_OF_TIME
        return self._first + int((time.monotonic_ns() - self._began) * self._speed)

    def seconds(self, duration: int) -> float:
        """Return how many seconds it takes until the records of a duration, ns, have been due."""
        return duration / self._speed / 1e9 if self._speed else 0.0


@dataclass(frozen=True, slots=True)
class Shift:
    """Moves the times of rows: from when they arrived to when they are due.

    Parameters
    ----------
    first
        When the first row arrived, UTC ns.
    begin
        When it is due, UTC ns.
    speed
        Multiple of the speed at which they arrived.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> batch = make_batch("trades", {"ts_event": [90, None], "ts_recv": [100, 300]}, 2)
    >>> moved = Shift(first=100, begin=5000, speed=2.0).apply("trades", batch)
    >>> times(moved, "ts_recv").tolist(), moved.column("ts_event").cast("int64").to_pylist()
    ([5000, 5100], [4990, None])
    """

    first: int
    begin: int
    speed: float

    def apply(self, topic: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows with all their times moved by as much as their arrival."""
        recv = times(batch, "ts_recv")
        by = self.begin + ((recv - self.first) / self.speed).astype(np.int64) - recv
        for schema_field in topic_schema(topic).fields:
            if schema_field.kind == "time":
                place = batch.schema.get_field_index(schema_field.name)
                column = batch.column(place)
                moved = pa.array(column.fill_null(0).view(pa.int64()).to_numpy() + by, mask=_nulls(column))
                batch = batch.set_column(place, batch.schema.field(place), moved.cast(column.type))
        return batch


def _nulls(column: pa.Array) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)


@dataclass(slots=True)
class Merged:
    """Messages of several topics in arrival order.

    Parameters
    ----------
    ts
        When each arrived, UTC ns, shape `(m,)`.
    topics
        Position of its topic among those that were merged.
    partitions, values, keys
        As in `Messages`.
    rows
        Rows that each holds, shape `(m,)`.
    """

    ts: IntArray
    topics: list[int]
    partitions: list[int]
    values: list[bytes | None]
    keys: list[bytes | None]
    rows: IntArray


def merge(parts: Mapping[int, Messages]) -> Merged:
    """Return the messages of several topics in arrival order; of equal times, those of the lower position first.

    Parameters
    ----------
    parts
        Messages of each topic by its position, in the order of the positions.
    """
    empty = np.zeros(0, dtype=np.int64)
    ts = np.concatenate([empty, *(part.ts for part in parts.values())])
    topics = np.concatenate([empty, *(np.full(len(part.values), place) for place, part in parts.items())])
    partitions = np.concatenate([empty, *(part.partitions for part in parts.values())])
    values = [value for part in parts.values() for value in part.values]
    keys = [key for part in parts.values() for key in part.keys]
    rows = np.concatenate([empty, *(part.rows for part in parts.values())])
    order = np.argsort(ts, kind="stable")
    return Merged(
        ts[order],
        topics[order].tolist(),
        partitions[order].tolist(),
        [values[row] for row in order.tolist()],
        [keys[row] for row in order.tolist()],
        rows[order],
    )
