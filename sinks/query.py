"""Queries from outside, which may only read, and their output."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.errors import StorageError
from sinks.store import Store

__all__ = ["QueryFormat", "check_reads_only", "run_query"]

QueryFormat = Literal["table", "csv", "json", "parquet"]

_FORMATS: Final[dict[str, str]] = {
    "table": "JSONCompactEachRowWithNames",
    "csv": "CSVWithNames",
    "json": "JSONEachRow",
    "parquet": "Parquet",
}
_READS: Final = ("SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS")
_QUOTED: Final = re.compile(
    r"'(?:\\.|''|[^'\\])*'|`(?:\\.|[^`\\])*`|\"(?:\\.|[^\"\\])*\"|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/", re.DOTALL
)
_TABLE_ROWS: Final = 1_000
"""Rows of a table on a terminal; more are counted, not shown."""
_COLUMN_WIDTH: Final = 8
"""Characters that a column needs at least; a result with more columns is shown record by record."""
_RECORDS: Final = 50
"""Records shown where each takes as many lines as it has columns."""


def run_query(store: Store, sql: str, output_format: QueryFormat = "table", *, out: BinaryIO, width: int = 120) -> None:
    """Write the result of a query that only reads.

    Parameters
    ----------
    store
        The open database.
    sql
        One statement.
    output_format
        `table` for reading, `csv` with names, `json` as one array of objects, `parquet`.
    out
        Where the bytes go, such as `sys.stdout.buffer`.
    width
        Columns of text that a table may take.

    Raises
    ------
    StorageError
        The statement does more than read, or ClickHouse refuses it.
    """
    if output_format not in _FORMATS:
        raise StorageError(f"expected a format among {', '.join(_FORMATS)}, found `{output_format}`")
    raw = store.connection.read_raw(check_reads_only(sql), _FORMATS[output_format])
    out.write(_as_table(raw, width) if output_format == "table" else raw)


def check_reads_only(sql: str) -> str:
    """Return the one statement without its closing semicolon, or refuse it.

    The session is read-only too; this refuses what such a session still allows (writing files with
    `INTO OUTFILE`, `KILL`), and says so in plainer words.

    Raises
    ------
    StorageError
        There is no statement, more than one, or one that does not read.
    """
    statement = sql.strip().rstrip(";").strip()
    bare = _QUOTED.sub(" ", statement)
    words = re.findall(r"[A-Za-z_]+|;", bare.upper())
    if not words:
        raise StorageError("expected a query such as `SELECT * FROM signals`, found none")
    if words[0] not in _READS:
        raise StorageError(f"expected a statement that reads ({', '.join(_READS)}), found `{words[0]}`")
    if ";" in words:
        raise StorageError("expected one statement, found more than one")
    if re.search(r"\bINTO\s+OUTFILE\b", bare, re.IGNORECASE):
        raise StorageError("expected a query without `INTO OUTFILE`; use `--format` and redirect the output")
    if re.search(r"\bFORMAT\s+\w+\s*$", bare, re.IGNORECASE):
        raise StorageError("expected a query without `FORMAT`; use `--format`")
    return statement


def _as_table(raw: bytes, width: int) -> bytes:
    lines = _json_lines(raw)
    names, rows = (lines[0], lines[1:]) if lines else ([], [])
    if not names:
        return b""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, force_terminal=False, highlight=False)
    wide = len(names) * _COLUMN_WIDTH > width
    shown = rows[: _RECORDS if wide else _TABLE_ROWS]
    for table in _record_tables(names, shown) if wide else [_one_table(names, shown)]:
        console.print(table)
    console.print(f"{len(rows)} rows" + (f", the first {len(shown)} shown" if len(shown) < len(rows) else ""))
    return text.getvalue().encode()


def _one_table(names: list[str], rows: list[list[Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for position, name in enumerate(names):
        numeric = all(isinstance(row[position], int | float | None) for row in rows)
        table.add_column(Text(name), justify="right" if numeric and rows else "left", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _record_tables(names: list[str], rows: list[list[Any]]) -> Iterator[Table]:
    for number, row in enumerate(rows, 1):
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column(Text(f"row {number}"), no_wrap=True)
        table.add_column("")
        for name, value in zip(names, row, strict=True):
            table.add_row(Text(name), Text(_cell(value)))
        yield table


def _json_lines(raw: bytes) -> list[list[Any]]:
    text = raw.decode("utf-8", errors="replace").strip()
    if text.startswith(("[\n", "[[")):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.10g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
