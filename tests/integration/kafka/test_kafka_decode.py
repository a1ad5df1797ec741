"""From records to rows: times, refusals with their bytes, Arrow streams. Needs no broker."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.sources.kafka_config import KafkaTopic
from dataflows.sources.kafka_decode import ROWS_PER_RECORD, RecordDecoder
from dataflows.sources.kafka_pace import NEVER, Pace
from operators.decode import DecodeLimits, validate
from schemas.batches import times
from schemas.time import END_OF_TIME

BASE = 1_700_000_000_000_000_000
MS = BASE // 10**6
LIMITS = DecodeLimits()


def decoder(clock: str, format_: str = "json") -> RecordDecoder:
    topic = KafkaTopic.model_validate({"clock": clock, "format": format_})
    return RecordDecoder("trades", 2, topic, header_ahead_ns=10**9, limits=LIMITS)


def value(**changes) -> bytes:
    fields = {"instrument_id": "A", "ts_event": BASE, "price": 9.5, "size": 1.0, "side": "buy"} | changes
    return json.dumps({name: found for name, found in fields.items() if found is not None}).encode()


def message(offset: int = 0, body: bytes | None = None, *, ms: int = MS, **headers: str | None) -> Message:
    pairs = [(name, None if text is None else text.encode()) for name, text in headers.items()]
    return Message("t", 2, offset, value=value() if body is None else body, headers=pairs, timestamp=(1, ms))


def letters(batch: pa.RecordBatch) -> list[tuple[str, bytes]]:
    rejected = validate("trades", batch, LIMITS).rejected
    return list(zip(rejected.column("detail").to_pylist(), rejected.column("payload").to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "expected a JSON object"),
        (b"\xff\x00", "expected a JSON object"),
        (value(price="x"), "expected a number in `price`"),
        (value(size=None), "expected a value in `size`, found none"),
        (value(ts_event="2023-11-14T22:13:20"), "expected a time with its zone"),
        (value(price=-1.0, ts_event="2023-11-14T22:13:20Z"), "expected `price` above 0"),
        (b"", "expected a JSON object, found no bytes"),
    ],
)
def test_poison_becomes_a_dead_letter_with_its_bytes(body, detail):
    delivery = decoder("broker").decode([message(0), message(1, body), message(2)], NEVER)
    ((found, payload),) = letters(delivery.batch)
    assert detail in found
    assert payload == body
    assert validate("trades", delivery.batch, LIMITS).accepted.column("offset").to_pylist() == [0, 2]


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "expected header `ts_recv` with UTC nanoseconds as decimal text, found none"),
        ({"ts_recv": None}, "found none"),
        ({"ts_recv": "soon"}, "found b'soon'"),
        ({"ts_recv": "-5"}, "found b'-5'"),
        ({"ts_recv": "9" * 30}, "found b'999"),
        ({"ts_recv": str(BASE + 2 * 10**9)}, "at most 1000000000 ns after the broker's"),
    ],
)
def test_header_that_is_no_time_refuses_its_record_only(headers, detail):
    good = [message(number, ts_recv=str(BASE + number)) for number in (0, 2)]
    delivery = decoder("header").decode([good[0], message(1, **headers), good[1]], NEVER)
    assert times(delivery.batch, "ts_recv").tolist() == [BASE, BASE, BASE + 2]
    ((found, payload),) = letters(delivery.batch)
    assert detail in found
    assert payload == value()
    assert (delivery.clock, delivery.order_violations) == (BASE + 2, 0)


def test_time_unknown_before_any_clock_is_the_beginning_of_time():
    delivery = decoder("header").decode([message(0), message(1, ts_recv=str(BASE))], NEVER)
    assert times(delivery.batch, "ts_recv").tolist() == [0, BASE]


def test_broker_without_timestamp_refuses_the_record():
    unknown = Message("t", 2, 0, value=value(), timestamp=(0, -1))
    ((found, payload),) = letters(decoder("broker").decode([unknown], BASE).batch)
    assert (found, payload) == ("expected a timestamp of the broker, found none", value())


@pytest.mark.parametrize("ts_recv", [None, -1, END_OF_TIME, "2023-11-14T22:13:20"])
def test_record_without_usable_time_is_refused_with_its_bytes(ts_recv):
    """Such a record is a good message to a decoder that does not look for its clock."""
    body = value(ts_recv=ts_recv)
    delivery = decoder("record").decode([message(0, value(ts_recv=BASE)), message(1, body)], NEVER)
    ((found, payload),) = letters(delivery.batch)
    assert "ts_recv" in found or "zone" in found
    assert payload == body
    assert delivery.clock == BASE
    assert validate("trades", delivery.batch, LIMITS).accepted.num_rows == 1


def test_record_bad_in_another_field_keeps_its_reason():
    delivery = decoder("record").decode([message(0, value(ts_recv=None, price="x"))], BASE)
    rejected = validate("trades", delivery.batch, LIMITS).rejected
    assert rejected.column("reason").to_pylist() == ["wrong_type"]


@pytest.mark.parametrize("clock", ["broker", "header", "record"])
def test_heartbeat_moves_the_clock_and_is_no_row(clock):
    beat = message(0, b"", ms=MS + 5, heartbeat=str(BASE + 7), ts_recv=str(BASE + 6))
    delivery = decoder(clock).decode([beat], BASE)
    assert delivery.batch is None
    assert delivery.clock == BASE + {"broker": 5 * 10**6, "header": 6, "record": 7}[clock]


def test_heartbeat_that_is_no_time_becomes_a_dead_letter():
    delivery = decoder("record").decode([message(3, b"", heartbeat="?")], BASE)
    assert delivery.batch.column("offset").to_pylist() == [3]
    assert len(letters(delivery.batch)) == 1
    assert delivery.clock == BASE


RECORDS = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from(["good", "bad", "beat", "no time"])), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, cuts=st.sets(st.integers(1, 11)), clock=st.sampled_from(["broker", "header", "record"]))
def test_decode_any_cut_gives_the_same_rows_and_times_that_never_go_back(records, cuts, clock):
    messages = [_record(offset, ts, kind) for offset, (ts, kind) in enumerate(records)]
    whole = decoder(clock).decode(messages, NEVER)
    parts, at, violations = [], NEVER, 0
    bounds = [0, *sorted(cut for cut in cuts if cut < len(messages)), len(messages)]
    for start, stop in pairwise(bounds):
        part = decoder(clock).decode(messages[start:stop], at)
        assert part.clock >= at
        at, violations = part.clock, violations + part.order_violations
        parts.extend(part.batch.to_pylist() if part.batch is not None else [])
    assert parts == (whole.batch.to_pylist() if whole.batch is not None else [])
    assert (at, violations) == (whole.clock, whole.order_violations)
    if whole.batch is not None:
        assert (np.diff(times(whole.batch, "ts_recv")) >= 0).all()


def _record(offset: int, ts: int, kind: str) -> Message:
    stamp = str(BASE + ts * 10**6)
    if kind == "beat":
        return message(offset, b"", ms=MS + ts, heartbeat=stamp, ts_recv=stamp)
    body = {"good": value(ts_recv=int(stamp)), "bad": b"{", "no time": value()}[kind]
    headers = {} if kind == "no time" else {"ts_recv": stamp}
    return message(offset, body, ms=MS + ts, **headers)


def rows(n: int, **changes) -> pa.RecordBatch:
    columns = {
        "instrument_id": pa.array((["A", "B"] * n)[:n], pa.string()).dictionary_encode(),
        "ts_event": pa.array(BASE + np.arange(n)),
        "price": pa.array(np.arange(n) + 1.0),
        "size": pa.array(np.ones(n)),
        "side": pa.array(np.ones(n, dtype=np.int8)),
        "ts_recv": pa.array(BASE + np.arange(n) * 10),
        "another": pa.nulls(n),
    }
    return pa.record_batch({name: column for name, column in (columns | changes).items() if column is not None})


def stream(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def test_arrow_rows_have_a_place_and_a_time_each():
    messages = [message(5, stream(rows(3))), message(6, stream(rows(2), rows(1)))]
    delivery = decoder("record", "arrow").decode(messages, NEVER)
    assert delivery.batch.column("offset").to_pylist() == [
        *(5 * ROWS_PER_RECORD + row for row in range(3)), *(6 * ROWS_PER_RECORD + row for row in range(3)),
    ]  # fmt: skip
    assert (times(delivery.batch, "ts_recv") - BASE).tolist() == [0, 10, 20, 20, 20, 20]
    assert delivery.order_violations == 3
    assert letters(delivery.batch) == []
    assert delivery.batch.column("instrument_id").to_pylist() == ["A", "B", "A", "A", "B", "A"]


def test_arrow_rows_of_a_record_share_the_brokers_time():
    delivery = decoder("broker", "arrow").decode(
        [message(0, stream(rows(2))), message(1, stream(rows(0)), ms=MS + 9)], 0
    )
    assert times(delivery.batch, "ts_recv").tolist() == [BASE, BASE]
    assert delivery.clock == BASE + 9 * 10**6


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (value(), "expected an Arrow IPC stream"),
        (b"", "expected an Arrow IPC stream"),
        (stream(rows(2))[:-40], "expected an Arrow IPC stream"),
        (stream(rows(2, price=None)), "expected one column `price`, found none"),
        (stream(rows(2, price=pa.array([1, 2]))), "expected type double of column `price`, found int64"),
        (stream(rows(2, ts_event=pa.array(["x", "y"]))), "or int64 of column `ts_event`, found string"),
        (stream(rows(2, ts_recv=None)), "expected one column `ts_recv`, found none"),
        (stream(rows(2, ts_recv=pa.array([1, None]))), "expected `ts_recv` in every row, found 1 rows without"),
        (stream(rows(2, ts_recv=pa.array([1, -1]))), "expected `ts_recv` since 1970, found -1 ns"),
    ],
)
def test_arrow_stream_refused_becomes_one_dead_letter_with_its_bytes(body, detail):
    delivery = decoder("record", "arrow").decode([message(0, stream(rows(1))), message(1, body)], NEVER)
    ((found, payload),) = letters(delivery.batch)
    assert detail in found
    assert payload == body
    assert delivery.batch.column("offset").to_pylist() == [0, ROWS_PER_RECORD]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_arrow_stream_damaged_is_refused_or_valid_and_never_ends_the_process(data):
    body = bytearray(stream(rows(4)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    delivery = decoder("broker", "arrow").decode([message(0, bytes(body))], NEVER)
    if delivery.batch is not None:
        validate("trades", delivery.batch, LIMITS)


def test_pace_slowest_may_always_go():
    pace = Pace(lead_bytes=1)
    for source in ("a", "b"):
        pace.start(source, NEVER)
    pace.deliver("a", 10, rows=1, size=100)
    assert (pace.may_go("a"), pace.may_go("b")) == (False, True)
    pace.finish("b")
    assert pace.may_go("a")
