r"""Align the sources of a shard by arrival order.

A shard may process everything that arrived before the slowest of its sources: with clocks
$c_1 \dots c_k$ the frontier is $F = \min_i c_i$, and a frame holds every record with
$\mathrm{ts\_recv} < F$ that no frame before held. Within a topic records stand in arrival order
`(ts_recv, partition, offset)`; between topics equal `ts_recv` are ordered by topic name. How the
sources were cut into batches only decides how the same sequence of records is cut into frames.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.arrival import Arrival, Frame
from operators.measures import measure_snapshot
from schemas.batches import concat_batches, integers, take, times
from schemas.errors import InvariantError, VersionError
from schemas.failure import noted
from schemas.metrics import ALIGN_HELD, EPOCH_DURATION, FRAME_RECORDS
from schemas.records import archive_schema
from schemas.telemetry import MAX_LINKS, add, distinct, is_measuring, is_sampled, is_tracing, record, span, stage

__all__ = ["AlignState", "align"]

_VERSION = 1
_Held = tuple[pa.RecordBatch, str]
"""Records that are held back, and the trace context that they came with."""


class AlignState:
    """Buffers of records that a slower source still holds back.

    Parameters
    ----------
    sources
        Every source that will deliver, by name. Until each has set its clock there is no frame.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> state = AlignState(("news", "trades"))
    >>> trade = make_batch("trades", {"ts_recv": [5], "partition": [0], "offset": [0]}, 1)
    >>> state.update([Arrival("trades", "trades", clock=9, batch=trade)]) is None
    True
    >>> frame = state.update([Arrival("news", "news", clock=7, batch=None)])
    >>> frame.frontier, frame.batches["trades"].num_rows
    (7, 1)

    Attributes
    ----------
    origins
        Trace contexts of some of the arrivals whose records are in the last frame.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._clocks = dict.fromkeys(sorted(sources), -(2**63))
        self._buffers: dict[str, list[_Held]] = {}
        self._frontier = -(2**63)
        self._unsorted: set[str] = set()
        self.origins: list[str] = []

    def update(self, arrivals: Iterable[Arrival]) -> Frame | None:
        """Take what sources delivered; return the frame that became complete, or None if no clock let one.

        Raises
        ------
        InvariantError
            A source is unknown, or its clock went back.
        """
        for arrival in arrivals:
            self._add(arrival)
        frontier = min(self._clocks.values())
        if frontier <= self._frontier:
            return None
        self._frontier = frontier
        self.origins = []
        batches = {}
        for topic in sorted(self._buffers):
            ready = self._take_below(topic, frontier)
            if ready is not None:
                batches[topic] = ready
        return Frame(frontier, batches)

    def completes(self, arrivals: Iterable[Arrival]) -> bool:
        """Return whether `update` would give a frame, without taking anything."""
        clocks = self._clocks | {arrival.source: arrival.clock for arrival in arrivals}
        return min(clocks.values()) > self._frontier

    def _add(self, arrival: Arrival) -> None:
        clock = self._clocks.get(arrival.source)
        if clock is None or arrival.clock < clock:
            raise InvariantError(
                f"expected a source among {list(self._clocks)} with a clock that never goes back, found "
                f"`{arrival.source}` going from {clock} to {arrival.clock}"
            )
        self._clocks[arrival.source] = arrival.clock
        if arrival.batch is not None and arrival.batch.num_rows:
            buffer = self._buffers.setdefault(arrival.topic, [])
            if buffer and arrival.source != arrival.topic:
                self._unsorted.add(arrival.topic)
            buffer.append((arrival.batch, arrival.trace))

    def _take_below(self, topic: str, frontier: int) -> pa.RecordBatch | None:
        ready: list[pa.RecordBatch] = []
        rest: list[_Held] = []
        for batch, trace in self._buffers[topic]:
            cut = int(np.searchsorted(times(batch, "ts_recv"), frontier, side="left"))
            if cut:
                ready.append(batch.slice(0, cut))
                self.origins.append(trace)
            if cut < batch.num_rows:
                rest.append((batch.slice(cut), trace))
        self._buffers[topic] = rest
        if not ready:
            return None
        self.origins = distinct(self.origins, MAX_LINKS + 1)
        return self._ordered(topic, ready)

    def _ordered(self, topic: str, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        merged = concat_batches(batches)
        return _in_arrival_order(merged) if topic in self._unsorted else merged

    @property
    def buffered_rows(self) -> int:
        """Records held back."""
        return sum(batch.num_rows for buffer in self._buffers.values() for batch, _ in buffer)

    @property
    def held_traces(self) -> Iterator[str]:
        """Trace contexts of the records held back, oldest first."""
        return (trace for buffer in self._buffers.values() for _, trace in buffer)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "version": _VERSION,
            "clocks": dict(self._clocks),
            "frontier": self._frontier,
            "unsorted": sorted(self._unsorted),
            "buffers": {
                topic: _to_bytes(self._ordered(topic, [batch for batch, _ in buffer]))
                for topic, buffer in self._buffers.items()
                if buffer
            },
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        A partition that its topic got since is admitted at the frontier: it cannot add to frames that are gone. Its
        source must raise what is older to its clock, which therefore begins at the frontier or later.

        Raises
        ------
        VersionError
            Another version wrote it, a source of it is gone, or one was added that is no partition of its topics.
        """
        clocks = snapshot["clocks"]
        topics = {_topic_of(source) for source in clocks}
        if snapshot["version"] != _VERSION or any(_topic_of(source) not in topics for source in self._clocks):
            raise VersionError(
                f"expected an alignment snapshot of version {_VERSION} for sources {list(self._clocks)}, found version "
                f"{snapshot['version']} for {list(clocks)}; start a new run"
            )
        gone = sorted(set(clocks) - set(self._clocks))
        if gone:
            raise VersionError(
                f"expected the sources of the alignment snapshot, found no {', '.join(gone)}; what they delivered is "
                "part of the state: give the run its sources again, or start a new run"
            )
        self._clocks = {source: clocks.get(source, snapshot["frontier"]) for source in self._clocks}
        self._frontier = snapshot["frontier"]
        self._unsorted = set(snapshot["unsorted"])
        self._buffers = {
            topic: [(batch, "") for batch in _from_bytes(data)] for topic, data in snapshot["buffers"].items()
        }


def _topic_of(source: str) -> str:
    """Return the topic of a source: what stands before the number of a partition."""
    return source.rpartition("/")[0] or source


def _in_arrival_order(batch: pa.RecordBatch) -> pa.RecordBatch:
    recv, partition, offset = times(batch, "ts_recv"), integers(batch, "partition"), integers(batch, "offset")
    # of batches in order, one behind the other, nothing has to be moved
    later = offset[1:] >= offset[:-1]
    for higher in (partition, recv):
        later = (higher[1:] > higher[:-1]) | ((higher[1:] == higher[:-1]) & later)
    return batch if later.all() else take(batch, np.lexsort((offset, partition, recv)))


def _to_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _from_bytes(data: bytes) -> list[pa.RecordBatch]:
    with pa.ipc.open_stream(data) as reader:
        batches = list(reader)
    expected = archive_schema(reader.schema.metadata[b"signalbox.schema"].decode())
    if reader.schema != expected:
        raise VersionError(f"expected buffered records of {expected}, found {reader.schema}; start a new run")
    return batches


class _AlignLogic(StatefulBatchLogic[Arrival, Frame, dict[str, Any]]):
    def __init__(self, sources: Iterable[str], resume: dict[str, Any] | None) -> None:
        self._state = AlignState(sources)
        if resume is not None:
            self._state.restore(resume)
        self._held = 0
        add(ALIGN_HELD, 0)
        self._epoch = time.perf_counter()

    @noted
    def on_batch(self, values: list[Arrival]) -> tuple[Iterable[Frame], bool]:
        with stage("align", parent=self._parent(values)) if self._state.completes(values) else span("") as current:
            frame = self._state.update(values)
            if frame is None or not frame.batches:
                current.discard()
            else:
                current.link(self._state.origins)
        if is_measuring():
            self._measure(frame)
        if frame is None:
            return [], StatefulBatchLogic.RETAIN
        return [replace(frame, trace=current.trace) if current.trace else frame], StatefulBatchLogic.RETAIN

    def _parent(self, values: list[Arrival]) -> str:
        """Return the context of the last arrival, else of the first held back; traces that are kept come first."""
        if not is_tracing():
            return ""
        arrived = [arrival.trace for arrival in reversed(values)]
        known = chain(arrived, self._state.held_traces)
        return next(filter(is_sampled, known), next(filter(None, arrived), ""))

    def _measure(self, frame: Frame | None) -> None:
        held = self._state.buffered_rows
        if held != self._held:
            add(ALIGN_HELD, held - self._held)
            self._held = held
        if frame is not None and frame.batches:
            record(FRAME_RECORDS, sum(batch.num_rows for batch in frame.batches.values()))

    @noted
    def snapshot(self) -> dict[str, Any]:
        began = time.perf_counter()
        state = self._state.snapshot()
        if is_measuring():
            record(EPOCH_DURATION, began - self._epoch)
            measure_snapshot("align", state, time.perf_counter() - began)
        self._epoch = began
        return state


@operator
def align(step_id: str, up: KeyedStream[Arrival], *, sources: tuple[str, ...]) -> KeyedStream[Frame]:
    """Cut the arrivals of each shard into frames.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Arrivals by shard; each shard sees every clock of every source.
    sources
        Names of all sources.
    """
    return op.stateful_batch("state", up, noted(lambda resume: _AlignLogic(sources, resume)))
