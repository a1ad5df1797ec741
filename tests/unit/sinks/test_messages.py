"""Rows as Kafka messages: the value is the row, the id is its natural key."""

from __future__ import annotations

import base64
import hashlib
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import StorageError
from schemas.tables import DEAD_LETTERS, DRIFT_EVENTS, LATE_EVENTS, PREDICTIONS, PUBLISHED, SIGNALS
from sinks.messages import row_messages

SIGNAL = {
    "signal_id": "5e" * 16,
    "instrument_id": "AÜ",
    "ts": 1_700_000_000_000_000_001,
    "strategy": "momentum",
    "direction": 1,
    "intent": 2,
    "confidence": 0.1,
    "price": 9.5,
    "parameters_hash": "p",
    "feature_set": "f",
    "reason": "because",
    "inputs": {"mid": 9.5},
    "thresholds": {},
}
LETTER = {
    "topic": "trades",
    "partition": 3,
    "offset": 2**40,
    "ts_recv": 7,
    "instrument_id": None,
    "reason": "malformed",
    "detail": "expected a JSON object",
    "payload": b"\xff\x00",
}
PREDICTION = {
    "instrument_id": "AÜ",
    "interval_ns": 60 * 10**9,
    "ts": 1_700_000_000_000_000_001,
    "model": "news",
    "model_version": "v",
    "horizon_ns": 900 * 10**9,
    "feature_set": "f",
    "probability": 0.6,
    "confidence": 0.1,
    "score": 0.4,
    "explanation": {"news_sentiment": 0.3, "intercept": 0.1},
}
DRIFT = {
    "model": "news",
    "stream": "input:news_sentiment",
    "detector": 2,
    "ts": 1_700_000_000_000_000_001,
    "stream_kind": 1,
    "direction": -1,
    "mean_before": 0.5,
    "mean_after": 0.1,
    "n_before": 40,
    "n_after": 30,
    "bound": 2.0,
    "value": 2.5,
}
ROWS = {"signals": SIGNAL, "predictions": PREDICTION, "drift_events": DRIFT, "dead_letters": LETTER}
SCHEMAS = {schema.name: schema for schema in PUBLISHED}


def batch(schema, *rows, **changes):
    fields = schema.computed
    arrays = [_array(field, [(row | changes)[field.name] for row in rows]) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])


def _array(field, values):
    if field.kind == "time":
        return pa.array(values, pa.int64()).cast(field.arrow.type)
    if field.kind == "map":
        return pa.array([list(value.items()) for value in values], field.arrow.type)
    return pa.array(values, pa.string() if field.kind == "symbol" else field.arrow.type)


def test_signal_is_json_of_its_fields_in_their_order():
    (message,) = row_messages("signals", batch(SIGNALS, SIGNAL), "r1")
    value = json.loads(message.value)
    assert value == {"run_id": "r1"} | SIGNAL | {"direction": "long", "intent": "exit"}
    assert list(value) == [field.name for field in SIGNALS.fields if not field.provenance]
    assert message.key == "AÜ".encode()
    headers = dict(message.headers)
    assert (headers["run_id"], headers["table"], headers["schema_version"]) == (b"r1", b"signals", b"1")


def test_prediction_is_json_under_its_instrument():
    (message,) = row_messages("predictions", batch(PREDICTIONS, PREDICTION), "r1")
    assert json.loads(message.value) == {"run_id": "r1"} | PREDICTION
    assert message.key == "AÜ".encode()
    identity = '["predictions","r1","news","AÜ",1700000000000000001]'.encode()
    assert dict(message.headers)["id"] == hashlib.sha256(identity).hexdigest()[:32].encode()


