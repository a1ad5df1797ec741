"""The JSON wire format: what is read, what is refused and how it is explained."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from schemas.batches import make_batch
from schemas.records import TOPICS
from schemas.wire import DETAIL_CHARACTERS, Clock, Decoded, decode, encode, peek_instrument, printable

_TRADE = {"instrument_id": "A", "ts_event": 7, "price": 9.5, "size": 1, "side": "buy"}


def _decode(topic: str, *payloads: bytes | None, clock: Clock = "transport", keep_raw: bool = False) -> Decoded:
    at = np.arange(len(payloads))
    return decode(topic, payloads, at + 100, at.astype(np.int32), at, clock=clock, keep_raw=keep_raw)


def _message(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**_TRADE, **changes}.items() if value != "absent"}).encode()


def test_decode_good_message_fills_columns_and_transport() -> None:
    batch = _decode("trades", _message(trade_id=None, venue="X", surprise={"deep": [1]})).batch
    row = batch.to_pylist()[0]
    assert (row["instrument_id"], row["price"], row["size"], row["side"]) == ("A", 9.5, 1.0, 1)
    assert (row["trade_id"], row["venue"], row["conditions"]) == (None, "X", None)
    assert batch.column("ts_event").cast("int64").to_pylist() == [7]
    assert batch.column("ts_recv").cast("int64").to_pylist() == [100]
    assert (row["partition"], row["offset"], row["raw"], row["error"]) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (None, "malformed", "found no bytes"),
        (b"", "malformed", "found no bytes"),
        (b"price,size", "malformed", "found 10 bytes"),
        (b'{"price":NaN}', "malformed", "JSON is malformed"),
        (b'{"price":Infinity}', "malformed", "JSON is malformed"),
        (_message() + b" x", "malformed", "trailing"),
        (b"[1]", "malformed", "expected a JSON object, found [1]"),
        (b'"text"', "malformed", 'found "text"'),
        (b'{"instrument_id":"\xff"}', "malformed", "byte 0xff"),
        (b'{"x":' + b"[" * 100_000, "malformed", "nested too deeply"),
        (_message(price="absent"), "missing_field", "expected a value in `price`, found none"),
        (_message(price=None), "missing_field", "expected a value in `price`, found none"),
        (_message(price="9.5"), "wrong_type", 'expected a number in `price`, found "9.5"'),
        (_message(price=True), "wrong_type", "expected a number in `price`, found true"),
        (_message(side="BUY"), "wrong_type", 'expected one of unknown, buy, sell in `side`, found "BUY"'),
        (_message(trade_id=1.5), "wrong_type", "expected an integer in `trade_id`, found 1.5"),
        (_message(trade_id=2**63), "out_of_range", "expected a 64-bit integer in `trade_id`"),
        (_message(ts_event=True), "wrong_type", "`ts_event`, found true"),
        (_message(ts_event="today"), "wrong_type", "`ts_event`: expected an RFC 3339 time"),
        (_message(ts_event="2024-01-02T14:30:00"), "naive_time", "add `Z` or an offset"),
        (_message(ts_event="9999-01-02T14:30:00Z"), "out_of_range", "between the years 1678 and 2262"),
        (b'{"instrument_id":"A","ts_event":7,"price":1e999,"size":1,"side":"buy"}', "out_of_range", "`$.price`"),
    ],
)
def test_decode_bad_message_is_refused_alone_and_explained(payload: bytes | None, reason: str, detail: str) -> None:
    decoded = _decode("trades", _message(size=2), payload, _message(size=3))
    [error] = decoded.errors
    assert (error.row, error.reason) == (1, reason)
    assert detail in error.detail
    assert len(error.detail) <= DETAIL_CHARACTERS
    assert error.detail.isprintable()
    assert decoded.batch.column("size").to_pylist() == [2.0, None, 3.0]
    assert decoded.batch.column("raw").to_pylist() == [None, payload or b"", None]
    assert decoded.batch.column("offset").to_pylist() == [0, 1, 2]


def test_decode_two_halves_of_a_message_are_both_refused() -> None:
    decoded = _decode("trades", _message() + b',{"instrument_id":[', b"]}" + _message())
    assert [error.reason for error in decoded.errors] == ["malformed", "malformed"]


def test_decode_first_of_two_faults_in_field_order_is_named() -> None:
    [error] = _decode("trades", _message(side=1, price="?")).errors
    assert "`price`" in error.detail


def test_decode_repeated_member_of_wrong_type_is_refused() -> None:
    [error] = _decode("trades", _message()[:-1] + b',"price":"x","price":1}').errors
    assert error.reason == "wrong_type"


def test_decode_mixed_times_in_one_call_agree() -> None:
    decoded = _decode(
        "trades",
        _message(ts_event="1970-01-01T00:00:00.000000007Z"),
        _message(ts_event="1970-01-01T01:00:00.000000007+01:00"),
        _message(ts_event="1970-01-01T00:00:00"),
        _message(),
    )
    assert decoded.batch.column("ts_event").cast("int64").to_pylist() == [7, 7, None, 7]
    assert [error.row for error in decoded.errors] == [2]


def test_decode_control_characters_in_a_value_are_escaped_in_the_detail() -> None:
    [error] = _decode("trades", _message(price="\x1b[31m<script>\n" + "x" * 1000)).errors
    assert "\x1b" not in error.detail
    assert "\n" not in error.detail
    assert len(error.detail) < DETAIL_CHARACTERS


def test_decode_record_clock_takes_and_requires_ts_recv_of_the_message() -> None:
    decoded = _decode("trades", _message(ts_recv=41), _message(), clock="record")
    assert decoded.batch.column("ts_recv").cast("int64").to_pylist() == [41, 101]
    assert decoded.errors[0].detail == "expected a value in `ts_recv`, found none"


def test_decode_transport_clock_ignores_ts_recv_of_the_message() -> None:
    decoded = _decode("trades", _message(ts_recv="nonsense"))
    assert decoded.errors == ()
    assert decoded.batch.column("ts_recv").cast("int64").to_pylist() == [100]


def test_decode_keep_raw_keeps_the_bytes_of_good_messages() -> None:
    assert _decode("trades", _message(), b"?", keep_raw=True).batch.column("raw").to_pylist() == [_message(), b"?"]


def test_decode_of_nothing_is_an_empty_batch() -> None:
    for topic in TOPICS:
        assert _decode(topic).batch.num_rows == 0


def test_decode_unknown_topic_is_refused() -> None:
    with pytest.raises(KeyError, match="expected a topic among"):
        _decode("weather")


def test_encode_is_canonical_and_leaves_nulls_and_transport_out() -> None:
    columns = {
        "instrument_id": ["A"], "ts_event": [7], "ts_recv": [9], "kind": [1], "last_sequence": [3],
        "bid_prices": [[0.1, 1e22]], "bid_sizes": [[0.0, -0.0]], "ask_prices": [[]], "ask_sizes": [[]],
    }  # fmt: skip
    batch = make_batch("books", columns, 1)
    expected = (
        b'{"instrument_id":"A","ts_event":7,"kind":"delta","last_sequence":3,'
        b'"bid_prices":[0.1,1e22],"bid_sizes":[0.0,-0.0],"ask_prices":[],"ask_sizes":[]}'
    )
    assert encode("books", batch) == [expected]
    assert encode("books", batch, clock="record") == [expected.replace(b'"kind"', b'"ts_recv":9,"kind"')]


def test_encode_of_what_json_cannot_say_is_not_decodable() -> None:
    columns = {
        "instrument_id": ["A"] * 2,
        "ts_event": [7] * 2,
        "price": [np.nan, 1.0],
        "size": [1.0] * 2,
        "side": [1, 9],
    }
    messages = encode("trades", make_batch("trades", columns | {"ts_recv": [1, 2]}, 2))
    assert [error.reason for error in _decode("trades", *messages).errors] == ["missing_field", "wrong_type"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"instrument_id":"A"}', "A"),
        (b'{"instrument_id":""}', None),
        (b'{"instrument_id":5}', None),
        (b'{"instrument_id":"' + b"A" * 300 + b'"}', None),
        (b"\xff", None),
        (b"{}", None),
        (b'{"x":' + b"[" * 100_000, None),
    ],
)
def test_peek_instrument_reads_a_name_or_nothing(payload: bytes, expected: str | None) -> None:
    assert peek_instrument(payload) == expected


def test_printable_escapes_direction_marks_and_lone_surrogates() -> None:
    assert printable("a\u202eb\ud800") == "a\\u202eb\\ud800"
    assert printable("x" * 300) == "x" * (DETAIL_CHARACTERS - 1) + "…"
