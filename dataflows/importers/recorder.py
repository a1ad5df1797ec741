"""Writes the rows of one file to the archive, in file order, and counts what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from dataflows.importers.base import BadRow, Chunk, FileReport, Importer
from operators.columns import IntArray
from schemas.batches import concat_batches, make_batch, times
from schemas.errors import InputError
from sinks.archive import Archive, ArchiveWriter

__all__ = ["FileRecorder"]

HOPELESS_ROWS: Final = 1_000
"""Rows of which not one could be read, after which a file is taken for another format's."""
_MAX_REASONS: Final = 64
"""Reasons counted apart per file; the rest is counted together."""
_SKEW_QUANTILE: Final = 0.001
"""The shortest latencies show the clocks' difference best; the very shortest may be a wrong stamp."""
_SKEW_KEPT: Final = 4_096
"""Smallest differences kept: the quantile is exact to four million rows, and near it beyond."""
_MAX_WAITING: Final = 100_000
"""Bad rows held for the first accepted row of their topic; some 20 MB of lines."""


class FileRecorder:
    """Writes the chunks of one file: a source per topic, none opened before the file's first accepted row.

    Use it as a context manager: an exception removes what was written.

    Parameters
    ----------
    archive
        The archive.
    source
        Name of the source.
    note
        What to keep with each source in the manifest.
    path
        The file.
    importer
        Its format.
    """

    def __init__(self, archive: Archive, source: str, note: dict[str, Any], path: Path, importer: Importer) -> None:
        self._archive = archive
        self._source = source
        self._note = note
        self._path = path
        self._importer = importer
        self._writers: dict[str, ArchiveWriter] = {}
        self._waiting: dict[str, list[BadRow]] = {}
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._sample: bytes | None = None
        self._rows: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._latency: IntArray = np.zeros(0, dtype=np.int64)
        self._n_latency = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for writer in self._writers.values():
                writer.abort()

    @property
    def read(self) -> int:
        """Rows so far, accepted and quarantined."""
        return self._rows.total() + self._quarantined.total()

    def write(self, chunk: Chunk) -> None:
        """Take the next rows.

        Raises
        ------
        InputError
            So many rows in a row are no rows of this format that the file must be of another.
        """
        self._count(chunk)
        if not self._rows.total() and self._quarantined.total() >= HOPELESS_ROWS:
            raise self._hopeless()
        if chunk.batch.num_rows or chunk.topic in self._last:
            self._append(chunk)
        else:
            self._wait(chunk)

    def _count(self, chunk: Chunk) -> None:
        if chunk.batch.num_rows:
            self._rows[chunk.topic] += chunk.batch.num_rows
        if chunk.bad and self._sample is None:
            self._sample = chunk.bad[0].raw
        for row in chunk.bad:
            known = row.error in self._quarantined or len(self._quarantined) < _MAX_REASONS
            self._quarantined[row.error if known else "other"] += 1
        self._repaired.update(chunk.repaired)
        self._n_latency += len(chunk.latency)
        kept = np.concatenate([self._latency, chunk.latency])
        self._latency = np.partition(kept, _SKEW_KEPT)[:_SKEW_KEPT] if len(kept) > _SKEW_KEPT else kept

    def _wait(self, chunk: Chunk) -> None:
        """Hold bad rows until their topic has an accepted one, from which they get their time."""
        waiting = self._waiting.setdefault(chunk.topic, [])
        waiting += chunk.bad
        if len(waiting) > _MAX_WAITING and self._first:
            self._release(chunk.topic, min(self._first.values()))

    def _release(self, name: str, ts_recv: int) -> None:
        rows = self._waiting.pop(name, [])
        if rows:
            self._writer(name).append(_quarantined(name, rows, np.full(len(rows), ts_recv, dtype=np.int64)))
        self._last.setdefault(name, ts_recv)

    def _append(self, chunk: Chunk) -> None:
        good = times(chunk.batch, "ts_recv")
        if len(good):
            self._first.setdefault(chunk.topic, int(good[0]))
            self._release(chunk.topic, int(good[0]))
        last = self._last[chunk.topic]
        self._writer(chunk.topic).append(_interleave(chunk, last))
        self._last[chunk.topic] = max(last, int(good.max(initial=last)))

    def _writer(self, name: str) -> ArchiveWriter:
        if name not in self._writers:
            self._writers[name] = ArchiveWriter(self._archive, name, self._source, note=self._note)
        return self._writers[name]

    def _hopeless(self) -> InputError:
        reason, _ = self._quarantined.most_common(1)[0] if self._quarantined else ("no row", 0)
        sample = "" if self._sample is None else f", such as {self._sample[:80]!r}"
        return InputError(
            f"expected `{self._path}` to be of format `{self._importer.name}` ({self._importer.summary}), found no row "
            f"that is: {reason}{sample}; name the format that the file has"
        )

    @property
    def skew_ns(self) -> int | None:
        """Low quantile of `ts_recv - ts_event`, ns, or None where no row has two clocks."""
        if not self._n_latency:
            return None
        rank = min(int(self._n_latency * _SKEW_QUANTILE), len(self._latency) - 1)
        return int(np.partition(self._latency, rank)[rank])

    def finish(self, retire: Iterable[str]) -> None:
        """Publish every topic; those in `retire` that an earlier import wrote and this one did not become empty.

        Raises
        ------
        InputError
            No row of the file could be read.
        """
        if not self._rows.total():
            raise self._hopeless()
        for name in list(self._waiting):
            self._release(name, min(self._first.values()))
        for name in retire:
            self._writer(name)
        topics = sorted(self._writers)
        for name in topics:
            self._writers[name].note(topics=topics, skew_ns=self.skew_ns, quarantined=dict(self._quarantined))
        for name in topics:
            self._writers[name].close()

    def report(self, *, seconds: float, remarks: tuple[str, ...]) -> FileReport:
        """Return what became of the file."""
        return FileReport(
            path=self._path,
            source=self._source,
            rows=dict(sorted(self._rows.items())),
            quarantined=dict(self._quarantined),
            repaired=dict(self._repaired),
            order_violations=sum(writer.order_violations for writer in self._writers.values()),
            skew_ns=self.skew_ns,
            seconds=seconds,
            remarks=remarks,
        )


def _interleave(chunk: Chunk, last: int) -> pa.RecordBatch:
    """Return accepted and quarantined rows in file order.

    A quarantined row has the time of receipt of the accepted row before it, not the one that it says: a
    wrong stamp must not push the clock of the rows behind it.
    """
    if not chunk.bad:
        return chunk.batch
    bad = np.array([row.position for row in chunk.bad], dtype=np.int64)
    clock = np.maximum.accumulate(np.concatenate([[last], times(chunk.batch, "ts_recv")]))
    stamps = clock[np.searchsorted(chunk.positions, bad)]
    positions = np.concatenate([chunk.positions, bad])
    rows = concat_batches([chunk.batch, _quarantined(chunk.topic, chunk.bad, stamps)])
    return rows.take(pa.array(np.argsort(positions, kind="stable")))


def _quarantined(name: str, rows: Sequence[BadRow], stamps: IntArray) -> pa.RecordBatch:
    columns = {"ts_recv": stamps, "raw": [row.raw for row in rows], "error": [row.error for row in rows]}
    return make_batch(name, columns, len(rows))
