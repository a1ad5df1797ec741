"""Bytewax source over an archive: every topic in step, a time slice after the other.

The slices are cut once from the row groups' footers so that all topics together have about
`batch_rows` records in each. After a slice a topic's clock stands at the slice's end, so a topic with
nothing to say holds nobody back, and none runs ahead of another by more than a slice or two.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.sources.archive_reader import GroupSpan, Position, TopicReader, group_spans
from dataflows.sources.replay_range import ReplayRange
from operators.arrival import Arrival
from schemas.batches import integers, times
from schemas.errors import InputError
from schemas.failure import noted
from schemas.telemetry import stage
from schemas.time import END_OF_TIME
from sinks.archive import Archive

__all__ = ["ArchiveSource", "slice_cuts"]

_MAX_LEAD = 2
"""Slices that a topic may be ahead of the slowest of its process: one in hand while the next is cut."""


def slice_cuts(spans: Iterable[GroupSpan], batch_rows: int) -> list[int]:
    """Return times that cut the records of all topics into slices of about `batch_rows`.

    The number of records below a time is interpolated within each row group.

    Examples
    --------
    >>> slice_cuts([GroupSpan(0, 100, 1000)], 500)
    [51]
    """
    spans = list(spans)
    if not spans:
        return []
    edges = np.unique(np.array([edge for span in spans for edge in (span.first, span.last + 1)], dtype=np.int64))
    below = np.zeros(len(edges))
    for span in spans:
        below += np.interp(edges.astype(np.float64), [float(span.first), float(span.last + 1)], [0.0, float(span.rows)])
    total = below[-1]
    wanted = np.arange(batch_rows, total, batch_rows, dtype=np.float64)
    strictly = np.concatenate(([True], np.diff(below) > 0))
    cuts = np.interp(wanted, below[strictly], (edges - edges[0])[strictly].astype(np.float64))
    return [int(cut) for cut in np.unique(np.ceil(cuts).astype(np.int64) + edges[0])]


class _Pace:
    """How many slices and records each topic of this process has delivered."""

    def __init__(self, topics: tuple[str, ...], stop: Event) -> None:
        self.stop = stop
        self._done = dict.fromkeys(topics, 0)
        self._present: set[str] = set()
        self._lock = Lock()
        self.delivered = 0
        self.exhausted: set[str] = set()

    def start(self, topic: str, slices: int) -> None:
        with self._lock:
            self._present.add(topic)
            self._done[topic] = slices

    def advance(self, topic: str, slices: int) -> None:
        with self._lock:
            self._done[topic] = slices

    def finish(self, topic: str) -> None:
        with self._lock:
            self._present.discard(topic)

    def deliver(self, rows: int) -> None:
        with self._lock:
            self.delivered += rows

    def may_go(self, topic: str) -> bool:
        with self._lock:
            slowest = min((self._done[name] for name in self._present), default=0)
            return self._done[topic] < slowest + _MAX_LEAD


class _TopicPartition(StatefulSourcePartition[Arrival, dict[str, Any]]):
    """One topic. Its snapshot is the clock and the position of the last record."""

    def __init__(
        self,
        topic: str,
        files: tuple[Path, ...],
        cuts: list[int],
        replay: ReplayRange,
        max_rows: int,
        pace: _Pace,
        resume: dict[str, Any] | None,
    ) -> None:
        self._topic = topic
        self._max_rows = max_rows
        self._pace = pace
        self._clock = resume["clock"] if resume else -(2**63) + 1
        self._last: Position | None = tuple(resume["last"]) if resume and resume["last"] else None
        self._reader = TopicReader(topic, files, replay.start, replay.stop, self._last)
        self._cuts = [*cuts, END_OF_TIME]
        self._slice = int(np.searchsorted(np.array(self._cuts), self._clock, side="right"))
        if self._clock == END_OF_TIME:
            self._slice = len(self._cuts)
        self._pending: pa.RecordBatch | None = None
        self._announced = False
        self._pace.start(topic, self._slice)

    @noted
    def next_batch(self) -> list[Arrival]:
        """Deliver the next slice, or the next part of a slice that holds more than a batch."""
        if self._pace.stop.is_set():
            raise StopIteration
        if self._pending is None:
            if self._slice >= len(self._cuts):
                return self._end()
            if not self._pace.may_go(self._topic):
                return []
        with stage("receive", self._topic, root=True) as span:
            if self._pending is None:
                self._pending = self._reader.take_below(self._cuts[self._slice])
            if self._pending is None:
                span.discard()
            return [self._deliver(span.trace)]

    def _deliver(self, trace: str) -> Arrival:
        batch, self._pending = self._pending, None
        if batch is not None and batch.num_rows > self._max_rows:
            batch, self._pending = batch.slice(0, self._max_rows), batch.slice(self._max_rows)
            self._clock = max(self._clock, int(times(batch, "ts_recv")[-1]))
        else:
            self._clock = self._cuts[self._slice]
            self._slice += 1
            self._pace.advance(self._topic, self._slice)
        if batch is not None:
            row = batch.slice(batch.num_rows - 1)
            self._last = (
                int(times(row, "ts_recv")[0]),
                int(integers(row, "partition")[0]),
                int(integers(row, "offset")[0]),
            )
        self._announced = True
        if self._clock == END_OF_TIME:
            self._pace.exhausted.add(self._topic)
        self._pace.deliver(batch.num_rows if batch is not None else 0)
        return Arrival(self._topic, self._topic, self._clock, batch, trace=trace)

    def _end(self) -> list[Arrival]:
        if self._announced:
            raise StopIteration
        # resumed behind the last record: the shards must still hear that this source is done
        self._announced = True
        self._pace.exhausted.add(self._topic)
        return [Arrival(self._topic, self._topic, END_OF_TIME, None)]

    def snapshot(self) -> dict[str, Any]:
        """Return clock and position after the last delivery."""
        return {"clock": self._clock, "last": list(self._last) if self._last else None}

    def close(self) -> None:
        """Let the other topics go on and stop reading."""
        self._pace.finish(self._topic)
        self._reader.close()


class ArchiveSource(FixedPartitionedSource[Arrival, dict[str, Any]]):
    """The topics of an archive as one bounded input.

    Parameters
    ----------
    archive
        The archive.
    batch_rows
        Records of all topics together in one slice.
    replay
        Which part of the archive.
    stop
        Ends the input early once it is set.

    Raises
    ------
    InputError
        The archive has no records.
    """

    def __init__(
        self, archive: Archive, *, batch_rows: int, replay: ReplayRange | None = None, stop: Event | None = None
    ) -> None:
        self._files = archive.contents()
        if not self._files:
            raise InputError(f"expected records in the archive `{archive.root}`, found none; import some")
        self._replay = replay or ReplayRange()
        self._batch_rows = batch_rows
        spans = [span for topic, files in self._files.items() for span in group_spans(topic, files)]
        inside = [span for span in spans if span.last >= self._replay.start and span.first < self._replay.stop]
        self.rows = sum(span.rows for span in inside)
        self._cuts = slice_cuts(inside, batch_rows)
        self._pace = _Pace(tuple(self._files), stop or Event())

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources: the topics."""
        return tuple(self._files)

    @property
    def delivered(self) -> int:
        """Records delivered by this process so far."""
        return self._pace.delivered

    @property
    def exhausted(self) -> bool:
        """Whether every topic has delivered all it has."""
        return self._pace.exhausted == set(self._files)

    def list_parts(self) -> list[str]:
        """Return the topics; each is read by one worker."""
        return list(self._files)

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> _TopicPartition:
        """Open a topic where it was left."""
        return _TopicPartition(
            for_part, self._files[for_part], self._cuts, self._replay, self._batch_rows, self._pace, resume_state
        )
