"""Rows of CSV, JSONL and Parquet files as mappings, each with the bytes that it came from."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataflows.importers.reading import InputStream, line_blocks, open_input, split_lines
from dataflows.importers.table_map import TableMap
from schemas.errors import InputError

__all__ = ["TableReader", "TableRow"]

_MAX_RECORD_LINES: Final = 64
"""Lines that one quoted CSV record may span: a quote that nobody closes must not swallow the file."""
_SUFFIXES: Final = {".csv": "csv", ".txt": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_PARQUET_ROWS: Final = 16_384


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: its values by column, or why it has none; and its bytes.

    Parameters
    ----------
    raw
        Bytes of the line or lines; of a Parquet row, its JSON text.
    values
        Column to value, or None.
    error
        Reason where there are no values.
    """

    raw: bytes
    values: dict[str, Any] | None
    error: str = ""


class TableReader:
    """Reads the rows of one file.

    Parameters
    ----------
    path
        The file.
    table
        Its column map.

    Attributes
    ----------
    bytes_done
        Bytes of the file read so far.
    """

    def __init__(self, path: Path, table: TableMap) -> None:
        self._path = path
        self._table = table
        self.bytes_done = 0

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows in file order.

        Raises
        ------
        InputError
            The file is damaged, has not the columns of the map, or its format cannot be told.
        """
        kind = self._table.format or _kind_of(self._path)
        if kind == "parquet":
            yield from self._parquet_rows()
            return
        with open_input(self._path) as stream:
            lines = self._lines(stream)
            yield from _json_rows(lines) if kind == "jsonl" else _csv_rows(self._path, lines, self._table)

    def _lines(self, stream: InputStream) -> Iterator[bytes]:
        for block in line_blocks(stream):
            self.bytes_done = stream.bytes_done
            yield from split_lines(block)

    def _parquet_rows(self) -> Iterator[TableRow]:
        path = self._path
        try:
            file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(
                f"expected a Parquet file at `{path}`, found none ({error}); fetch the file again"
            ) from error
        size = path.stat().st_size
        with file:
            _require_columns(path, file.schema_arrow.names, self._table)
            total = max(file.metadata.num_rows, 1)
            done = 0
            plain = _plain_columns(path, file.schema_arrow, self._table)
            try:
                for batch in file.iter_batches(_PARQUET_ROWS):
                    done += batch.num_rows
                    self.bytes_done = size * done // total
                    columns = {name: plain(name, batch.column(name)).to_pylist() for name in batch.schema.names}
                    for values in zip(*columns.values(), strict=True):
                        row = dict(zip(columns, values, strict=True))
                        yield TableRow(_json(row), row)
            except (OSError, pa.ArrowInvalid) as error:
                raise InputError(
                    f"expected `{path}` to be whole, found it damaged ({error}); fetch it again"
                ) from error


def _kind_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".parquet", ".pq"):
        return "parquet"
    for suffix in reversed(suffixes):
        if suffix in _SUFFIXES:
            return _SUFFIXES[suffix]
    raise InputError(
        f"expected a file named `.csv`, `.jsonl` or `.parquet`, found `{path.name}`; "
        "name the `format` in the column map"
    )


def _json_rows(lines: Iterator[bytes]) -> Iterator[TableRow]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for line in lines:
        try:
            yield TableRow(line, decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield TableRow(line, None, "malformed: expected a JSON object")


def _csv_rows(path: Path, lines: Iterator[bytes], table: TableMap) -> Iterator[TableRow]:
    source = _Lines(lines)
    columns = list(table.columns)
    while (record := source.next_record(table.delimiter)) is not None:
        raw, fields = record
        if not columns:
            columns = _header(path, fields, table)
        elif fields is None:
            yield TableRow(raw, None, "malformed: expected CSV in UTF-8")
        elif len(fields) != len(columns):
            yield TableRow(raw, None, f"malformed: expected {len(columns)} fields")
        else:
            yield TableRow(raw, dict(zip(columns, fields, strict=True)))


def _header(path: Path, fields: list[str] | None, table: TableMap) -> list[str]:
    header = [name.strip().removeprefix("\ufeff") for name in fields or ()]
    _require_columns(path, header, table)
    return header


def _require_columns(path: Path, found: list[str], table: TableMap) -> None:
    wanted = {rule.column for rule in table.fields.values() if rule.column is not None}
    wanted |= {column for rule in table.fields.values() for column in rule.digest}
    absent = sorted(wanted - set(found))
    if absent:
        raise InputError(
            f"expected columns {absent} in `{path}`, found {found[:20]}; correct the column map, or give it `columns` "
            "if the file has no header"
        )


class _Lines:
    """Lines of a CSV file, joined where a quoted field goes on."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._pushed: deque[bytes] = deque()

    def _next(self) -> bytes | None:
        return self._pushed.popleft() if self._pushed else next(self._lines, None)

    def next_record(self, delimiter: str) -> tuple[bytes, list[str] | None] | None:
        """Return the bytes and fields of the next record, no fields where it is none, or None at the end."""
        first = self._next()
        if first is None:
            return None
        held = [first]
        while True:
            fields, is_open = _parse_csv(held, delimiter)
            following = self._next() if is_open and len(held) < _MAX_RECORD_LINES else None
            if following is None:
                break
            held.append(following)
        if fields is not None:
            return b"\n".join(held), fields
        self._pushed.extendleft(reversed(held[1:]))
        return first, None


def _parse_csv(lines: list[bytes], delimiter: str) -> tuple[list[str] | None, bool]:
    """Return the fields of one record, or None and whether it waits for another line."""
    try:
        text = b"\n".join(lines).decode()
        fields = next(csv.reader([text], delimiter=delimiter, strict=True), None)
    except csv.Error as error:
        return None, "unexpected end of data" in str(error)
    except UnicodeDecodeError:
        return None, False
    return fields, False


def _json(row: dict[str, Any]) -> bytes:
    return msgspec.json.encode(row, enc_hook=str)


def _plain_columns(path: Path, schema: pa.Schema, table: TableMap) -> Callable[[str, pa.Array], pa.Array]:
    """Return what makes a timestamp column whole nanoseconds and a date column text; others stay.

    Raises
    ------
    InputError
        A timestamp column has no zone and the map names none.
    """
    zones = {rule.column: rule.zone for rule in table.fields.values() if rule.format is not None}
    for field in schema:
        if field.name in zones and pa.types.is_timestamp(field.type) and not (field.type.tz or zones[field.name]):
            raise InputError(
                f"expected a zone for the column `{field.name}` of `{path}`, found times without; "
                "name the `zone` in the column map"
            )

    def plain(name: str, column: pa.Array) -> pa.Array:
        if pa.types.is_date(column.type):
            return pc.strftime(column, "%Y-%m-%d")
        if not pa.types.is_timestamp(column.type):
            return column
        column = column.cast(pa.timestamp("ns", column.type.tz))
        if column.type.tz is None:
            zone = zones.get(name) or "UTC"
            column = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="earliest")
        return column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64())

    return plain
