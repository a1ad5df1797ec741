"""Avro records with the ids of their schemas: the rows of JSON, refusals with bytes, a registry that goes away."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dataflows.settings import parse_settings
from dataflows.sources import kafka_avro
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_avro import SchemaCache, encode_avro
from dataflows.sources.kafka_config import KafkaConfig, KafkaTopic, SchemaRegistryConfig
from dataflows.sources.kafka_decode import RecordDecoder
from dataflows.sources.kafka_pace import NEVER
from dataflows.sources.schema_registry import SchemaRegistry
from operators.admission import DecodeLimits
from operators.decode import validate
from schemas.avro import avro_schema
from schemas.batches import make_batch, times
from schemas.errors import ConfigError, DataError, InputError, TransientError
from schemas.records import TOPICS
from schemas.wire import encode

BASE = 1_700_000_000_123_456_789
MS = BASE // 10**6
LIMITS = DecodeLimits()
TRADE = {"instrument_id": "A", "ts_event": BASE, "price": 9.5, "size": 1.0, "side": "buy"}


@dataclass
class Registry:
    """A schema registry over HTTP, for tests: schemas by id, and what it answers instead of them."""

    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    credentials: set[str] = field(default_factory=set)
    failures: int = 0
    """answers that fail before one succeeds"""
    server: ThreadingHTTPServer | None = None
    clients: list[SchemaRegistry] = field(default_factory=list)
    cache: SchemaCache | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, schema_id: int, schema: Any, **more: Any) -> None:
        self.schemas[schema_id] = {"schema": schema if isinstance(schema, str) else json.dumps(schema)} | more

    def answer(self, path: str, credentials: str | None) -> tuple[int, Any]:
        self.asked.append(path)
        self.credentials.add(credentials or "")
        if self.failures:
            self.failures -= 1
            return 503, {"error_code": 50301, "message": "busy"}
        if self.status != 200:
            return self.status, {"error_code": self.status, "message": "no"}
        if path == "/schemas/types":
            return 200, ["AVRO"]
        found = self.schemas.get(int(path.rpartition("/")[2].partition("?")[0]))
        return (200, found) if found else (404, {"error_code": 40403, "message": "Schema not found"})


def serve(registry: Registry) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = registry.answer(self.path, self.headers.get("Authorization"))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def registry(monkeypatch) -> Iterator[Registry]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Registry()
    found.server = serve(found)
    thread = Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    for one in found.clients:
        one.close()
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def client(registry: Registry, seconds: float = 0.5, **changes: Any) -> SchemaRegistry:
    registry.clients.append(SchemaRegistry(SchemaRegistryConfig(url=registry.url, **changes), seconds))
    return registry.clients[-1]


def decoder(registry: Registry, topic: str = "trades", clock: str = "broker", format_: str = "avro") -> RecordDecoder:
    if registry.cache is None:
        registry.cache = SchemaCache(client(registry))
    config = KafkaTopic.model_validate({"clock": clock, "format": format_})
    return RecordDecoder(topic, 2, config, header_ahead_ns=10**9, limits=LIMITS, schemas=registry.cache)


def message(body: bytes | None, offset: int = 0) -> Message:
    return Message("t", 2, offset, value=body, headers=[], timestamp=(1, MS))


def schema(**fields: Any) -> dict[str, Any]:
    """Return the schema of a trade with these types of fields; None leaves a field out."""
    plain = {"instrument_id": "string", "ts_event": "long", "price": "double", "size": "double", "side": "string"}
    types = {name: type_ for name, type_ in (plain | fields).items() if type_ is not None}
    return {"type": "record", "name": "T", "fields": [{"name": name, "type": types[name]} for name in types]}


def record(written: dict[str, Any], schema_id: int = 1, **values: Any) -> bytes:
    data = BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(json.loads(json.dumps(written))), TRADE | values)
    return b"\0" + schema_id.to_bytes(4, "big") + data.getvalue()


def logical(name: str, type_: str = "long", **more: Any) -> dict[str, Any]:
    return {"type": type_, "logicalType": name} | more


MOMENT = datetime.fromtimestamp(0, UTC).replace(year=2024, microsecond=123_000)
MOMENT_NS = int(MOMENT.replace(microsecond=0).timestamp()) * 10**9 + 123_000_000


@pytest.mark.parametrize(
    ("types", "values", "expected"),
    [
        (
            {"price": logical("decimal", "bytes", precision=12, scale=4)},
            {"price": Decimal("9.1234")},
            {"price": 9.1234},
        ),
        ({}, {}, {"price": 9.5, "side": 1, "instrument_id": "A"}),
        ({"ts_event": logical("timestamp-millis")}, {"ts_event": MOMENT}, {"ts_event": MOMENT_NS}),
        ({"ts_event": logical("timestamp-micros")}, {"ts_event": MOMENT}, {"ts_event": MOMENT_NS}),
        ({"ts_event": logical("timestamp-nanos")}, {"ts_event": MOMENT_NS + 7}, {"ts_event": MOMENT_NS + 7}),
        ({"ts_event": ["null", logical("timestamp-millis")]}, {"ts_event": MOMENT}, {"ts_event": MOMENT_NS}),
        ({"ts_event": "string"}, {"ts_event": "2024-01-01T00:00:00.123Z"}, {"ts_event": MOMENT_NS}),
        ({"price": "float", "size": "int"}, {"price": 0.5, "size": 3}, {"price": 0.5, "size": 3.0}),
        ({"side": {"type": "enum", "name": "S", "symbols": ["BUY", "SELL"]}}, {"side": "SELL"}, {"side": -1}),
        ({"venue": ["null", "string"]}, {"venue": None}, {"venue": None}),
        ({"venue": ["null", "string"]}, {"venue": "null"}, {"venue": "null"}),
        ({"venue": logical("uuid", "string")}, {"venue": "00000000-0000-0000-0000-00000000000a"},
         {"venue": "00000000-0000-0000-0000-00000000000a"}),
        ({"more": {"type": "map", "values": "bytes"}}, {"more": {"x": b"1"}}, {"price": 9.5}),
    ],
)  # fmt: skip
def test_types_of_avro_become_the_topics(registry, types, values, expected):
    written = schema(**types)
    registry.add(1, written)
    delivery = decoder(registry).decode([message(record(written, **values), 4)], NEVER)
    validated = validate("trades", delivery.batch, LIMITS.model_copy(update={"max_ahead": LIMITS.max_ahead * 10**8}))
    assert validated.rejected.num_rows == 0
    row = validated.accepted.to_pylist()[0]
    found = {name: row[name] for name in expected}
    if "ts_event" in expected:
        found["ts_event"] = int(times(validated.accepted, "ts_event")[0])
    assert found == expected
    assert (row["partition"], row["offset"], row["raw"]) == (2, 4, None)


BAD_TYPES = [
    ({"price": None}, {}, "expected a value in `price`, found none"),
    ({"price": ["null", "double"]}, {"price": None}, "expected a value in `price`, found none"),
    ({"price": "string"}, {"price": "x"}, 'expected a number in `price`, found "x"'),
    ({"price": "boolean"}, {"price": True}, "expected a number in `price`, found true"),
    ({"instrument_id": "bytes"}, {"instrument_id": b"AB"}, "expected text in `instrument_id`, found 2 bytes"),
    ({"side": "string"}, {"side": "up"}, "in `side`, found \"up\""),
    ({"price": "double"}, {"price": float("nan")}, "expected a finite number in `price`, found nan"),
    ({"size": "double"}, {"size": float("inf")}, "expected a finite number in `size`, found inf"),
    ({"ts_event": logical("timestamp-micros")}, {"ts_event": 2**62}, "64-bit integer"),
    ({"ts_event": logical("local-timestamp-millis")}, {"ts_event": 5}, "a time with its zone in `ts_event`"),
    ({"ts_event": "string"}, {"ts_event": "2024-01-01T00:00:00"}, "expected a time with its zone"),
    ({"ts_event": "double"}, {"ts_event": 1.5}, "expected an integer of UTC nanoseconds"),
]  # fmt: skip


@pytest.mark.parametrize(("types", "values", "detail"), BAD_TYPES)
def test_bad_value_is_refused_with_the_records_bytes(registry, types, values, detail):
    good, bad = schema(), schema(**types)
    registry.add(1, good)
    registry.add(2, bad)
    bodies = [record(good), record(bad, 2, **values), record(good, price=7.5)]
    delivery = decoder(registry).decode([message(body, i) for i, body in enumerate(bodies)], NEVER)
    validated = validate("trades", delivery.batch, LIMITS)
    assert validated.accepted.column("price").to_pylist() == [9.5, 7.5]
    (letter,) = validated.rejected.to_pylist()
    assert detail in letter["detail"]
    assert (letter["offset"], letter["payload"]) == (1, bodies[1])


GOOD = record(schema())
BAD_BYTES = [
    (None, "expected a zero byte, a schema's id and Avro data, found 0 bytes"),
    (b"\0\0\0", "found 3 bytes that begin with 0x000000"),
    (b"{" + GOOD[1:], "found 36 bytes that begin with 0x7b"),
    (GOOD[:-3], "expected Avro data of its schema"),
    (GOOD + b"xy", "found 2 bytes behind it"),
    (b"\0\0\0\0\x09" + GOOD[5:], "expected a schema with id 9 in the registry, found none"),
    (b"\0\0\0\0\x02" + GOOD[5:], "expected a record as schema 2, found another type"),
    (b"\0\0\0\0\x03" + GOOD[5:], "expected an Avro schema with id 3, found one of type PROTOBUF"),
    (b"\0\0\0\0\x04" + GOOD[5:], "expected schema 4 to be whole, found that it refers to other schemas"),
    (b"\0\0\0\0\x05" + GOOD[5:], "expected an Avro schema with id 5, found: "),
    (b"\0\0\0\0\x06" + GOOD[5:], "expected an Avro schema with id 6, found: "),
]


@pytest.mark.parametrize(("body", "detail"), BAD_BYTES)
def test_record_that_is_no_avro_is_refused_with_its_bytes(registry, body, detail):
    registry.add(1, schema())
    registry.add(2, '"string"')
    registry.add(3, "message T {}", schemaType="PROTOBUF")
    registry.add(4, schema(), references=[{"name": "x", "subject": "x", "version": 1}])
    registry.add(5, schema(price="nonsense"))
    registry.add(6, "{")
    delivery = decoder(registry).decode([message(GOOD), message(body, 1), message(GOOD, 2)], NEVER)
    validated = validate("trades", delivery.batch, LIMITS)
    assert validated.accepted.column("offset").to_pylist() == [0, 2]
    (letter,) = validated.rejected.to_pylist()
    assert detail in letter["detail"]
    assert letter["payload"] == (body or b"")


def test_value_out_of_bounds_is_refused_as_in_json(registry):
    registry.add(1, schema())
    delivery = decoder(registry).decode([message(record(schema(), price=-1.0))], NEVER)
    (letter,) = validate("trades", delivery.batch, LIMITS).rejected.to_pylist()
    assert (letter["reason"], letter["detail"]) == ("out_of_range", "expected `price` above 0, found -1.0")


def test_heartbeat_carries_no_row(registry):
    registry.add(1, schema())
    beat = Message("t", 2, 1, value=None, headers=[("heartbeat", b"")], timestamp=(1, MS + 5))
    delivery = decoder(registry).decode([message(GOOD), beat], NEVER)
    assert (delivery.batch.num_rows, delivery.clock) == (1, (MS + 5) * 10**6)
    assert decoder(registry).decode([beat], NEVER).batch is None


def test_record_with_its_own_time(registry):
    written = schema(ts_recv=logical("timestamp-millis"))
    registry.add(1, written)
    stamps = [MS, 3, 2**62 // 10**6, -5, MS - 9]
    bodies = [record(written, ts_recv=ms) for ms in stamps]
    delivery = decoder(registry, clock="record").decode([message(body, i) for i, body in enumerate(bodies)], NEVER)
    assert [ts // 10**6 for ts in times(delivery.batch, "ts_recv").tolist()] == [
        MS, MS, 2**62 // 10**6, 2**62 // 10**6, 2**62 // 10**6
    ]  # fmt: skip
    assert delivery.order_violations == 2
    letters = validate("trades", delivery.batch, LIMITS).rejected.to_pylist()
    assert [(letter["offset"], letter["payload"]) for letter in letters] == [(3, bodies[3])]
    assert "expected `ts_recv` since 1970" in letters[0]["detail"]


@st.composite
def batches(draw: st.DrawFn, topic: str) -> Any:
    """Draw rows of a topic, good and bad by its rules, with finite numbers."""
    count = draw(st.integers(1, 4))
    text = st.text(max_size=5)
    number = st.floats(allow_nan=False, allow_infinity=False)
    kinds: dict[str, Any] = {
        "time": st.integers(0, 2**62), "float": number, "int": st.integers(-(2**63), 2**63 - 1), "text": text,
        "symbol": text, "levels": st.lists(number, max_size=3),
    }  # fmt: skip
    columns = {}
    for entry in TOPICS[topic].fields:
        if entry.name == "ts_recv":
            continue
        values = kinds[entry.kind] if entry.enum is None else st.sampled_from([member.value for member in entry.enum])
        columns[entry.name] = draw(
            st.lists(st.none() | values if entry.nullable else values, min_size=count, max_size=count)
        )
    places = {"ts_recv": [0] * count, "partition": [0] * count, "offset": range(count)}
    return make_batch(topic, columns | places, count)


@pytest.mark.parametrize("topic", sorted(TOPICS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_avro_gives_the_rows_of_json(registry, topic, data):
    registry.add(7, avro_schema(topic))
    batch = data.draw(batches(topic))
    pairs = zip(encode_avro(topic, batch, 7), encode(topic, batch), strict=True)
    avro, plain = zip(*[(message(a, i), message(b, i)) for i, (a, b) in enumerate(pairs)], strict=True)
    found = decoder(registry, topic).decode(avro, NEVER)
    expected = decoder(registry, topic, format_="json").decode(plain, NEVER)
    ours, theirs = (validate(topic, one.batch, LIMITS) for one in (found, expected))
    assert ours.accepted.drop_columns(["raw"]).to_pylist() == theirs.accepted.drop_columns(["raw"]).to_pylist()
    places = ["offset", "reason", "detail"]
    assert ours.rejected.select(places).to_pylist() == theirs.rejected.select(places).to_pylist()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_break_the_decoder_or_the_rows_around_them(registry, data):
    registry.add(1, schema(venue=["null", "string"], bid_prices={"type": "array", "items": "double"}))
    body = bytearray(record(json.loads(registry.schemas[1]["schema"]), venue="X", bid_prices=[1.0, 2.0]))
    for _ in range(data.draw(st.integers(0, 4))):
        body[data.draw(st.integers(5, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(5, len(body))) :]
    registry.add(2, schema())
    around = record(schema(), 2)
    delivery = decoder(registry).decode([message(around), message(bytes(body), 1), message(around, 2)], NEVER)
    validated = validate("trades", delivery.batch, LIMITS)
    offsets = validated.accepted.column("offset").to_pylist()
    assert {0, 2} <= set(offsets)
    assert sorted(offsets + validated.rejected.column("offset").to_pylist()) == [0, 1, 2]


def test_schema_is_asked_for_once(registry):
    registry.add(1, schema())
    one = decoder(registry)
    for _ in range(3):
        one.decode([message(GOOD), message(GOOD, 1)], NEVER)
    assert len(registry.asked) == 1


def test_schema_that_was_unknown_is_asked_for_again_after_a_while(registry, monkeypatch):
    monkeypatch.setattr(kafka_avro, "_UNKNOWN_NS", 50_000_000)
    one = decoder(registry)
    for _ in range(3):
        one.decode([message(GOOD)], NEVER)
    assert len(registry.asked) == 1
    registry.add(1, schema())
    time.sleep(0.06)
    delivery = one.decode([message(GOOD)], NEVER)
    assert validate("trades", delivery.batch, LIMITS).accepted.num_rows == 1


def test_schemas_that_are_kept_are_bounded(registry, monkeypatch):
    monkeypatch.setattr(kafka_avro, "_MOST_SCHEMAS", 2)
    one = decoder(registry)
    for schema_id in (1, 2, 1, 3, 1, 2):
        registry.add(schema_id, schema())
        one.decode([message(b"\0" + schema_id.to_bytes(4, "big") + GOOD[5:])], NEVER)
    assert [int(path.rpartition("/")[2]) for path in registry.asked] == [1, 2, 3]
    assert list(registry.cache._plans) == [("trades", 1), ("trades", 2)]


def test_registry_that_is_busy_is_asked_again(registry):
    registry.add(1, schema())
    registry.failures = 2
    assert json.loads(client(registry, 3.0).schema(1)) == schema()
    assert len(registry.asked) == 3


def test_registry_that_stays_away_stops_the_run_but_not_known_schemas(registry):
    registry.add(1, schema())
    one = decoder(registry)
    one.decode([message(GOOD)], NEVER)
    registry.status = 503
    assert one.decode([message(GOOD)], NEVER).batch.num_rows == 1
    with pytest.raises(
        TransientError, match=r"expected schema 2 from the schema registry `http\S+` within 0 s, found: no"
    ):
        one.decode([message(b"\0\0\0\0\2" + GOOD[5:])], NEVER)


def test_registry_that_is_not_there_is_named():
    registry = SchemaRegistry(SchemaRegistryConfig(url="http://127.0.0.1:1"), 0.5)
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"an answer from the schema registry `http://127.0.0.1:1` .* reachable"):
        registry.check()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "to be let in by the schema registry .* 401; check `schema_registry.user`"),
        (404, "404; check the address"),
    ],
)
def test_registry_that_refuses_us_is_named(registry, status, message):
    registry.status = status
    with pytest.raises(InputError, match=message):
        client(registry).check()


def test_user_and_password_are_sent(registry):
    client(registry, user="reader", password="s3cret:x").check()
    assert registry.credentials == {"Basic " + base64.b64encode(b"reader:s3cret:x").decode()}


def test_certificates_that_are_missing_are_named(registry, tmp_path):
    with pytest.raises(InputError, match=r"expected certificates of authorities in .*nowhere.pem.*, found"):
        client(registry, ca=str(tmp_path / "nowhere.pem"))
    (tmp_path / "none.pem").write_text("none")
    with pytest.raises(InputError, match=r"expected certificates of authorities in .*none.pem.*, found"):
        client(registry, ca=str(tmp_path / "none.pem"))


def test_unknown_schema_is_the_records_fault(registry):
    with pytest.raises(DataError, match="expected a schema with id 5 in the registry, found none"):
        client(registry).schema(5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "registry:8081"}, "expected addresses such as `https://host:port` in `url`"),
        ({"url": "http://me:hunter2@registry"}, "expected no user and password in `url`, found some"),
        ({"user": "me"}, "expected both `user` and `password`, or neither"),
        ({"user": "me", "password": ["hunter2"]}, "password"),
        ({"user": "hunter2:x", "password": "hunter2"}, "user"),
    ],
)
def test_settings_of_the_registry_are_checked_and_never_show_the_password(changes, message):
    values = {"url": "http://registry:8081"} | changes
    with pytest.raises(ValidationError, match=message) as caught:
        SchemaRegistryConfig.model_validate(values)
    assert "hunter2" not in str(caught.value)
    content = {"kafka": {"brokers": "b:1", "topics": {"trades": {"format": "avro"}}, "schema_registry": values}}
    with pytest.raises(ConfigError) as refused:
        parse_settings(content, "config.toml")
    assert changes.get("user") == "hunter2:x" or "hunter2" not in str(refused.value)


def test_settings_keep_the_password_to_themselves():
    config = SchemaRegistryConfig(url="https://a,https://b", user="me", password="hunter2")
    assert "hunter2" not in repr(config) + config.model_dump_json()


def test_avro_without_registry_is_refused():
    with pytest.raises(ValidationError, match="expected `schema_registry` for the Avro of topic trades, found none"):
        KafkaConfig.model_validate({"brokers": "b:1", "topics": {"trades": {"format": "avro"}}})


def test_avro_arrives_through_a_broker(kafka_broker, topic, reading, registry):
    name = topic()
    registry.add(3, avro_schema("trades"))
    columns = {
        "instrument_id": ["A"] * 50, "ts_event": range(MS, MS + 50), "ts_recv": [0] * 50, "price": [1.5] * 50,
        "size": [2.0] * 50, "side": [-1] * 50, "partition": [0] * 50, "offset": range(50),
    }  # fmt: skip
    bodies = encode_avro("trades", make_batch("trades", columns, 50), 3)
    kafka_broker.produce(name, [(body, {"partition": 0, "timestamp": MS + i}) for i, body in enumerate(bodies)])
    config = KafkaConfig.model_validate({
        "brokers": kafka_broker.address, "follow": False, "topics": {"trades": {"name": name, "format": "avro"}},
        "schema_registry": {"url": registry.url}, "timeout": "1s",
    })  # fmt: skip
    read = reading(KafkaSource.connect(config))
    read.to_end()
    assert read.column("offset") == list(range(50))
    assert read.column("side") == [-1] * 50
    registry.status = 503
    with pytest.raises(TransientError, match="an answer from the schema registry"):
        KafkaSource.connect(config)
