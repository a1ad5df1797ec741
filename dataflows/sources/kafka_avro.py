"""Avro records: a zero byte, the id of the writer's schema, the data.

A record is decoded with the schema that it was written with and then read as if it had been JSON: the same fields, the
same checks, the same words for what is wrong. What Avro says better than JSON is kept: timestamps of milliseconds,
microseconds and nanoseconds, decimals, enumerations.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import Any, Final

import fastavro
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from fastavro.schema import SchemaParseException

from dataflows.sources.schema_registry import SchemaRegistry
from schemas.avro import avro_schema
from schemas.batches import times
from schemas.enums import DeadLetterReason
from schemas.errors import DataError
from schemas.fields import Field
from schemas.records import topic as topic_schema
from schemas.time import END_OF_TIME
from schemas.wire import Clock, decode, encode, printable

__all__ = ["AvroRows", "SchemaCache", "encode_avro"]

_HEAD: Final = 5
"""Bytes before the data: a zero and the schema's id."""
_MOST_SCHEMAS: Final = 1_000
"""Schemas that are kept ready; the one not used for longest makes room."""
_UNKNOWN_NS: Final = 10_000_000_000
"""Time after which the registry is asked again for a schema that it did not know."""
_UNKNOWN: Final = -(2**63)
_SCALES: Final = {"timestamp-millis": 10**6, "timestamp-micros": 10**3, "timestamp-nanos": 1}
_NO_ZONE: Final = frozenset({"local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos"})
_PLAIN_TEXT: Final = ("string", ["null", "string"])
_NOTHING: Final = b"{}"
_write = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class _Plan:
    """How records of one schema are read as records of one topic.

    Parameters
    ----------
    schema
        Schema of the writer, without the logical types that are read here.
    fields
        Names of the topic's fields that it has, each with what makes its values plain, where they are not.
    """

    schema: Any
    fields: tuple[tuple[str, Callable[[Any], Any] | None], ...]


class SchemaCache:
    """The schemas of a registry, made ready for the topics. Shared by the threads of a process.

    Parameters
    ----------
    registry
        Where schemas come from.
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._plans: OrderedDict[tuple[str, int], tuple[_Plan | DataError, float]] = OrderedDict()
        self._lock = Lock()

    def plan(self, topic: str, schema_id: int) -> _Plan:
        """Return how records of a schema are read as records of a topic.

        Raises
        ------
        DataError
            There is no such schema, or it is none of a record with a time zone.
        InputError
            The registry does not let us in.
        TransientError
            The registry did not answer in time.
        """
        with self._lock:
            found, until = self._plans.get((topic, schema_id), (None, 0.0))
            if found is None or time.monotonic_ns() >= until:
                found, until = self._make(topic, schema_id)
                self._plans[topic, schema_id] = found, until
                if len(self._plans) > _MOST_SCHEMAS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end((topic, schema_id))
        if isinstance(found, DataError):
            raise DataError(found.reason, found.detail)
        return found

    def close(self) -> None:
        """Close the connections to the registry; they open again when they are needed."""
        with self._lock:
            self._registry.close()

    def _make(self, topic: str, schema_id: int) -> tuple[_Plan | DataError, float]:
        try:
            text = self._registry.schema(schema_id)
        except DataError as error:
            return error, time.monotonic_ns() + _UNKNOWN_NS
        try:
            return _plan(topic, schema_id, text), math.inf
        except DataError as error:
            return error, math.inf


def _plan(topic: str, schema_id: int, text: str) -> _Plan:
    try:
        schema = json.loads(text)
        wanted = {field.name: field for field in topic_schema(topic).fields}
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise DataError(DeadLetterReason.MALFORMED, f"expected a record as schema {schema_id}, found another type")
        fields = []
        for entry in schema["fields"]:
            field = wanted.get(entry["name"])
            if field is not None:
                scale, entry["type"] = _unit(field, entry["type"])
                fields.append((field.name, _converter(field, scale, entry["type"])))
        return _Plan(fastavro.parse_schema(schema), tuple(fields))
    except (SchemaParseException, ValueError, KeyError, TypeError, RecursionError) as error:
        detail = printable(f"expected an Avro schema with id {schema_id}, found: {error}")
        raise DataError(DeadLetterReason.MALFORMED, detail) from error


def _unit(field: Field, type_: Any) -> tuple[int, Any]:
    """Return the nanoseconds of a time's unit, and its type as a plain number; of another field, its type as it is."""
    if field.kind != "time":
        return 1, type_
    if isinstance(type_, list):
        units = [_unit(field, branch) for branch in type_]
        return max(scale for scale, _ in units), [branch for _, branch in units]
    logical = type_.get("logicalType") if isinstance(type_, dict) else None
    if logical in _NO_ZONE:
        detail = f"expected a time with its zone in `{field.name}`, found Avro type {logical}"
        raise DataError(DeadLetterReason.NAIVE_TIME, detail)
    return (_SCALES[logical], type_["type"]) if logical in _SCALES else (1, type_)


