"""The views for analysts, on rows."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from schemas.enums import RunStatus
from sinks.store import Run, RunCount, Store

NAN = float("nan")
Rows = Callable[..., pa.Table]


@pytest.fixture
def told(store: Store, feature_rows: Rows, signal_rows: Rows) -> Store:
    """A store with a complete run of three feature rows and three signals, each written twice."""
    config = json.dumps({"strategies": {"momentum": {"upper": 70}}})
    store.start_run(Run("run", "0.1.0", "cfg", "set", ("rsi", "slope"), config, "archive"))
    for _ in range(2):
        store.insert("features", feature_rows({"rsi": [NAN, 71.0, 40.0], "slope": [NAN, NAN, 0.5]}))
        store.insert(
            "signals",
            signal_rows([2, 3, 9], intent=[1, 2, 1], direction=np.array([1, 1, -1], np.int8), confidence=[0.5, 0.8, 1]),
        )
    store.write_counts("run", [RunCount("read", "trades", "", 10), RunCount("read", "books", "", 5)])
    store.write_counts("run", [RunCount("dead_lettered", "trades", "malformed", 1)])
    store.finish_run("run", RunStatus.COMPLETE)
    return store


def test_signal_explanations_join_inputs_thresholds_parameters_and_features(told: Store) -> None:
    found = told.connection.rows(
        "SELECT toUnixTimestamp(ts), inputs, thresholds, strategy_config, version, feature_rows "
        "FROM signal_explanations ORDER BY ts"
    )
    assert [row[0] for row in found] == [2, 3, 9]
    assert found[0][1:5] == ({"rsi": 71.0}, {"upper": 70.0}, '{"upper":70}', "0.1.0")
    rows = [row[5] for row in found]
    assert [_seen(row) for row in rows] == [[(10**9, {"rsi": 71.0})], [(10**9, {"rsi": 40.0, "slope": 0.5})], []]


def _seen(rows: list[object]) -> list[tuple[int, dict[str, float]]]:
    return [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in rows]  # type: ignore[arg-type]


def test_signal_explanations_of_two_intervals_keep_one_row_for_each_signal(told: Store, feature_rows: Rows) -> None:
    slow = feature_rows({"rsi": [1.0, 2.0, 3.0], "slope": [0.0, 0.0, 0.0]})
    position = slow.schema.get_field_index("interval_ns")
    told.insert("features", slow.set_column(position, "interval_ns", pa.array([60 * 10**9] * 3)))
    found = told.connection.rows("SELECT arrayMap(r -> r.1, feature_rows) FROM signal_explanations ORDER BY ts")
    assert found == [([10**9, 60 * 10**9],), ([10**9, 60 * 10**9],), ([],)]


def test_signal_summary_counts_by_strategy_and_intent(told: Store) -> None:
    found = told.connection.rows(
        "SELECT strategy, intent, signals, long, short, mean_confidence, toUnixTimestamp(first_ts), "
        "toUnixTimestamp(last_ts) FROM signal_summary"
    )
    assert found == [("momentum", "enter", 2, 1, 1, 0.75, 2, 9), ("momentum", "exit", 1, 1, 0, 0.8, 3, 3)]


def test_feature_coverage_gives_shares_by_reason(told: Store) -> None:
    found = told.connection.rows(
        "SELECT feature, rows, missing, warming_up, degenerate FROM feature_coverage WHERE run_id = 'run'"
    )
    assert found == [
        ("rsi", 3, pytest.approx(1 / 3), pytest.approx(1 / 3), 0.0),
        ("slope", 3, pytest.approx(2 / 3), pytest.approx(2 / 3), 0.0),
    ]


def test_feature_coverage_without_a_run_names_features_by_position(store: Store, feature_rows: Rows) -> None:
    store.ensure_feature_columns(["a"])
    store.insert("features", feature_rows({"a": [1.0, NAN]}, code=3))
    found = store.connection.rows("SELECT feature, missing, degenerate FROM feature_coverage")
    assert found == [("feature 1", 0.5, 0.5)]


def test_latest_runs_shows_each_run_once_with_its_totals(told: Store) -> None:
    told.start_run(Run("later", "0.1.0", "cfg", "set", ("rsi", "slope"), "{}", "archive"))
    found = told.connection.rows("SELECT run_id, status, read, dead_lettered, written FROM latest_runs")
    assert found == [("later", "running", 0, 0, 0), ("run", "complete", 15, 1, 0)]


def test_views_filter_by_run(told: Store, signal_rows: Rows) -> None:
    told.insert("signals", signal_rows([2], run_id="other"))
    for view in ("signals", "signal_explanations"):
        assert told.connection.rows(f"SELECT count() FROM {view} WHERE run_id = 'run'") == [(3,)]
        assert told.connection.rows(f"SELECT count() FROM {view} WHERE run_id = 'other'") == [(1,)]
