"""Books of a shard: each record is applied, held or refused, and a held one keeps its bytes until that is known."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.book_intake import BookIntake
from operators.refusals import Refusals
from operators.shard_config import BookConfig
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.time import END_OF_TIME
from schemas.wire import encode

CONFIG = BookConfig(max_pending=3)
SNAPSHOT, DELTA = 0, 1
Message = tuple[int, int, int]
"""Time, kind, last sequence number."""


def books(messages: list[Message], first_offset: int = 0, **columns: Any) -> pa.RecordBatch:
    ts, kind, last = (list(values) for values in zip(*messages, strict=True))
    n = len(ts)
    base = {
        "instrument_id": ["A"] * n, "ts_event": ts, "ts_recv": ts, "partition": [0] * n,
        "offset": list(range(first_offset, first_offset + n)), "kind": kind, "last_sequence": last,
        "bid_prices": [[9.0]] * n, "bid_sizes": [[1.0]] * n, "ask_prices": [[10.0]] * n, "ask_sizes": [[2.0]] * n,
    }  # fmt: skip
    return make_batch("books", base | columns, n)


def quotes(ts: list[int]) -> pa.RecordBatch:
    n = len(ts)
    columns = {
        "instrument_id": ["A"] * n, "ts_event": ts, "ts_recv": ts, "partition": [0] * n, "offset": list(range(n)),
        "bid_price": [7.0] * n, "bid_size": [1.0] * n, "ask_price": [8.0] * n, "ask_size": [1.0] * n,
    }  # fmt: skip
    return make_batch("quotes", columns, n)


def make() -> BookIntake:
    intake = BookIntake(CONFIG)
    intake.ensure(2)
    return intake


def feed(intake: BookIntake, frontier: int, **batches: pa.RecordBatch) -> tuple[Any, Refusals]:
    refusals = Refusals()
    codes = {topic: np.zeros(batch.num_rows, dtype=np.int32) for topic, batch in batches.items()}
    return intake.update(batches, codes, frontier, refusals), refusals


def letters(*refusals: Refusals) -> list[tuple[int, str]]:
    rows = [row for each in refusals for part in each.rows for row in part.batch.to_pylist()]
    return [(row["offset"], row["reason"]) for row in rows]


def test_snapshot_and_deltas_give_tops():
    top, refusals = feed(make(), 100, books=books([(1, SNAPSHOT, 5), (2, DELTA, 6), (3, DELTA, 7)]))
    assert top.ts.tolist() == [1, 2, 3]
    assert top.missing.tolist() == [Missing.OK] * 3
    assert refusals.counts == {("decoded", "books", ""): 3}


def test_levels_below_the_best_are_those_of_the_book_and_unknown_for_a_quote():
    side = {"bid_prices": [[9.0, 8.0]], "bid_sizes": [[1.0, 3.0]], "ask_prices": [[10.0]], "ask_sizes": [[2.0]]}
    intake = make()
    together, _ = feed(intake, 10, books=books([(5, SNAPSHOT, 5)], **side), quotes=quotes([1]))
    assert together.levels.shape == (2, CONFIG.depth - 1, 4)
    assert np.isnan(together.levels[0]).all()
    np.testing.assert_array_equal(together.levels[1, :2], [[8.0, 3.0, np.nan, 0.0], [np.nan, 0.0, np.nan, 0.0]])
    for topics in ({"quotes": quotes([1])}, {"books": books([(5, SNAPSHOT, 5)])}):
        alone, _ = feed(make(), 10, **topics)
        assert alone.levels.shape == (1, CONFIG.depth - 1, 4), "the same columns whatever came"


def test_book_that_is_lost_has_no_levels():
    top, _ = feed(make(), 10, books=books([(1, SNAPSHOT, 5), (2, DELTA, 9)], previous_sequence=[-1, 8]))
    assert top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC]
    assert np.isnan(top.levels[1]).all()


def test_book_takes_over_from_quotes():
    top, refusals = feed(make(), 100, books=books([(5, SNAPSHOT, 5)]), quotes=quotes([1, 9]))
    assert list(zip(top.ts.tolist(), top.bid_price.tolist(), strict=True)) == [(1, 7.0), (5, 9.0)]
    assert refusals.counts == {("decoded", "books", ""): 1, ("decoded", "quotes", ""): 2}


def test_held_delta_is_counted_when_it_is_decided():
    intake = make()
    _, first = feed(intake, 10, books=books([(1, DELTA, 6)]))
    assert first.counts == {}
    _, second = feed(intake, 20, books=books([(11, SNAPSHOT, 5)], first_offset=1))
    assert second.counts == {("decoded", "books", ""): 2}


def test_held_delta_that_the_snapshot_contains_is_refused_with_its_bytes():
    intake = make()
    early = books([(1, DELTA, 4)])
    feed(intake, 10, books=early)
    _, refusals = feed(intake, 20, books=books([(11, SNAPSHOT, 5)], first_offset=1))
    [row] = refusals.rows[0].batch.to_pylist()
    assert (row["offset"], row["reason"], row["ts_recv"].value) == (0, "superseded", 1)
    assert row["payload"] == encode("books", early)[0]
    assert refusals.counts == {("decoded", "books", ""): 1, ("dead_lettered", "books", "superseded"): 1}


def test_held_delta_keeps_the_bytes_of_its_publisher():
    intake = make()
    feed(intake, 10, books=books([(1, DELTA, 4)], raw=[b'{"as": "published"}']))
    _, refusals = feed(intake, END_OF_TIME)
    assert refusals.rows[0].batch.column("payload").to_pylist() == [b'{"as": "published"}']


def test_held_deltas_beyond_the_cap_are_refused_from_the_oldest():
    _, refusals = feed(make(), 10, books=books([(n, DELTA, n) for n in range(1, 6)]))
    assert letters(refusals) == [(0, "sequence_gap"), (1, "sequence_gap")]


def test_end_of_the_input_refuses_what_is_held():
    intake = make()
    feed(intake, 10, books=books([(1, DELTA, 6), (2, DELTA, 7)]))
    _, refusals = feed(intake, END_OF_TIME, books=books([(11, DELTA, 8)], first_offset=2))
    assert sorted(letters(refusals)) == [(0, "sequence_gap"), (1, "sequence_gap"), (2, "sequence_gap")]
    _, again = feed(intake, END_OF_TIME)
    assert letters(again) == []


@pytest.mark.parametrize("kept", [False, True])
def test_forgotten_instruments_held_deltas_are_refused_with_the_next_update(kept):
    intake = make()
    feed(intake, 10, books=books([(1, DELTA, 6), (2, DELTA, 7)]))
    intake.reset(np.zeros(1, dtype=np.int32))
    if kept:
        snapshot = intake.snapshot(2)
        intake = make()
        intake.restore(snapshot)
    _, refusals = feed(intake, 20)
    assert letters(refusals) == [(0, "sequence_gap"), (1, "sequence_gap")]
    _, again = feed(intake, END_OF_TIME)
    assert letters(again) == []


def test_gap_refuses_the_delta_and_loses_the_book():
    top, refusals = feed(make(), 100, books=books([(1, SNAPSHOT, 5), (2, DELTA, 9)], first_sequence=[None, 8]))
    assert letters(refusals) == [(1, "sequence_gap")]
    assert top.missing.tolist() == [Missing.OK, Missing.OUT_OF_SYNC]


MESSAGES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([SNAPSHOT, DELTA, DELTA, DELTA]), st.integers(0, 12)))


@settings(max_examples=60, deadline=None)
@given(steps=MESSAGES, cuts=st.lists(st.integers(0, 60), max_size=5), resume=st.booleans(), forget=st.integers(0, 6))
def test_every_record_is_taken_or_refused_once(steps, cuts, resume, forget):
    ts = np.cumsum([gap for gap, *_ in steps]).tolist()
    messages = [(t, kind, last) for t, (_, kind, last) in zip(ts, steps, strict=True)]
    intake, done = make(), 0
    counts: Counter[Any] = Counter()
    refused: list[tuple[int, str]] = []
    for number, high in enumerate([*sorted(set(cuts)), END_OF_TIME]):
        part = [message for message in messages[done:] if message[0] < high]
        batches = {"books": books(part, first_offset=done)} if part else {}
        done += len(part)
        _, refusals = feed(intake, high, **batches)
        counts.update(refusals.counts)
        refused += letters(refusals)
        if number == forget:
            intake.reset(np.zeros(1, dtype=np.int32))
        if resume:
            snapshot = intake.snapshot(2)
            intake = make()
            intake.restore(snapshot)
    assert sum(counts.values()) == len(messages)
    assert all(n > 0 for n in counts.values())
    assert len({offset for offset, _ in refused}) == len(refused) == len(messages) - counts["decoded", "books", ""]
