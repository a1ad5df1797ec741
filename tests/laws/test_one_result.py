"""Output is a pure function of the input log: not of batches, shards, workers, crashes or partitions."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bytewax.errors import BytewaxRuntimeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.sources.archive import ReplayRange
from schemas.batches import take, times
from sinks.archive import Archive, ArchiveWriter
from sinks.memory import MemoryWriter

SLOW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_market_exercises_every_table(expected):
    assert all(len(expected[table]) > 5 for table in expected), {table: len(rows) for table, rows in expected.items()}
    strategies = {row["strategy"] for row in expected["signals"]}
    assert strategies == {"mean_reversion", "breakout", "microstructure_alpha"}


@pytest.mark.parametrize("batch_rows", [13, 997, 5_000])
def test_output_any_batch_size_is_the_same(run, market, expected, batch_rows):
    assert run(market.archive, batch_rows=batch_rows) == expected


def test_output_one_record_a_batch_is_the_same(run, market, tmp_path):
    short = ReplayRange(stop=int(market.config.start.timestamp() * 1e9) + 20 * 10**9)
    assert run(market.archive, batch_rows=1, replay=short) == run(market.archive, replay=short)


@SLOW
@given(batch_rows=st.integers(20, 20_000))
def test_output_random_batch_size_is_the_same(run, market, expected, batch_rows):
    assert run(market.archive, batch_rows=batch_rows) == expected


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_output_any_number_of_workers_is_the_same(run, market, expected, workers):
    assert run(market.archive, workers=workers, batch_rows=700) == expected


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_output_any_number_of_shards_is_the_same(run, market, expected, make_settings, shards):
    assert run(market.archive, config=make_settings(shards=shards), batch_rows=900) == expected


@pytest.mark.parametrize("seed", range(6))
def test_output_after_crash_and_resume_is_the_same(run, market, expected, recovery_config, make_crash, seed):
    rng = random.Random(seed)
    writer = MemoryWriter()
    resume = {"recovery": recovery_config, "epoch": timedelta(0), "writer": writer}
    workers = rng.choice([1, 2])
    for _ in range(3):
        with pytest.raises(BytewaxRuntimeError):
            run(
                market.archive, workers=workers, batch_rows=rng.randint(100, 900),
                crash=make_crash(after=rng.randint(5, 40)), **resume,
            )  # fmt: skip
    assert run(market.archive, workers=workers, batch_rows=500, **resume) == expected


def _copy(market, target: Path, change) -> Archive:
    """Write the market's records again, each topic's through `change(topic, batch) -> parts`."""
    archive = Archive.create(target)
    for topic in market.archive.topics():
        table = pa.concat_tables(pq.read_table(path) for path in market.archive.files(topic))
        batch = table.unify_dictionaries().combine_chunks().to_batches()[0]
        for number, part in enumerate(change(topic, batch)):
            with ArchiveWriter(archive, topic, f"part-{number}") as writer:
                writer.append(part)
    return archive


def test_output_records_spread_over_partitions_is_the_same(run, market, expected, tmp_path):
    rng = np.random.default_rng(3)

    def spread(topic, batch):
        # records of one nanosecond stay together, so that the arrival order is the same
        _, moment = np.unique(times(batch, "ts_recv"), return_inverse=True)
        partition = rng.integers(0, 3, moment.max() + 1)[moment]
        return [take(batch, np.flatnonzero(partition == number)) for number in range(3)]

    found = run(_copy(market, tmp_path / "spread", spread), batch_rows=2_000)
    for table in ("bars", "features", "signals", "run_counts"):
        assert found[table] == expected[table]
    assert sorted(row["payload"] for row in found["dead_letters"]) == sorted(
        row["payload"] for row in expected["dead_letters"]
    )


@pytest.mark.parametrize("seed", range(4))
def test_output_future_corrupted_keeps_the_past(run, market, expected, tmp_path, seed):
    rng = np.random.default_rng(seed)
    start = int(market.config.start.timestamp() * 1e9)
    cut = start + int(rng.uniform(0.2, 0.9) * 360e9)

    def corrupt(topic, batch):
        keep = int(np.searchsorted(times(batch, "ts_recv"), cut, side="left"))
        after = batch.slice(keep)
        columns = {name: after.column(name) for name in after.schema.names}
        for name in ("price", "bid_price", "size", "bid_size"):
            if name in columns:
                noise = pa.array(rng.uniform(0.5, 2.0, after.num_rows))
                columns[name] = pa.compute.multiply(columns[name], noise)
        changed = pa.RecordBatch.from_arrays(list(columns.values()), schema=after.schema)
        mixed = take(changed, np.sort(rng.choice(after.num_rows, after.num_rows // 2, replace=False)))
        return [pa.Table.from_batches([batch.slice(0, keep), mixed]).combine_chunks().to_batches()[0]]

    found = run(_copy(market, tmp_path / "corrupt", corrupt), batch_rows=3_000)
    for table in ("bars", "features", "signals"):
        before = [row for row in expected[table] if row["ts"] <= cut]
        assert [row for row in found[table] if row["ts"] <= cut] == before
        assert len(before) < len(expected[table])
    assert found["bars"] != expected["bars"]


def test_output_range_of_time_reads_only_that(run, market, expected):
    middle = int(market.config.start.timestamp() * 1e9) + 180 * 10**9
    first = run(market.archive, replay=ReplayRange(stop=middle))
    known = [row for row in expected["bars"] if row["ts"] <= middle]
    assert [row for row in first["bars"] if row["ts"] <= middle] == known
    assert sum(row["count"] for row in first["run_counts"] if row["kind"] == "read") < sum(
        row["count"] for row in expected["run_counts"] if row["kind"] == "read"
    )
