"""Output is a pure function of the input log: not of batches, shards, workers, crashes or partitions."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from bytewax.errors import BytewaxRuntimeError
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.sources.replay_range import ReplayRange
from schemas.batches import take, times

SECOND = 10**9
FEW = settings(max_examples=8, deadline=None)


@pytest.fixture(params=["fine", "coarse"])
def either(request, market, expected, coarse, expected_coarse):
    """A market and its rows: one with times of its own, and one in which times coincide."""
    return (market, expected) if request.param == "fine" else (coarse, expected_coarse)


def test_market_exercises_every_table(expected, expected_coarse):
    for rows in (expected, expected_coarse):
        assert all(len(rows[table]) > 5 for table in rows), {table: len(found) for table, found in rows.items()}
        strategies = {row["strategy"] for row in rows["signals"]}
        assert strategies == {"mean_reversion", "breakout", "microstructure_alpha", "news_analytics"}


def test_coarse_market_has_records_at_decision_times(coarse, expected_coarse):
    decisions = {row["ts"] for row in expected_coarse["bars"]}
    for topic in ("trades", "books", "quotes"):
        assert decisions & set(times(coarse.records(topic), "ts_recv").tolist())


@pytest.mark.parametrize("batch_rows", [29, 997])
def test_output_any_batch_size_is_the_same(run, either, batch_rows):
    market, expected = either
    assert run(market.archive, batch_rows=batch_rows) == expected


def test_output_one_record_a_batch_is_the_same(run, moment):
    whole = run(moment.archive)
    assert whole["signals"]
    assert run(moment.archive, batch_rows=1) == whole


@FEW
@given(seconds=st.lists(st.integers(0, 181 * 20), min_size=1, max_size=40), ahead=st.integers(-1, 1))
def test_output_cut_at_moments_of_the_grid_is_the_same(run, coarse, expected_coarse, seconds, ahead):
    """Cuts fall on arrivals and decision times, or a nanosecond beside them."""
    cuts = sorted({coarse.start + step * SECOND // 20 + ahead for step in seconds})
    assert run(coarse.archive, cuts=cuts) == expected_coarse


@pytest.mark.parametrize("workers", [2, 4])
def test_output_any_number_of_workers_is_the_same(run, either, workers):
    market, expected = either
    assert run(market.archive, workers=workers, batch_rows=300) == expected


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_output_any_number_of_shards_is_the_same(run, either, make_settings, shards):
    market, expected = either
    assert run(market.archive, config=make_settings(shards=shards), batch_rows=600) == expected


@pytest.mark.parametrize(("seed", "slices"), [(0, 12), (1, 12), (2, 60), (3, 60)])
def test_output_after_crash_and_resume_is_the_same(run, either, recovery, crashing_writer, make_crash, seed, slices):
    """Crashes while a source delivers, before rows are stored, and after, but before the snapshot is complete.

    Twelve slices hold more than a batch of some topics, so that the others wait for the rest of it.
    """
    market, expected = either
    rng = random.Random(seed)
    cuts = [market.start + market.length * number // slices for number in range(1, slices)]
    kept = (0, 10, 10_000)[seed % 3]
    options = {
        "writer": crashing_writer,
        "kept": kept,
        "workers": 1 + seed % 2,
        "cuts": cuts,
        "epoch": timedelta(milliseconds=2),
    }
    for place in rng.sample(["source", "before", "after"] * 2, 4):
        crash = make_crash(place, int(7 * slices * rng.uniform(0.02, 0.22)))
        with pytest.raises(BytewaxRuntimeError):
            run(market.archive, batch_rows=rng.randint(40, 90), crash=crash, recovery=recovery(), **options)
    assert run(market.archive, batch_rows=70, recovery=recovery(), **options) == expected


def test_output_records_spread_over_partitions_is_the_same(run, market, expected, tmp_path):
    rng = np.random.default_rng(3)

    def spread(topic, batch):
        # records of one nanosecond stay together, so that the arrival order is the same
        _, moment = np.unique(times(batch, "ts_recv"), return_inverse=True)
        partition = rng.integers(0, 3, moment.max() + 1)[moment]
        return [take(batch, np.flatnonzero(partition == number)) for number in range(3)]

    found = run(market.copy(tmp_path / "spread", spread), batch_rows=1_000)
    for table in ("bars", "features", "signals", "run_counts"):
        assert found[table] == expected[table]
    assert sorted(row["payload"] for row in found["dead_letters"]) == sorted(
        row["payload"] for row in expected["dead_letters"]
    )


@pytest.mark.parametrize("seed", range(4))
def test_output_future_corrupted_keeps_the_past(run, either, tmp_path, seed):
    """What is decided at a moment is known from the records before it, however close the next one is."""
    market, expected = either
    rng = np.random.default_rng(seed)
    decisions = sorted({row["ts"] for row in expected["bars"]})
    cut = decisions[int(len(decisions) * rng.uniform(0.2, 0.9))]

    def corrupt(topic, batch):
        keep = int(np.searchsorted(times(batch, "ts_recv"), cut, side="left"))
        after = batch.slice(keep)
        for name in ("price", "bid_price", "size", "bid_size"):
            if name in after.schema.names:
                noise = pa.array(rng.uniform(0.5, 2.0, after.num_rows))
                place = after.schema.get_field_index(name)
                after = after.set_column(place, after.schema.field(name), pc.multiply(after.column(name), noise))
        mixed = take(after, np.sort(rng.choice(after.num_rows, after.num_rows // 2, replace=False)))
        return [pa.Table.from_batches([batch.slice(0, keep), mixed]).combine_chunks().to_batches()[0]]

    found = run(market.copy(tmp_path / "corrupt", corrupt), batch_rows=1_000)
    for table in ("bars", "features", "signals"):
        # a signal on a book's update is stamped with the update's own arrival
        past = [row for row in expected[table] if row["ts"] <= cut - _on_update(row)]
        assert [row for row in found[table] if row["ts"] <= cut - _on_update(row)] == past
        assert 0 < len(past) < len(expected[table])
    assert found["bars"] != expected["bars"]


def _on_update(row) -> bool:
    return row.get("strategy") == "microstructure_alpha"


def test_output_range_of_time_reads_only_that(run, either):
    market, expected = either
    middle = market.start + market.length // 2
    first = run(market.archive, replay=ReplayRange(stop=middle))
    known = [row for row in expected["bars"] if row["ts"] <= middle]
    assert known
    assert [row for row in first["bars"] if row["ts"] <= middle] == known
    read = {row["subject"]: row["count"] for row in first["run_counts"] if row["kind"] == "read"}
    for topic, count in read.items():
        assert count == np.count_nonzero(times(market.records(topic), "ts_recv") < middle)
