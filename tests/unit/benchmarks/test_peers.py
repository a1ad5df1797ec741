from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import peer_bytewax, peer_polars
from benchmarks.kernels import kernels, measure
from benchmarks.machine import describe
from benchmarks.workload import BARS_SMOKE, Workload, archive_of
from operators.features import BAR_FEATURES

_COLUMNS = ("open", "high", "low", "close", "volume", "notional", "trade_count", "buy_volume")


@pytest.mark.parametrize("program", ["windows", "stateful_map"])
def test_bytewax_peer_makes_the_bars_of_the_polars_peer(program: Any, tmp_path: Path) -> None:
    archive = archive_of(BARS_SMOKE, tmp_path / "cache")
    peer_bytewax.run(archive, tmp_path / "bytewax", program=program)
    found = pl.read_parquet(tmp_path / "bytewax" / "bars.parquet")
    bars = peer_polars.bars(archive).with_columns(pl.col("instrument_id").cast(pl.String)).collect()
    joined = bars.join(found, on=["interval_ns", "instrument_id", "ts_start"], suffix="_found")
    equal = pl.all_horizontal((pl.col(name) - pl.col(f"{name}_found")).abs() <= 1e-6 for name in _COLUMNS)
    # a late trade ends a bar of `stateful_map` early, and the last bar of each key stays open there
    assert joined.filter(equal).height >= 0.99 * bars.height


def test_kernels_small_input_every_state_is_measured() -> None:
    measured = {kernel.name: measure(kernel, 1) for kernel in kernels(rows=2_000, batch=500)}
    assert len(measured) == 8 + len(BAR_FEATURES)
    assert all(0 < ns < 1e7 for ns in measured.values())


def test_polars_peer_without_texts_has_no_sentiment(tmp_path: Path) -> None:
    market = Workload(instruments=2, quotes=2_000, trades=2_000, news=1, posts=1, seconds=120)
    result = peer_polars.run(archive_of(market, tmp_path / "cache"), tmp_path / "out")
    late = result.features.filter(pl.col("news_sentiment").is_not_null())
    assert late["instrument_id"].n_unique() <= 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bars.parquet",
        "features.parquet",
        "signals.parquet",
    ]


def test_machine_has_figures_and_no_host_name() -> None:
    machine = describe()
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert "polars" in machine["versions"]
    assert not {"host", "node", "user"} & set(machine)