class AvroRows:
    """Reads the Avro records of one topic.

    Parameters
    ----------
    topic
        Topic name.
    schemas
        Schemas by id.
    own_time
        Whether records carry `ts_recv`.
    """

    def __init__(self, topic: str, schemas: SchemaCache, *, own_time: bool) -> None:
        self._topic = topic
        self._schemas = schemas
        self._own_time = own_time
        self._head = b""
        self._plan = _Plan(None, ())

    def read(
        self,
        values: Sequence[bytes | None],
        ts_recv: npt.NDArray[np.int64],
        partition: npt.NDArray[np.int32],
        offset: npt.NDArray[np.int64],
        faults: dict[int, str],
    ) -> pa.RecordBatch:
        """Return a row for each record; one that cannot be read has its bytes and what is wrong.

        Parameters
        ----------
        values
            The records.
        ts_recv
            Time of each, int64 UTC ns, shape `(n,)`. With `own_time` only the time of those that do not tell.
        partition, offset
            Where each stood, shape `(n,)`.
        faults
            Records that are refused already, and why.

        Raises
        ------
        InputError
            The registry does not let us in.
        TransientError
            The registry did not answer in time. No record is lost: they are read again when the run goes on.
        """
        refused = dict(faults)
        texts: list[bytes | None] = []
        for row, value in enumerate(values):
            text = _NOTHING
            if row not in refused:
                try:
                    text = self._text(value or b"")
                except DataError as error:
                    refused[row] = printable(error.detail)
            texts.append(text)
        clock: Clock = "record" if self._own_time else "transport"
        decoded = decode(self._topic, texts, ts_recv, partition, offset, clock=clock)
        for fault in decoded.errors:
            refused.setdefault(fault.row, fault.detail)
        batch = decoded.batch
        if self._own_time:
            batch = self._refuse_times(batch, ts_recv, refused)
        return _with_refused(batch, values, refused) if refused else batch

    def _text(self, value: bytes) -> bytes:
        """Return a record as JSON."""
        if len(value) < _HEAD or value[0]:
            detail = f"expected a zero byte, a schema's id and Avro data, found {len(value)} bytes"
            raise DataError(DeadLetterReason.MALFORMED, f"{detail} that begin with 0x{value[:_HEAD].hex()}")
        if value[:_HEAD] != self._head:
            self._plan = self._schemas.plan(self._topic, int.from_bytes(value[1:_HEAD], "big"))
            self._head = value[:_HEAD]
        plan = self._plan
        data = BytesIO(value)
        data.seek(_HEAD)
        try:
            record: Any = fastavro.schemaless_reader(data, plan.schema, None)
        except Exception as error:  # the decoder lets through whatever bad bytes led it to
            detail = printable(f"expected Avro data of its schema, found {len(value)} bytes: {error!r}")
            raise DataError(DeadLetterReason.MALFORMED, detail) from error
        if data.tell() != len(value):
            detail = f"expected Avro data of its schema, found {len(value) - data.tell()} bytes behind it"
            raise DataError(DeadLetterReason.MALFORMED, detail)
        return _finite_text(
            {
                name: record[name] if convert is None else convert(record[name])
                for name, convert in plan.fields
                if record[name] is not None
            }
        )

    def _refuse_times(
        self, batch: pa.RecordBatch, ts_recv: npt.NDArray[np.int64], refused: dict[int, str]
    ) -> pa.RecordBatch:
        found = times(batch, "ts_recv")
        beyond = np.flatnonzero(((found < 0) & (found != _UNKNOWN)) | (found == END_OF_TIME))
        for row in beyond.tolist():
            refused.setdefault(row, f"expected `ts_recv` since 1970, found {int(found[row])} ns; check the unit")
        known = found.copy()
        known[list(refused)] = ts_recv[list(refused)]
        return _set(batch, "ts_recv", pa.array(known).cast(batch.schema.field("ts_recv").type))


