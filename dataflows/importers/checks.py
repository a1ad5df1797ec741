"""What every row must satisfy before it is accepted, read off the topic's schema and checked by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataflows.importers.base import BadRow, Chunk
from operators.columns import IntArray
from schemas.batches import make_batch
from schemas.fields import Field
from schemas.records import TOPICS, topic

__all__ = ["END_OF_TIMES", "UNKNOWN_TIME", "Faults", "check_columns", "constant", "make_chunk"]

UNKNOWN_TIME: Final = -1
"""Stands for a time that a row does not have; no accepted row has it."""
END_OF_TIMES: Final = 7_258_118_400 * 10**9
"""2200-01-01, UTC ns: a later time is a unit mistaken for another."""
_TICK_TOLERANCE: Final = 1e-6
"""Share of a tick within which a double that went through decimal text still is that tick."""
_PRICES: Final = ("price", "bid_price", "ask_price", "bid_prices", "ask_prices")

Mask = npt.NDArray[np.bool_]


class Faults:
    """The first fault of each row, by its text.

    Examples
    --------
    >>> faults = Faults(3)
    >>> faults.mark(np.array([False, True, True]), "out_of_range: a")
    >>> faults.mark(np.array([False, False, True]), "out_of_range: b")
    >>> faults.rows()
    [(1, 'out_of_range: a'), (2, 'out_of_range: a')]
    """

    def __init__(self, n_rows: int) -> None:
        self._codes = np.zeros(n_rows, dtype=np.int16)
        self._texts: list[str] = [""]

    def mark(self, rows: Mask, text: str) -> None:
        """Mark rows, a mask of shape `(n,)`, that have no fault yet."""
        fresh = rows & (self._codes == 0)
        if fresh.any():
            self._codes[fresh] = len(self._texts)
            self._texts.append(text)

    @property
    def good(self) -> Mask:
        """Rows without a fault, shape `(n,)`."""
        good: Mask = self._codes == 0
        return good

    def rows(self) -> list[tuple[int, str]]:
        """Return row and text of every fault, by row."""
        return [(int(row), self._texts[self._codes[row]]) for row in np.flatnonzero(self._codes)]


def constant(text: str, n_rows: int) -> pa.DictionaryArray:
    """Return a symbol column of one value."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, dtype=np.int32)), pa.array([text]))


def check_columns(name: str, columns: Mapping[str, Any], faults: Faults, *, tick: float | None = None) -> None:
    """Mark the rows that the schema of a topic does not allow.

    Parameters
    ----------
    name
        Topic.
    columns
        Column name to numpy array, Arrow array or list of symbols, as for `make_batch`.
    faults
        Marks go here.
    tick
        Price increment that prices must be whole numbers of.
    """
    for field in TOPICS[name].fields:
        if field.name in columns:
            check = _CHECKS.get(field.kind)
            if check is not None:
                check(field, columns[field.name], faults)
    if name == "books":
        _check_book(columns, faults)
    if name == "quotes":
        for side in ("bid", "ask"):
            hollow = (np.asarray(columns[f"{side}_size"]) > 0) & (np.asarray(columns[f"{side}_price"]) == 0)
            faults.mark(hollow, f"out_of_range: expected a `{side}_price` where `{side}_size` is above zero")
    if tick is not None:
        for price in _PRICES:
            if price in columns:
                _check_tick(price, columns[price], tick, faults)


