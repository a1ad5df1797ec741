"""Reading resumed behind the last archived row gives the other rows again, once and with the same times."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataflows.recording_positions import PartitionPosition, ResumePoint
from dataflows.sources.kafka_config import KafkaTopic
from dataflows.sources.kafka_decode import ROWS_PER_RECORD, RecordDecoder
from operators.admission import DecodeLimits
from schemas.batches import integers, make_batch, times
from schemas.records import topic
from schemas.time import END_OF_TIME

NEVER = -(2**63) + 1
Row = tuple[int, int]
"""Offset in the archive and `ts_recv`."""

stamps = st.integers(0, 40)
json_logs = st.lists(st.tuples(st.booleans(), stamps), max_size=25)
arrow_logs = st.lists(st.lists(stamps, max_size=4), max_size=12)


def json_log(records: list[tuple[bool, int]]) -> list[Message]:
    """Return records with a time in a header, and heartbeats."""
    row = json.dumps({"instrument_id": "A", "ts_event": 1, "price": 1.0, "size": 1.0, "side": "buy"}).encode()
    return [
        Message("t", 0, offset, value=row, headers=[("ts_recv", str(stamp).encode())], timestamp=(1, 1))
        if is_row
        else Message("t", 0, offset, headers=[("heartbeat", b""), ("ts_recv", str(stamp).encode())], timestamp=(1, 1))
        for offset, (is_row, stamp) in enumerate(records)
    ]


def arrow_log(records: list[list[int]]) -> list[Message]:
    """Return records of several rows, each with a time of its own; an empty one is a heartbeat."""
    messages = []
    for offset, recv in enumerate(records):
        n, sink = len(recv), pa.BufferOutputStream()
        columns = {"instrument_id": ["A"] * n, "ts_event": [1] * n, "ts_recv": recv, "price": [1.0] * n}
        batch = make_batch("trades", columns | {"size": [1.0] * n, "side": [1] * n}, n).select(topic("trades").names)
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        messages.append(Message("t", 0, offset, value=sink.getvalue().to_pybytes(), timestamp=(1, 1)))
    return messages


def rows_of(batch: pa.RecordBatch | None) -> list[Row]:
    if batch is None:
        return []
    return list(zip(integers(batch, "offset").tolist(), times(batch, "ts_recv").tolist(), strict=True))


@dataclass
class Partition:
    """A partition's log, read as the source reads it from wherever it is resumed."""

    log: list[Message]
    decoder: RecordDecoder
    rows_per_record: int
    point: ResumePoint = field(default_factory=lambda: ResumePoint(0, NEVER, -1))

    def read(self, cuts: list[int], idle: dict[int, int] | None = None) -> list[tuple[Any, int, int]]:
        """Return what is delivered, cut into batches: rows, offset and clock behind them."""
        clock, delivered = self.point.clock, []
        edges = sorted({self.point.offset, len(self.log), *(c for c in cuts if self.point.offset < c < len(self.log))})
        for number, (first, last) in enumerate(pairwise(edges)):
            delivery = self.decoder.decode(self.log[first:last], clock)
            clock = delivery.clock
            delivered.append((delivery.batch, last, clock))
            if idle and number in idle:
                clock = max(clock, idle[number])
                delivered.append((None, last, clock))
        return delivered


def partition(kind: str, records: Any) -> Partition:
    limits = DecodeLimits()
    if kind == "json":
        decoder = RecordDecoder("trades", 0, KafkaTopic(clock="header"), header_ahead_ns=10**18, limits=limits)
        return Partition(json_log(records), decoder, 1)
    config = KafkaTopic(clock="record", format="arrow")
    decoder = RecordDecoder("trades", 0, config, header_ahead_ns=0, limits=limits)
    return Partition(arrow_log(records), decoder, ROWS_PER_RECORD)


logs = st.one_of(st.tuples(st.just("json"), json_logs), st.tuples(st.just("arrow"), arrow_logs))


def follow(one: Partition, delivered: list[tuple[Any, int, int]], frontiers: list[int]) -> tuple[ResumePoint, int]:
    """Deliver, archive now and then below a time that the clock has reached; return where it resumes and the time."""
    position = PartitionPosition(one.point, rows_per_record=one.rows_per_record)
    frontier = NEVER
    for number, (batch, offset, clock) in enumerate(delivered):
        position.deliver(None if batch is None else position.fresh(batch), offset=offset, clock=clock)
        if number < len(frontiers):
            frontier = max(frontier, min(frontiers[number], clock))
            position.archive_below(frontier)
    return position.point, frontier


@settings(max_examples=200)
@example(log=("json", [(True, 3), (False, 7), (True, 5)]), cuts=[2], frontiers=[6], again=[])
@given(
    log=logs,
    cuts=st.lists(st.integers(0, 25), max_size=5),
    frontiers=st.lists(st.integers(-1, 41), max_size=8),
    again=st.lists(st.integers(0, 25), max_size=5),
)
def test_resumed_reading_gives_the_rows_that_are_not_archived_with_their_times(log, cuts, frontiers, again):
    one = partition(*log)
    delivered = one.read(cuts)
    assert all(not batch.column("error").drop_null() for batch, _, _ in delivered if batch is not None)
    everything = [row for batch, _, _ in delivered for row in rows_of(batch)]
    one.point, frontier = follow(one, delivered, frontiers)
    position = PartitionPosition(one.point, rows_per_record=one.rows_per_record)
    resumed = [row for batch, _, _ in one.read(again) if batch is not None for row in rows_of(position.fresh(batch))]
    assert resumed == [row for row in everything if row[1] >= frontier]
    assert one.point.last == max((offset for offset, ts in everything if ts < frontier), default=-1)


@settings(max_examples=200)
@given(
    log=logs,
    cuts=st.lists(st.integers(0, 25), max_size=5),
    idle=st.dictionaries(st.integers(0, 6), st.integers(0, 60), max_size=4),
    frontiers=st.lists(st.integers(-1, 61), max_size=12),
)
def test_resumed_reading_after_idle_clocks_stays_behind_what_is_archived(log, cuts, idle, frontiers):
    """A record behind an idle clock was raised to it; read again, it may be raised less, but not below the frontier."""
    one = partition(*log)
    delivered = one.read(cuts, idle)
    everything = [row for batch, _, _ in delivered for row in rows_of(batch)]
    one.point, frontier = follow(one, delivered, frontiers)
    position = PartitionPosition(one.point, rows_per_record=one.rows_per_record)
    resumed = [row for batch, _, _ in one.read([]) if batch is not None for row in rows_of(position.fresh(batch))]
    assert [offset for offset, _ in resumed] == [offset for offset, ts in everything if ts >= frontier]
    assert all(ts >= frontier for _, ts in resumed)


def test_clock_alone_moves_the_point_when_everything_is_archived():
    position = PartitionPosition(ResumePoint(3, 5, 2), rows_per_record=1)
    position.deliver(None, offset=6, clock=9)
    assert position.point == ResumePoint(6, 9, 2)


@pytest.mark.parametrize("records", [[], [(True, 7)]])
def test_end_of_time_is_no_clock_to_resume_with(records):
    one = partition("json", records)
    position = PartitionPosition(one.point, rows_per_record=1)
    for batch, offset, clock in one.read([]):
        position.deliver(batch, offset=offset, clock=clock)
    position.deliver(None, offset=len(records), clock=END_OF_TIME)
    position.archive_below(END_OF_TIME)
    assert position.point == ResumePoint(len(records), 7 if records else NEVER, len(records) - 1)
