"""Databases for tests: a fresh embedded one for each test, and one behind ClickHouse's HTTP protocol.

The embedded engine holds one folder in a process at a time, and opens another quickly after the first
is closed; so a test has one `store` open, and opens its `store_folder` again only after closing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.tables import BARS, FEATURES, SIGNALS
from sinks.store import Store
from tests.services.clickhouse_http import ClickHouseHttp, serve_clickhouse


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    """Folder of the test's database; `store` has it open."""
    return tmp_path / "database"


@pytest.fixture
def store(store_folder: Path) -> Iterator[Store]:
    """An empty embedded database of the test's own, open until the test ends or closes it."""
    with Store.open(str(store_folder)) as opened:
        yield opened


@pytest.fixture
def bar_rows() -> Callable[..., pa.Table]:
    """Make valid rows of `bars`, one a second, of one instrument."""

    def make(n_rows: int, *, run_id: str = "run", instrument: str = "ABC", first: int = 0) -> pa.Table:
        start = (np.arange(first, first + n_rows, dtype=np.int64)) * 10**9
        price = 100.0 + np.arange(first, first + n_rows) % 7
        constant = np.ones(n_rows)
        columns: dict[str, Any] = {
            "run_id": [run_id] * n_rows,
            "instrument_id": [instrument] * n_rows,
            "interval_ns": np.full(n_rows, 10**9),
            "ts_start": start,
            "ts_end": start + 10**9,
            "ts": start + 10**9,
            **dict.fromkeys(("open", "high", "low", "close", "vwap", "notional"), price),
            "volume": constant,
            "trade_count": np.ones(n_rows, dtype=np.int64),
            "buy_volume": constant,
        }
        return _table(BARS.arrow, columns)

    return make


@pytest.fixture
def feature_rows() -> Callable[..., pa.Table]:
    """Make rows of `features` from values by feature; a NaN is missing by its code."""

    def make(
        values: dict[str, list[float]], *, run_id: str = "run", feature_set: str = "set", code: int = 1
    ) -> pa.Table:
        n_rows = len(next(iter(values.values())))
        missing = [[code if np.isnan(column[row]) else 0 for column in values.values()] for row in range(n_rows)]
        columns: dict[str, Any] = {
            "run_id": [run_id] * n_rows,
            "instrument_id": ["ABC"] * n_rows,
            "interval_ns": np.full(n_rows, 10**9),
            "ts": (np.arange(n_rows, dtype=np.int64) + 1) * 10**9,
            "feature_set": [feature_set] * n_rows,
            "missing": missing,
        }
        table = _table(FEATURES.arrow, columns)
        for name, column in values.items():
            table = table.append_column(name, pa.array(np.array(column)))
        return table

    return make


@pytest.fixture
def signal_rows() -> Callable[..., pa.Table]:
    """Make rows of `signals` at the given seconds."""

    def make(seconds: list[int], *, run_id: str = "run", strategy: str = "momentum", **replaced: Any) -> pa.Table:
        n_rows = len(seconds)
        columns: dict[str, Any] = {
            "run_id": [run_id] * n_rows,
            "signal_id": [f"{strategy}-{second}" for second in seconds],
            "instrument_id": ["ABC"] * n_rows,
            "ts": np.array(seconds, dtype=np.int64) * 10**9,
            "strategy": [strategy] * n_rows,
            "direction": np.ones(n_rows, dtype=np.int8),
            "intent": np.ones(n_rows, dtype=np.int8),
            "confidence": np.full(n_rows, 0.5),
            "price": np.full(n_rows, 100.0),
            "parameters_hash": ["p"] * n_rows,
            "feature_set": ["set"] * n_rows,
            "reason": ["rose"] * n_rows,
            "inputs": [[("rsi", 71.0)]] * n_rows,
            "thresholds": [[("upper", 70.0)]] * n_rows,
            "trace_id": [""] * n_rows,
        }
        return _table(SIGNALS.arrow, columns | replaced)

    return make


def _table(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    arrays = []
    for column in schema:
        values = columns[column.name]
        if pa.types.is_dictionary(column.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode().cast(column.type))
        elif pa.types.is_timestamp(column.type):
            arrays.append(pa.array(values, pa.int64()).cast(column.type))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


@pytest.fixture
def http_clickhouse(tmp_path: Path) -> Iterator[ClickHouseHttp]:
    """Serve a database over HTTP."""
    with serve_clickhouse(tmp_path / "served") as served:
        yield served
