"""Any CSV, JSONL or Parquet file, by a column map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from dataflows.importers.base import BadRow, Chunk, Importer, ImportOptions
from dataflows.importers.checks import UNKNOWN_TIME, constant, make_chunk
from dataflows.importers.table_map import TableMap, load_map
from dataflows.importers.table_rows import TableReader, TableRow
from dataflows.importers.table_values import Converter, converters
from operators.columns import IntArray
from schemas.batches import concat_batches, times
from schemas.errors import ConfigError, DataError, InputError
from schemas.records import TOPICS, archive_schema

__all__ = ["TableImporter"]

_CHUNK_ROWS: Final = 16_384
MAX_SORTED_ROWS: Final = 10_000_000
"""Rows sorted in memory, a few gigabytes; a larger file must be in order."""
_SUFFIXES: Final = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".parquet", ".csv.zip", ".tsv", ".csv.zst")


class TableImporter(Importer):
    """Reads CSV, JSONL and Parquet files; a TOML file says which column is which field (see `TableMap`).

    One clock makes both times where the map gives no `ts_recv`. Naive times are refused unless the map
    names their zone. A Parquet row that is quarantined is kept as its JSON text.
    """

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "CSV, JSONL or Parquet, by a column map"
    options: ClassVar[frozenset[str]] = frozenset({"symbol", "venue", "map", "tick"})

    def recognises(self, path: Path) -> bool:
        """Return whether the name ends like a table's."""
        return path.name.lower().endswith(_SUFFIXES)

    def variant(self, options: ImportOptions) -> str:
        """Return the map's name: one file may be read by several maps."""
        return options.map.stem if options.map is not None else ""

    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield the rows of one file."""
        if options.map is None:
            raise ConfigError("expected the option `map` with format `table`, was none; name a TOML file with columns")
        table = load_map(options.map)
        try:
            convert = converters(table)
        except DataError as error:
            raise ConfigError(f"expected a column map in `{options.map}`, found {error.detail}") from error
        chunks = _chunks(TableReader(path, table), table, convert, options)
        return iter([_sorted(chunks, path)]) if table.order == "time" else chunks


def _chunks(
    reader: TableReader, table: TableMap, convert: dict[str, Converter], options: ImportOptions
) -> Iterator[Chunk]:
    number = 0
    rows = reader.rows()
    while taken := list(islice(rows, _CHUNK_ROWS)):
        yield _chunk(taken, number, table, convert, options, reader.bytes_done)
        number += len(taken)


def _chunk(
    rows: list[TableRow],
    before: int,
    table: TableMap,
    convert: dict[str, Converter],
    options: ImportOptions,
    bytes_done: int,
) -> Chunk:
    values: list[tuple[Any, ...]] = []
    positions: list[int] = []
    bad: list[BadRow] = []
    ts_name = "ts_recv" if "ts_recv" in convert else "ts_event"
    for position, row in enumerate(rows):
        number = before + position + 1
        try:
            values.append(_convert(row, number, convert))
            positions.append(position)
        except DataError as error:
            bad.append(BadRow(position, row.raw, str(error), _time_of(row, number, convert[ts_name])))
    n_rows = len(values)
    columns = _columns(table.topic, list(convert), values)
    columns.setdefault("ts_recv", columns["ts_event"])
    if options.symbol is not None:
        columns["instrument_id"] = constant(options.symbol, n_rows)
    if options.venue is not None and "venue" in TOPICS[table.topic].names and "venue" not in columns:
        columns["venue"] = constant(options.venue, n_rows)
    return make_chunk(
        table.topic,
        columns,
        lambda row: rows[positions[row]].raw,
        n_rows=n_rows,
        bytes_done=bytes_done,
        positions=np.array(positions, dtype=np.int64),
        bad=bad,
        two_clocks=np.ones(n_rows, dtype=np.bool_) if "ts_recv" in convert else None,
        tick=options.tick,
    )


def _convert(row: TableRow, number: int, convert: dict[str, Converter]) -> tuple[Any, ...]:
    if row.values is None:
        reason, _, detail = row.error.partition(": ")
        raise DataError(reason, detail)
    return tuple(value_of(row.values, number) for value_of in convert.values())


def _time_of(row: TableRow, number: int, value_of: Converter) -> int | None:
    """Return the time of a bad row, if that at least can be read."""
    try:
        return None if row.values is None else int(value_of(row.values, number))
    except DataError:
        return None


def _columns(topic: str, names: list[str], values: list[tuple[Any, ...]]) -> dict[str, Any]:
    schema = archive_schema(topic)
    columns: dict[str, Any] = {}
    for name, column in zip(names, zip(*values, strict=True) if values else ((),) * len(names), strict=True):
        type_ = schema.field(name).type
        if pa.types.is_timestamp(type_):
            columns[name] = np.array(column, dtype=np.int64)
        elif pa.types.is_dictionary(type_):
            columns[name] = list(column)
        else:
            columns[name] = pa.array(column, type=type_)
    return columns


def _sorted(chunks: Iterable[Chunk], path: Path) -> Chunk:
    """Return all rows as one chunk by time of receipt; bad rows keep the place that their time gives them."""
    held: list[Chunk] = []
    rows = 0
    for chunk in chunks:
        held.append(chunk)
        rows += chunk.batch.num_rows + len(chunk.bad)
        if rows > MAX_SORTED_ROWS:
            raise InputError(
                f"expected at most {MAX_SORTED_ROWS:,} rows to sort in `{path}`, found more; sort the file by time and "
                'say `order = "file"` in the column map'
            )
    if not held:
        raise InputError(f"expected rows in `{path}`, found none; fetch the file again")
    places = np.concatenate([np.zeros(0, dtype=np.int64), *_places(held)])
    bad, bad_places = _bad_rows(held)
    batch = concat_batches([chunk.batch for chunk in held])
    keys = np.full(rows, UNKNOWN_TIME, dtype=np.int64)
    keys[places] = times(batch, "ts_recv")
    keys[bad_places] = [UNKNOWN_TIME if row.ts_recv is None else row.ts_recv for row in bad]
    ranks = np.empty(rows, dtype=np.int64)
    ranks[np.argsort(_filled(keys), kind="stable")] = np.arange(rows)
    order = np.argsort(ranks[places])
    repaired: Counter[str] = Counter()
    for chunk in held:
        repaired.update(chunk.repaired)
    return Chunk(
        topic=held[0].topic,
        batch=batch.take(pa.array(order)),
        bytes_done=held[-1].bytes_done,
        positions=ranks[places][order],
        bad=tuple(
            sorted(
                (replace(row, position=int(ranks[place])) for row, place in zip(bad, bad_places, strict=True)),
                key=lambda row: row.position,
            )
        ),
        repaired=repaired,
        latency=np.concatenate([chunk.latency for chunk in held]),
    )


def _starts(held: list[Chunk]) -> list[int]:
    """Return the number of rows before each chunk."""
    return [0, *accumulate(chunk.batch.num_rows + len(chunk.bad) for chunk in held)][:-1]


def _places(held: list[Chunk]) -> list[IntArray]:
    """Return the place of each accepted row in the file."""
    return [chunk.positions + start for chunk, start in zip(held, _starts(held), strict=True)]


def _bad_rows(held: list[Chunk]) -> tuple[list[BadRow], IntArray]:
    """Return the bad rows, and the place of each in the file."""
    bad = [row for chunk in held for row in chunk.bad]
    places = [row.position + start for chunk, start in zip(held, _starts(held), strict=True) for row in chunk.bad]
    return bad, np.array(places, dtype=np.int64)


def _filled(keys: IntArray) -> IntArray:
    """Return times in which an unknown one is the last known before it, or the first known."""
    known = np.flatnonzero(keys != UNKNOWN_TIME)
    if not len(known):
        return keys
    before = np.searchsorted(known, np.arange(len(keys)), "right") - 1
    filled: IntArray = keys[known[np.maximum(before, 0)]]
    return filled
