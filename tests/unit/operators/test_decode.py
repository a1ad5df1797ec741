"""Admission: the rule that each refusal names, and that good rows pass untouched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from operators.decode import DecodeLimits, Validated, dead_letters, late_events, validate
from schemas.batches import make_batch
from schemas.enums import DeadLetterReason, LateReason
from schemas.records import TOPICS
from schemas.tables import DEAD_LETTERS, LATE_EVENTS
from schemas.wire import encode

_LIMITS = DecodeLimits(max_ahead="1us", max_text_bytes=10, max_symbol_bytes=4, max_levels=3)
_ROWS: dict[str, dict[str, Any]] = {
    "trades": {"price": 9.5, "size": 1.0, "side": 1, "trade_id": 4, "venue": "X"},
    "quotes": {"bid_price": 9.0, "bid_size": 1.0, "ask_price": 9.5, "ask_size": 1.0},
    "books": {
        "kind": 0, "last_sequence": 3,
        "bid_prices": [9.0, 8.0], "bid_sizes": [1.0, 1.0], "ask_prices": [9.0], "ask_sizes": [2.0],
    },
    "news": {"news_id": "n1", "source": "wire", "headline": "Acme up"},
    "social": {"post_id": "p1", "platform": "x", "author": "me", "text": "Acme up"},
    "earnings": {"report_id": "r1", "ts_report": 50, "eps_estimate": -1.0},
    "options": {"contract_id": "A1", "ts_expiry": 50, "strike": 9.0, "right": -1},
}  # fmt: skip


def _batch(topic: str, *changes: dict[str, Any]) -> pa.RecordBatch:
    """Return a good row for each entry, with that entry's changes."""
    base = {"instrument_id": "A", "ts_event": 100, "ts_recv": 200, "partition": 1, **_ROWS[topic]}
    rows = [{**base, "offset": 10 + i, **change} for i, change in enumerate(changes)]
    names = {name for row in rows for name in row}
    return make_batch(topic, {name: [row.get(name) for row in rows] for name in names}, len(rows))


def _check(topic: str, *changes: dict[str, Any]) -> Validated:
    return validate(topic, _batch(topic, *changes), _LIMITS)


@pytest.mark.parametrize("topic", TOPICS)
def test_validate_good_rows_returns_the_batch_itself(topic: str) -> None:
    batch = _batch(topic, {}, {})
    result = validate(topic, batch, _LIMITS)
    assert result.accepted is batch
    assert result.rejected.num_rows == 0
    assert result.rejected.schema.names == [field.name for field in DEAD_LETTERS.computed]


@pytest.mark.parametrize("topic", TOPICS)
def test_validate_empty_batch_is_empty(topic: str) -> None:
    batch = make_batch(topic, {}, 0)
    assert validate(topic, batch, _LIMITS).accepted is batch


