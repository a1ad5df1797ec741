"""The rules of admission: what the schema says about a column, checked for all rows at once.

Each rule first asks one question of the whole column (its extremes, its null count). Only a column that
fails is looked at row by row, so a good batch costs a few passes over its numbers and no copy.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Setting

from operators.columns import FloatArray, IntArray
from schemas.batches import floats, int8s, levels, take, times
from schemas.config import ComponentConfig, Duration
from schemas.enums import BookKind, DeadLetterReason
from schemas.fields import Field
from schemas.records import topic as topic_schema
from schemas.time import duration_ns, format_duration

__all__ = ["DecodeLimits", "RefusedRows", "check_rows"]

_SIDES: Final = (("bid_prices", "bid_sizes"), ("ask_prices", "ask_sizes"))
_FINITE: Final = np.finfo(np.float64).max


class DecodeLimits(ComponentConfig):
    """Bounds that a record must keep.

    Examples
    --------
    >>> DecodeLimits().max_ahead_ns
    5000000000
    >>> DecodeLimits(max_ahead="250ms").content()["max_ahead"]
    '250ms'
    """

    max_ahead: Duration = Setting(timedelta(seconds=5), ge=timedelta(0), le=timedelta(days=1))
    """how far `ts_event` may be ahead of `ts_recv`; clocks of venues differ from ours by a second or so in healthy
    operation, far more means a wrong clock or a wrong unit"""
    max_text_bytes: int = Setting(262_144, ge=1, le=16 * 2**20)
    """longest text of one field, UTF-8 bytes: a long article fits, an attack on memory does not"""
    max_symbol_bytes: int = Setting(128, ge=1, le=4096)
    """longest symbol, UTF-8 bytes; symbols are kept in dictionaries, so they are short"""
    max_levels: int = Setting(10_000, ge=1, le=1_000_000)
    """most price levels on one side of one book message"""

    @property
    def max_ahead_ns(self) -> int:
        """`max_ahead` in nanoseconds."""
        return duration_ns(self.max_ahead)


class RefusedRows:
    """Refused rows of one batch. The first reason that is found for a row stands.

    Examples
    --------
    >>> refusals = RefusedRows()
    >>> refusals.add(np.array([4, 2]), DeadLetterReason.OUT_OF_RANGE, lambda row: f"row {row}")
    >>> refusals.add(np.array([2]), DeadLetterReason.CROSSED_BOOK, str)
    >>> refusals.rows.tolist(), refusals.details
    ([2, 4], ['row 2', 'row 4'])
    """

    def __init__(self) -> None:
        self._by_row: dict[int, tuple[DeadLetterReason, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_row)

    def add(self, rows: npt.NDArray[Any], reason: DeadLetterReason, describe: Callable[[int], str]) -> None:
        """Refuse these rows; `describe` gives the detail of one."""
        for row in rows.tolist():
            if row not in self._by_row:
                self._by_row[row] = (reason, describe(row))

    @property
    def rows(self) -> IntArray:
        """Refused rows in order."""
        return np.array(sorted(self._by_row), dtype=np.int64)

    @property
    def reasons(self) -> list[DeadLetterReason]:
        """Reason of each refused row, in the order of `rows`."""
        return [self._by_row[row][0] for row in sorted(self._by_row)]

    @property
    def details(self) -> list[str]:
        """Detail of each refused row, in the order of `rows`."""
        return [self._by_row[row][1] for row in sorted(self._by_row)]


def _always(detail: str) -> Callable[[int], str]:
    return lambda _: detail


def check_rows(topic: str, batch: pa.RecordBatch, limits: DecodeLimits, refusals: RefusedRows) -> None:
    """Add to `refusals` every row that breaks a rule of its topic.

    Rules in order: each field in schema order (present, type's range, sign, length), then the book or
    quote as a whole, then the event time against the arrival time.

    Parameters
    ----------
    topic
        Topic name.
    batch
        Rows with the archive schema of the topic.
    limits
        Bounds.
    refusals
        Rows refused so far; they keep their reason.
    """
    if not batch.num_rows:
        return
    for field in topic_schema(topic).fields:
        _check_present(field, batch, refusals)
        rule = _RULES.get(field.kind)
        if rule is not None and batch.column(field.name).null_count < batch.num_rows:
            rule(field, batch, limits, refusals)
    if topic == "books":
        _check_books(batch, limits, refusals)
    elif topic == "quotes":
        _check_quotes(batch, refusals)
    _check_ahead(batch, limits, refusals)


def _check_present(field: Field, batch: pa.RecordBatch, refusals: RefusedRows) -> None:
    column = batch.column(field.name)
    if column.null_count and not field.nullable:
        rows = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        refusals.add(rows, DeadLetterReason.MISSING_FIELD, _always(f"expected a value in `{field.name}`, found none"))


def _check_float(field: Field, batch: pa.RecordBatch, _limits: DecodeLimits, refusals: RefusedRows) -> None:
    column = batch.column(field.name)
    values = floats(batch, field.name)
    smallest = np.nextafter(0.0, 1.0) if field.positive else 0.0 if field.non_negative else -_FINITE
    if not column.null_count and values.min() >= smallest and values.max() <= _FINITE:
        return
    bad = ~((values >= smallest) & (values <= _FINITE))
    if column.null_count:
        bad &= column.is_valid().to_numpy(zero_copy_only=False)
    expected = "above 0" if field.positive else "0 or above" if field.non_negative else "finite"
    refusals.add(
        np.flatnonzero(bad),
        DeadLetterReason.OUT_OF_RANGE,
        lambda row: f"expected `{field.name}` {expected}, found {values[row]}",
    )


def _check_time(field: Field, batch: pa.RecordBatch, _limits: DecodeLimits, refusals: RefusedRows) -> None:
    values = _known_times(batch, field.name)
    if values.min() < 0:
        refusals.add(
            np.flatnonzero(values < 0),
            DeadLetterReason.OUT_OF_RANGE,
            lambda row: f"expected `{field.name}` since 1970, found {values[row]} ns; check the unit",
        )


def _check_enum(field: Field, batch: pa.RecordBatch, _limits: DecodeLimits, refusals: RefusedRows) -> None:
    known = [] if field.enum is None else sorted(member.value for member in field.enum)
    codes = int8s(batch, field.name, missing=known[0])
    low, high = int(codes.min()), int(codes.max())
    if low >= known[0] and high <= known[-1] and known[-1] - known[0] == len(known) - 1:
        return
    allowed = np.zeros(256, dtype=np.bool_)
    allowed[np.array(known, dtype=np.int8).view(np.uint8)] = True
    refusals.add(
        np.flatnonzero(~allowed[codes.view(np.uint8)]),
        DeadLetterReason.OUT_OF_RANGE,
        lambda row: f"expected `{field.name}` among the codes {known}, found {codes[row]}",
    )


def _check_text(field: Field, batch: pa.RecordBatch, limits: DecodeLimits, refusals: RefusedRows) -> None:
    lengths = pc.binary_length(batch.column(field.name)).fill_null(0).to_numpy(zero_copy_only=False)
    if lengths.max() > limits.max_text_bytes:
        refusals.add(
            np.flatnonzero(lengths > limits.max_text_bytes),
            DeadLetterReason.OUT_OF_RANGE,
            lambda row: f"expected at most {limits.max_text_bytes} bytes in `{field.name}`, found {lengths[row]}",
        )


def _check_symbol(field: Field, batch: pa.RecordBatch, limits: DecodeLimits, refusals: RefusedRows) -> None:
    column = batch.column(field.name)
    entries = pc.binary_length(column.dictionary).fill_null(-1).to_numpy(zero_copy_only=False)
    least = 1 if field.name == "instrument_id" else -1 if field.nullable else 0
    if entries.min() >= least and entries.max() <= limits.max_symbol_bytes:
        return
    lengths = entries[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    refusals.add(
        np.flatnonzero(valid & (lengths < least)),
        DeadLetterReason.MISSING_FIELD,
        _always(f"expected a value in `{field.name}`, found none"),
    )
    refusals.add(
        np.flatnonzero(valid & (lengths > limits.max_symbol_bytes)),
        DeadLetterReason.OUT_OF_RANGE,
        lambda row: f"expected at most {limits.max_symbol_bytes} bytes in `{field.name}`, found {lengths[row]}",
    )


_RULES: Final[dict[str, Callable[[Field, pa.RecordBatch, DecodeLimits, RefusedRows], None]]] = {
    "float": _check_float,
    "time": _check_time,
    "enum": _check_enum,
    "text": _check_text,
    "symbol": _check_symbol,
}


def _known_times(batch: pa.RecordBatch, name: str) -> IntArray:
    column = batch.column(name)
    if not column.null_count:
        return times(batch, name)
    values: IntArray = column.view(pa.int64()).fill_null(0).to_numpy()
    return values


def _check_ahead(batch: pa.RecordBatch, limits: DecodeLimits, refusals: RefusedRows) -> None:
    ahead = _known_times(batch, "ts_event") - times(batch, "ts_recv")
    if ahead.max() > limits.max_ahead_ns:
        bound = format_duration(limits.max_ahead_ns)
        refusals.add(
            np.flatnonzero(ahead > limits.max_ahead_ns),
            DeadLetterReason.EVENT_TIME_AHEAD,
            lambda row: f"expected `ts_event` at most {bound} ahead of `ts_recv`, found {int(ahead[row])} ns",
        )


def _check_quotes(batch: pa.RecordBatch, refusals: RefusedRows) -> None:
    bid, ask = floats(batch, "bid_price"), floats(batch, "ask_price")
    has_bid, has_ask = floats(batch, "bid_size") > 0, floats(batch, "ask_size") > 0
    for name, price, present in (("bid_price", bid, has_bid), ("ask_price", ask, has_ask)):
        detail = f"expected `{name}` above 0 where its size is, found 0"
        refusals.add(np.flatnonzero(present & (price <= 0)), DeadLetterReason.OUT_OF_RANGE, _always(detail))
    refusals.add(
        np.flatnonzero(has_bid & has_ask & (bid > ask)),
        DeadLetterReason.CROSSED_BOOK,
        lambda row: f"expected bid at or below ask, found {bid[row]} above {ask[row]}",
    )


def _side(batch: pa.RecordBatch, name: str) -> tuple[IntArray, FloatArray]:
    """Return offsets from 0 and the values between them: a slice shares the values of its whole."""
    offsets, values = levels(batch, name)
    return offsets - offsets[0], values[offsets[0] : offsets[-1]]


def _check_books(batch: pa.RecordBatch, limits: DecodeLimits, refusals: RefusedRows) -> None:
    for prices, sizes in _SIDES:
        price_counts = _check_levels(batch, prices, np.nextafter(0.0, 1.0), "above 0", limits, refusals)
        size_counts = _check_levels(batch, sizes, 0.0, "0 or above", limits, refusals)
        _check_same_counts((prices, price_counts), (sizes, size_counts), refusals)
    _check_snapshots_uncrossed(batch, refusals)


def _check_same_counts(prices: tuple[str, IntArray], sizes: tuple[str, IntArray], refusals: RefusedRows) -> None:
    refusals.add(
        np.flatnonzero(prices[1] != sizes[1]),
        DeadLetterReason.OUT_OF_RANGE,
        lambda row: f"expected as many `{prices[0]}` as `{sizes[0]}`, found {prices[1][row]} and {sizes[1][row]}",
    )


def _check_levels(
    batch: pa.RecordBatch, name: str, smallest: float, expected: str, limits: DecodeLimits, refusals: RefusedRows
) -> IntArray:
    """Check the values and the number of levels, and return the number for each row."""
    offsets, values = _side(batch, name)
    counts = np.diff(offsets)
    if values.size and not (values.min() >= smallest and values.max() <= _FINITE):
        at = np.flatnonzero(~((values >= smallest) & (values <= _FINITE)))
        rows, first = np.unique(np.searchsorted(offsets, at, side="right") - 1, return_index=True)
        found = dict(zip(rows.tolist(), values[at[first]].tolist(), strict=True))
        refusals.add(
            rows,
            DeadLetterReason.OUT_OF_RANGE,
            lambda row: f"expected every value of `{name}` {expected}, found {found[row]}",
        )
    refusals.add(
        np.flatnonzero(counts > limits.max_levels),
        DeadLetterReason.OUT_OF_RANGE,
        lambda row: f"expected at most {limits.max_levels} levels in `{name}`, found {counts[row]}",
    )
    return counts


def _check_snapshots_uncrossed(batch: pa.RecordBatch, refusals: RefusedRows) -> None:
    """Refuse snapshots whose best bid is above their best ask; a level of size 0 is no level."""
    two_sided = int8s(batch, "kind", missing=BookKind.DELTA) == BookKind.SNAPSHOT
    for name in ("bid_prices", "ask_prices"):
        two_sided &= np.diff(_side(batch, name)[0]) > 0
    two_sided[refusals.rows] = False
    rows = np.flatnonzero(two_sided)
    if not rows.size:
        return
    snapshots = batch if len(rows) == batch.num_rows else take(batch, rows)
    bid = _best(snapshots, *_SIDES[0], np.maximum, -np.inf)
    ask = _best(snapshots, *_SIDES[1], np.minimum, np.inf)
    crossed = np.flatnonzero(bid > ask)
    found = {int(rows[i]): f"{bid[i]} above {ask[i]}" for i in crossed}
    refusals.add(
        rows[crossed],
        DeadLetterReason.CROSSED_BOOK,
        lambda row: f"expected the best bid of a snapshot at or below its best ask, found {found[row]}",
    )


def _best(batch: pa.RecordBatch, prices: str, sizes: str, better: np.ufunc, none: float) -> FloatArray:
    """Return the best price of each row's side; every row has levels."""
    offsets, values = _side(batch, prices)
    best: FloatArray = better.reduceat(np.where(_side(batch, sizes)[1] > 0, values, none), offsets[:-1])
    return best
