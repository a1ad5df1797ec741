"""Counts the drifts that a process finds, by stream, for whoever asks how the run is."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas.enums import DriftDetector
from schemas.tables import DRIFT_EVENTS
from sinks.tee import ClosableWriter

__all__ = ["DriftTally", "StreamDrift"]


@dataclass(frozen=True, slots=True)
class StreamDrift:
    """Drifts of one stream.

    Parameters
    ----------
    events
        How many.
    ts
        Time of the latest, UTC ns.
    detector
        Who found the latest: a `DriftDetector` in lower case.
    """

    events: int
    ts: int
    detector: str


class DriftTally:
    """Looks at drifts on their way to a writer. Rows of other tables are handed on unseen.

    A process that is started anew counts from nothing: what it computes again after a crash counts in it, what a
    snapshot kept for the writer does not. There is an entry for each stream that drifted, and streams are as many as
    models and their inputs.

    Parameters
    ----------
    writer
        Takes all rows.
    """

    def __init__(self, writer: ClosableWriter) -> None:
        self._writer = writer
        self._found: dict[str, StreamDrift] = {}

    @property
    def found(self) -> dict[str, StreamDrift]:
        """Drifts since the start by `model/stream`, a copy; another thread may ask."""
        return self._found.copy()

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Hand rows on."""
        self._writer.write(table, rows)
        if table == DRIFT_EVENTS.name:
            self._count(rows)

    def restore(self, table: str, rows: pa.Table) -> None:
        """Hand on rows of before a crash."""
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

    def _count(self, rows: pa.RecordBatch) -> None:
        columns = (rows.column(name) for name in ("model", "stream", "detector"))
        times = rows.column("ts").cast(pa.int64()).to_pylist()
        for model, stream, code, ts in zip(*(column.to_pylist() for column in columns), times, strict=True):
            name = f"{model}/{stream}"
            latest = StreamDrift(1, ts, DriftDetector(code).name.lower())
            before = self._found.get(name)
            if before is not None:
                shown = latest if ts >= before.ts else before
                latest = StreamDrift(before.events + 1, shown.ts, shown.detector)
            self._found[name] = latest
