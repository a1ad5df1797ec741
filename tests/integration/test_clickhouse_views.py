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


CONFIG = {
    "compute": {
        "strategies": {"momentum": {"interval": "1s", "upper": 70}, "slow": {"interval": "1m"}, "flow": {"e": 2}}
    }
}


@pytest.fixture
def told(store: Store, feature_rows: Rows, signal_rows: Rows) -> Store:
    """A store with a complete run of three feature rows and three signals, each written twice."""
    store.start_run(Run("run", "0.1.0", "cfg", "set", ("rsi", "slope"), json.dumps(CONFIG), "archive"))
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
        "SELECT toUnixTimestamp(ts), inputs, thresholds, strategy_config, version, interval_ns, features "
        "FROM signal_explanations ORDER BY ts"
    )
    assert [row[0] for row in found] == [2, 3, 9]
    assert found[0][1:5] == ({"rsi": 71.0}, {"upper": 70.0}, '{"interval":"1s","upper":70}', "0.1.0")
    assert [row[5] for row in found] == [10**9] * 3
    assert [row[6] for row in found] == [{"rsi": 71.0}, {"rsi": 40.0, "slope": 0.5}, {}]


def _evidence(store: Store, strategy: str) -> list[tuple[str, dict[str, float], int | None]]:
    sql = f"SELECT evidence, features, interval_ns FROM signal_explanations WHERE strategy = '{strategy}' ORDER BY ts"
    return [(str(row[0]), row[1], row[2]) for row in store.connection.rows(sql)]


def test_signal_explanations_say_whether_the_bar_is_stored(told: Store) -> None:
    stored, _, lost = _evidence(told, "momentum")
    assert stored[0] == "decided on the bar of 1s that closed at this time"
    assert lost[0] == "decided on the bar that closed at this time; its features are not stored"


def test_signal_explanations_of_two_intervals_show_that_of_the_strategy(
    told: Store, feature_rows: Rows, signal_rows: Rows
) -> None:
    slow = feature_rows({"rsi": [1.0, 2.0, 3.0], "slope": [0.0, 0.0, 0.0]})
    position = slow.schema.get_field_index("interval_ns")
    told.insert("features", slow.set_column(position, "interval_ns", pa.array([60 * 10**9] * 3)))
    told.insert("signals", signal_rows([2], strategy="slow"))
    assert [row[1:] for row in _evidence(told, "momentum")][:1] == [({"rsi": 71.0}, 10**9)]
    assert _evidence(told, "slow") == [
        ("decided on the bar of 1m that closed at this time", {"rsi": 2.0, "slope": 0.0}, 60 * 10**9)
    ]


def test_signal_explanations_of_a_book_strategy_show_no_bar(told: Store, signal_rows: Rows) -> None:
    told.insert("signals", signal_rows([2], strategy="flow"))
    assert _evidence(told, "flow") == [
        ("decided on the book update at this time; updates are not stored", {}, None),
    ]


def test_signal_explanations_of_an_unknown_strategy_say_so(told: Store, signal_rows: Rows) -> None:
    told.insert("signals", signal_rows([2], strategy="other"))
    assert _evidence(told, "other") == [("the run does not say what it decided on", {}, None)]


def test_signal_explanations_of_an_exit_show_the_entry_that_it_ends(told: Store, signal_rows: Rows) -> None:
    told.insert(
        "signals", signal_rows([1, 5, 5, 6], strategy="slow", signal_id=["a", "b", "c", "d"], intent=[1, 1, 2, 2])
    )
    told.insert("signals", signal_rows([4], strategy="slow", instrument_id=["XYZ"]))
    told.insert("signals", signal_rows([3], strategy="slow", run_id="other"))
    found = told.connection.rows(
        "SELECT signal_id, toUnixTimestamp(ts_entered) FROM signal_explanations "
        "WHERE strategy = 'slow' AND instrument_id = 'ABC' AND run_id = 'run' ORDER BY signal_id"
    )
    assert found == [("a", None), ("b", None), ("c", 1), ("d", 5)]


def test_signal_explanations_of_an_exit_without_entry_show_none(told: Store, signal_rows: Rows) -> None:
    told.insert("signals", signal_rows([1], strategy="slow", intent=[2]))
    assert told.connection.rows("SELECT ts_entered FROM signal_explanations WHERE strategy = 'slow'") == [(None,)]


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