@pytest.mark.parametrize(
    ("topic", "change", "reason", "detail"),
    [
        ("trades", {"price": None}, "missing_field", "expected a value in `price`, found none"),
        ("trades", {"instrument_id": None}, "missing_field", "`instrument_id`"),
        ("trades", {"instrument_id": ""}, "missing_field", "`instrument_id`"),
        ("trades", {"ts_event": None}, "missing_field", "`ts_event`"),
        ("trades", {"side": None}, "missing_field", "`side`"),
        ("trades", {"price": 0.0}, "out_of_range", "expected `price` above 0, found 0.0"),
        ("trades", {"price": -0.0}, "out_of_range", "found -0.0"),
        ("trades", {"price": float("nan")}, "out_of_range", "found nan"),
        ("trades", {"size": float("inf")}, "out_of_range", "found inf"),
        ("trades", {"side": 7}, "out_of_range", "expected `side` among the codes [-1, 0, 1], found 7"),
        ("trades", {"ts_event": -1}, "out_of_range", "expected `ts_event` since 1970, found -1 ns"),
        ("trades", {"ts_event": 1201}, "event_time_ahead", "at most 1us ahead of `ts_recv`, found 1001 ns"),
        ("trades", {"ts_event": 2**63 - 1}, "event_time_ahead", "found 9223372036854775607 ns"),
        ("trades", {"venue": "LONGER"}, "out_of_range", "at most 4 bytes in `venue`, found 6"),
        ("quotes", {"bid_price": -1.0}, "out_of_range", "expected `bid_price` 0 or above, found -1.0"),
        ("quotes", {"bid_price": 9.6}, "crossed_book", "found 9.6 above 9.5"),
        ("quotes", {"ask_price": 0.0}, "out_of_range", "`ask_price` above 0 where its size is"),
        ("books", {"bid_sizes": [1.0]}, "out_of_range", "as many `bid_prices` as `bid_sizes`, found 2 and 1"),
        ("books", {"ask_prices": [0.0]}, "out_of_range", "every value of `ask_prices` above 0, found 0.0"),
        ("books", {"ask_sizes": [-1.0]}, "out_of_range", "every value of `ask_sizes` 0 or above, found -1.0"),
        ("books", {"bid_prices": [9.0, None]}, "out_of_range", "found nan"),
        ("books", {"bid_prices": [1.0] * 4, "bid_sizes": [1.0] * 4}, "out_of_range", "at most 3 levels"),
        ("books", {"bid_prices": [9.0, 9.1]}, "crossed_book", "found 9.1 above 9.0"),
        ("books", {"bid_prices": None}, "missing_field", "`bid_prices`"),
        ("books", {"kind": 2}, "out_of_range", "`kind`"),
        ("news", {"headline": "elevenbytes"}, "out_of_range", "at most 10 bytes in `headline`, found 11"),
        ("news", {"body": "é" * 6}, "out_of_range", "`body`, found 12"),
        ("earnings", {"eps_actual": float("nan")}, "out_of_range", "expected `eps_actual` finite, found nan"),
        ("earnings", {"ts_report": -5}, "out_of_range", "`ts_report`"),
        ("options", {"right": 0}, "out_of_range", "expected `right` among the codes [-1, 1], found 0"),
        ("options", {"implied_volatility": float("inf")}, "out_of_range", "`implied_volatility`"),
    ],
)
def test_validate_row_that_breaks_a_rule_is_refused_alone(
    topic: str, change: dict[str, Any], reason: str, detail: str
) -> None:
    batch = _batch(topic, {}, change, {})
    result = validate(topic, batch, _LIMITS)
    [letter] = result.rejected.to_pylist()
    assert letter["reason"] == reason
    assert detail in letter["detail"]
    assert (letter["topic"], letter["partition"], letter["offset"]) == (topic, 1, 11)
    assert letter["payload"] == encode(topic, batch.slice(1, 1))[0]
    assert result.accepted.to_pylist() == [batch.to_pylist()[0], batch.to_pylist()[2]]


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("trades", {"trade_id": None, "venue": None}),
        ("trades", {"ts_event": 1200}),
        ("quotes", {"bid_price": 9.6, "ask_price": 0.0, "ask_size": 0.0}),
        ("quotes", {"bid_price": 9.5}),
        ("books", {"bid_prices": [], "bid_sizes": []}),
        ("books", {"bid_prices": [9.1, 9.0], "bid_sizes": [0.0, 1.0]}),
        ("books", {"kind": 1, "bid_prices": [9.1, 9.0]}),
        ("earnings", {"eps_actual": -1.0}),
    ],
)
def test_validate_row_at_the_edge_of_a_rule_is_accepted(topic: str, change: dict[str, Any]) -> None:
    assert _check(topic, change).rejected.num_rows == 0


def test_validate_slice_of_books_looks_at_its_own_levels_only() -> None:
    batch = _batch("books", {"bid_prices": [-1.0, 1.0]}, {}, {"ask_prices": [0.5]}, {"ask_prices": [-1.0]})
    result = validate("books", batch.slice(1, 2), _LIMITS)
    assert result.rejected.column("reason").to_pylist() == ["crossed_book"]
    assert result.accepted.column("offset").to_pylist() == [11]


def test_validate_symbol_entry_that_no_row_uses_is_not_looked_at() -> None:
    batch = _batch("trades", {"instrument_id": ""}, {"instrument_id": "A"})
    assert validate("trades", batch.slice(1, 1), _LIMITS).rejected.num_rows == 0


