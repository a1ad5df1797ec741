"""Writes the rows of one file to the archive, in file order, and counts what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
UNSTARTED: Final = -1
"""Stands for the time of the last accepted row before there is one."""


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
        self._waiting: list[Chunk] = []
        self._last: dict[str, int] = {}
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
        if not self._rows.total():
            self._waiting.append(chunk)
            if self._quarantined.total() >= HOPELESS_ROWS:
                raise self._hopeless()
            return
        # The rows that waited were bad: they get the time of the first good one, whatever its topic.
        waiting, self._waiting = self._waiting, []
        if not self._last:
            first = int(times(chunk.batch, "ts_recv")[0])
            for early in waiting:
                self._append(early, first)
        self._append(chunk, self._last.get(chunk.topic, max(self._last.values(), default=UNSTARTED)))

    def _count(self, chunk: Chunk) -> None:
        if chunk.batch.num_rows:
            self._rows[chunk.topic] += chunk.batch.num_rows
        for row in chunk.bad:
            known = row.error in self._quarantined or len(self._quarantined) < _MAX_REASONS
            self._quarantined[row.error if known else "other"] += 1
        self._repaired.update(chunk.repaired)
        self._n_latency += len(chunk.latency)
        kept = np.concatenate([self._latency, chunk.latency])
        self._latency = np.partition(kept, _SKEW_KEPT)[:_SKEW_KEPT] if len(kept) > _SKEW_KEPT else kept

    def _append(self, chunk: Chunk, last: int) -> None:
        batch = _interleave(chunk, last)
        if not batch.num_rows:
            return
        if chunk.topic not in self._writers:
            self._writers[chunk.topic] = ArchiveWriter(self._archive, chunk.topic, self._source, note=self._note)
        self._writers[chunk.topic].append(batch)
        self._last[chunk.topic] = int(times(batch, "ts_recv")[-1])

    def _hopeless(self) -> InputError:
        reason, _ = self._quarantined.most_common(1)[0] if self._quarantined else ("no row", 0)
        raw = next((row.raw for chunk in self._waiting for row in chunk.bad), b"")
        return InputError(
            f"expected `{self._path}` to be of format `{self._importer.name}` ({self._importer.summary}), found no row "
            f"that is: {reason}, such as {raw[:80]!r}; name the format that the file has"
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
        for name in retire:
            if name not in self._writers:
                self._writers[name] = ArchiveWriter(self._archive, name, self._source, note=self._note)
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

    A quarantined row has its own time of receipt where it says one that lies between its accepted
    neighbours, else that of the one before it: a wrong stamp must not push the clock of those behind it.
    """
    if not chunk.bad:
        return chunk.batch
    good = times(chunk.batch, "ts_recv")
    stamps = [_stamp(row, chunk.positions, good, last) for row in chunk.bad]
    quarantined = make_batch(
        chunk.topic,
        {"ts_recv": stamps, "raw": [row.raw for row in chunk.bad], "error": [row.error for row in chunk.bad]},
        len(chunk.bad),
    )
    positions = np.concatenate([chunk.positions, [row.position for row in chunk.bad]])
    return concat_batches([chunk.batch, quarantined]).take(pa.array(np.argsort(positions, kind="stable")))


def _stamp(row: BadRow, positions: IntArray, good: IntArray, last: int) -> int:
    index = int(np.searchsorted(positions, row.position))
    before = int(good[index - 1]) if index else last
    after = int(good[index]) if index < len(good) else before
    if before == UNSTARTED:
        before = after
    own = before if row.ts_recv is None else row.ts_recv
    return min(max(own, before), max(after, before))
