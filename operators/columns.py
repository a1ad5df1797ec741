"""Columns that pass between the states of a shard: struct-of-arrays, rows in arrival order.

`code` is the dense int32 code of an instrument within its shard. Times are int64 UTC ns. Every array
has shape `(n,)` unless its line says otherwise, and none is written after it was made.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "BarColumns",
    "BookColumns",
    "BoolArray",
    "CodeArray",
    "Columns",
    "FloatArray",
    "Int8Array",
    "IntArray",
    "MissingArray",
    "frozen",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
BoolArray = npt.NDArray[np.bool_]
MissingArray = npt.NDArray[np.uint8]

_Array = TypeVar("_Array", bound=npt.NDArray[Any])


def frozen(array: _Array) -> _Array:
    """Return a read-only contiguous view, so that a kernel is compiled for one kind of input only.

    Examples
    --------
    >>> frozen(np.zeros(2)).flags.writeable
    False
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view  # type: ignore[return-value, unused-ignore]


@dataclass(frozen=True, slots=True)
class Columns:
    """Base of the column groups: arrays of one length."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """Return the rows that an index array or a mask selects."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class BarColumns(Columns):
    """Closed bars, by decision time, then interval, then order of the instrument's code."""

    code: CodeArray
    interval_ns: IntArray
    """length of the window, ns"""
    ts_start: IntArray
    """start of the window, inclusive"""
    ts_end: IntArray
    """end of the window, exclusive"""
    ts: IntArray
    """decision time: `ts_end` plus the grace; every trade in the bar arrived before it"""
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    notional: FloatArray
    vwap: FloatArray
    trade_count: IntArray
    buy_volume: FloatArray


@dataclass(frozen=True, slots=True)
class BookColumns(Columns):
    """The top of a book after each of its updates. A value that does not exist is NaN, and `missing` says why."""

    code: CodeArray
    ts: IntArray
    """`ts_recv` of the update"""
    bid_price: FloatArray
    bid_size: FloatArray
    ask_price: FloatArray
    ask_size: FloatArray
    bid_depth: FloatArray
    """quantity on the first levels of the bid side"""
    ask_depth: FloatArray
    """quantity on the first levels of the offer side"""
    missing: MissingArray
    """a `Missing` code: `OK`, or why the top of the book has no value"""
    levels: FloatArray
    """shape `(n, depth - 1, 4)`: bid price, bid size, offer price and offer size of each level below the best, the best
    first; a side without such a level has size 0 and price NaN there; all NaN where only the best is known"""
