"""Admission: every batch is decoded and checked before anything is computed from it.

A row is accepted whole or refused whole. A refused row keeps its place in the log, its reason and its
bytes, and the rows around it are what they would be without it. Live records and those of an archive
pass the same step, so a replay refuses what live refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.admission import DecodeLimits, RefusedRows, check_rows
from operators.columns import IntArray
from schemas.batches import concat_batches, integers, symbols, take, times
from schemas.enums import DeadLetterReason, LateReason
from schemas.fields import Schema
from schemas.tables import DEAD_LETTERS, LATE_EVENTS
from schemas.wire import decode, encode, peek_instrument, printable

__all__ = ["DecodeLimits", "Validated", "dead_letters", "late_events", "validate"]

_INSTRUMENT_CHARACTERS: Final = 256
"""Longest instrument that a dead letter names; a longer one is no name."""


@dataclass(frozen=True, slots=True)
class Validated:
    """A batch after admission. Every row of the input is in one of the two.

    Parameters
    ----------
    accepted
        Good rows in their order, archive schema of the topic; the input itself where all were good.
    rejected
        Refused rows in their order, the columns of `dead_letters` without `run_id`.
    """

    accepted: pa.RecordBatch
    rejected: pa.RecordBatch

    @classmethod
    def all_of(cls, batch: pa.RecordBatch) -> Self:
        """Return a batch of which every row is good."""
        return cls(batch, _NO_DEAD_LETTERS)


def validate(topic: str, batch: pa.RecordBatch, limits: DecodeLimits) -> Validated:
    """Return the good rows and the refused ones of a batch.

    First, rows that carry bytes: one with an `error` was refused by its importer and stays so; the bytes
    of any other are decoded from the wire format and take the place of the row's columns. Then every row
    is checked by the rules of its fields and its topic (`operators.admission`).

    Parameters
    ----------
    topic
        Topic name.
    batch
        Rows with the archive schema of the topic.
    limits
        Bounds.

    Returns
    -------
    Validated
        Accepted and rejected rows.

    Notes
    -----
    NaN and infinity are `out_of_range` in every float column, nullable or not: a missing value is null.
    A good batch of trades costs under 10 ns a row and is not copied.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> where = {"ts_event": [1, 2], "ts_recv": [5, 6], "partition": [0, 0], "offset": [0, 1]}
    >>> columns = {"instrument_id": ["A", "A"], "price": [9.5, -1.0], "size": [1.0, 1.0], "side": [1, 1]}
    >>> result = validate("trades", make_batch("trades", where | columns, 2), DecodeLimits())
    >>> result.accepted.num_rows, result.rejected.column("detail").to_pylist()
    (1, ['expected `price` above 0, found -1.0'])
    """
    refusals = RefusedRows()
    batch = _decode_raw(topic, batch, refusals)
    check_rows(topic, batch, limits, refusals)
    if not refusals:
        return Validated.all_of(batch)
    rows = refusals.rows
    rejected = dead_letters(topic, batch, rows, refusals.reasons, refusals.details)
    return Validated(take(batch, np.delete(np.arange(batch.num_rows), rows)), rejected)


def _decode_raw(topic: str, batch: pa.RecordBatch, refusals: RefusedRows) -> pa.RecordBatch:
    """Refuse what importers refused, and return the batch with the values of each row's bytes in place."""
    raw, error = batch.column("raw"), batch.column("error")
    if raw.null_count == batch.num_rows and error.null_count == batch.num_rows:
        return batch
    quarantined = error.is_valid().to_numpy(zero_copy_only=False)
    refusals.add(np.flatnonzero(quarantined), DeadLetterReason.IMPORT, lambda row: printable(error[row].as_py()))
    rows = np.flatnonzero(raw.is_valid().to_numpy(zero_copy_only=False) & ~quarantined)
    if not rows.size:
        return batch
    part = take(batch, rows)
    decoded = decode(
        topic,
        part.column("raw").to_pylist(),
        times(part, "ts_recv"),
        part.column("partition").to_numpy(),
        integers(part, "offset"),
        keep_raw=True,
    )
    details = {int(rows[fault.row]): fault.detail for fault in decoded.errors}
    for row, fault in zip(details, decoded.errors, strict=True):
        refusals.add(np.array([row]), fault.reason, details.__getitem__)
    good = np.delete(np.arange(len(rows)), [fault.row for fault in decoded.errors])
    if len(good) == batch.num_rows:
        return decoded.batch
    source = np.arange(batch.num_rows)
    source[rows[good]] = batch.num_rows + good
    return take(concat_batches([batch, decoded.batch]), source)


