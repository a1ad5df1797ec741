"""Queries from outside, which may only read, and their output."""

from __future__ import annotations

import io
import json
import re
from typing import Any, BinaryIO, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import StorageError
from sinks.result_table import result_text
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
    if output_format == "table":
        raw = _as_table(raw, width)
    elif output_format == "parquet":
        raw = _enumerations_as_text(raw)
    out.write(raw)


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
    return f"{result_text(lines[0], lines[1:], width)}\n".encode() if lines else b""


def _json_lines(raw: bytes) -> list[list[Any]]:
    text = raw.decode("utf-8", errors="replace").strip()
    if text.startswith(("[\n", "[[")):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line]


def _enumerations_as_text(raw: bytes) -> bytes:
    """Return a Parquet file with text where ClickHouse wrote enumerations, which readers take for bytes."""
    schema = pq.read_schema(io.BytesIO(raw))
    texts = [pa.field(field.name, pa.string()) if pa.types.is_binary(field.type) else field for field in schema]
    if texts == list(schema):
        return raw
    out = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(raw)).cast(pa.schema(texts)), out, compression="zstd")
    return out.getvalue()