def test_drift_is_json_under_its_model_and_stream():
    (message,) = row_messages("drift_events", batch(DRIFT_EVENTS, DRIFT), "r1")
    named = {"detector": "page_hinkley", "stream_kind": "input", "direction": "down"}
    assert json.loads(message.value) == {"run_id": "r1"} | DRIFT | named
    assert message.key == b"news/input:news_sentiment"
    identity = b'["drift_events","r1","news","input:news_sentiment","page_hinkley",1700000000000000001]'
    assert dict(message.headers)["id"] == hashlib.sha256(identity).hexdigest()[:32].encode()


def test_dead_letter_is_its_bytes_and_headers():
    (message,) = row_messages("dead_letters", batch(DEAD_LETTERS, LETTER), "r1")
    assert message.value == b"\xff\x00"
    assert message.key == f"trades/3/{2**40}".encode()
    headers = dict(message.headers)
    identity = b'["dead_letters","r1","trades",3,1099511627776]'
    assert headers.pop("id") == hashlib.sha256(identity).hexdigest()[:32].encode()
    assert headers == {
        "run_id": b"r1",
        "table": b"dead_letters",
        "schema_version": b"1",
        "topic": b"trades",
        "partition": b"3",
        "offset": str(2**40).encode(),
        "reason": b"malformed",
        "detail": b"expected a JSON object",
        "ts_recv": b"7",
    }


def test_bytes_of_another_table_are_base64():
    row = LETTER | {"interval_ns": 1, "ts_event": 5, "instrument_id": "A", "reason": "bar_closed"}
    (message,) = row_messages("late_events", batch(LATE_EVENTS, row), "r1")
    assert base64.b64decode(json.loads(message.value)["payload"]) == b"\xff\x00"


def test_missing_feature_is_left_out():
    columns = {"instrument_id": ["A"], "interval_ns": [1], "feature_set": ["f"], "missing": pa.array([[0]])}
    times = {"ts": pa.array([5]).cast(pa.timestamp("ns", "UTC"))}
    rows = pa.RecordBatch.from_pydict(columns | times | {"x": [float("nan")], "y": [0.5]})
    (message,) = row_messages("features", rows, "r1")
    value = json.loads(message.value)
    assert "x" not in value
    assert value["y"] == 0.5


@pytest.mark.parametrize("table", SCHEMAS)
def test_id_follows_the_natural_key_and_the_run(table):
    schema, row = SCHEMAS[table], ROWS[table]

    def id_of(run_id: str, **changes) -> bytes:
        (message,) = row_messages(table, batch(schema, row, **changes), run_id)
        return dict(message.headers)["id"]

    others = {
        name: 1 if schema.field(name).enum else value + (1 if isinstance(value, int) else "x")
        for name, value in row.items()
        if name in schema.key
    }
    beside = {name: value + 1.0 for name, value in row.items() if isinstance(value, float)} | (
        {"reason": "other"} if "reason" in row else {}
    )
    assert id_of("r1") == id_of("r1", **beside)
    changed = [id_of("r1", **{name: value}) for name, value in others.items()]
    assert len({id_of("r1"), id_of("r2"), *changed}) == 2 + len(schema.key) - 1


@pytest.mark.parametrize("table", SCHEMAS)
def test_rows_of_one_key_are_in_order_and_every_table_has_one(table):
    (message,) = row_messages(table, batch(SCHEMAS[table], ROWS[table]), "r1")
    assert message.key


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 20))
def test_cut_of_the_rows_does_not_matter(offsets, cut):
    rows = [LETTER | {"offset": offset} for offset in offsets]
    whole = list(row_messages("dead_letters", batch(DEAD_LETTERS, *rows), "r"))
    parts = [batch(DEAD_LETTERS, *part) for part in (rows[:cut], rows[cut:])]
    assert [message for part in parts for message in row_messages("dead_letters", part, "r")] == whole
    assert len({dict(message.headers)["id"] for message in whole}) == len(set(offsets))


def test_rows_that_are_not_of_the_table_are_refused():
    with pytest.raises(StorageError, match="expected the columns"):
        list(row_messages("signals", pa.RecordBatch.from_pydict({"price": [1.0]}), "r1"))