def dead_letters(
    topic: str,
    batch: pa.RecordBatch,
    rows: npt.NDArray[Any],
    reasons: Sequence[DeadLetterReason],
    details: Sequence[str],
) -> pa.RecordBatch:
    """Return rows of a batch as dead letters.

    Parameters
    ----------
    topic
        Topic name.
    batch
        Rows with the archive schema of the topic.
    rows
        The refused rows, int64, shape `(k,)`.
    reasons
        Reason of each, `k` of them.
    details
        What was expected and found, `k` of them; made printable and cut to a bounded length.

    Returns
    -------
    pyarrow.RecordBatch
        The columns of `dead_letters` without `run_id`. The payload is the record's bytes where the batch
        holds them, else the canonical message of its columns.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> columns = {"ts_recv": [5], "partition": [0], "offset": [3], "raw": [b"{"]}
    >>> letters = dead_letters("news", make_batch("news", columns, 1), np.array([0]), ["malformed"], ["..."])
    >>> letters.column("payload").to_pylist(), letters.column("offset").to_pylist()
    ([b'{'], [3])
    """
    part = take(batch, np.asarray(rows, dtype=np.int64))
    columns = _log_columns(topic, part) | {
        "instrument_id": _readable_instruments(part),
        "reason": [str(reason) for reason in reasons],
        "detail": [printable(detail) for detail in details],
    }
    return _without_run(DEAD_LETTERS, columns)


def late_events(
    topic: str, batch: pa.RecordBatch, rows: npt.NDArray[Any], interval_ns: int | IntArray, reason: LateReason
) -> pa.RecordBatch:
    """Return rows of a batch as late events.

    Parameters
    ----------
    topic
        Topic name.
    batch
        Accepted rows with the archive schema of the topic.
    rows
        The late rows, int64, shape `(k,)`; a row that missed several windows stands once for each.
    interval_ns
        Length of the window that was missed: one for all, or shape `(k,)`.
    reason
        Why they are late.

    Returns
    -------
    pyarrow.RecordBatch
        The columns of `late_events` without `run_id`; the payload as in `dead_letters`.
    """
    part = take(batch, np.asarray(rows, dtype=np.int64))
    columns = _log_columns(topic, part) | {
        "interval_ns": np.broadcast_to(np.asarray(interval_ns, dtype=np.int64), part.num_rows),
        "ts_event": part.column("ts_event"),
        "instrument_id": part.column("instrument_id"),
        "reason": [str(reason)] * part.num_rows,
    }
    return _without_run(LATE_EVENTS, columns)


def _log_columns(topic: str, part: pa.RecordBatch) -> dict[str, Any]:
    raw = part.column("raw")
    payload = raw if not raw.null_count else _with_canonical(raw.to_pylist(), encode(topic, part))
    return {
        "topic": [topic] * part.num_rows,
        "partition": part.column("partition"),
        "offset": part.column("offset"),
        "ts_recv": part.column("ts_recv"),
        "payload": payload,
    }


def _with_canonical(raw: list[bytes | None], canonical: list[bytes]) -> list[bytes]:
    return [kept if kept is not None else made for kept, made in zip(raw, canonical, strict=True)]


def _readable_instruments(part: pa.RecordBatch) -> list[str | None]:
    codes, names = symbols(part, "instrument_id")
    found = [names[code] if code >= 0 else None for code in codes.tolist()]
    for row, raw in enumerate(part.column("raw").to_pylist()):
        name = found[row]
        if name is None and raw is not None:
            name = peek_instrument(raw)
        found[row] = name if name and len(name) <= _INSTRUMENT_CHARACTERS else None
    return found


def _without_run(table: Schema, columns: dict[str, Any]) -> pa.RecordBatch:
    fields = table.computed
    arrays = [_arrow(columns[field.name], field.arrow.type) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([field.arrow for field in fields]))


def _arrow(values: Any, type_: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=type_)


_NO_DEAD_LETTERS: Final = _without_run(DEAD_LETTERS, {field.name: [] for field in DEAD_LETTERS.fields})
