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
from schemas.tables import DEAD_LETTERS, LATE_EVENTS, SIGNALS
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


@pytest.mark.parametrize(("table", "row", "key"), [("signals", SIGNAL, "ts"), ("dead_letters", LETTER, "offset")])
def test_id_follows_the_natural_key_and_the_run(table, row, key):
    schema = {"signals": SIGNALS, "dead_letters": DEAD_LETTERS}[table]

    def id_of(run_id: str, **changes) -> bytes:
        (message,) = row_messages(table, batch(schema, row, **changes), run_id)
        return dict(message.headers)["id"]

    assert id_of("r1") == id_of("r1", reason="other")
    assert len({id_of("r1"), id_of("r2"), id_of("r1", **{key: row[key] + 1})}) == 3


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
