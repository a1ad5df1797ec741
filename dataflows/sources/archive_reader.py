"""Reads one topic of an archive in arrival order, a time slice at a time.

The files of a topic may overlap in time (two imported captures of one day). The reader keeps a cursor
on each, decodes row groups only when their turn comes, one ahead in a thread of its own, and merges
what falls below the asked time by `(ts_recv, partition, offset)`.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.batches import concat_batches, integers, take, times
from schemas.errors import InputError, VersionError
from schemas.records import archive_schema, topic

__all__ = ["GroupSpan", "Position", "TopicReader", "group_spans"]

Position = tuple[int, int, int]
"""Place of a record in its topic's arrival order: `(ts_recv, partition, offset)`."""


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """One row group: when its first and last record arrived, and how many it has."""

    first: int
    last: int
    rows: int


class _File:
    """One Parquet file, checked at once and open only while it is read: a recording of months has thousands."""

    def __init__(self, path: Path, topic_name: str) -> None:
        self.path = path
        self._topic = topic_name
        self._open: pq.ParquetFile | None = None
        try:
            with pq.ParquetFile(path) as file:
                self._metadata = file.metadata
                self._check_schema(file.schema_arrow)
            self.spans = [self._span(group) for group in range(self._metadata.num_row_groups)]
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(
                f"expected a Parquet file of the archive in `{path}`, found {error}; import its source again"
            ) from error
        for group, (before, span) in enumerate(pairwise(self.spans), start=1):
            if span.first < before.last:
                raise self._unsorted(group)

    def _check_schema(self, found: pa.Schema) -> None:
        version = int((found.metadata or {}).get(b"signalbox.version", b"0"))
        known: int = topic(self._topic).version
        if version > known:
            raise VersionError(
                f"expected `{self._topic}` records of version {known} or older in `{self.path}`, found version "
                f"{version}; upgrade signalbox"
            )
        expected = archive_schema(self._topic)
        if not found.equals(expected):
            raise InputError(
                f"expected the columns of `{self._topic}` ({expected.names}) in `{self.path}`, found {found.names}; "
                "import its source again"
            )

    def _span(self, group: int) -> GroupSpan:
        meta = self._metadata.row_group(group)
        for index in range(meta.num_columns):
            column = meta.column(index)
            if column.path_in_schema == "ts_recv" and column.statistics is not None:
                low, high = column.statistics.min_raw, column.statistics.max_raw
                return GroupSpan(int(low), int(high), meta.num_rows)
        raise InputError(f"expected statistics of `ts_recv` in `{self.path}`, found none; import its source again")

    def read(self, group: int) -> pa.RecordBatch:
        """Decode one row group and check its order.

        Raises
        ------
        InputError
            The data is damaged or not in arrival order.
        """
        try:
            if self._open is None:
                self._open = pq.ParquetFile(
                    self.path, metadata=self._metadata, memory_map=True, page_checksum_verification=True
                )
            batch = concat_batches(self._open.read_row_group(group, use_threads=False).to_batches())
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"expected row group {group} of `{self.path}`, found damage: {' '.join(str(error).split())}; "
                "import its source again"
            ) from error
        if np.any(np.diff(times(batch, "ts_recv")) < 0):
            raise self._unsorted(group)
        return batch

    def _unsorted(self, group: int) -> InputError:
        return InputError(
            f"expected `ts_recv` that never decreases in `{self.path}`, found a step back in row group {group}; "
            "import its source again"
        )


class _Cursor:
    """Walks one file, with the next row group decoded ahead."""

    def __init__(self, file: _File, pool: ThreadPoolExecutor) -> None:
        self._file = file
        self._pool = pool
        self._group = 0
        self._batch: pa.RecordBatch | None = None
        self._ahead: Future[pa.RecordBatch] | None = None

    @property
    def done(self) -> bool:
        return self._batch is None and self._group >= len(self._file.spans)

    def skip_to(self, ts: int) -> None:
        """Leave out row groups that end before `ts`."""
        while self._group < len(self._file.spans) and self._file.spans[self._group].last < ts:
            self._group += 1

    def take_below(self, cut: int) -> list[pa.RecordBatch]:
        """Return the next records with `ts_recv < cut`."""
        taken: list[pa.RecordBatch] = []
        while True:
            if self._batch is None and not self._load(cut):
                return taken
            assert self._batch is not None
            stop = int(np.searchsorted(times(self._batch, "ts_recv"), cut, side="left"))
            if stop:
                taken.append(self._batch.slice(0, stop))
            if stop < self._batch.num_rows:
                self._batch = self._batch.slice(stop)
                return taken
            self._batch = None

    def _load(self, cut: int) -> bool:
        if self._group >= len(self._file.spans) or self._file.spans[self._group].first >= cut:
            return False
        self._batch = self._ahead.result() if self._ahead is not None else self._file.read(self._group)
        self._group += 1
        more = self._group < len(self._file.spans)
        self._ahead = self._pool.submit(self._file.read, self._group) if more else None
        return True


class TopicReader:
    """The records of one topic in arrival order.

    Parameters
    ----------
    topic_name
        Topic.
    files
        Its files.
    start
        First `ts_recv`, inclusive, ns.
    stop
        Last `ts_recv`, exclusive, ns.
    after
        Position of a record; reading goes on behind it.

    Raises
    ------
    InputError
        A file is unreadable or not of the archive.
    VersionError
        A newer version wrote a file.
    """

    def __init__(
        self, topic_name: str, files: tuple[Path, ...], start: int, stop: int, after: Position | None = None
    ) -> None:
        self._topic = topic_name
        self._stop = stop
        self._after = after
        self._start = max(start, after[0]) if after else start
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"archive-{topic_name}")
        self._cursors = [_Cursor(_File(path, topic_name), self._pool) for path in files]
        for cursor in self._cursors:
            cursor.skip_to(self._start)

    def take_below(self, cut: int) -> pa.RecordBatch | None:
        """Return all records not yet returned with `ts_recv < cut`, or None if there are none."""
        parts: list[pa.RecordBatch] = []
        contributors = 0
        for cursor in self._cursors:
            taken = cursor.take_below(min(cut, self._stop))
            contributors += bool(taken)
            parts.extend(taken)
        self._cursors = [cursor for cursor in self._cursors if not cursor.done]
        if not parts:
            return None
        batch = concat_batches(parts)
        if contributors > 1:
            batch = take(batch, np.lexsort((integers(batch, "offset"), _partitions(batch), times(batch, "ts_recv"))))
        return self._after_start(batch)

    def _after_start(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        recv = times(batch, "ts_recv")
        if recv[0] > self._start:
            return batch
        first = int(np.searchsorted(recv, self._start, side="left"))
        if self._after is not None:
            # within the nanosecond of the position, partition and offset decide
            tied = int(np.searchsorted(recv, self._start, side="right"))
            place = list(zip(_partitions(batch)[first:tied], integers(batch, "offset")[first:tied], strict=True))
            first += sum(1 for partition, offset in place if (partition, offset) <= self._after[1:])
        return batch.slice(first) if first < batch.num_rows else None

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _partitions(batch: pa.RecordBatch) -> npt.NDArray[Any]:
    return integers(batch, "partition")


def group_spans(topic_name: str, files: tuple[Path, ...]) -> list[GroupSpan]:
    """Return the spans of every row group of a topic, from the files' footers alone.

    Raises
    ------
    InputError
        A file is unreadable or not of the archive.
    """
    return [span for path in files for span in _File(path, topic_name).spans]