def _converter(field: Field, unit: int, type_: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of this type one that JSON can say; None where it is."""
    if field.kind == "enum":
        return lambda value: value.lower() if isinstance(value, str) else value
    if field.kind in ("text", "symbol") and type_ not in _PLAIN_TEXT:
        return lambda value: _refuse_bytes(field.name, value)
    if unit != 1:
        return lambda value: value * unit if type(value) is int else value
    return None


def _refuse_bytes(name: str, value: Any) -> Any:
    """Return the value; JSON has no bytes, and what stands for them would pass for text."""
    if isinstance(value, bytes):
        detail = f"expected text in `{name}`, found {len(value)} bytes that Avro does not call text"
        raise DataError(DeadLetterReason.WRONG_TYPE, detail)
    return value


def _finite_text(fields: dict[str, Any]) -> bytes:
    """Return JSON, unless there is a number in the fields that JSON does not know."""
    try:
        text = _write(fields)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise DataError(DeadLetterReason.WRONG_TYPE, printable(f"expected plain values, found: {error}")) from error
    if b"null" in text:
        for name, value in fields.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, float) and not math.isfinite(number):
                    raise DataError(
                        DeadLetterReason.OUT_OF_RANGE, f"expected a finite number in `{name}`, found {number}"
                    )
    return text


def _with_refused(batch: pa.RecordBatch, values: Sequence[bytes | None], refused: dict[int, str]) -> pa.RecordBatch:
    rows = range(batch.num_rows)
    raw = [(values[row] or b"") if row in refused else None for row in rows]
    batch = _set(batch, "raw", pa.array(raw, pa.binary()))
    return _set(batch, "error", pa.array([refused.get(row) for row in rows], pa.string()))


def _set(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    position = batch.schema.get_field_index(name)
    return batch.set_column(position, batch.schema.field(position), column)


def encode_avro(topic: str, batch: pa.RecordBatch, schema_id: int, *, own_time: bool = False) -> list[bytes]:
    """Return each row as an Avro record of the schema that `schemas.avro.avro_schema` states.

    Parameters
    ----------
    topic
        Topic name.
    batch
        Rows with the topic's columns; every value must be finite.
    schema_id
        Id under which the registry has the schema.
    own_time
        Whether to write `ts_recv`.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> columns = {"instrument_id": ["A"], "ts_event": [7], "ts_recv": [9], "price": [0.5], "size": [2.0], "side": [1]}
    >>> encode_avro("trades", make_batch("trades", columns, 1), 3)[0][:7].hex()
    '00000000030241'
    """
    schema = avro_schema(topic, own_time=own_time)
    times_ = [entry for entry in schema["fields"] if topic_schema(topic).field(entry["name"]).kind == "time"]
    for entry in times_:
        entry["type"] = "long"
    parsed = fastavro.parse_schema(schema)
    head = b"\0" + schema_id.to_bytes(4, "big")
    records = []
    for text in encode(topic, batch, clock="record" if own_time else "transport"):
        data = BytesIO(head)
        data.seek(_HEAD)
        fastavro.schemaless_writer(data, parsed, msgspec.json.decode(text))
        records.append(data.getvalue())
    return records
