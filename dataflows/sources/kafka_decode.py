"""From Kafka records to rows: their times, their values, and what becomes of those that cannot be read.

| clock | `ts_recv` of a record |
|---|---|
| `broker` | its timestamp on the broker, `LogAppendTime` or `CreateTime` as the topic is configured |
| `header` | its header `ts_recv`: UTC ns as decimal text |
| `record` | the field `ts_recv` of its value |

A record without a value and with a header `heartbeat` carries no row. It moves the clock: to the time in that header
with `clock = "record"`, otherwise to its own time.

Within a partition time never goes back: a record behind the clock is raised to it and counted. One whose time cannot
be read, or that is no message of its topic, becomes a row of its bytes and its error, which admission refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from dataflows.sources.kafka_arrow_rows import ROWS_PER_RECORD, ArrowRows
from dataflows.sources.kafka_avro import AvroRows, SchemaCache
from dataflows.sources.kafka_config import KafkaTopic
from operators.admission import DecodeLimits, RefusedRows, check_rows
from operators.json_rows import decode_rows, warm_up
from schemas.batches import times
from schemas.errors import InvariantError
from schemas.time import END_OF_TIME
from schemas.wire import decode, printable

__all__ = ["ROWS_PER_RECORD", "Delivery", "RecordDecoder"]

_UNKNOWN: Final = -(2**63)
_MS: Final = 1_000_000
_DIGITS: Final = len(str(END_OF_TIME))


@dataclass(frozen=True, slots=True)
class Delivery:
    """Consecutive records of a partition, as rows.

    Parameters
    ----------
    batch
        Archive schema of the topic, in the order of the log; None if there was no row.
    clock
        Clock of the partition after them.
    raised
        Places in the batch of the rows whose `ts_recv` was raised, ascending.
    is_checked
        Whether admission has nothing against any of the rows.
    """

    batch: pa.RecordBatch | None
    clock: int
    raised: npt.NDArray[np.int64]
    is_checked: bool = False

    @property
    def order_violations(self) -> int:
        """Rows whose `ts_recv` was raised."""
        return len(self.raised)


@dataclass(frozen=True, slots=True)
class _Records:
    """Records before their times are put in order.

    `stamps` has an entry for every row and for every record that only moves the clock; `is_row` tells which is which.
    `values` are the bytes of the rows, empty where rows share a record.
    """

    batch: pa.RecordBatch | None
    stamps: npt.NDArray[np.int64]
    is_row: npt.NDArray[np.bool_]
    values: list[bytes | None]


class RecordDecoder:
    """Decodes the records of one partition.

    Parameters
    ----------
    topic
        Our name of the topic.
    partition
        Number of the partition.
    config
        Clock and format of the topic.
    header_ahead_ns
        How far a header may be ahead of the broker's time.
    limits
        Bounds of admission: the bytes of rows that break them are kept.
    schemas
        Schemas of Avro records; None where the format is another.

    Notes
    -----
    A dead letter of admission has the untouched bytes of its record. Of a row that is refused later, as a duplicate
    or for a gap before it, the canonical message of its columns stands for them; so it does for a row of an Arrow or
    an Avro record that admission refuses for its values.

    Examples
    --------
    >>> decoder = RecordDecoder("news", 0, KafkaTopic(), header_ahead_ns=0, limits=DecodeLimits())
    >>> delivery = decoder.decode([Message("news", 0, 7, value=b"{", timestamp=(1, 5))], clock=0)
    >>> delivery.clock, delivery.batch.column("offset").to_pylist(), delivery.batch.column("raw").to_pylist()
    (5000000, [7], [b'{'])
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        config: KafkaTopic,
        *,
        header_ahead_ns: int,
        limits: DecodeLimits,
        schemas: SchemaCache | None = None,
    ) -> None:
        self._limits = limits
        self._topic = topic
        self._partition = partition
        self._config = config
        self._header_ahead = header_ahead_ns
        self._read = {"json": self._json, "avro": self._avro, "arrow": self._arrow}[config.format]
        if config.format == "json":
            warm_up(topic, "record" if config.clock == "record" else "transport")
        self._rows = None if schemas is None else AvroRows(topic, schemas, own_time=config.clock == "record")

    def decode(self, messages: Sequence[Message], clock: int) -> Delivery:
        """Return the records as rows, with times that never go back behind `clock`."""
        values: list[bytes | None] = list(map(Message.value, messages))
        empty = [] if all(values) else [row for row, value in enumerate(values) if not value]
        beats = [row for row in empty if _is_heartbeat(messages[row])]
        stamps, faults = self._stamps(messages, beats)
        beats = [row for row in beats if row not in faults]  # one that cannot be read is a record like any other
        records = self._read(messages, values, stamps, faults, set(beats))
        return self._keep_refused(_in_order(records, clock), records.values)

    def _keep_refused(self, delivery: Delivery, values: list[bytes | None]) -> Delivery:
        """Keep the bytes of the rows that admission will refuse: it could only write them anew."""
        if delivery.batch is None or not values:
            return delivery
        refused = RefusedRows()
        check_rows(self._topic, delivery.batch, self._limits, refused)
        if not refused.rows.size:
            unread = (delivery.batch.column(name).null_count for name in ("raw", "error"))
            return replace(delivery, is_checked=all(nulls == delivery.batch.num_rows for nulls in unread))
        raw = delivery.batch.column("raw").to_pylist()
        for row in refused.rows.tolist():
            raw[row] = values[row] or b""
        return replace(delivery, batch=_replace(delivery.batch, "raw", raw))

    def _stamps(self, messages: Sequence[Message], beats: list[int]) -> tuple[npt.NDArray[np.int64], dict[int, str]]:
        """Return the time of each record as its transport says it, and why it is unknown where it is."""
        faults: dict[int, str] = {}
        if self._config.clock == "record":
            stamps = np.full(len(messages), _UNKNOWN, dtype=np.int64)
            stamps[beats] = _from_headers(messages, beats, "heartbeat", faults)
            return stamps, faults
        stamps = _broker_times(messages)
        if self._config.clock == "broker":
            for row in np.flatnonzero(stamps == _UNKNOWN).tolist():
                faults[row] = "expected a timestamp of the broker, found none"
            return stamps, faults
        latest = np.where(stamps == _UNKNOWN, END_OF_TIME - 1, stamps + self._header_ahead)
        stamps = _from_headers(messages, range(len(messages)), "ts_recv", faults)
        for row in np.flatnonzero(stamps > latest).tolist():
            found = int(stamps[row])
            faults[row] = f"expected header `ts_recv` at most {self._header_ahead} ns after the broker's, found {found}"
            stamps[row] = _UNKNOWN
        return stamps, faults

    def _json(
        self,
        messages: Sequence[Message],
        values: list[bytes | None],
        stamps: npt.NDArray[np.int64],
        faults: dict[int, str],
        beats: set[int],
    ) -> _Records:
        is_row, offset = np.ones(len(messages), dtype=np.bool_), _offsets(messages)
        if beats:
            is_row[list(beats)] = False
            kept = np.flatnonzero(is_row).tolist()
            faults = {new: faults[old] for new, old in enumerate(kept) if old in faults}
            values, offset = [values[row] for row in kept], offset[kept]
        if not values:
            return _Records(None, stamps, is_row, [])
        partition = np.full(len(values), self._partition, dtype=np.int32)
        if self._config.clock == "record":
            batch, faults = self._json_with_time(values, partition, offset)
            stamps[is_row] = np.where(times(batch, "ts_recv") < 0, _UNKNOWN, times(batch, "ts_recv"))
        else:
            batch = decode_rows(self._topic, values, stamps[is_row], partition, offset).batch
        return _Records(_with_faults(batch, values, faults), stamps, is_row, values)

    def _json_with_time(
        self, values: list[bytes | None], partition: npt.NDArray[np.int32], offset: npt.NDArray[np.int64]
    ) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Return rows with their own `ts_recv`, negative where it is unknown, and what only that makes faulty."""
        unknown = np.full(len(values), _UNKNOWN, dtype=np.int64)
        decoded = decode_rows(self._topic, values, unknown, partition, offset, clock="record")
        stamps = times(decoded.batch, "ts_recv")
        refused = {error.row: error.detail for error in decoded.errors}
        beyond = np.flatnonzero(((stamps < 0) & (stamps != _UNKNOWN)) | (stamps == END_OF_TIME))
        for row in beyond.tolist():
            refused[row] = f"expected `ts_recv` since 1970, found {int(stamps[row])} ns; check the unit"
        if not refused:
            return decoded.batch, {}
        # admission decodes the bytes of a refused row again, without its clock: what is then good needs its reason here
        rows = list(refused)
        again = decode(self._topic, [values[row] for row in rows], unknown[rows], partition[rows], offset[rows])
        explained = {rows[error.row] for error in again.errors}
        known = np.where(np.isin(np.arange(len(values)), beyond), _UNKNOWN, stamps)
        faults = {row: detail for row, detail in refused.items() if row not in explained}
        return _replace(decoded.batch, "ts_recv", known), faults

    def _avro(
        self,
        messages: Sequence[Message],
        values: list[bytes | None],
        stamps: npt.NDArray[np.int64],
        faults: dict[int, str],
        beats: set[int],
    ) -> _Records:
        if self._rows is None:
            raise InvariantError("expected the schemas of Avro records, found none")
        is_row = np.array([row not in beats for row in range(len(messages))], dtype=np.bool_)
        kept = np.flatnonzero(is_row).tolist()
        if not kept:
            return _Records(None, stamps, is_row, [])
        values, offset = [values[row] for row in kept], _offsets(messages)[kept]
        partition = np.full(len(kept), self._partition, dtype=np.int32)
        faults = {new: faults[old] for new, old in enumerate(kept) if old in faults}
        batch = self._rows.read(values, stamps[is_row], partition, offset, faults)
        if self._config.clock == "record":
            stamps[is_row] = times(batch, "ts_recv")
        return _Records(batch, stamps, is_row, [])

    def _arrow(
        self,
        messages: Sequence[Message],
        values: list[bytes | None],
        stamps: npt.NDArray[np.int64],
        faults: dict[int, str],
        beats: set[int],
    ) -> _Records:
        rows = ArrowRows(self._topic, self._partition, own_time=self._config.clock == "record")
        return _Records(*rows.read(values, _offsets(messages), stamps, faults, beats), [])


def _in_order(records: _Records, clock: int) -> Delivery:
    """Raise every time to the latest before it."""
    raised = np.maximum.accumulate(np.concatenate(([clock], records.stamps)))[1:]
    if records.batch is None:
        return Delivery(None, int(raised[-1]), np.empty(0, dtype=np.int64))
    known, rows = records.stamps[records.is_row], raised[records.is_row]
    violations = np.flatnonzero((rows != known) & (known != _UNKNOWN))
    # where nothing with a time stands before a row of unknown time, it gets the beginning of time
    return Delivery(_replace(records.batch, "ts_recv", np.maximum(rows, 0)), int(raised[-1]), violations)


def _with_faults(batch: pa.RecordBatch, values: list[bytes | None], faults: dict[int, str]) -> pa.RecordBatch:
    """Return the batch with bytes and error of the rows that admission would not refuse for what their bytes say."""
    if not faults:
        return batch
    raw, error = batch.column("raw").to_pylist(), [faults.get(row) for row in range(batch.num_rows)]
    for row in faults:
        raw[row] = values[row] or b""
    return _replace(_replace(batch, "raw", raw), "error", error)


def _replace(batch: pa.RecordBatch, name: str, values: Any) -> pa.RecordBatch:
    position = batch.schema.get_field_index(name)
    type_ = batch.schema.field(name).type
    column = pa.array(values, pa.int64()).view(type_) if pa.types.is_timestamp(type_) else pa.array(values, type_)
    return batch.set_column(position, batch.schema.field(name), column)


def _offsets(messages: Sequence[Message]) -> npt.NDArray[np.int64]:
    """Return where the records stand. They rise, so that two of them are enough where none is left out."""
    first, last = messages[0].offset() or 0, messages[-1].offset() or 0
    if last - first == len(messages) - 1:
        return np.arange(first, last + 1, dtype=np.int64)
    offsets: Any = map(Message.offset, messages)
    return np.fromiter(offsets, np.int64, len(messages))


def _broker_times(messages: Sequence[Message]) -> npt.NDArray[np.int64]:
    # pairs are taken apart one by one: tens of thousands at once would set the garbage collector to work
    found = [ms if kind != TIMESTAMP_NOT_AVAILABLE else -1 for kind, ms in map(Message.timestamp, messages)]
    milliseconds = np.array(found, dtype=np.int64)
    known = (milliseconds >= 0) & (milliseconds < END_OF_TIME // _MS)
    return np.where(known, milliseconds * _MS, _UNKNOWN)


def _from_headers(
    messages: Sequence[Message], rows: Sequence[int], name: str, faults: dict[int, str]
) -> npt.NDArray[np.int64]:
    """Return the time in a header of each of these records; where there is none, it is unknown and the fault noted."""
    stamps = []
    for row in rows:
        value = _header(messages[row], name)
        if value is not None and value.isdigit() and len(value) <= _DIGITS and (stamp := int(value)) < END_OF_TIME:
            stamps.append(stamp)
            continue
        stamps.append(_UNKNOWN)
        found = "none" if value is None else repr(value[:40])
        faults[row] = printable(f"expected header `{name}` with UTC nanoseconds as decimal text, found {found}")
    return np.array(stamps, dtype=np.int64)


def _header(message: Message, name: str) -> bytes | None:
    """Return the first header of a name; None where there is none, or it is null."""
    headers: Any = message.headers()
    if headers is not None:
        for key, value in headers:
            if key == name:
                found: bytes | None = value
                return found
    return None


def _is_heartbeat(message: Message) -> bool:
    headers: Any = message.headers()
    return headers is not None and any(key == "heartbeat" for key, _ in headers)
