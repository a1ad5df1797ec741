"""Comparisons of runs in real databases: what differs is found, counted, shown and explained."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataflows.comparison import Comparison, RunReference, TableDifference, compare_runs
from dataflows.comparison.compare import COMPARED_TABLES
from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError, InputError
from schemas.tables import DEAD_LETTERS, LATE_EVENTS
from sinks.store import OUTPUT_TABLES, Run, RunCount, Store

S = 10**9
NAN = float("nan")
FEATURES = ("rsi", "spread")


def _start(store: Store, run_id: str, config: str = "{}", features: tuple[str, ...] = FEATURES) -> None:
    store.start_run(Run(run_id, "0.1.0", config, "set", features, config, "archive"))
    store.finish_run(run_id, RunStatus.COMPLETE)


@pytest.fixture
def runs(store: Store) -> Store:
    """A database with the empty runs `a` and `b`, to be filled and closed."""
    _start(store, "a")
    _start(store, "b")
    return store


@pytest.fixture
def compare(store: Store, store_folder: Path) -> Callable[..., Comparison]:
    """Close the database and compare its runs `a` and `b`."""

    def run(a: str = "a", b: str = "b", **options: Any) -> Comparison:
        store.close()
        return compare_runs(RunReference(str(store_folder), a), RunReference(str(store_folder), b), **options)

    return run


def _replaced(rows: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = rows.column(column).to_pylist()
    values[row] = value
    return rows.set_column(
        rows.schema.get_field_index(column), column, pa.array(values, rows.schema.field(column).type)
    )


def _without(rows: pa.Table, row: int) -> pa.Table:
    return rows.filter(pa.array(np.arange(rows.num_rows) != row))


def _dead_letters(run_id: str, *offsets: int, reason: str = "duplicate", instrument: str | None = "ABC") -> pa.Table:
    rows = [
        {"run_id": run_id, "topic": "trades", "partition": 0, "offset": offset, "ts_recv": offset * S,
         "instrument_id": instrument, "reason": reason, "detail": "seen before", "payload": b"\xff\x00{}"}
        for offset in offsets
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema([field.arrow for field in _stored(DEAD_LETTERS)]))


def _late_events(run_id: str, *seconds: float) -> pa.Table:
    rows = [
        {"run_id": run_id, "topic": "trades", "partition": 0, "offset": int(second * 10), "interval_ns": S,
         "ts_event": int(second * S), "ts_recv": int(second * S) + 5 * S, "instrument_id": "ABC",
         "reason": "bar_closed", "payload": b"{}"}
        for second in seconds
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema([field.arrow for field in _stored(LATE_EVENTS)]))


def _stored(schema: Any) -> list[Any]:
    return [field for field in schema.fields if not field.provenance]


def _differing(comparison: Comparison) -> dict[str, TableDifference]:
    return {table.table: table for table in comparison.tables if not table.is_equal}


def _numbers(table: TableDifference) -> tuple[int, int, int, int]:
    return table.equal, table.only_a, table.only_b, table.differing


# --- equal


def test_equal_runs_are_equal_and_have_no_causes(runs, compare, bar_rows, feature_rows, signal_rows):
    for run in ("a", "b"):
        runs.insert("bars", bar_rows(9, run_id=run))
        runs.insert("features", feature_rows({"rsi": [1.0, NAN], "spread": [NAN, -0.0]}, run_id=run))
        runs.insert("signals", signal_rows([1, 2], run_id=run))
        runs.insert("dead_letters", _dead_letters(run, 1, instrument=None))
        runs.insert("late_events", _late_events(run, 1))
        runs.write_counts(run, [RunCount(CountKind.READ.value, "trades", "", 12)])
    found = compare()
    assert found.is_equal
    assert (found.first, found.causes) == (None, ())
    assert {table.table: table.equal for table in found.tables} == dict.fromkeys(COMPARED_TABLES, 0) | {
        "dead_letters": 1, "late_events": 1, "bars": 9, "features": 2, "signals": 2, "run_counts": 1,
    }  # fmt: skip
    assert all(table.digest_a == table.digest_b for table in found.tables)


def test_live_run_that_did_not_count_what_it_wrote_is_equal_to_a_replay(runs, compare, bar_rows):
    for run in ("a", "b"):
        runs.insert("bars", bar_rows(9, run_id=run))
    runs.write_counts("b", [RunCount(CountKind.WRITTEN.value, "bars", "", 9)])
    assert compare().is_equal


def test_rows_that_were_written_twice_count_once(runs, compare, bar_rows):
    for run in ("a", "b", "b"):
        runs.insert("bars", bar_rows(3, run_id=run))
    assert compare().is_equal


def test_runs_without_rows_are_equal(runs, compare):
    assert compare().is_equal


def test_order_of_a_maps_keys_is_not_a_difference(runs, compare, signal_rows):
    runs.insert("signals", signal_rows([1], run_id="a", inputs=[[("rsi", 1.0), ("atr", 2.0)]]))
    runs.insert("signals", signal_rows([1], run_id="b", inputs=[[("atr", 2.0), ("rsi", 1.0)]]))
    assert compare().is_equal


def test_trace_of_a_row_is_not_a_difference(runs, compare, signal_rows):
    rows = signal_rows([1], run_id="b")
    if "trace_id" in rows.schema.names:
        rows = rows.drop_columns(["trace_id"])
    runs.insert("signals", signal_rows([1], run_id="a"))
    runs.insert("signals", rows.append_column("trace_id", pa.array(["ab" * 16])))
    assert compare().is_equal


def test_feature_column_without_a_value_is_not_a_difference(runs, compare, feature_rows):
    runs.insert("features", feature_rows({"rsi": [1.0]}, run_id="a"))
    runs.insert("features", feature_rows({"rsi": [1.0]}, run_id="b"))
    _start(runs, "c", features=("other",))
    runs.insert("features", feature_rows({"other": [1.0]}, run_id="c"))
    found = compare()
    assert found.is_equal


# --- each kind of difference


def test_missing_row_is_only_in_one_run(runs, compare, bar_rows):
    runs.insert("bars", bar_rows(5, run_id="a"))
    runs.insert("bars", _without(bar_rows(5, run_id="b"), 2))
    found = compare()
    (table,) = _differing(found).values()
    assert (table.table, *_numbers(table)) == ("bars", 4, 1, 0, 0)
    (row,) = table.examples
    assert (row.difference, row.time, row.cause) == ("only_a", 3 * S, "unknown")
    assert row.key == {"interval_ns": S, "instrument_id": "ABC", "ts_start": "1970-01-01T00:00:02.000000000Z"}
    assert row.a is not None
    assert row.a["close"] == 102.0
    assert row.b is None
    assert found.first == ("bars", row)


def test_changed_feature_shows_both_values_and_the_column(runs, compare, feature_rows):
    values = [1.0, 0.1 + 0.2, 3.0]
    runs.insert("features", feature_rows({"rsi": values, "spread": values}, run_id="a"))
    runs.insert("features", feature_rows({"rsi": [1.0, 0.3, 4.0], "spread": [1.0, 0.1 + 0.2, NAN]}, run_id="b"))
    table = _differing(compare())["features"]
    assert _numbers(table) == (1, 0, 0, 2)
    assert (table.first, table.examined) == (2 * S, 2)
    assert table.columns == {"rsi": 2, "missing": 1, "spread": 1}
    first, second = table.examples
    assert (first.a, first.b) == ({"rsi": 0.30000000000000004}, {"rsi": 0.3})
    assert (second.a, second.b) == (
        {"missing": [0, 0], "rsi": 3.0, "spread": 3.0}, {"missing": [0, 1], "rsi": 4.0, "spread": None},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "shown"), [(NAN, 1.0, ("nan", 1.0)), (0.0, -0.0, (0.0, -0.0)), (float("inf"), NAN, ("inf", "nan"))]
)
def test_number_that_is_special_differs_to_the_bit(runs, compare, bar_rows, a, b, shown):
    runs.insert("bars", _replaced(bar_rows(2, run_id="a"), "vwap", 1, a))
    runs.insert("bars", _replaced(bar_rows(2, run_id="b"), "vwap", 1, b))
    (row,) = _differing(compare())["bars"].examples
    assert repr(row.a) == repr({"vwap": shown[0]})
    assert repr(row.b) == repr({"vwap": shown[1]})


def test_nan_of_the_same_bits_is_equal(runs, compare, bar_rows):
    for run in ("a", "b"):
        runs.insert("bars", _replaced(bar_rows(2, run_id=run), "vwap", 1, NAN))
    assert compare().is_equal


def test_null_differs_from_a_number_and_from_a_nan_that_another_program_stored(runs, compare, feature_rows):
    runs.insert("features", feature_rows({"rsi": [NAN, NAN, 0.0]}, run_id="a"))
    runs.insert("features", feature_rows({"rsi": [NAN, NAN, NAN]}, run_id="b"))
    runs.connection.command("ALTER TABLE features_data UPDATE rsi = nan WHERE run_id = 'b' AND toSecond(ts) = 2 "
                            "SETTINGS mutations_sync = 2")  # fmt: skip
    table = _differing(compare())["features"]
    changed = [(row.a and row.a.get("rsi"), row.b and row.b.get("rsi")) for row in table.examples]
    assert changed == [(None, "nan"), (0.0, None)]


def test_feature_that_only_one_database_has_is_null_in_the_other(store, store_folder, feature_rows, tmp_path):
    _start(store, "a", features=("rsi",))
    store.insert("features", feature_rows({"rsi": [1.0]}, run_id="a"))
    store.close()
    with Store.open(str(tmp_path / "other")) as other:
        _start(other, "a", features=("rsi", "new"))
        other.insert("features", feature_rows({"rsi": [1.0], "new": [2.0]}, run_id="a"))
    found = compare_runs(RunReference(str(store_folder), "a"), RunReference(str(tmp_path / "other"), "a"))
    (row,) = _differing(found)["features"].examples
    assert (row.a, row.b) == ({"missing": [0], "new": None}, {"missing": [0, 0], "new": 2.0})


def test_extra_dead_letter_is_shown_with_its_reason(runs, compare):
    runs.insert("dead_letters", _dead_letters("a", 1, 2))
    runs.insert("dead_letters", _dead_letters("b", 1, 2, 3, reason="duplicate"))
    runs.write_counts("b", [RunCount(CountKind.DEAD_LETTERED.value, "trades", "duplicate", 3)])
    runs.write_counts("a", [RunCount(CountKind.DEAD_LETTERED.value, "trades", "duplicate", 2)])
    found = compare()
    tables = _differing(found)
    assert set(tables) == {"dead_letters", "run_counts"}
    (row,) = tables["dead_letters"].examples
    assert row.b is not None
    assert (row.difference, row.key["offset"], row.b["reason"], row.b["payload"]) == (
        "only_b", 3, "duplicate", "\\xff\\x00{}",
    )  # fmt: skip
    (count,) = tables["run_counts"].examples
    assert (count.time, count.a, count.b) == (None, {"count": 2}, {"count": 3})
    (cause,) = found.causes
    assert cause.evidence == ("0 only in A, 1 only in B", "trades, duplicate: 2 in A, 3 in B")


def test_other_configuration_is_the_first_cause(store, compare, bar_rows):
    for run, grace in (("a", "1s"), ("b", "2s")):
        _start(store, run, config=json.dumps({"compute": {"bars": {"grace": grace}}, "shards": 4}))
    store.insert("bars", bar_rows(2, run_id="a"))
    found = compare()
    assert found.causes[0].kind == "configuration"
    assert found.causes[0].evidence == ('`compute.bars.grace`: "1s" in A, "2s" in B',)


def test_equal_rows_of_another_configuration_have_no_causes(store, compare):
    _start(store, "a", config='{"compute": 1}')
    _start(store, "b", config='{"compute": 2}')
    assert compare().causes == ()


# --- why a row differs


def test_late_event_explains_bar_features_and_signal(runs, compare, bar_rows, feature_rows, signal_rows):
    """A trade of second 2 is late in run b only, so the bar of seconds 2 to 3 differs, and what is made of it."""
    runs.insert("late_events", _late_events("b", 2.5))
    runs.insert("bars", bar_rows(6, run_id="a"))
    runs.insert("bars", _replaced(bar_rows(6, run_id="b"), "volume", 2, 9.0))
    runs.insert("features", feature_rows({"rsi": [1.0, 2.0, 3.0, 4.0]}, run_id="a"))
    runs.insert("features", feature_rows({"rsi": [1.0, 2.0, 3.5, 4.5]}, run_id="b"))
    runs.insert("signals", signal_rows([1, 3], run_id="a"))
    runs.insert("signals", signal_rows([1, 5], run_id="b"))
    found = compare()
    causes = {name: [row.cause for row in table.examples] for name, table in _differing(found).items()}
    assert causes == {
        "late_events": ["unknown"],
        "bars": ["late events of the bar differ (0 in A, 1 in B)"],
        "features": [
            "its bar differs (other values)",
            "follows a bar of its instrument and interval that differs (first at 1970-01-01T00:00:03.000000000Z)",
        ],
        "signals": [
            "features of its instrument at its time differ (other values)",
            "follows a signal of its strategy and instrument that differs (first at 1970-01-01T00:00:03.000000000Z)",
        ],
    }
    assert found.first is not None
    assert found.first[0] == "bars"
    assert _differing(found)["features"].causes == {
        "its bar differs": 1, "follows a bar of its instrument and interval that differs": 1,
    }  # fmt: skip


def test_bar_is_explained_where_only_its_table_is_compared(runs, compare, bar_rows):
    runs.insert("late_events", _late_events("a", 0.1))
    runs.insert("bars", bar_rows(2, run_id="a"))
    runs.insert("bars", _replaced(bar_rows(2, run_id="b"), "volume", 0, 9.0))
    found = compare(tables=["bars"])
    assert [table.table for table in found.tables] == ["bars"]
    assert found.tables[0].examples[0].cause == "late events of the bar differ (1 in A, 0 in B)"


def test_late_event_of_another_bar_explains_nothing(runs, compare, bar_rows):
    runs.insert("late_events", _late_events("a", 1.0))
    runs.insert("bars", bar_rows(3, run_id="a"))
    runs.insert("bars", _replaced(bar_rows(3, run_id="b"), "volume", 0, 9.0))
    assert _differing(compare())["bars"].examples[0].cause == "unknown"


def test_dead_letter_explains_later_bars_of_its_instrument_only(runs, compare, bar_rows):
    runs.insert("dead_letters", _dead_letters("a", 2))
    for instrument in ("ABC", "XYZ"):
        rows = [bar_rows(4, run_id=run, instrument=instrument) for run in ("a", "b")]
        runs.insert("bars", rows[0])
        runs.insert("bars", _replaced(_replaced(rows[1], "low", 0, 1.0), "low", 3, 1.0))
    causes = {(row.key["instrument_id"], row.time): row.cause for row in _differing(compare())["bars"].examples}
    follows = "follows a dead letter of its instrument that differs (first at 1970-01-01T00:00:02.000000000Z)"
    assert causes == {
        ("ABC", S): "unknown", ("ABC", 4 * S): follows, ("XYZ", S): "unknown", ("XYZ", 4 * S): "unknown",
    }  # fmt: skip


def test_record_that_is_late_in_one_run_and_refused_in_the_other_is_explained(runs, compare):
    runs.insert("late_events", _late_events("a", 0.3))
    runs.insert("dead_letters", _dead_letters("b", 3))
    assert _differing(compare())["late_events"].causes == {"the record's dead letter differs": 1}


def test_rows_after_the_end_of_the_other_run_are_said_to_be(runs, compare, bar_rows):
    runs.insert("bars", bar_rows(6, run_id="a"))
    runs.insert("bars", bar_rows(4, run_id="b", first=1))
    table = _differing(compare())["bars"]
    assert table.causes == {"the other run's rows of this table begin after it or end before it": 2}
    assert table.examples[1].cause.endswith(
        "(B has rows from 1970-01-01T00:00:02.000000000Z to 1970-01-01T00:00:05.000000000Z)"
    )


# --- where the runs are


def test_two_folders_give_what_one_gives(store, store_folder, compare, bar_rows, feature_rows, tmp_path):
    def fill(where: Store, run: str, high: float) -> None:
        _start(where, run)
        where.insert("bars", _replaced(bar_rows(50, run_id=run), "high", 7, high))
        where.insert("features", feature_rows({"rsi": [high, 1.0]}, run_id=run))

    fill(store, "a", 1.0)
    fill(store, "b", 2.0)
    with_one = compare(chunk_rows=9)
    with Store.open(str(tmp_path / "other")) as other:
        fill(other, "b", 2.0)
    a, b = RunReference(str(store_folder), "a"), RunReference(str(tmp_path / "other"), "b")
    with_two = compare_runs(a, b, chunk_rows=9)
    assert with_two.tables == with_one.tables
    assert _numbers(with_two.tables[2]) == (49, 0, 0, 1)


def test_server_is_compared_without_showing_its_password(http_clickhouse, bar_rows, signal_rows):
    with Store.open(http_clickhouse.url) as server:
        for run, seconds in (("a", [1, 2]), ("b", [1, 3])):
            _start(server, run)
            server.insert("bars", bar_rows(5, run_id=run))
            server.insert("signals", signal_rows(seconds, run_id=run))
    found = compare_runs(RunReference(http_clickhouse.url, "a"), RunReference(http_clickhouse.url, "b"))
    assert {name: _numbers(table) for name, table in _differing(found).items()} == {"signals": (1, 1, 1, 0)}
    assert found.a.database.endswith("/signals_db")
    assert "s3cret-word" not in json.dumps(found.to_json())


# --- bounds


@pytest.mark.parametrize("chunk_rows", [1, 7, 10**6])
def test_size_of_parts_changes_nothing(runs, compare, bar_rows, chunk_rows):
    runs.insert("bars", _without(_replaced(bar_rows(40, run_id="a"), "low", 3, 0.0), 20))
    runs.insert("bars", _without(bar_rows(40, run_id="b"), 30))
    table = _differing(compare(chunk_rows=chunk_rows))["bars"]
    assert _numbers(table) == (37, 1, 1, 1)
    assert [row.time for row in table.examples] == [4 * S, 21 * S, 31 * S]
    assert table.columns == {"low": 1}


def test_memory_follows_the_size_of_parts_and_not_of_runs(runs, compare, bar_rows):
    n_rows = 100_000
    runs.insert("bars", bar_rows(n_rows, run_id="a"))
    other = bar_rows(n_rows, run_id="b")
    doubled = pa.array(other.column("volume").to_numpy() * 2)
    runs.insert("bars", other.set_column(other.schema.get_field_index("volume"), "volume", doubled))
    peaks = []
    for chunk_rows in (5_000, n_rows):
        tracemalloc.start()
        table = _differing(compare(chunk_rows=chunk_rows, tables=["bars"]))["bars"]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert _numbers(table) == (0, 0, 0, n_rows)
        assert (table.columns, table.examined) == ({"volume": 2_000}, 2_000)
        assert [row.time for row in table.examples] == [(second + 1) * S for second in range(10)]
    assert peaks[0] < 4 * 2**20 < peaks[1]


def test_progress_ends_with_all_rows(runs, compare, bar_rows):
    runs.insert("bars", bar_rows(5, run_id="a"))
    seen: list[tuple[int, int]] = []
    compare(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert len(seen) == len(COMPARED_TABLES)


# --- refusals


def test_every_output_table_is_compared():
    assert sorted(COMPARED_TABLES) == sorted([*OUTPUT_TABLES, "run_counts"])


def test_unknown_run_names_those_there_are(runs, compare):
    _start(runs, "live-2024")
    message = "expected run `live-2042` in `.*`, found none of that name; did you mean `live-2024`.* `a`, `b`"
    with pytest.raises(InputError, match=message):
        compare("a", "live-2042")


def test_database_without_runs_says_so(store, compare):
    with pytest.raises(InputError, match=r"expected run `a` in `.*`, found no runs"):
        compare()


@pytest.mark.usefixtures("runs")
def test_same_run_twice_is_refused(compare):
    with pytest.raises(ConfigError, match=r"expected two runs, found `a` of `.*` twice"):
        compare("a", "a")


def test_missing_database_is_refused(tmp_path):
    here = str(tmp_path / "none")
    with pytest.raises(InputError, match=r"expected a database at `.*`, found none"):
        compare_runs(RunReference(here, "a"), RunReference(here, "b"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tables": ["signal"]}, "expected a table among .*, found `signal`, which is close to `signals`"),
        ({"limit": 0}, "expected a limit from 1 to 1000"),
        ({"chunk_rows": 0}, "parts of a row or more"),
    ],
)
def test_option_out_of_bounds_is_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        compare_runs(RunReference(str(tmp_path), "a"), RunReference(str(tmp_path), "b"), **options)
