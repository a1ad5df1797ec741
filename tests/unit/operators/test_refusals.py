"""Refusals: what an operator refuses becomes dead letters, and is counted."""

from __future__ import annotations

import numpy as np

from operators.refusals import Refusals
from schemas.batches import make_batch
from schemas.enums import CountKind, DeadLetterReason


def batch(n: int = 3):
    columns = {
        "instrument_id": [f"I{i}" for i in range(n)], "ts_event": list(range(n)), "ts_recv": list(range(n)),
        "partition": [0] * n, "offset": list(range(n)), "price": [1.5] * n, "size": [1.0] * n, "side": [1] * n,
    }  # fmt: skip
    return make_batch("trades", columns, n)


def test_refuse_nothing_returns_what_came():
    refusals, given, code = Refusals(), batch(), np.arange(3, dtype=np.int32)
    kept, kept_code = refusals.refuse(given, code, np.zeros(3, dtype=np.bool_), DeadLetterReason.DUPLICATE, "x")
    assert kept is given
    assert kept_code is code
    assert refusals.rows == []
    assert refusals.counts == {}


def test_refuse_some_returns_the_others_and_keeps_place_and_bytes():
    refusals, code = Refusals(), np.array([4, 5, 6], dtype=np.int32)
    kept, kept_code = refusals.refuse(
        batch(), code, np.array([False, True, False]), DeadLetterReason.DUPLICATE, "expected a new one"
    )
    assert kept.column("offset").to_pylist() == [0, 2]
    assert kept_code.tolist() == [4, 6]
    [letters] = [rows.batch.to_pylist() for rows in refusals.rows]
    [letter] = letters
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("trades", 0, 1)
    assert (letter["instrument_id"], letter["reason"], letter["detail"]) == ("I1", "duplicate", "expected a new one")
    assert letter["payload"] == b'{"instrument_id":"I1","ts_event":1,"price":1.5,"size":1.0,"side":"buy"}'
    assert refusals.counts == {("dead_lettered", "trades", "duplicate"): 1}


def test_refuse_all_returns_an_empty_batch():
    kept, code = Refusals().refuse(
        batch(), np.zeros(3, np.int32), np.ones(3, dtype=np.bool_), DeadLetterReason.DUPLICATE, "x"
    )
    assert kept.num_rows == len(code) == 0


def test_refuse_rows_counts_each_reason():
    refusals = Refusals()
    reasons = [DeadLetterReason.SEQUENCE_GAP, DeadLetterReason.DUPLICATE, DeadLetterReason.SEQUENCE_GAP]
    refusals.refuse_rows(batch(), np.arange(3), reasons, ["a", "b", "c"])
    assert refusals.counts == {
        ("dead_lettered", "trades", "sequence_gap"): 2,
        ("dead_lettered", "trades", "duplicate"): 1,
    }
    assert refusals.rows[0].batch.column("detail").to_pylist() == ["a", "b", "c"]


def test_counts_of_nothing_are_left_out():
    refusals = Refusals()
    refusals.accept("trades", 0)
    refusals.count(CountKind.LATE, "trades", "bar_closed", 0)
    assert refusals.counts == {}
    refusals.accept("trades", 2)
    refusals.accept("trades", 3)
    assert refusals.counts == {("decoded", "trades", ""): 5}


def test_counts_returned_are_a_copy():
    refusals = Refusals()
    refusals.accept("trades", 1)
    first = refusals.counts
    refusals.accept("trades", 1)
    assert first == {("decoded", "trades", ""): 1}
