"""JSON messages as rows: by a compiled scanner where it takes them, by `schemas.wire` where it does not.

`schemas.wire` alone says what a message means. The scanner (`operators.json_scan`) reads most of what producers
write several times as fast and declines the rest; the two together give the rows and refusals of `schemas.wire.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.columns import CodeArray, FloatArray, IntArray, frozen
from operators.json_scan import ABSENT, FLOAT, INTEGER, LEVELS, LITERALS, NAME, SYMBOL, TEXT, Layout, Members, scan
from schemas.batches import concat_batches, make_batch, take
from schemas.fields import Field
from schemas.records import topic as topic_schema
from schemas.wire import Clock, Decoded, decode

__all__ = ["decode_rows", "warm_up"]

_KINDS: Final[dict[str, int]] = {
    "time": INTEGER,
    "int": INTEGER,
    "float": FLOAT,
    "enum": NAME,
    "symbol": SYMBOL,
    "text": TEXT,
    "levels": LEVELS,
}
_MOST_BYTES: Final = 2**31 - 1
"""Bytes of all messages of a call that Arrow's text columns can address; more are left to `schemas.wire`."""


def decode_rows(
    topic: str,
    payloads: Sequence[bytes | None],
    ts_recv: npt.NDArray[np.int64],
    partition: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    *,
    clock: Clock = "transport",
) -> Decoded:
    """Return what `schemas.wire.decode` returns for the same arguments, sooner.

    Parameters
    ----------
    topic
        Topic name.
    payloads
        Bytes of each message; None is a record without a value.
    ts_recv
        When the transport had each message, int64 UTC ns, shape `(n,)`.
    partition, offset
        Where each message stood, shape `(n,)`.
    clock
        `record` takes `ts_recv` from the message, which then must carry it.

    Notes
    -----
    A message of ten members takes some 150 ns, a declined one as long as it takes `schemas.wire.decode` and that. The
    interpreter is free for other threads meanwhile. How the rows are divided among the two shows in nothing but the
    order of dictionaries.

    Examples
    --------
    >>> where = np.arange(2)
    >>> payloads = [
    ...     b'{"instrument_id":"A","ts_event":7,"price":9.5,"size":1,"side":"buy"}',
    ...     b'{"instrument_id":"B","ts_event":8,"price":"?","size":1,"side":"buy"}',
    ... ]
    >>> decoded = decode_rows("trades", payloads, where + 9, np.zeros(2, "i4"), where)
    >>> decoded.batch.column("price").to_pylist(), decoded.errors[0].detail
    ([9.5, None], 'expected a number in `price`, found "?"')
    """
    fields, layout = _layout(topic, clock)
    joined = pa.array(payloads, pa.large_binary())
    bounds = np.frombuffer(joined.buffers()[1], dtype=np.int64)[: len(payloads) + 1]
    if not len(payloads) or bounds[-1] > _MOST_BYTES:
        return decode(topic, payloads, ts_recv, partition, offset, clock=clock)
    data = np.frombuffer(joined.buffers()[2] or b"", dtype=np.uint8)[: bounds[-1]]
    members, declined = _members(layout, data, len(payloads)), np.zeros(len(payloads), dtype=np.bool_)
    scan(frozen(data), frozen(bounds), layout, members, declined)
    rest = np.flatnonzero(declined)
    if len(rest) == len(payloads):
        return decode(topic, payloads, ts_recv, partition, offset, clock=clock)
    columns = _columns(fields, layout, members, data)
    columns = {"ts_recv": ts_recv} | columns | {"partition": partition, "offset": offset}
    taken = make_batch(topic, columns, len(payloads))
    if not len(rest):
        return Decoded(taken, ())
    few = [payloads[row] for row in rest.tolist()]
    decoded = decode(topic, few, ts_recv[rest], partition[rest], offset[rest], clock=clock)
    rows = np.arange(len(payloads))
    rows[rest] = len(payloads) + np.arange(len(rest))
    errors = tuple(error._replace(row=int(rest[error.row])) for error in decoded.errors)
    return Decoded(take(concat_batches([taken, decoded.batch]), rows), errors)


def warm_up(topic: str, clock: Clock) -> None:
    """Load the compiled scanner, or compile it, which takes seconds: the first records of a live feed cannot wait."""
    nothing = np.zeros(1, dtype=np.int64)
    decode_rows(topic, [b""], nothing, nothing.astype(np.int32), nothing, clock=clock)


