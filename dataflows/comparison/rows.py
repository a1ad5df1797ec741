"""Finds the rows of a table that differ, in bounded memory.

The rows of each run are split into parts by the hash of their key, and each part is summed up in the database. Only
parts that differ are fetched, a bounded number of rows at once and of each row three numbers. Of the differences that
are found the first ones in time are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataflows.comparison.columns import ComparedTable
from dataflows.comparison.result import Difference
from dataflows.comparison.sides import Sides
from sinks.store import Store

__all__ = ["CHUNK_ROWS", "KEPT", "DifferentRows", "RowHashes", "compare_hashes", "compare_rows"]

CHUNK_ROWS: Final = 500_000
"""Rows that are fetched at once: 12 MB of each run, several times that while they are sorted."""
_PARTS: Final = 64
"""Parts that rows fetched at once are of: where few rows differ, few others are fetched with them."""
KEPT: Final = 2_000
"""Differences of each kind that are kept, the first in time. Their keys must fit into the text of a query (256 KiB)."""

UInts = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Found = dict[Difference, tuple[UInts, Ints]]
"""Keys and times of the rows of each kind."""
Span = tuple[int, int] | None
"""First and last time of a run's rows, ns; None where it has none."""


@dataclass(frozen=True, slots=True)
class RowHashes:
    """Rows of one run, in any order.

    Parameters
    ----------
    key
        Hash of each row's key, shape `(n,)`.
    row
        Hash of all its columns, shape `(n,)`.
    time
        Its time, ns, shape `(n,)`.
    """

    key: UInts
    row: UInts
    time: Ints

    def sorted(self) -> RowHashes:
        """Return the rows in order of their key's hash."""
        order = np.argsort(self.key)
        return RowHashes(self.key[order], self.row[order], self.time[order])


@dataclass(slots=True)
class DifferentRows:
    """The rows of a table that differ: how many there are, and the first ones.

    Parameters
    ----------
    kept
        Differences of each kind that are kept.
    equal
        Rows that are equal.
    counts
        Rows of each kind of difference.
    keys, times
        Hash of the key and time, ns, of the kept rows of each kind, in order of time.
    spans
        First and last time of the rows of each run.
    """

    kept: int = KEPT
    equal: int = 0
    counts: dict[Difference, int] = field(default_factory=lambda: {"only_a": 0, "only_b": 0, "differs": 0})
    keys: dict[Difference, UInts] = field(default_factory=dict)
    times: dict[Difference, Ints] = field(default_factory=dict)
    spans: tuple[Span, Span] = (None, None)

    def add(self, equal: int, found: Found) -> None:
        """Take the differences of a part."""
        self.equal += equal
        for kind, (keys, times) in found.items():
            self.counts[kind] += len(keys)
            if kind in self.keys:
                keys, times = np.concatenate((self.keys[kind], keys)), np.concatenate((self.times[kind], times))
            first = np.lexsort((keys, times))[: self.kept]
            self.keys[kind], self.times[kind] = keys[first], times[first]

    @property
    def first(self) -> int | None:
        """Time of the first difference, ns."""
        return min((int(times[0]) for times in self.times.values() if len(times)), default=None)


def compare_hashes(a: RowHashes, b: RowHashes) -> tuple[int, Found]:
    """Return how many rows of two runs are equal, and those that are not.

    Parameters
    ----------
    a, b
        The rows; a key is found once in each.

    Examples
    --------
    >>> a = RowHashes(np.array([1, 2], np.uint64), np.array([5, 6], np.uint64), np.array([10, 20]))
    >>> b = RowHashes(np.array([2, 3], np.uint64), np.array([7, 8], np.uint64), np.array([20, 30]))
    >>> equal, found = compare_hashes(a, b)
    >>> equal, {kind: keys.tolist() for kind, (keys, _) in found.items()}
    (0, {'only_a': [1], 'only_b': [3], 'differs': [2]})
    """
    a, b = a.sorted(), b.sorted()
    _, in_a, in_b = np.intersect1d(a.key, b.key, assume_unique=True, return_indices=True)
    other = a.row[in_a] != b.row[in_b]
    differing = a.key[in_a][other], np.minimum(a.time[in_a], b.time[in_b])[other]
    found: Found = {"only_a": _without(a, in_a), "only_b": _without(b, in_b), "differs": differing}
    return int(len(other) - other.sum()), found


def _without(rows: RowHashes, positions: npt.NDArray[np.intp]) -> tuple[UInts, Ints]:
    alone = np.ones(len(rows.key), dtype=np.bool_)
    alone[positions] = False
    return rows.key[alone], rows.time[alone]


def compare_rows(sides: Sides, tables: Sequence[ComparedTable], rows: int, *, chunk_rows: int) -> DifferentRows:
    """Compare the rows of one table.

    Parameters
    ----------
    sides
        The runs.
    tables
        The table as each side has it.
    rows
        Rows of the run that has more.
    chunk_rows
        Rows of each run that are fetched at once.
    """
    parts = max(1, -(-rows * _PARTS // chunk_rows))
    sums_a, sums_b = sides.ask(lambda store, side: _sums(store, sides.references[side].run_id, tables[side], parts))
    found = DifferentRows(spans=(_span(sums_a), _span(sums_b)))
    different = {}
    for part in sorted(sums_a.keys() | sums_b.keys()):
        a, b = sums_a.get(part), sums_b.get(part)
        if a is not None and a == b:
            found.equal += a.rows
        else:
            different[part] = max(sums.rows for sums in (a, b) if sums is not None)
    for chunk in _chunks(different, chunk_rows):
        where = f"_key % {parts} IN ({', '.join(map(str, chunk))})"

        def fetch(store: Store, side: int, where: str = where) -> RowHashes:
            return _fetch(store, sides.references[side].run_id, tables[side], where)

        found.add(*compare_hashes(*sides.ask(fetch)))
    return found


def _chunks(parts: dict[int, int], chunk_rows: int) -> Iterator[list[int]]:
    """Yield parts that together have no more rows than are fetched at once, or one that has more."""
    chunk: list[int] = []
    rows = 0
    for part, size in parts.items():
        if chunk and rows + size > chunk_rows:
            yield chunk
            chunk, rows = [], 0
        chunk.append(part)
        rows += size
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is known of a part without its rows."""

    rows: int
    total: int
    parity: int
    first: int
    last: int


def _span(sums: dict[int, _Sums]) -> Span:
    if not sums:
        return None
    return min(part.first for part in sums.values()), max(part.last for part in sums.values())


def _sums(store: Store, run_id: str, table: ComparedTable, parts: int) -> dict[int, _Sums]:
    sql = (
        f"SELECT _key % {parts} AS part, count(), sum(_row), groupBitXor(_row), min(_time), max(_time) "
        f"FROM ({table.select()}) GROUP BY part"
    )
    found = store.connection.rows(sql, {"run": run_id})
    return {int(part): _Sums(*map(int, sums)) for part, *sums in found}


def _fetch(store: Store, run_id: str, table: ComparedTable, where: str) -> RowHashes:
    found = store.connection.arrow(f"SELECT _key, _row, _time FROM ({table.select()}) WHERE {where}", {"run": run_id})
    columns: list[Any] = [found.column(name).to_numpy() for name in ("_key", "_row", "_time")]
    return RowHashes(*columns)