def test_validate_import_error_becomes_a_dead_letter_with_its_bytes() -> None:
    blank = dict.fromkeys((*_ROWS["trades"], "ts_event", "instrument_id"))
    result = _check("trades", {}, {**blank, "raw": b"\x00\xff", "error": "line 7\n\x1b[31m"})
    [letter] = result.rejected.to_pylist()
    assert letter["reason"] == "import"
    assert letter["detail"] == "line 7\\n\\x1b[31m"
    assert letter["payload"] == b"\x00\xff"
    assert letter["instrument_id"] is None
    assert result.accepted.num_rows == 1


def test_validate_raw_bytes_are_decoded_in_their_place() -> None:
    good = b'{"instrument_id":"B","ts_event":"1970-01-01T00:00:00Z","price":2,"size":3,"side":"sell","trade_id":9}'
    bad = b'{"instrument_id":"C","price":"x"}'
    blank = dict.fromkeys((*_ROWS["trades"], "ts_event", "instrument_id"))
    result = _check("trades", {}, {**blank, "raw": good}, {**blank, "raw": bad}, {"price": 3.0})
    rows = result.accepted.to_pylist()
    assert [row["instrument_id"] for row in rows] == ["A", "B", "A"]
    assert [row["price"] for row in rows] == [9.5, 2.0, 3.0]
    assert [row["offset"] for row in rows] == [10, 11, 13]
    assert [row["raw"] for row in rows] == [None, good, None]
    [letter] = result.rejected.to_pylist()
    assert (letter["reason"], letter["offset"], letter["payload"]) == ("missing_field", 12, bad)
    assert letter["instrument_id"] == "C"


def test_validate_decoded_bytes_obey_the_rules_too() -> None:
    raw = b'{"instrument_id":"B","ts_event":5,"price":-2,"size":3,"side":"sell"}'
    result = _check("trades", {"raw": raw})
    [letter] = result.rejected.to_pylist()
    assert (letter["detail"], letter["payload"]) == ("expected `price` above 0, found -2.0", raw)


def test_validate_row_with_two_faults_has_one_letter() -> None:
    assert _check("trades", {"price": None, "size": -1.0}).rejected.column("reason").to_pylist() == ["missing_field"]


def test_validate_leaves_its_input_as_it_was() -> None:
    batch = _batch("quotes", {}, {"bid_price": float("nan")}, {"bid_price": 99.0})
    before = repr(batch.to_pydict())
    validate("quotes", batch, _LIMITS)
    assert repr(batch.to_pydict()) == before


def test_dead_letters_of_an_endless_name_name_no_instrument() -> None:
    batch = _batch("trades", {"instrument_id": "A" * 1000})
    letters = dead_letters("trades", batch, np.array([0]), [DeadLetterReason.DUPLICATE], ["x" * 1000])
    assert letters.column("instrument_id").to_pylist() == [None]
    assert len(letters.column("detail")[0].as_py()) == 200


def test_dead_letters_fit_the_table() -> None:
    letters = dead_letters("news", _batch("news", {}, {}), np.array([1]), [DeadLetterReason.DUPLICATE], ["seen"])
    assert list(letters.schema) == [field.arrow for field in DEAD_LETTERS.computed]
    assert letters.column("offset").to_pylist() == [11]


def test_late_events_may_name_a_row_once_for_each_window() -> None:
    late = late_events(
        "trades", _batch("trades", {}, {}), np.array([0, 0, 1]), np.array([1, 5, 1]), LateReason.BAR_CLOSED
    )
    assert list(late.schema) == [field.arrow for field in LATE_EVENTS.fields if field.name != "run_id"]
    assert late.column("offset").to_pylist() == [10, 10, 11]
    assert late.column("interval_ns").to_pylist() == [1, 5, 1]
    assert late.column("reason").to_pylist() == ["bar_closed"] * 3
    assert late_events("trades", _batch("trades", {}), np.array([0]), 5, LateReason.BAR_CLOSED).num_rows == 1


@pytest.mark.parametrize(
    "setting",
    [{"max_ahead": "-1s"}, {"max_ahead": "2d"}, {"max_text_bytes": 0}, {"max_levels": 0}, {"unknown": 1}],
)
def test_decode_limits_out_of_bounds_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        DecodeLimits(**setting)


def test_decode_limits_default_allows_the_skew_of_healthy_venues() -> None:
    assert DecodeLimits().max_ahead == timedelta(seconds=5)
