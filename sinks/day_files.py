"""Parquet files of one topic, one per UTC day of receipt, hidden until they are published."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.batches import concat_batches, times

__all__ = ["ROW_GROUP_ROWS", "DayFiles", "sync_folder"]

ROW_GROUP_ROWS: Final = 131_072
"""Rows of a row group: large enough that a group costs less to open than to decode, small enough
that a replay of several topics holds only megabytes of each."""
_ROW_GROUP_BYTES: Final = 128 * 2**20
"""Bytes in memory at which a row group is written before it has all its rows: long texts, deep books."""
_LOOSE_BATCHES: Final = 256
"""Batches that are kept apart before they are put together: one of a live feed may be a single row, which takes some
kilobytes while it stands alone."""
_DAY_NS: Final = 86_400 * 10**9


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _File:
    """One file while it is written, under a hidden name."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._loose: list[pa.RecordBatch] = []
        self._joined: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._sink = path.open("wb")
        dictionaries = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        self._writer: Any = pq.ParquetWriter(
            self._sink,
            schema,
            compression="lz4",
            use_dictionary=dictionaries,
            write_page_checksum=True,  # damage on disk is an error, never other numbers
        )

    def append(self, batch: pa.RecordBatch) -> None:
        self._loose.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= ROW_GROUP_ROWS or self._bytes >= _ROW_GROUP_BYTES:
            self._flush()
        elif len(self._loose) >= _LOOSE_BATCHES:
            self._joined.append(concat_batches(self._loose))
            self._loose = []

    def _flush(self) -> None:
        pending = [*self._joined, *self._loose]
        if pending:
            self._loose, self._joined, self._rows, self._bytes = [], [], 0, 0
            table = pa.Table.from_batches(pending).unify_dictionaries()
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def tell(self) -> int:
        return self._sink.tell()

    def finish(self, *, durable: bool) -> None:
        self._flush()
        self._writer.close()
        self._sink.flush()
        if durable:
            os.fsync(self._sink.fileno())
        self._sink.close()

    def discard(self) -> None:
        # what could not be written cannot be finished either: the file is removed anyway
        with suppress(OSError):
            self._writer.close()
        self._writer.is_open = False
        with suppress(OSError):
            self._sink.close()
        self.path.unlink(missing_ok=True)


class DayFiles:
    """The files `FOLDER/YYYY-MM-DD/NUMBER.parquet` of a topic, for records in arrival order.

    Only the file of the latest day is open. Nothing is seen under its name before `publish`.

    Parameters
    ----------
    folder
        Folder of the topic.
    number
        Number in the names.
    schema
        Schema of the records.
    durable
        Whether what is published outlasts a loss of power: costs a wait for the disk per file.
    """

    def __init__(self, folder: Path, number: int, schema: pa.Schema, *, durable: bool = False) -> None:
        self._folder = folder
        self._number = number
        self._schema = schema
        self._durable = durable
        self._day: int | None = None
        self._open: _File | None = None
        self._finished: list[Path] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes on disk; what waits for its row group is not among them."""
        return self._size + (self._open.tell() if self._open is not None else 0)

    def append(self, batch: pa.RecordBatch) -> None:
        """Append records; `ts_recv` never goes back, within the batch nor behind the one before."""
        days = times(batch, "ts_recv") // _DAY_NS
        cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), batch.num_rows]
        for start, stop in pairwise(cuts):
            self._file(int(days[start])).append(batch.slice(start, stop - start))

    def _file(self, day: int) -> _File:
        if self._open is None or day != self._day:
            self.finish()
            folder = self._folder / str(np.datetime64(day, "D"))
            folder.mkdir(parents=True, exist_ok=True)
            self._day, self._open = day, _File(folder / f".{self._number:05d}.tmp", self._schema)
        return self._open

    def finish(self) -> None:
        """Write out the open file; records that follow must be of a later day."""
        if self._open is not None:
            self._size += self._finish(self._open)
            self._finished.append(self._open.path)
            self._open = None

    def _finish(self, file: _File) -> int:
        file.finish(durable=self._durable)
        return file.path.stat().st_size

    def publish(self) -> int:
        """Finish, give the files their names, and return how many there are."""
        self.finish()
        for temporary in self._finished:
            os.replace(temporary, temporary.with_name(f"{self._number:05d}.parquet"))
        if self._durable:
            for folder in sorted({temporary.parent for temporary in self._finished}):
                sync_folder(folder)
            sync_folder(self._folder)
            sync_folder(self._folder.parent)
        count, self._finished = len(self._finished), []
        return count

    def discard(self) -> None:
        """Remove what has not been published."""
        if self._open is not None:
            self._open.discard()
            self._open = None
        for temporary in self._finished:
            temporary.unlink(missing_ok=True)
        self._finished = []
