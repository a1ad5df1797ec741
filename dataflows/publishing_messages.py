"""From the rows of an archive to Kafka records: their bytes, their partitions and their times.

The partition of a row is the CRC-32 of its instrument modulo the topic's partitions, whatever the format; a row
without an instrument goes to partition 0. Rows that are kept as bytes become those bytes again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.sources.kafka_config import KafkaTopic
from dataflows.sources.kafka_decode import ROWS_PER_RECORD
from schemas.batches import concat_batches, integers, symbols, take, times
from schemas.errors import ConfigError
from schemas.records import topic as topic_schema
from schemas.wire import Clock, decode, encode, peek_instrument

__all__ = ["MessageEncoder", "Messages", "partition_of"]

IntArray = npt.NDArray[np.int64]

_STREAM_BYTES: Final = 900_000
"""Longest Arrow stream that is made of more than one row: brokers and clients take messages of up to about 1 MB where
nobody has configured more."""
_SPACE: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Messages:
    """Kafka records of one topic in arrival order.

    Parameters
    ----------
    ts
        When each arrived, UTC ns, shape `(m,)`; of an Arrow record, when its last row did.
    partitions
        Partition of each, shape `(m,)`.
    values
        Bytes of each; None is a heartbeat, for its partition alone.
    keys
        Instrument of each, where it has one.
    rows
        Rows that each holds, shape `(m,)`; 0 for a heartbeat.
    raw_rows
        How many of all rows are bytes as the archive kept them.
    """

    ts: IntArray
    partitions: IntArray
    values: list[bytes | None]
    keys: list[bytes | None]
    rows: IntArray
    raw_rows: int


def partition_of(instrument_id: str | None, partitions: int) -> int:
    """Return the partition of an instrument's records.

    Examples
    --------
    >>> partition_of("BTCUSDT", 4), partition_of("ETHUSDT", 4), partition_of(None, 4)
    (3, 0, 0)
    """
    return crc32((instrument_id or "").encode()) % partitions


class MessageEncoder:
    """Encodes the rows of one topic.

    Parameters
    ----------
    topic
        Our name of the topic.
    config
        Its clock and format.
    partitions
        Number of its partitions.
    rows_per_record
        Most rows of an Arrow record.
    span_ns
        Where the time is cut: an Arrow record holds rows of one span of this length only. 0 does not cut.

    Raises
    ------
    ConfigError
        The format cannot be published, or a record cannot have so many rows.

    Notes
    -----
    With `clock = "record"` bytes that cannot be decoded do not say when they arrived. A heartbeat before them, for
    their partition alone, says it, so that they are read back with the time that the archive has. Bytes that can be
    decoded get their time as a last member `ts_recv`; in an Arrow record they become columns.

    JSON knows neither NaN nor infinity: they are published as no value.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> columns = {"instrument_id": ["A"], "ts_event": [7], "ts_recv": [9], "price": [0.1], "size": [2.0], "side": [1]}
    >>> messages = MessageEncoder("trades", KafkaTopic(), 4).encode(make_batch("trades", columns, 1))
    >>> messages.partitions.tolist(), messages.keys, messages.values
    ([3], [b'A'], [b'{"instrument_id":"A","ts_event":7,"price":0.1,"size":2.0,"side":"buy"}'])
    """

    def __init__(
        self, topic: str, config: KafkaTopic, partitions: int, *, rows_per_record: int = 1_000, span_ns: int = 0
    ) -> None:
        encoders: dict[str, Callable[[pa.RecordBatch], Messages]] = {"json": self._json, "arrow": self._arrow}
        if config.format not in encoders:
            raise ConfigError(
                f"expected a format of `{topic}` among {', '.join(encoders)}, found `{config.format}`, which cannot be "
                "published; choose one in `[kafka.topics]`"
            )
        if not 1 <= rows_per_record <= ROWS_PER_RECORD:
            raise ConfigError(f"expected 1 to {ROWS_PER_RECORD} rows in an Arrow record, found {rows_per_record}")
        self._topic = topic
        self._partitions = partitions
        self._rows_per_record = rows_per_record
        self._span_ns = span_ns
        self._clock: Clock = "record" if config.clock == "record" else "transport"
        self._columns = [name for name in topic_schema(topic).names if name != "ts_recv" or self._clock == "record"]
        self._required = {field.name for field in topic_schema(topic).fields if not field.nullable}
        self.encode = encoders[config.format]
        """Takes rows with the archive schema in arrival order, and returns them as messages."""

    def _json(self, batch: pa.RecordBatch) -> Messages:
        values: list[bytes | None] = list(encode(self._topic, batch, clock=self._clock))
        kept = _kept_bytes(batch)
        partitions, keys = self._places(batch, kept)
        ts, rows = times(batch, "ts_recv"), np.ones(batch.num_rows, dtype=np.int64)
        untimed: list[int] = []
        if kept:
            untimed = self._put_bytes(batch, kept, values)
        messages = Messages(ts, partitions, values, keys, rows, len(kept))
        return _with_heartbeats(messages, untimed) if untimed and self._clock == "record" else messages

    def _put_bytes(self, batch: pa.RecordBatch, kept: dict[int, bytes], values: list[bytes | None]) -> list[int]:
        """Put kept bytes in place, and return the rows whose message says no time."""
        readable = set(_readable(self._topic, batch, kept)) if self._clock == "record" else set()
        ts = times(batch, "ts_recv")
        for row, payload in kept.items():
            values[row] = _with_time(payload, int(ts[row])) if row in readable else payload
        return [row for row in kept if row not in readable]

    def _arrow(self, batch: pa.RecordBatch) -> Messages:
        kept = _kept_bytes(batch)
        partitions, keys = self._places(batch, kept)
        if kept:
            good = _readable(self._topic, batch, kept)
            batch = _decoded(self._topic, batch, kept, good)
            kept = {row: payload for row, payload in kept.items() if row not in set(good)}
        alone = np.zeros(batch.num_rows, dtype=np.bool_)
        alone[list(kept)] = True
        ts = times(batch, "ts_recv")
        values: list[bytes | None] = []
        named: list[bytes | None] = []
        last: list[int] = []
        rows: list[int] = []
        for group in self._groups(ts, partitions, alone):
            if alone[group[0]]:
                found = [(kept[int(group[0])], 1)]
            else:
                found = self._streams(take(batch.select(self._columns), group))
            stops = np.cumsum([count for _, count in found]) - 1
            values += [value for value, _ in found]
            rows += [count for _, count in found]
            last += group[stops].tolist()
            named += [keys[group[0]] if alone[group[0]] else None] * len(found)
        order = np.argsort(np.array(last, dtype=np.int64), kind="stable")  # rows stand in arrival order
        last_row = np.array(last, dtype=np.int64)[order]
        messages = Messages(
            ts[last_row],
            partitions[last_row],
            [values[place] for place in order.tolist()],
            [named[place] for place in order.tolist()],
            np.array(rows, dtype=np.int64)[order],
            len(kept),
        )
        untimed = np.flatnonzero(alone[last_row]).tolist()
        return _with_heartbeats(messages, untimed) if untimed and self._clock == "record" else messages

    def _groups(self, ts: IntArray, partitions: IntArray, alone: npt.NDArray[np.bool_]) -> list[IntArray]:
        """Return the rows of each record, partition by partition, in order."""
        groups: list[IntArray] = []
        for partition in np.unique(partitions):
            rows = np.flatnonzero(partitions == partition)
            begins = alone[rows] | np.concatenate(([True], alone[rows][:-1]))
            if self._span_ns:
                begins[1:] |= np.diff(ts[rows] // self._span_ns) != 0
            for run in np.split(rows, np.flatnonzero(begins)[1:]):
                groups += np.split(run, range(self._rows_per_record, len(run), self._rows_per_record))
        return groups

    def _streams(self, batch: pa.RecordBatch) -> list[tuple[bytes, int]]:
        """Return rows as Arrow streams with the number of rows of each: one, or more where it would be too long."""
        value = _stream(batch, self._required)
        if len(value) <= _STREAM_BYTES or batch.num_rows == 1:
            return [(value, batch.num_rows)]
        half = batch.num_rows // 2
        return self._streams(batch.slice(0, half)) + self._streams(batch.slice(half))

    def _places(self, batch: pa.RecordBatch, kept: dict[int, bytes]) -> tuple[IntArray, list[bytes | None]]:
        """Return partition and key of each row."""
        codes, names = symbols(batch, "instrument_id")
        numbers = np.array([partition_of(name, self._partitions) for name in (*names, None)], dtype=np.int64)
        encoded = [name.encode() if name is not None else None for name in (*names, None)]
        partitions, keys = numbers[codes], [encoded[code] for code in codes.tolist()]
        for row, payload in kept.items():
            if codes[row] < 0 and (name := peek_instrument(payload)) is not None:
                partitions[row], keys[row] = partition_of(name, self._partitions), name.encode()
        return partitions, keys


def _kept_bytes(batch: pa.RecordBatch) -> dict[int, bytes]:
    """Return the bytes of each row that was not decoded; a row that was refused without bytes has none."""
    raw, error = batch.column("raw"), batch.column("error")
    if raw.null_count == error.null_count == batch.num_rows:
        return {}
    rows = np.flatnonzero((raw.is_valid().to_numpy(False)) | (error.is_valid().to_numpy(False)))
    return {row: raw[row].as_py() or b"" for row in rows.tolist()}


def _readable(topic: str, batch: pa.RecordBatch, kept: dict[int, bytes]) -> list[int]:
    """Return the rows that are decoded from their bytes: good messages that their importer has not refused."""
    error = batch.column("error")
    rows = [row for row in kept if not error[row].is_valid]
    nowhere = np.zeros(len(rows), dtype=np.int64)
    decoded = decode(topic, [kept[row] for row in rows], nowhere, nowhere.astype(np.int32), nowhere)
    refused = {fault.row for fault in decoded.errors}
    return [row for place, row in enumerate(rows) if place not in refused]


def _decoded(topic: str, batch: pa.RecordBatch, kept: dict[int, bytes], rows: list[int]) -> pa.RecordBatch:
    """Return the batch with the columns that the bytes of these rows say."""
    if not rows:
        return batch
    part = take(batch, np.array(rows, dtype=np.int64))
    partition, offset = part.column("partition").to_numpy(), integers(part, "offset")
    decoded = decode(topic, [kept[row] for row in rows], times(part, "ts_recv"), partition, offset)
    source = np.arange(batch.num_rows)
    source[rows] = batch.num_rows + np.arange(len(rows))
    return take(concat_batches([batch, decoded.batch]), source)


def _with_time(payload: bytes, ts_recv: int) -> bytes:
    """Return a good message with its time as the last member, which takes the place of an earlier one."""
    return b'%s,"ts_recv":%d}' % (payload.rstrip(_SPACE)[:-1], ts_recv)


def _with_heartbeats(messages: Messages, before: Sequence[int]) -> Messages:
    """Return the messages with a heartbeat of the same time and partition before each of these."""
    total = len(messages.values)
    order = np.sort(np.concatenate((np.arange(total, dtype=np.float64), np.array(before) - 0.5)))
    source = np.ceil(order).astype(np.int64)
    beats = order != source
    return Messages(
        messages.ts[source],
        messages.partitions[source],
        [None if beat else messages.values[row] for row, beat in zip(source.tolist(), beats.tolist(), strict=True)],
        [None if beat else messages.keys[row] for row, beat in zip(source.tolist(), beats.tolist(), strict=True)],
        np.where(beats, 0, messages.rows[source]),
        messages.raw_rows,
    )


def _stream(batch: pa.RecordBatch, required: set[str]) -> bytes:
    """Return rows as an Arrow IPC stream, with the symbols that occur in it and the columns that have a value."""
    names, columns = [], []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count == batch.num_rows and name not in required:
            continue
        names.append(name)
        columns.append(
            column.cast(pa.string()).dictionary_encode() if isinstance(column, pa.DictionaryArray) else column
        )
    rows = pa.RecordBatch.from_arrays(columns, names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue())
