"""Rows of consecutive Arrow records: checked one by one, brought into columns together.

Most of what a record of a thousand rows costs is the same for ten times as many. So the streams of one schema that
follow each other are joined before their columns are made. What is refused is decided for each record alone: where
anything is wrong with the joined ones, they are done again one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.sources.kafka_arrow import open_stream, read_columns
from schemas.batches import concat_batches, make_batch, times
from schemas.errors import DataError
from schemas.wire import printable

__all__ = ["ROWS_PER_RECORD", "ArrowRows"]

ROWS_PER_RECORD: Final = 2**20
"""Most rows of an Arrow record. Row `i` of the record at offset `o` stands at `o * 2**20 + i`, so that every row of a
partition keeps a place of its own; an int64 has room for 2**43 such records."""


@dataclass(frozen=True, slots=True)
class _Record:
    """One record: its stream, or why there is none; neither where it only moves the clock."""

    value: bytes
    offset: int
    stamp: int
    table: pa.Table | None = None
    fault: str = ""

    @property
    def schema(self) -> pa.Schema | None:
        return None if self.table is None else self.table.schema

    @property
    def n_rows(self) -> int:
        return self.table.num_rows if self.table is not None else int(bool(self.fault))


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of some records, and the times of them and of the records without rows, in order."""

    batch: pa.RecordBatch
    stamps: npt.NDArray[np.int64]
    is_row: npt.NDArray[np.bool_]


class ArrowRows:
    """Reads the Arrow records of one partition.

    Parameters
    ----------
    topic
        Our name of the topic.
    partition
        Number of the partition.
    own_time
        Whether the rows carry `ts_recv`.
    """

    def __init__(self, topic: str, partition: int, *, own_time: bool) -> None:
        self._topic = topic
        self._partition = partition
        self._own_time = own_time

    def read(
        self,
        values: Sequence[bytes | None],
        offsets: npt.NDArray[np.int64],
        stamps: npt.NDArray[np.int64],
        faults: dict[int, str],
        beats: set[int],
    ) -> tuple[pa.RecordBatch | None, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the rows, None if there are none, and the times in order.

        Parameters
        ----------
        values
            Bytes of each record; at least one.
        offsets
            Where each stands.
        stamps
            Time of each by its transport, int64 UTC ns.
        faults
            What is wrong with a record, whatever its bytes, by its place here.
        beats
            Records that only move the clock.

        Returns
        -------
        batch
            Archive schema of the topic. A refused record is one row of its bytes and its error.
        stamps
            Time of every row, and of every record without a row.
        is_row
            Which of the times are those of rows.
        """
        records = [
            _Record(b"", offset, stamp)
            if row in beats
            else self._open(_Record(value or b"", offset, stamp, fault=faults.get(row, "")))
            for row, (value, offset, stamp) in enumerate(zip(values, offsets.tolist(), stamps.tolist(), strict=True))
        ]
        parts = [part for schema, run in groupby(records, lambda record: record.schema) for part in self._join([*run])]
        batches = [part.batch for part in parts if part.batch.num_rows]
        return (
            concat_batches(batches) if batches else None,
            np.concatenate([part.stamps for part in parts]),
            np.concatenate([part.is_row for part in parts]),
        )

    def _open(self, record: _Record) -> _Record:
        if record.fault:
            return record
        try:
            table = open_stream(record.value, ROWS_PER_RECORD)
        except DataError as error:
            return _refused(record, error)
        return _Record(record.value, record.offset, record.stamp, table)

    def _join(self, records: list[_Record]) -> list[_Part]:
        """Return the rows of records with one schema, all at once if nothing is wrong with any of them."""
        if records[0].table is None:
            return [self._part([record], _raw(record)) for record in records]
        try:
            return [self._part(records, self._columns(records))]
        except (DataError, pa.ArrowException) as error:
            if len(records) > 1:
                return [part for record in records for part in self._join([record])]
            if not isinstance(error, DataError):
                raise
            return self._join([_refused(records[0], error)])

    def _columns(self, records: list[_Record]) -> dict[str, Any]:
        tables = [record.table for record in records]
        return read_columns(self._topic, tables[0] if len(tables) == 1 else tables, own_time=self._own_time)

    def _part(self, records: list[_Record], columns: dict[str, Any]) -> _Part:
        counts = np.array([record.n_rows for record in records], dtype=np.int64)
        n_rows = int(counts.sum())
        first = np.array([record.offset * ROWS_PER_RECORD for record in records], dtype=np.int64)
        before = np.cumsum(counts) - counts
        lengths = np.maximum(counts, 1)
        stamps = np.repeat(np.array([record.stamp for record in records], dtype=np.int64), lengths)
        is_row = np.repeat(counts > 0, lengths)
        columns.setdefault("ts_recv", stamps[is_row])
        columns["partition"] = np.full(n_rows, self._partition, dtype=np.int32)
        columns["offset"] = np.repeat(first - before, counts) + np.arange(n_rows)
        batch = make_batch(self._topic, columns, n_rows)
        stamps[is_row] = times(batch, "ts_recv")
        return _Part(batch, stamps, is_row)


def _refused(record: _Record, error: DataError) -> _Record:
    return _Record(record.value, record.offset, record.stamp, fault=error.detail)


def _raw(record: _Record) -> dict[str, Any]:
    return {"raw": [record.value], "error": [printable(record.fault)]} if record.fault else {}
