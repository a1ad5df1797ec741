"""A writer that keeps rows in memory: for tests and notebooks, with the same rule of natural keys."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from schemas.tables import TABLES

__all__ = ["MemoryWriter"]


class MemoryWriter:
    """Takes rows as `sinks.writer.BufferedWriter` does.

    A row written again replaces the one with its natural key, so `tables` is what a database would show.

    Examples
    --------
    >>> writer = MemoryWriter()
    >>> rows = pa.RecordBatch.from_pylist([{"kind": "read", "subject": "trades", "reason": "", "count": 3}])
    >>> writer.write("run_counts", rows)
    >>> writer.write("run_counts", rows)
    >>> writer.flush()
    >>> writer.rows("run_counts")
    [{'kind': 'read', 'subject': 'trades', 'reason': '', 'count': 3}]
    """

    def __init__(self) -> None:
        self._stored: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        self._pending: list[tuple[str, pa.RecordBatch]] = []

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Take rows."""
        self._pending.append((table, rows))

    def restore(self, table: str, rows: pa.Table) -> None:
        """Take rows that a snapshot kept."""
        self._pending.extend((table, batch) for batch in rows.to_batches())

    def secure(self, table: str, most: int) -> pa.Table | None:
        """Return the rows of a table that wait; store all where there are more than `most`."""
        waiting = [rows for name, rows in self._pending if name == table]
        if sum(rows.num_rows for rows in waiting) > most:
            self.flush()
            return None
        return pa.Table.from_batches(waiting).unify_dictionaries() if waiting else None

    def flush(self) -> None:
        """Store what was written."""
        for table, rows in self._pending:
            stored = self._stored.setdefault(table, {})
            key = [name for name in TABLES[table].key if name != "run_id"]
            for row in _plain(rows):
                stored[tuple(row[name] for name in key)] = row
        self._pending = []

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the stored rows of a table, ordered by their natural key."""
        stored = self._stored.get(table, {})
        return [stored[key] for key in sorted(stored)]


def _plain(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as Python values; times as int64 ns, NaN as None so that rows compare."""
    columns = []
    for column in rows.columns:
        values = column.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(column.type) else column.to_pylist()
        columns.append([None if isinstance(value, float) and value != value else value for value in values])
    return [dict(zip(rows.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
