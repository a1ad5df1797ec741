"""Writing rows and reading them back: types, keys, digests, runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.enums import RunStatus
from schemas.errors import ConfigError, StorageError
from schemas.tables import DEAD_LETTERS
from sinks.store import OUTPUT_TABLES, Run, RunCount, Store

NAN = float("nan")
Rows = Callable[..., pa.Table]


def _dead_letter(**replaced: Any) -> pa.Table:
    row = {
        "run_id": "run",
        "topic": "trades",
        "partition": 3,
        "offset": 2**40,
        "ts_recv": 1_700_000_000_123_456_789,
        "instrument_id": None,
        "reason": "malformed",
        "detail": "expected JSON, found 'x'",
        "payload": bytes(range(256)),
        "trace_id": "",
    } | replaced
    columns = [
        pa.array([row[f.name]], pa.int64()).cast(f.type)
        if pa.types.is_timestamp(f.type)
        else pa.array([row[f.name]], pa.string()).dictionary_encode().cast(f.type)
        if pa.types.is_dictionary(f.type)
        else pa.array([row[f.name]], f.type)
        for f in DEAD_LETTERS.arrow
    ]
    return pa.Table.from_arrays(columns, schema=DEAD_LETTERS.arrow)


def test_dead_letter_keeps_its_bytes_time_and_missing_instrument(store: Store) -> None:
    store.insert("dead_letters", _dead_letter())
    found = store.connection.arrow("SELECT * FROM dead_letters").to_pylist()[0]
    assert found["payload"] == bytes(range(256))
    assert found["ts_recv"].value == 1_700_000_000_123_456_789
    assert found["instrument_id"] is None
    assert (found["partition"], found["offset"]) == (3, 2**40)


def test_signal_keeps_maps_and_enumerations(store: Store, signal_rows: Rows) -> None:
    inputs = [[("rsi", 71.5), ("atr", -0.0), ("z", NAN)], []]
    store.insert("signals", signal_rows([1, 2], direction=np.array([1, -1], np.int8), intent=[3, 2], inputs=inputs))
    found = store.connection.rows("SELECT direction, intent, inputs FROM signals ORDER BY ts")
    assert [row[:2] for row in found] == [("long", "reduce"), ("short", "exit")]
    assert found[0][2].keys() == {"rsi", "atr", "z"}
    assert found[0][2]["rsi"] == 71.5
    assert np.isnan(found[0][2]["z"])
    assert found[1][2] == {}


def test_feature_nan_is_stored_as_null_and_zero_as_zero(store: Store, feature_rows: Rows) -> None:
    store.ensure_feature_columns(["rsi", "slope"])
    store.insert("features", feature_rows({"rsi": [NAN, 50.0, NAN], "slope": [0.0, -0.0, 1e-300]}))
    found = store.connection.rows("SELECT rsi, slope, missing FROM features ORDER BY ts")
    assert found == [(None, 0.0, [1, 0]), (50.0, -0.0, [0, 0]), (None, 1e-300, [1, 0])]


def test_feature_without_column_is_refused(store: Store, feature_rows: Rows) -> None:
    with pytest.raises(StorageError, match=r"features_data.*rsi"):
        store.insert("features", feature_rows({"rsi": [1.0]}))


def test_feature_columns_are_added_once_and_shown_in_the_view(store: Store, feature_rows: Rows) -> None:
    store.ensure_feature_columns(["b", "a"])
    store.ensure_feature_columns(["a", "c", "b", "c"])
    assert store.feature_columns() == ("b", "a", "c")
    store.insert("features", feature_rows({"a": [1.0], "c": [NAN]}))
    assert store.connection.rows("SELECT a, b, c FROM features") == [(1.0, None, None)]
    assert store.connection.rows("SELECT values FROM feature_values") == [({"a": 1.0},)]


@pytest.mark.parametrize("name", ["Upper", "a b", "a`b", "ts", "1st", "", "a;drop"])
def test_feature_name_that_cannot_be_a_column_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ConfigError, match="expected feature names"):
        store.ensure_feature_columns([name])


def test_row_written_twice_is_read_once(store: Store, bar_rows: Rows, signal_rows: Rows) -> None:
    for _ in range(3):
        store.insert("bars", bar_rows(10))
        store.insert("signals", signal_rows([1, 2]))
        store.insert("dead_letters", _dead_letter())
    for table, expected in (("bars", 10), ("signals", 2), ("dead_letters", 1)):
        assert store.connection.rows(f"SELECT count() FROM {table}") == [(expected,)]
        assert store.digest("run", [table])[table].rows == expected


def test_merged_parts_read_like_unmerged_ones(store: Store, bar_rows: Rows) -> None:
    store.insert("bars", bar_rows(10))
    store.insert("bars", bar_rows(10, first=5))
    before = store.digest("run")
    store.connection.command("OPTIMIZE TABLE bars_data FINAL")
    assert store.digest("run") == before
    assert store.connection.rows("SELECT count() FROM bars_data") == [(15,)]


def test_run_id_is_added_where_rows_have_none(store: Store, bar_rows: Rows) -> None:
    assert store.insert("bars", bar_rows(4).drop_columns(["run_id"]), run_id="other") == 4
    assert store.connection.rows("SELECT DISTINCT run_id FROM bars") == [("other",)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["open"]), r"table `bars`: expected the columns .*missing \['open'\]"),
        (lambda t: t.append_column("colour", pa.array([1.0, 2.0])), r"unknown \['colour'\]"),
        (lambda t: t.set_column(6, "open", pa.array([1.0, None])), "column `open`: expected a value .* 1 nulls"),
        (lambda t: t.set_column(6, "open", pa.array(["a", "b"])), "column `open`: expected double, found string"),
    ],
)
def test_rows_unlike_the_schema_are_refused(store: Store, bar_rows: Rows, change: Any, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        store.insert("bars", change(bar_rows(2)))
    assert store.connection.rows("SELECT count() FROM bars") == [(0,)]


def test_enumeration_outside_its_vocabulary_is_refused(store: Store, signal_rows: Rows) -> None:
    with pytest.raises(StorageError, match=r"column `direction`: expected one of \[1, -1\], found \[0\]"):
        store.insert("signals", signal_rows([1], direction=np.zeros(1, np.int8)))


def test_unknown_table_is_refused(store: Store, bar_rows: Rows) -> None:
    with pytest.raises(StorageError, match=r"expected a table among bars, .*, found `candles`"):
        store.insert("candles", bar_rows(1))


def test_digest_ignores_run_order_and_cuts(store: Store, bar_rows: Rows) -> None:
    store.insert("bars", bar_rows(100, run_id="one"))
    shuffled = bar_rows(100, run_id="two").take(pa.array(np.random.default_rng(1).permutation(100)))
    for start in range(0, 100, 33):
        store.insert("bars", shuffled.slice(start, 33))
    one, two = store.digest("one"), store.digest("two")
    assert one == two
    assert set(one) == set(OUTPUT_TABLES)
    assert one["bars"].rows == 100
    assert one["signals"].rows == 0


@pytest.mark.parametrize(("left", "right"), [([NAN], [0.0]), ([1.0], [2.0]), ([1.0, NAN], [NAN, 1.0])])
def test_digest_tells_values_and_missing_apart(
    store: Store, feature_rows: Rows, left: list[float], right: list[float]
) -> None:
    store.ensure_feature_columns(["a"])
    store.insert("features", feature_rows({"a": left}, run_id="left", code=0))
    store.insert("features", feature_rows({"a": right}, run_id="right", code=0))
    assert store.digest("left")["features"] != store.digest("right")["features"]


def test_digest_tells_features_with_swapped_names_apart(store: Store, feature_rows: Rows) -> None:
    store.ensure_feature_columns(["a", "b"])
    store.insert("features", feature_rows({"a": [1.0]}, run_id="left"))
    store.insert("features", feature_rows({"b": [1.0]}, run_id="right"))
    assert store.digest("left")["features"] != store.digest("right")["features"]


def test_digest_does_not_depend_on_columns_of_other_runs(store: Store, feature_rows: Rows) -> None:
    store.ensure_feature_columns(["b"])
    store.insert("features", feature_rows({"b": [1.0, NAN]}))
    before = store.digest("run")
    store.ensure_feature_columns(["a", "c"])
    assert store.digest("run") == before


def test_digest_of_signals_sees_inputs_and_not_the_order_of_their_names(store: Store, signal_rows: Rows) -> None:
    for run, inputs in {
        "base": [("a", 1.0), ("b", 2.0)],
        "turned": [("b", 2.0), ("a", 1.0)],
        "changed": [("a", 1.0), ("b", 2.5)],
    }.items():
        store.insert("signals", signal_rows([1], run_id=run, inputs=[inputs]))
    digests = {run: store.digest(run)["signals"] for run in ("base", "turned", "changed")}
    assert digests["base"] == digests["turned"]
    assert digests["base"] != digests["changed"]


def test_digest_is_the_same_in_another_process(store: Store, store_folder: Path, signal_rows: Rows) -> None:
    store.insert("signals", signal_rows([1, 2, 3]))
    expected = store.digest("run")["signals"].digest
    store.close()
    script = (
        "import sys\nfrom sinks.store import Store\n"
        "with Store.open(sys.argv[1], read_only=True) as s: print(s.digest('run')['signals'].digest)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(store_folder)], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == expected
    assert len(expected) == 32


def test_run_goes_from_running_to_its_end(store: Store) -> None:
    run = Run("r1", "0.1.0", "cfg", "set", ("rsi", "slope"), '{"a": 1}', "archive")
    assert store.run_status("r1") is None
    store.start_run(run)
    assert store.run_status("r1") is RunStatus.RUNNING
    assert store.feature_columns() == ("rsi", "slope")
    store.finish_run("r1", RunStatus.STOPPED)
    store.start_run(run)
    assert store.run_status("r1") is RunStatus.STOPPED
    store.finish_run("r1", RunStatus.COMPLETE)
    assert store.run_status("r1") is RunStatus.COMPLETE
    assert store.find_run("r1") == run
    assert store.run_ids() == ("r1",)


def test_finish_of_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(StorageError, match="expected run `ghost`, found none; start it first"):
        store.finish_run("ghost", RunStatus.COMPLETE)


def test_counts_keep_the_largest_value_in_any_order(store: Store) -> None:
    for count in (7, 9, 8):
        store.write_counts("run", [RunCount("read", "trades", "", count), RunCount("late", "trades", "bar_closed", 1)])
    expected = [RunCount("late", "trades", "bar_closed", 1), RunCount("read", "trades", "", 9)]
    assert store.counts("run") == expected
    store.connection.command("OPTIMIZE TABLE run_counts_data FINAL")
    assert store.counts("run") == expected
    assert store.counts("other") == []


def test_texts_with_quotes_and_control_characters_are_kept(store: Store) -> None:
    text = "it's \\ a \t \n 'test' 🚦"
    store.insert("dead_letters", _dead_letter(detail=text, payload=b""))
    assert store.connection.arrow("SELECT detail FROM dead_letters").to_pylist() == [{"detail": text.encode()}]


def test_run_id_from_outside_cannot_change_a_query(store: Store, bar_rows: Rows) -> None:
    store.insert("bars", bar_rows(3))
    assert store.digest("x' OR 1=1 --")["bars"].rows == 0
    assert store.counts("'; DROP TABLE bars_data; --") == []
    assert store.connection.rows("SELECT count() FROM bars") == [(3,)]


def test_times_before_1970_and_at_the_edges_are_kept(store: Store) -> None:
    edges = [-(10**18), -1, 0, 4_102_444_800 * 10**9 + 1]
    for offset, ts in enumerate(edges):
        store.insert("dead_letters", _dead_letter(ts_recv=ts, offset=offset))
    found = store.connection.arrow("SELECT ts_recv FROM dead_letters ORDER BY offset").column(0).cast(pa.int64())
    assert found.to_pylist() == edges
