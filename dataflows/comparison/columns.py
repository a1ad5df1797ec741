"""The columns of a table as SQL: what tells two values apart, and what is shown of one.

Two rows are the same row where their keys are the same, and equal where every other column is the same to the last
bit: a NaN equals a NaN of the same bits, differs from every number and from null, and 0 differs from -0. Rows are
told apart by hashes of 64 bits (xxh3), which find differences and not forgery.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.enums import CountKind
from schemas.fields import Field, Schema
from schemas.tables import RUN_COUNTS
from sinks.ddl import storage_name

__all__ = ["Column", "ComparedTable", "compared_table"]

_TEXT: Final = 1_000
"""Bytes of a text that are fetched to be shown."""
_TEXTS: Final = ("symbol", "text", "bytes")
"""Kinds of fields that are text or bytes."""
_ONLY: Final = {RUN_COUNTS.name: f"kind != '{CountKind.WRITTEN.value}'"}
"""What is compared of a table. Rows written are counted at the end of a replay only, and their tables are compared."""
_TIMES: Final = {"ts": "toUnixTimestamp64Nano(ts)", "ts_recv": "toUnixTimestamp64Nano(ts_recv)"}
"""Time of a row on the arrival clock, by the column that holds it, the first that a table has."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Parameters
    ----------
    name
        Its name.
    kind
        Kind of its field; see `schemas.fields.Kind`.
    exact
        Arguments of a hash that differ wherever two values do.
    shown
        The value to show, a time as ns and an enumeration as text.
    """

    name: str
    kind: str
    exact: str
    shown: str


@dataclass(frozen=True, slots=True)
class ComparedTable:
    """One table of one database.

    Parameters
    ----------
    name
        Its name.
    key
        Columns of the natural key without the run.
    values
        All other columns that are compared.
    time
        Time of a row on the arrival clock, ns; empty where rows have none.
    """

    name: str
    key: tuple[Column, ...]
    values: tuple[Column, ...]
    time: str

    def select(self, *more: str, where: str = "") -> str:
        """Return the query for each row's hash of the key `_key`, hash of all columns `_row`, time `_time`, and more.

        Parameters
        ----------
        more
            Further expressions.
        where
            Condition on the row beside the run, which is the parameter `run`.
        """
        columns = [
            f"xxh3({_terms(self.key)}) AS _key",
            f"xxh3({_terms((*self.key, *self.values))}) AS _row",
            f"{self.time or 'toInt64(0)'} AS _time",
            *more,
        ]
        condition = "".join(f" AND {part}" for part in (where, _ONLY.get(self.name, "")) if part)
        return (
            f"SELECT {', '.join(columns)} FROM {storage_name(self.name)} FINAL WHERE run_id = {{run:String}}{condition}"
        )


def compared_table(schema: Schema, features: Sequence[str] = (), stored: Collection[str] = ()) -> ComparedTable:
    """Return the columns of a table that a comparison looks at: those of the digests.

    Parameters
    ----------
    schema
        Schema of the table.
    features
        Feature columns to compare, for the table `features`.
    stored
        Feature columns that the database has; in one that it lacks no row has a value.
    """
    columns = {field.name: _column(field) for field in schema.computed}
    values = [column for name, column in columns.items() if name not in schema.key]
    values += [_feature(name, stored=name in stored) for name in features]
    time = next((sql for name, sql in _TIMES.items() if name in columns), "")
    key = tuple(columns[name] for name in schema.key if name != "run_id")
    return ComparedTable(schema.name, key, tuple(values), time)


def _terms(columns: Sequence[Column]) -> str:
    return ", ".join(column.exact for column in columns)


def _column(field: Field) -> Column:
    name = f"`{field.name}`"
    if field.kind == "map":
        # the order of a map's keys is not part of its value
        return Column(field.name, field.kind, f"mapKeys(mapSort({name})), mapValues(mapSort({name}))", name)
    plain = {"time": f"toUnixTimestamp64Nano({name})", "enum": f"CAST({name} AS Nullable(Int8))"}.get(field.kind, name)
    exact = name
    if field.nullable:
        empty = "''" if field.kind in _TEXTS else "0"
        exact = f"isNull({name}), ifNull({plain}, {empty})"
    shown = {"time": plain, "enum": f"toString({name})"}.get(field.kind, name)
    return Column(field.name, field.kind, exact, f"substring({name}, 1, {_TEXT})" if field.kind in _TEXTS else shown)


def _feature(name: str, *, stored: bool) -> Column:
    value = f"`{name}`" if stored else "CAST(NULL AS Nullable(Float64))"
    return Column(name, "float", f"isNull({value}), ifNull({value}, 0)", value)
