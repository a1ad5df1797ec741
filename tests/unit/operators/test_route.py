"""Routing: every row goes to the shard of its instrument, every clock to every shard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.arrival import Arrival
from operators.route import Router
from schemas.batches import make_batch


def arrival(names: list[str], clock: int = 9) -> Arrival:
    columns = {"instrument_id": names, "ts_recv": list(range(len(names))), "offset": list(range(len(names)))}
    return Arrival("trades", "trades", clock, make_batch("trades", columns, len(names)))


def test_shard_of_an_instrument_never_changes():
    """These numbers are part of every recovery folder: a change of them would strand the state."""
    assert Router(4096).shard("123456789") == 0xCBF43926 % 4096  # the check value of CRC-32
    assert [Router(16).shard(name) for name in ("AAPL", "BTCUSDT", "", "Zürich")] == [12, 3, 0, 14]


@given(names=st.lists(st.text(max_size=4), max_size=40), shards=st.integers(1, 9))
def test_split_keeps_every_row_once_in_order_in_its_shard(names, shards):
    router = Router(shards)
    parts = router.split(arrival(names))
    assert [key for key, _ in parts] == [str(shard) for shard in range(shards)]
    seen = []
    for key, part in parts:
        rows = part.batch.to_pylist() if part.batch is not None else []
        offsets = [row["offset"] for row in rows]
        assert offsets == sorted(offsets)
        assert all(router.shard(row["instrument_id"]) == int(key) for row in rows)
        seen += offsets
    assert sorted(seen) == list(range(len(names)))


@pytest.mark.parametrize("shards", [1, 5])
def test_split_without_rows_tells_every_shard_the_clock(shards):
    parts = Router(shards).split(Arrival("news", "news", 77, None))
    assert [(key, part.clock, part.batch) for key, part in parts] == [(str(n), 77, None) for n in range(shards)]


def test_split_shard_without_rows_gets_no_batch():
    parts = Router(64).split(arrival(["A"]))
    assert sum(part.batch is not None for _, part in parts) == 1
    assert all(part.clock == 9 and part.source == "trades" for _, part in parts)


def test_split_slice_with_a_larger_dictionary_routes_only_its_rows():
    whole = arrival(["A", "B", "C", "D"])
    assert whole.batch is not None
    parts = Router(3).split(Arrival("trades", "trades", 9, whole.batch.slice(2, 1)))
    rows = [row["instrument_id"] for _, part in parts if part.batch is not None for row in part.batch.to_pylist()]
    assert rows == ["C"]


def test_split_most_shards_that_may_be_configured_fit_the_hash():
    names = [f"I{n}" for n in range(5_000)]
    parts = Router(4096).split(arrival(names))
    assert sum(part.batch.num_rows for _, part in parts if part.batch is not None) == 5_000
