from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.workload import BARS_ONLY, FULL, SMOKE, Workload, archive_of, generate
from dataflows.sources.archive_reader import TopicReader
from operators.decode import DecodeLimits, validate
from sinks.archive import Archive

_SMALL = Workload(instruments=5, quotes=2_000, trades=1_500, news=40, posts=60, seconds=120)


def test_workload_same_seed_gives_same_bytes(tmp_path: Path) -> None:
    first, second = archive_of(_SMALL, tmp_path / "a"), archive_of(_SMALL, tmp_path / "b")
    files = sorted(path.relative_to(first) for path in first.rglob("*.parquet"))
    assert len(files) == 4
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)


def test_workload_other_seed_gives_other_rows() -> None:
    assert not np.array_equal(
        generate(_SMALL)["quotes"]["bid_size"], generate(replace(_SMALL, seed=1))["quotes"]["bid_size"]
    )


def test_workload_written_once_is_read_from_cache(tmp_path: Path) -> None:
    root = archive_of(_SMALL, tmp_path)
    stamp = root.stat().st_mtime_ns
    assert archive_of(_SMALL, tmp_path) == root
    assert root.stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_workload_arrival_is_strictly_ordered_over_all_topics() -> None:
    market = generate(_SMALL)
    arrival = np.sort(np.concatenate([columns["ts_recv"] for columns in market.values()]))
    assert len(arrival) == _SMALL.rows
    assert np.all(np.diff(arrival) > 0)
    assert arrival[-1] - arrival[0] <= _SMALL.seconds * 10**9


def test_workload_events_come_before_arrival_and_some_trades_are_late() -> None:
    market = generate(replace(_SMALL, trades=100_000))
    for columns in market.values():
        assert np.all(columns["ts_event"] < columns["ts_recv"])
    lag = market["trades"]["ts_recv"] - market["trades"]["ts_event"]
    assert 5 <= np.count_nonzero(lag > 5 * 10**8) <= 50


def test_workload_quotes_are_two_sided_on_the_tick_grid() -> None:
    quotes = generate(_SMALL)["quotes"]
    spread = np.round((quotes["ask_price"] - quotes["bid_price"]) * 100)
    assert set(spread.tolist()) == {1.0, 2.0, 3.0}
    assert np.all(np.abs(quotes["bid_price"] * 100 - np.round(quotes["bid_price"] * 100)) < 1e-6)
    assert np.all(quotes["bid_size"] > 0)


def test_workload_trade_ids_count_up_per_instrument() -> None:
    trades = generate(_SMALL)["trades"]
    codes = trades["instrument_id"].indices.to_numpy()
    for code in range(_SMALL.instruments):
        ids = trades["trade_id"][codes == code]
        assert np.array_equal(ids, np.arange(len(ids)))


@pytest.mark.parametrize("topic", ["quotes", "trades", "news", "social"])
def test_workload_every_record_is_admitted(topic: str, tmp_path: Path) -> None:
    archive = Archive.open(archive_of(_SMALL, tmp_path))
    reader = TopicReader(topic, archive.files(topic), -(2**62), 2**62)
    batch = reader.take_below(2**62)
    reader.close()
    assert batch is not None
    assert validate(topic, batch, DecodeLimits()).rejected.num_rows == 0


def test_workload_without_a_topic_writes_none(tmp_path: Path) -> None:
    root = archive_of(replace(_SMALL, quotes=0, news=0, posts=0), tmp_path)
    assert Archive.open(root).topics() == ("trades",)


def test_workload_sizes_are_as_documented() -> None:
    assert FULL.rows == 10_000_000
    assert SMOKE.rows == 200_000
    assert BARS_ONLY.rows == BARS_ONLY.trades == 3_000_000
    density = [work.rows / work.instruments / work.seconds for work in (FULL, SMOKE)]
    assert density[0] == pytest.approx(density[1])


def test_workload_texts_are_mostly_distinct(tmp_path: Path) -> None:
    root = archive_of(replace(_SMALL, news=5_000), tmp_path)
    headlines = pq.read_table(root / "news", columns=["headline"], partitioning=None)["headline"].to_pylist()
    assert len(set(headlines)) > 0.9 * len(headlines)