def _floats(values: Any) -> tuple[npt.NDArray[np.float64], Mask]:
    """Return float values, and which are null."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        null = np.asarray(pc.is_null(values))
        return np.asarray(pc.fill_null(values, 1.0), dtype=np.float64), null
    array = np.asarray(values, dtype=np.float64)
    return array, np.zeros(len(array), dtype=np.bool_)


def _check_time(field: Field, values: Any, faults: Faults) -> None:
    times = np.asarray(values, dtype=np.int64)
    faults.mark((times < 0) | (times >= END_OF_TIMES), f"out_of_range: expected `{field.name}` from 1970 to 2200")


def _check_float(field: Field, values: Any, faults: Faults) -> None:
    array, null = _floats(values)
    with np.errstate(invalid="ignore"):
        low = array <= 0 if field.positive else array < 0 if field.non_negative else np.zeros(len(array), np.bool_)
    bound = " and above zero" if field.positive else ", zero or above" if field.non_negative else ""
    faults.mark(~null & (~np.isfinite(array) | low), f"out_of_range: expected `{field.name}` finite{bound}")
    if not field.nullable:
        faults.mark(null, f"missing_field: expected a `{field.name}`")


def _check_int(field: Field, values: Any, faults: Faults) -> None:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = pc.fill_null(values, 0)
    negative = np.asarray(values, dtype=np.int64) < 0
    faults.mark(negative, f"out_of_range: expected `{field.name}` zero or above")


def _rows_of(mask: Mask, levels: pa.ListArray) -> Mask:
    """Return which rows hold a marked level, shape `(n,)`."""
    rows = np.zeros(len(levels), dtype=np.bool_)
    if mask.any():
        rows[np.repeat(np.arange(len(levels)), np.diff(np.asarray(levels.offsets)))[mask]] = True
    return rows


def _check_levels(field: Field, values: pa.ListArray, faults: Faults) -> None:
    levels = np.asarray(values.values, dtype=np.float64)
    is_price = field.name.endswith("prices")
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(levels) | ((levels <= 0) if is_price else (levels < 0))
    bound = "above zero" if is_price else "zero or above"
    faults.mark(_rows_of(bad, values), f"out_of_range: expected every one of `{field.name}` finite and {bound}")


_CHECKS: Final[dict[str, Callable[[Field, Any, Faults], None]]] = {
    "time": _check_time,
    "float": _check_float,
    "int": _check_int,
    "levels": _check_levels,
}


def _check_book(columns: Mapping[str, Any], faults: Faults) -> None:
    for side in ("bid", "ask"):
        prices, sizes = (np.diff(np.asarray(columns[f"{side}_{what}"].offsets)) for what in ("prices", "sizes"))
        faults.mark(prices != sizes, f"out_of_range: expected as many `{side}_sizes` as `{side}_prices`")
    first = columns.get("first_sequence")
    if first is not None:
        last = np.asarray(columns["last_sequence"], dtype=np.int64)
        inverted = np.asarray(pc.fill_null(pa.array(first), 0), dtype=np.int64) > last
        faults.mark(inverted, "out_of_range: expected `first_sequence` at or below `last_sequence`")


def _check_tick(name: str, values: Any, tick: float, faults: Faults) -> None:
    is_list = isinstance(values, pa.ListArray)
    prices, null = _floats(values.values if is_list else values)
    with np.errstate(invalid="ignore"):
        ticks = prices / tick
        off = ~null & (np.abs(ticks - np.rint(ticks)) > _TICK_TOLERANCE)
    faults.mark(_rows_of(off, values) if is_list else off, f"out_of_range: expected `{name}` in whole ticks")


def make_chunk(
    name: str,
    columns: Mapping[str, Any],
    raw: Callable[[int], bytes],
    *,
    n_rows: int,
    bytes_done: int,
    positions: IntArray | None = None,
    bad: Sequence[BadRow] = (),
    faults: Faults | None = None,
    repaired: Iterable[tuple[str, Mask]] = (),
    two_clocks: Mask | None = None,
    tick: float | None = None,
) -> Chunk:
    """Check the rows of one topic and part them into accepted and quarantined.

    Parameters
    ----------
    name
        Topic.
    columns
        Columns of the rows that could be decoded, as for `make_batch`; a time that is not known is
        `UNKNOWN_TIME`.
    raw
        Gives the untouched bytes of a decoded row by its index.
    n_rows
        Decoded rows.
    bytes_done
        Bytes of the input file that were read by then.
    positions
        Place of each decoded row among all rows of the chunk, shape `(n,)`; their index by default.
    bad
        Rows that could not be decoded.
    faults
        Faults that the importer has marked already.
    repaired
        What was filled in, and a mask of the rows in which it was.
    two_clocks
        Rows whose `ts_event` and `ts_recv` come from two clocks.
    tick
        Price increment.
    """
    faults = faults or Faults(n_rows)
    check_columns(name, columns, faults, tick=tick)
    good = faults.good
    if positions is None:
        positions = np.arange(n_rows, dtype=np.int64)
    batch = make_batch(topic(name).name, columns, n_rows)
    ts_recv = np.asarray(columns["ts_recv"], dtype=np.int64)
    refused = [BadRow(int(positions[row]), raw(row), text, _known(ts_recv[row])) for row, text in faults.rows()]
    if refused:
        batch = batch.take(pa.array(np.flatnonzero(good)))
    latency = np.zeros(0, dtype=np.int64)
    if two_clocks is not None:
        latency = (ts_recv - np.asarray(columns["ts_event"], dtype=np.int64))[good & two_clocks]
    counts = {text: int(np.count_nonzero(mask & good)) for text, mask in repaired}
    return Chunk(
        topic=name,
        batch=batch,
        bytes_done=bytes_done,
        positions=positions[good],
        bad=tuple(sorted([*bad, *refused], key=lambda row: row.position)),
        repaired={text: count for text, count in counts.items() if count},
        latency=latency,
    )


def _known(ts_recv: int) -> int | None:
    return int(ts_recv) if 0 <= ts_recv < END_OF_TIMES else None
