"""Warns when records came behind the clock of their source, which makes a live run differ from its replay."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from schemas.enums import CountKind
from schemas.tables import RUN_COUNTS
from sinks.tee import ClosableWriter

__all__ = ["OrderWarning"]

_LOG: Final = logging.getLogger(__name__)


class OrderWarning:
    """Looks at the counters of a run on their way to a writer, and logs one warning for each topic.

    The counters go on where a run does, so a run that is resumed is warned of again.

    Parameters
    ----------
    writer
        Takes all rows.
    remedies
        What to do, by topic; nothing is said of others.
    """

    def __init__(self, writer: ClosableWriter, remedies: Mapping[str, str]) -> None:
        self._writer = writer
        self._remedies = dict(remedies)

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Hand rows on."""
        if table == RUN_COUNTS.name and self._remedies:
            self._look(rows)
        self._writer.write(table, rows)

    def restore(self, table: str, rows: pa.Table) -> None:
        """Hand on rows that were looked at before a crash."""
        self._writer.restore(table, rows)

    def secure(self, table: str, most: int) -> pa.Table | None:
        """Return what the writer has not stored."""
        return self._writer.secure(table, most)

    def flush(self) -> None:
        """Flush the writer."""
        self._writer.flush()

    def close(self) -> None:
        """Close the writer."""
        self._writer.close()

    def _look(self, rows: pa.RecordBatch) -> None:
        for row in rows.to_pylist():
            if row["kind"] == CountKind.ORDER_VIOLATION.value and row["count"]:
                remedy = self._remedies.pop(row["subject"], None)
                if remedy is not None:
                    _LOG.warning(
                        "topic `%s`: expected records no older than the clock of their partition, found %d since the "
                        "run began; they were raised to it, and a replay of them can differ: %s",
                        row["subject"], row["count"], remedy,
                    )  # fmt: skip
