"""Arrow records that are read together give the rows that each gives alone. Needs no broker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.sources.kafka_config import KafkaTopic
from dataflows.sources.kafka_decode import ROWS_PER_RECORD, Delivery, RecordDecoder
from dataflows.sources.kafka_pace import NEVER
from operators.decode import DecodeLimits
from schemas.batches import times

BASE = 1_700_000_000_000_000_000


def _stream(names: list[str], ts_recv: Any = BASE, **changes: Any) -> bytes:
    n = len(names)
    columns = {
        "instrument_id": pa.array(names, pa.string()).dictionary_encode(),
        "ts_event": pa.array(np.full(n, BASE)),
        "ts_recv": pa.array([ts_recv] * n, pa.int64()),
        "price": pa.array(np.arange(n) + 1.5),
        "size": pa.array(np.ones(n)),
        "side": pa.array(np.ones(n, dtype=np.int8)),
    } | changes
    batch = pa.record_batch({name: column for name, column in columns.items() if column is not None})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


_RECORDS = st.sampled_from(
    [
        _stream(["A", "B"]),
        _stream(["B", "C", "B"], ts_recv=BASE + 5),
        _stream(["C"], ts_recv=BASE - 5),
        _stream([]),
        _stream(["A"], instrument_id=pa.array(["D"])),
        _stream(["A", "A"], another=pa.array([[1], [2]])),
        _stream(["A"], ts_event=pa.array([BASE], pa.timestamp("ns", "UTC"))),
        _stream(["A"], ts_recv=None),
        _stream(["A"], ts_recv=-1),
        _stream(["A"], price=None),
        _stream(["A"], price=pa.array(["x"])),
        b"no stream",
        b"",
        None,
    ]
)


def _decoder(clock: str) -> RecordDecoder:
    topic = KafkaTopic.model_validate({"clock": clock, "format": "arrow"})
    return RecordDecoder("trades", 1, topic, header_ahead_ns=0, limits=DecodeLimits())


def _message(offset: int, value: bytes | None) -> Message:
    # the records without a value are heartbeats
    headers = [("heartbeat", str(BASE + offset).encode())] if value is None else []
    return Message("t", 1, offset, value=value, headers=headers, timestamp=(1, BASE // 10**6 + offset))


def _rows(delivery: Delivery) -> list[dict[str, Any]]:
    return [] if delivery.batch is None else delivery.batch.to_pylist()


@settings(max_examples=150, deadline=None)
@given(values=st.lists(_RECORDS, min_size=1, max_size=9), clock=st.sampled_from(["broker", "record"]))
def test_arrow_records_together_give_what_each_gives_alone(values: list[bytes | None], clock: str) -> None:
    messages = [_message(2 * number, value) for number, value in enumerate(values)]
    together = _decoder(clock).decode(messages, NEVER)
    rows, at, violations = [], NEVER, 0
    for message in messages:
        alone = _decoder(clock).decode([message], at)
        at, violations = alone.clock, violations + alone.order_violations
        rows += _rows(alone)
    assert _rows(together) == rows
    assert (together.clock, together.order_violations) == (at, violations)


def test_arrow_rows_of_many_records_have_their_places_and_symbols() -> None:
    values = [_stream([f"S{number}", f"S{number + 1}"], ts_recv=BASE + number) for number in range(50)]
    batch = _decoder("record").decode([_message(number, value) for number, value in enumerate(values)], NEVER).batch
    places = [number * ROWS_PER_RECORD + row for number in range(50) for row in range(2)]
    assert batch.column("offset").to_pylist() == places
    assert batch.column("instrument_id").to_pylist() == [f"S{n + row}" for n in range(50) for row in range(2)]
    assert (times(batch, "ts_recv") - BASE).tolist() == [number for number in range(50) for _ in range(2)]
