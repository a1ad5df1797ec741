"""Queries from outside: what they may do, and how results and errors look."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ExitCode, StorageError
from sinks.migrate import known_migrations
from sinks.query import run_query
from sinks.store import Store

Rows = Callable[..., pa.Table]
SQL = "SELECT instrument_id, direction, ts, confidence, inputs FROM signals ORDER BY ts;"


def _run(store: Store, sql: str, output_format: Any = "table", width: int = 120) -> bytes:
    out = io.BytesIO()
    run_query(store, sql, output_format, out=out, width=width)
    return out.getvalue()


@pytest.fixture
def filled(store: Store, signal_rows: Rows) -> Store:
    store.insert("signals", signal_rows([1, 2, 3]))
    return store


def test_csv_has_names_and_text_of_enumerations(filled: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(_run(filled, SQL, "csv").decode())))
    assert len(rows) == 3
    assert (rows[0]["instrument_id"], rows[0]["direction"]) == ("ABC", "long")
    assert rows[0]["ts"] == "1970-01-01T00:00:01.000000000Z"


def test_json_is_one_array_with_nulls_for_what_is_missing(filled: Store) -> None:
    found = json.loads(_run(filled, SQL, "json"))
    assert [row["inputs"] for row in found] == [{"rsi": 71.0}] * 3
    assert json.loads(_run(filled, "SELECT nan AS a, NULL AS b, 9007199254740993 AS c", "json")) == [
        {"a": None, "b": None, "c": 9007199254740993}
    ]
    assert json.loads(_run(filled, "SELECT * FROM bars", "json")) == []


def test_parquet_can_be_read_back(filled: Store) -> None:
    table = pq.read_table(io.BytesIO(_run(filled, "SELECT confidence, signal_id FROM signals", "parquet")))
    assert table.num_rows == 3
    assert table.column("confidence").to_pylist() == [0.5] * 3


def test_parquet_has_text_of_enumerations(filled: Store) -> None:
    table = pq.read_table(io.BytesIO(_run(filled, "SELECT direction, ts, inputs FROM signals", "parquet")))
    assert table.column("direction").to_pylist() == ["long"] * 3
    assert table.schema.field("direction").type == pa.string()
    assert table.schema.field("ts").type == pa.timestamp("ns", "UTC")


def test_table_is_bounded_in_width_and_counts_rows(filled: Store) -> None:
    text = _run(filled, "SELECT repeat('x', 500) AS long, number FROM numbers(3)", width=60).decode()
    assert max(len(line) for line in text.splitlines()) <= 60
    assert "…" in text
    assert text.rstrip().endswith("3 rows")


def test_table_of_many_rows_shows_the_first(filled: Store) -> None:
    text = _run(filled, "SELECT number FROM numbers(1500)").decode()
    assert "1500 rows, the first 1000 shown" in text
    assert " 999" in text
    assert "1000\n1001" not in text


def test_table_of_many_columns_is_shown_record_by_record(filled: Store) -> None:
    text = _run(filled, "SELECT * FROM signals ORDER BY ts", width=80).decode()
    assert "row 3" in text
    assert "parameters_hash" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_table_with_bytes_markup_and_no_rows_is_printed(filled: Store) -> None:
    assert "[bold]" in _run(filled, "SELECT '[bold]' AS a").decode()
    assert _run(filled, "SELECT unhex('FF00') AS a")
    assert "0 rows" in _run(filled, "SELECT * FROM bars").decode()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DROP TABLE bars_data", "found `DROP`"),
        ("/* SELECT */ drop table bars_data", "found `DROP`"),
        ("INSERT INTO schema_migrations VALUES (9, 'x', 'x')", "found `INSERT`"),
        ("KILL QUERY WHERE 1", "found `KILL`"),
        ("SET readonly = 0", "found `SET`"),
        ("SELECT 1; DROP TABLE bars_data", "expected one statement"),
        ("SELECT 1 INTO OUTFILE '/tmp/signalbox-test-outfile'", "INTO OUTFILE"),
        ("SELECT 1 into /* x */ outfile '/tmp/signalbox-test-outfile'", "INTO OUTFILE"),
        ("SELECT 1 FORMAT CSV", "use `--format`"),
        ("EXPLAIN ESTIMATE DROP TABLE bars_data", "(?i)syntax|readonly"),
        ("WITH 1 AS x INSERT INTO runs_data SELECT 1", "(?i)syntax|readonly|found"),
        ("SELECT * FROM file('/etc/hostname', 'LineAsString')", "READONLY"),
        ("SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')", "READONLY"),
        ("", "found none"),
        (" ; ", "found none"),
        ("-- only a comment", "found none"),
    ],
)
def test_statement_that_does_more_than_read_is_refused(filled: Store, sql: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as found:
        _run(filled, sql)
    assert found.value.exit_code is ExitCode.STORAGE
    assert filled.connection.rows("SELECT count() FROM schema_migrations") == [(len(known_migrations()),)]
    assert filled.connection.rows("SELECT count() FROM bars") == [(0,)]
    assert not Path("/tmp/signalbox-test-outfile").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'DROP; INTO OUTFILE' AS a",
        "select 1 -- ; drop table bars_data",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "SHOW TABLES",
        "DESCRIBE bars",
        "EXPLAIN SELECT 1",
        "EXISTS TABLE bars",
        "SELECT ';' AS `a;b`;",
    ],
)
def test_statement_that_reads_is_answered(filled: Store, sql: str) -> None:
    assert _run(filled, sql, "csv")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT colour FROM bars", "Unknown expression identifier `colour`"),
        ("SELECT * FROM candles", "candles"),
        ("SELECT 1 +", "Syntax error"),
    ],
)
def test_error_is_one_short_line(filled: Store, sql: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as found:
        _run(filled, sql)
    text = str(found.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 600
    assert "DB::Exception" not in text
    assert "version 2" not in text


def test_unknown_format_is_refused(filled: Store) -> None:
    with pytest.raises(StorageError, match="expected a format among table, csv, json, parquet, found `xml`"):
        _run(filled, "SELECT 1", "xml")


def test_query_through_a_read_only_store_works(filled: Store, store_folder: Path) -> None:
    filled.close()
    with Store.open(str(store_folder), read_only=True) as reader:
        assert len(json.loads(_run(reader, SQL, "json"))) == 3
        with pytest.raises(StorageError, match="found `DROP`"):
            _run(reader, "DROP TABLE bars_data")
