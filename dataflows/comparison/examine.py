"""Looks at the differing rows that were kept: which columns differ, what they belong to, what their values are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.comparison.columns import Column, ComparedTable
from dataflows.comparison.result import Difference
from dataflows.comparison.rows import DifferentRows, Ints, UInts
from dataflows.comparison.sides import Sides
from dataflows.report.text import visible
from schemas.time import format_time
from sinks.store import Store

__all__ = ["Examined", "Values", "examine", "hashes_sql", "read_values"]

_SIDES_OF: Final[dict[Difference, tuple[int, ...]]] = {"only_a": (0,), "only_b": (1,), "differs": (0, 1)}
"""Runs that have a row, by how it differs."""
Values = dict[int, tuple[dict[str, Any], dict[str, Any]]]
"""Key and other columns of rows as plain JSON values, by the hash of the key."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Differing rows of a table, in order of time.

    Parameters
    ----------
    kinds
        How each row differs.
    keys, times
        Hash of its key and its time, ns, shape `(n,)`.
    links
        Hashes of what it belongs to, by name, each of shape `(n,)`.
    names
        Columns that are compared.
    differs
        Whether the row differs in the column, shape `(n, len(names))`; false for a row of one run only.
    """

    kinds: tuple[Difference, ...]
    keys: UInts
    times: Ints
    links: dict[str, UInts]
    names: tuple[str, ...]
    differs: npt.NDArray[np.bool_]

    def columns(self) -> dict[str, int]:
        """Return in how many rows each column differs, the most first."""
        counts = zip(self.names, self.differs.sum(axis=0).tolist(), strict=True)
        return dict(sorted(((name, count) for name, count in counts if count), key=lambda item: (-item[1], item[0])))

    def differing_columns(self, row: int) -> tuple[str, ...]:
        """Return the columns in which a row differs."""
        return tuple(name for name, other in zip(self.names, self.differs[row].tolist(), strict=True) if other)


def examine(sides: Sides, tables: Sequence[ComparedTable], found: DifferentRows, links: Mapping[str, str]) -> Examined:
    """Look at the rows that were kept.

    Parameters
    ----------
    sides
        The runs.
    tables
        The table as each side has it.
    found
        Its differing rows.
    links
        What a row belongs to: arguments of a hash, in SQL, by name.
    """
    wanted = [_keys_of(found, side) for side in (0, 1)]

    def ask(store: Store, side: int) -> dict[str, UInts]:
        return _details(store, sides.references[side].run_id, tables[side], wanted[side], links)

    details = sides.ask(ask)
    names = tuple(column.name for column in tables[0].values)
    rows = list(_blocks(found, details, names, links))
    kinds = [kind for kind, block in rows for _ in range(len(block[0]))]
    keys, times, differs = (np.concatenate([block[part] for _, block in rows]) for part in range(3))
    order = np.lexsort((keys, times))
    return Examined(
        kinds=tuple(kinds[position] for position in order.tolist()),
        keys=keys[order],
        times=times[order],
        links={name: np.concatenate([block[3][name] for _, block in rows])[order] for name in links},
        names=names,
        differs=differs[order],
    )


_Block = tuple[UInts, Ints, npt.NDArray[np.bool_], dict[str, UInts]]


def _blocks(
    found: DifferentRows, details: Sequence[dict[str, UInts]], names: Sequence[str], links: Mapping[str, str]
) -> Iterator[tuple[Difference, _Block]]:
    for kind, owners in _SIDES_OF.items():
        keys = found.keys.get(kind, np.empty(0, np.uint64))
        times = found.times.get(kind, np.empty(0, np.int64))
        at = [np.searchsorted(details[side]["_key"], keys) for side in owners]
        differs = np.zeros((len(keys), len(names)), dtype=np.bool_)
        if kind == "differs":
            for position in range(len(names)):
                a, b = (details[side][f"_c{position}"][at[side]] for side in owners)
                differs[:, position] = a != b
        first = details[owners[0]]
        yield kind, (keys, times, differs, {name: first[f"_l_{name}"][at[0]] for name in links})


def _keys_of(found: DifferentRows, side: int) -> UInts:
    parts = [keys for kind, keys in found.keys.items() if side in _SIDES_OF[kind]]
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def hashes_sql(hashes: UInts) -> str:
    """Return a list of hashes for `IN`, which is never empty."""
    return f"({', '.join(map(str, hashes.tolist())) or 'NULL'})"


def _details(
    store: Store, run_id: str, table: ComparedTable, keys: UInts, links: Mapping[str, str]
) -> dict[str, UInts]:
    more = {f"_c{position}": column.exact for position, column in enumerate(table.values)}
    more |= {f"_l_{name}": terms for name, terms in links.items()}
    rows = table.select(*(f"xxh3({terms}) AS {name}" for name, terms in more.items()))
    names = ("_key", *more)
    sql = f"SELECT {', '.join(names)} FROM ({rows}) WHERE _key IN {hashes_sql(keys)} ORDER BY _key"
    found = store.connection.arrow(sql, {"run": run_id})
    return {name: found.column(name).to_numpy() for name in names}


def read_values(sides: Sides, tables: Sequence[ComparedTable], keys: UInts) -> tuple[Values, Values]:
    """Return the values of a few rows in each run that has them."""

    def ask(store: Store, side: int) -> Values:
        return _values(store, sides.references[side].run_id, tables[side], keys)

    return sides.ask(ask)


def _values(store: Store, run_id: str, table: ComparedTable, keys: UInts) -> Values:
    columns = (*table.key, *table.values)
    rows = table.select(*(f"{column.shown} AS _v{position}" for position, column in enumerate(columns)))
    names = ", ".join(f"_v{position}" for position in range(len(columns)))
    sql = f"SELECT _key, {names} FROM ({rows}) WHERE _key IN {hashes_sql(keys)}"
    found: pa.Table = store.connection.arrow(sql, {"run": run_id})
    values: Values = {}
    for record in found.to_pylist():
        plain = {column.name: _plain(column, record[f"_v{position}"]) for position, column in enumerate(columns)}
        key = {column.name: plain.pop(column.name) for column in table.key}
        values[record["_key"]] = (key, plain)
    return values


def _plain(column: Column, value: Any) -> Any:
    """Return a value as JSON has it; a number that JSON does not have is its name."""
    if isinstance(value, bytes | str):
        return visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if column.kind == "time":
        return format_time(value)
    if column.kind == "map":
        return {visible(name): _plain(column, number) for name, number in value}
    return value
