"""Rows on Kafka topics: confirmed or an error, the same ids again, the refused bytes untouched."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Message, Producer

from dataflows.sources.kafka_config import KafkaConfig, KafkaTopic
from dataflows.sources.kafka_decode import RecordDecoder
from dataflows.topic_scan import TopicScan
from operators.decode import DecodeLimits, validate
from schemas.errors import DeadLetterFloodError, InputError, StorageError, TransientError
from schemas.fields import Schema
from schemas.tables import DEAD_LETTERS, DRIFT_EVENTS, PREDICTIONS, PUBLISHED, SIGNALS
from schemas.telemetry import within
from sinks.dead_letter_limit import DeadLetterLimit
from sinks.tee import Tee
from sinks.topics import TopicWriter

BASE = 1_700_000_000_000_000_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOWHERE = "127.0.0.1:1"
QUIET = {"log_level": 0, "log.connection.close": False}


def signals(n: int, first: int = 0) -> pa.RecordBatch:
    """Return signals whose times count up."""
    numbers = np.arange(first, first + n)
    texts = {name: ["x"] * n for name in ("strategy", "parameters_hash", "feature_set", "reason")}
    columns: dict[str, Any] = texts | {
        "signal_id": [f"{number:032x}" for number in numbers],
        "instrument_id": [f"I{number % 7}" for number in numbers],
        "ts": pa.array(BASE + numbers).cast(pa.timestamp("ns", "UTC")),
        "direction": np.ones(n, "i1"),
        "intent": np.ones(n, "i1"),
        "confidence": np.full(n, 0.5),
        "price": np.full(n, 9.5),
        "inputs": pa.array([[("mid", 9.5)]] * n, SIGNALS.field("inputs").arrow.type),
        "thresholds": pa.array([[]] * n, SIGNALS.field("thresholds").arrow.type),
    }
    return pa.RecordBatch.from_pydict({field.name: columns[field.name] for field in SIGNALS.computed})


def letters(n: int, reason: str = "malformed") -> pa.RecordBatch:
    """Return refused records of `trades` at offsets from 0."""
    columns: dict[str, Any] = {
        "topic": ["trades"] * n,
        "partition": np.zeros(n, "i4"),
        "offset": np.arange(n),
        "ts_recv": pa.array(np.arange(n) + BASE).cast(pa.timestamp("ns", "UTC")),
        "instrument_id": pa.nulls(n, pa.string()),
        "reason": [reason] * n,
        "detail": ["expected a JSON object"] * n,
        "payload": [b"\xff%d" % number for number in range(n)],
    }
    return pa.RecordBatch.from_pydict({field.name: columns[field.name] for field in DEAD_LETTERS.computed})


def predictions(n: int, first: int = 0) -> pa.RecordBatch:
    """Return answers of a model about some instruments."""
    return plain_rows(PREDICTIONS, n, first, instrument_id=[f"I{number % 7}" for number in range(first, first + n)])


def drifts(n: int, first: int = 0) -> pa.RecordBatch:
    """Return drifts of some streams."""
    return plain_rows(
        DRIFT_EVENTS, n, first, stream=[f"input:{number % 5}" for number in range(first, first + n)],
        detector=np.ones(n, "i1"), stream_kind=np.ones(n, "i1"), direction=np.ones(n, "i1"),
    )  # fmt: skip


def plain_rows(schema: Schema, n: int, first: int, **columns: Any) -> pa.RecordBatch:
    """Return rows whose times count up; other columns are the same in every row."""
    made: dict[str, Any] = {
        "time": pa.array(BASE + np.arange(first, first + n)).cast(pa.timestamp("ns", "UTC")),
        "symbol": ["x"] * n,
        "float": np.full(n, 0.5),
        "int": np.ones(n, "i8"),
        "map": pa.array([[("x", 0.5)]] * n, pa.map_(pa.string(), pa.float64())),
    }
    return pa.RecordBatch.from_pydict(
        {field.name: columns[field.name] if field.name in columns else made[field.kind] for field in schema.computed}
    )


MAKERS: dict[str, Callable[..., pa.RecordBatch]] = {
    "signals": signals, "predictions": predictions, "drift_events": drifts, "dead_letters": letters,
}  # fmt: skip


@pytest.fixture
def scan(kafka_broker) -> Callable[[str], list[Message]]:
    """Return a function that reads a topic from its beginning to its end."""

    def read(name: str) -> list[Message]:
        config = KafkaConfig(brokers=kafka_broker.address, topics={"trades": {}})
        with TopicScan(config, name) as found:
            return list(found.messages())

    return read


@pytest.fixture
def writer(request) -> Iterator[Callable[..., TopicWriter]]:
    """Return a function that opens a writer, by default to the broker; it is closed when the test ends."""
    opened: list[TopicWriter] = []

    def make(
        topics: Mapping[str, str], seconds: float = 30, run_id: str = "r1", brokers: str = "", **settings: Any
    ) -> TopicWriter:
        address = brokers or request.getfixturevalue("kafka_broker").address
        changes = {name.replace("_", "."): value for name, value in settings.items()}

        def produce(given: Mapping[str, Any]) -> Producer:
            return Producer({"bootstrap.servers": address, **QUIET, **given, **changes})

        opened.append(TopicWriter.open(produce, topics, run_id=run_id, timeout=timedelta(seconds=seconds)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def ids(messages: list[Message]) -> list[bytes]:
    return [dict(message.headers())["id"] for message in messages]


def test_every_row_is_confirmed_and_as_it_was_written(writer, topic, scan):
    name = topic(2)
    out = writer({"signals": name})
    out.write("signals", signals(300))
    out.write("bars", signals(1))
    out.flush()
    assert out.written == {"signals": 300}
    found = scan(name)
    assert sorted(json.loads(message.value())["ts"] - BASE for message in found) == list(range(300))
    assert all(json.loads(message.value())["instrument_id"].encode() == message.key() for message in found)
    partitions = {message.key(): set() for message in found}
    for message in found:
        partitions[message.key()].add(message.partition())
    assert all(len(places) == 1 for places in partitions.values())


def test_every_table_that_is_published_has_its_topic_and_its_keys_are_in_order(writer, topic, scan):
    names = {schema.name: topic(3) for schema in PUBLISHED}
    out = writer(names)
    for table, make in MAKERS.items():
        out.write(table, make(200))
    out.flush()
    assert out.written == dict.fromkeys(names, 200)
    for table, name in names.items():
        found = scan(name)
        assert {dict(message.headers())["table"] for message in found} == {table.encode()}
        assert len(set(ids(found))) == 200
        places: dict[bytes, list[tuple[int, int]]] = {}
        for message in found:
            ts = 0 if table == "dead_letters" else json.loads(message.value())["ts"]
            places.setdefault(message.key(), []).append((message.partition(), ts))
        for of_key in places.values():
            assert len({partition for partition, _ in of_key}) == 1
            assert of_key == sorted(of_key)
    assert {message.key() for message in scan(names["drift_events"])} == {b"x/input:%d" % k for k in range(5)}


@pytest.mark.parametrize("table", ["predictions", "drift_events"])
def test_rows_of_models_written_again_have_their_ids_and_values(writer, topic, scan, table):
    name = topic()
    for first, n in ((0, 40), (20, 40)):
        out = writer({table: name})
        out.write(table, MAKERS[table](n, first))
        out.flush()
    found = scan(name)
    once = {dict(message.headers())["id"]: message.value() for message in found}
    assert (len(found), len(once)) == (80, 60)
    assert all(once[key] == message.value() for key, message in zip(ids(found), found, strict=True))


def test_trace_goes_with_the_records_of_its_batch_only(writer, topic, scan):
    name = topic()
    out = writer({"signals": name})
    with within(TRACE):
        out.write("signals", signals(1))
    out.write("signals", signals(1, 1))
    out.flush()
    first, second = (dict(message.headers()) for message in scan(name))
    assert first["traceparent"] == TRACE.encode()
    assert "traceparent" not in second


def test_rows_written_again_have_their_ids_and_values(writer, topic, scan):
    name = topic()
    for first, n in ((0, 40), (20, 40)):
        out = writer({"signals": name})
        out.write("signals", signals(n, first))
        out.flush()
    found = scan(name)
    assert len(found) == 80
    once = {dict(message.headers())["id"]: message.value() for message in found}
    assert len(once) == 60
    assert all(once[key] == message.value() for key, message in zip(ids(found), found, strict=True))


def test_small_queue_is_waited_for(writer, topic, scan):
    name = topic()
    out = writer({"signals": name}, queue_buffering_max_messages=10)
    out.write("signals", signals(2_000))
    out.flush()
    assert len(set(ids(scan(name)))) == 2_000


def test_topic_that_is_missing_is_named(writer):
    with pytest.raises(StorageError, match=r"expected topic `no-such-topic` to publish to, found: .*create it first"):
        writer({"signals": "no-such-topic"})


def test_brokers_that_are_not_there_are_named(writer):
    with pytest.raises(TransientError, match="see that the brokers run"):
        writer({"signals": "any"}, seconds=1, brokers=NOWHERE)


def test_table_that_is_none_is_refused(writer):
    with pytest.raises(ValueError, match=r"expected tables among bars, .*, was trades"):
        TopicWriter(Producer({"bootstrap.servers": NOWHERE, **QUIET}), {"trades": "t"}, run_id="r")


def test_record_above_the_limit_of_the_topic_names_the_remedy(writer, topic, scan):
    name = topic(max_message_bytes="500")
    out = writer({"dead_letters": name})
    rows = letters(1).to_pydict() | {"payload": [b"x" * 5_000]}
    out.write("dead_letters", pa.RecordBatch.from_pydict(rows))
    with pytest.raises(StorageError, match=r"raise `max.message.bytes` of the topic"):
        out.flush()
    assert scan(name) == []


def test_writer_that_is_closed_says_so(writer, topic):
    out = writer({"signals": topic()})
    out.close()
    out.close()
    with pytest.raises(StorageError, match="expected an open writer"):
        out.flush()


def test_flood_stops_before_its_records_are_published(writer, topic, scan):
    name = topic()
    out = writer({"dead_letters": name})
    fuse = DeadLetterLimit(Tee([out]), most=100, window=timedelta(minutes=1))
    fuse.write("dead_letters", letters(60))
    fuse.flush()
    with pytest.raises(DeadLetterFloodError, match="found 120, of which 120 are `malformed`"):
        fuse.write("dead_letters", letters(60))
    with pytest.raises(DeadLetterFloodError):
        fuse.flush()
    assert len(scan(name)) == 60


def test_refused_bytes_are_published_as_they_were(writer, topic, scan):
    bodies = [b"\xff\xfe\x00{", None, b"", b'{"instrument_id":"A","price":-1}', b"\x00" * 40]
    messages = [Message("t", 0, offset, value=body, timestamp=(1, 5)) for offset, body in enumerate(bodies)]
    decoder = RecordDecoder("trades", 0, KafkaTopic(), header_ahead_ns=0, limits=DecodeLimits())
    rejected = validate("trades", decoder.decode(messages, 0).batch, DecodeLimits()).rejected
    name = topic()
    out = writer({"dead_letters": name})
    out.write("dead_letters", rejected)
    out.flush()
    found = scan(name)
    assert [message.value() for message in found] == [body or b"" for body in bodies]
    assert [message.key() for message in found] == [b"trades/0/%d" % offset for offset in range(5)]
    assert dict(found[3].headers())["instrument_id"] == b"A"


def test_stopped_broker_is_an_error_in_time_and_nothing_is_claimed(writer, topic, scan, stop_broker, restart_broker):
    name = topic()
    out = writer({"signals": name}, seconds=2)
    out.write("signals", signals(5))
    out.flush()
    stop_broker()
    try:
        out.write("signals", signals(5, 5))
        began = time.monotonic()
        with pytest.raises(TransientError, match="start the same command again"):
            out.flush()
        assert time.monotonic() - began < 2 + 5
        for call in (out.flush, lambda: out.write("signals", signals(1))):
            with pytest.raises(TransientError):
                call()
        assert out.written == {"signals": 5}
        out.close()
    finally:
        restart_broker()
    assert len(scan(name)) == 5


def test_broker_that_comes_back_loses_and_doubles_nothing(writer, topic, scan, stop_broker, restart_broker):
    name = topic()
    out = writer({"signals": name}, seconds=60)
    out.write("signals", signals(500))
    stop_broker()
    back = threading.Thread(target=restart_broker)
    back.start()
    try:
        out.write("signals", signals(500, 500))
        out.flush()
    finally:
        back.join()
    assert out.written == {"signals": 1_000}
    found = ids(scan(name))
    assert len(found) == len(set(found)) == 1_000


def test_scan_of_a_missing_topic_names_it(scan):
    with pytest.raises(InputError, match=r"expected topic `no-such-topic` at .* found none"):
        scan("no-such-topic")


def test_scan_ends_where_the_topic_ended_and_skips_what_was_aborted(kafka_broker, topic, scan):
    name = topic()
    kafka_broker.produce(name, [(b"a", {}), (b"b", {})], **{"transactional.id": name})
    producer = Producer({"bootstrap.servers": kafka_broker.address, "transactional.id": name, **QUIET})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"aborted")
    producer.flush(30)
    producer.abort_transaction(30)
    config = KafkaConfig(brokers=kafka_broker.address, topics={"trades": {}})
    with TopicScan(config, name) as found:
        kafka_broker.produce(name, [(b"later", {})])
        seen: list[tuple[int, int]] = []
        assert [message.value() for message in found.messages(lambda *step: seen.append(step))] == [b"a", b"b"]
        assert seen[-1][0] == seen[-1][1]
        assert [message.value() for message in found.messages()] == [b"a", b"b"]
    assert [message.value() for message in scan(name)] == [b"a", b"b", b"later"]