@lru_cache(maxsize=64)
def _layout(topic: str, clock: Clock) -> tuple[tuple[Field, ...], Layout]:
    """Return the fields of a message and what the scanner has to know of them."""
    fields = tuple(field for field in topic_schema(topic).fields if field.name != "ts_recv" or clock == "record")
    kinds = [_KINDS[field.kind] for field in fields]
    words = LITERALS
    rows: list[tuple[int, ...]] = []
    names: list[tuple[int, ...]] = []
    for index, (field, kind) in enumerate(zip(fields, kinds, strict=True)):
        key, first_name = f'"{field.name}"'.encode(), len(names)
        place = (len(words), len(words) + len(key))
        words += key
        for member in field.enum or ():
            name = f'"{member.name.lower()}"'.encode()
            names.append((len(words), len(words) + len(name), member.value))
            words += name
        rows.append((kind, kinds[:index].count(kind), not field.nullable, *place, first_name, len(names)))
    return fields, Layout(
        words=frozen(np.frombuffer(words, dtype=np.uint8)),
        fields=frozen(np.array(rows, dtype=np.int64)),
        names=frozen(np.array(names, dtype=np.int64).reshape(-1, 3)),
    )


def _members(layout: Layout, data: npt.NDArray[np.uint8], n_rows: int) -> Members:
    """Return room for what the scanner finds in so many messages."""
    of_kind = np.bincount(layout.fields[:, 0], minlength=LEVELS + 1)
    symbols, lists = int(of_kind[SYMBOL]), int(of_kind[LEVELS])
    # of a list's numbers every one but the last has a comma behind it
    most_levels = np.count_nonzero(data == ord(",")) + n_rows if lists else 0
    return Members(
        sizes=np.full((len(layout.fields), n_rows), ABSENT, dtype=np.int32),
        values=np.zeros((len(layout.fields), n_rows), dtype=np.int64),
        tables=np.zeros((symbols, 1 << (2 * n_rows - 1).bit_length()), dtype=np.int32),
        entries=np.empty((symbols, n_rows, 2), dtype=np.int64),
        counts=np.zeros(symbols, dtype=np.int64),
        levels=np.empty((lists, most_levels)),
        filled=np.zeros(lists, dtype=np.int64),
    )


def _columns(
    fields: tuple[Field, ...], layout: Layout, members: Members, data: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Return the columns in which anything was found; a row without a value, or declined, is null."""
    columns: dict[str, Any] = {}
    for index, field in enumerate(fields):
        kind, number = layout.fields[index, :2]
        sizes, values = members.sizes[index], members.values[index]
        if kind == LEVELS:
            columns[field.name] = _lists(sizes, members.levels[number, : members.filled[number]])
            continue
        missing = sizes < 0
        n_missing = np.count_nonzero(missing)
        if n_missing == len(sizes):
            continue
        mask = missing if n_missing else None
        if kind == TEXT:
            columns[field.name] = _texts(data, values, sizes, mask)
        elif kind == SYMBOL:
            entries = members.entries[number, : members.counts[number]]
            dictionary = _texts(data, entries[:, 0], entries[:, 1], None)
            codes = pa.array(values.astype(np.int32), mask=mask)
            columns[field.name] = pa.DictionaryArray.from_arrays(codes, dictionary)
        else:
            numbers = _numbers(kind, values)
            columns[field.name] = numbers if mask is None else pa.array(numbers, mask=mask)
    return columns


def _numbers(kind: int, values: IntArray) -> npt.NDArray[Any]:
    """Return a copy, so that a column does not keep all that the scanner has written."""
    if kind == NAME:
        return values.astype(np.int8)
    return values.view(np.float64).copy() if kind == FLOAT else values.copy()


def _lists(sizes: CodeArray, values: FloatArray) -> pa.Array:
    offsets = np.concatenate(([0], np.cumsum(np.maximum(sizes, 0)))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.copy()))  # the room for them is much larger


def _texts(
    data: npt.NDArray[np.uint8], starts: IntArray, sizes: IntArray | CodeArray, mask: npt.NDArray[np.bool_] | None
) -> pa.Array:
    kept = np.maximum(sizes, 0)
    offsets = np.concatenate(([0], np.cumsum(kept))).astype(np.int32)
    rows = np.repeat(starts - offsets[:-1], kept)
    text = data[rows + np.arange(offsets[-1])]
    valid: Any = None if mask is None else pa.array(~mask).buffers()[1]
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(text), valid)
