"""The best bid and offer, from quotes, or from a rebuilt book where an instrument has one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from operators.columns import BookColumns, CodeArray, FloatArray, IntArray, frozen
from operators.state import Column, InstrumentState
from schemas.enums import Missing

__all__ = ["TopOfBookState", "no_levels", "quotes_top"]

_NAMES: Final = tuple(field.name for field in fields(BookColumns))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _all_two_sided(bid_price: Any, bid_size: Any, ask_price: Any, ask_size: Any) -> bool:
    sound = True
    for i in range(len(bid_price)):
        sizes = 0.0 < bid_size[i] < np.inf and 0.0 < ask_size[i] < np.inf
        sound &= sizes and 0.0 < bid_price[i] < ask_price[i] < np.inf
    return sound


def no_levels(n_rows: int, depth: int) -> FloatArray:
    """Return the `levels` of rows of which only the best is known: NaN, shape `(n_rows, depth - 1, 4)`, in no memory.

    Examples
    --------
    >>> no_levels(2, depth=3).shape, no_levels(2, depth=3).strides
    ((2, 2, 4), (0, 0, 0))
    """
    return np.broadcast_to(_UNKNOWN, (n_rows, depth - 1, 4))


_UNKNOWN: Final = np.array(np.nan)


def quotes_top(
    code: CodeArray,
    ts: IntArray,
    bid_price: FloatArray,
    bid_size: FloatArray,
    ask_price: FloatArray,
    ask_size: FloatArray,
    depth: int = 1,
) -> BookColumns:
    """Return rows of the `quotes` topic as tops of a book whose only levels are the best ones.

    A side exists where its price and size are finite and above zero. A row with one side has the values of that
    side; it, a row of none, and a locked one (bid equal to ask) say `Missing.OUT_OF_SYNC`.

    Parameters
    ----------
    code, ts
        int32 codes, and `ts_recv` in int64 ns.
    bid_price, bid_size, ask_price, ask_size
        float64, quote currency and base units; 0 where the side is empty.
    depth
        Levels that rows of books beside these have; a quote knows none but the best.

    Notes
    -----
    Where every row has both sides nothing is copied: the columns are the inputs.

    Examples
    --------
    >>> values = [np.array(column) for column in ([9.0, 9.0], [1.0, 1.0], [9.5, 0.0], [2.0, 0.0])]
    >>> top = quotes_top(np.zeros(2, dtype=np.int32), np.array([5, 6]), *values)
    >>> top.ask_price, top.missing
    (array([9.5, nan]), array([0, 5], dtype=uint8))
    """
    bid_price, bid_size, ask_price, ask_size = map(frozen, (bid_price, bid_size, ask_price, ask_size))
    levels = no_levels(len(code), depth)
    if _all_two_sided(bid_price, bid_size, ask_price, ask_size):
        missing = np.zeros(len(code), dtype=np.uint8)
        return BookColumns(code, ts, bid_price, bid_size, ask_price, ask_size, bid_size, ask_size, missing, levels)
    bid_price, bid_size = _side(bid_price, bid_size)
    ask_price, ask_size = _side(ask_price, ask_size)
    missing = np.where(bid_price < ask_price, Missing.OK, Missing.OUT_OF_SYNC).astype(np.uint8)
    return BookColumns(code, ts, bid_price, bid_size, ask_price, ask_size, bid_size, ask_size, missing, levels)


def _side(price: FloatArray, size: FloatArray) -> tuple[FloatArray, FloatArray]:
    exists = (price > 0.0) & (price < np.inf) & (size > 0.0) & (size < np.inf)
    return np.where(exists, price, np.nan), np.where(exists, size, np.nan)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _merge_rows(
    has_book: Any, book_code: Any, book_ts: Any, quote_code: Any, quote_ts: Any, from_book: Any, row: Any
) -> int:
    """Write which group and row each output row comes from, books before quotes of equal time; return their number."""
    n = quote = 0
    for book in range(len(book_code) + 1):
        last = book == len(book_code)
        while quote < len(quote_code) and (last or quote_ts[quote] < book_ts[book]):
            if not has_book[quote_code[quote]]:
                from_book[n] = False
                row[n] = quote
                n += 1
            quote += 1
        if not last:
            has_book[book_code[book]] = 1
            from_book[n] = True
            row[n] = book
            n += 1
    return n


class TopOfBookState(InstrumentState):
    """One stream of tops for instruments with books, quotes, or both.

    The tops of an instrument are its quotes until its book gives its first row; from then on they are the book's,
    also while the book is lost: a quote never stands in for a book that is known to be wrong.

    Notes
    -----
    A call gets the rows of one stretch of time, both groups in time order, and a later call nothing earlier. Of
    equal times books come before quotes, as the topics are ordered. A group passes through uncopied when the
    other one is empty.

    Examples
    --------
    >>> state = TopOfBookState()
    >>> state.ensure(1)
    >>> column = lambda value: np.array([value])
    >>> quote = quotes_top(np.zeros(1, dtype=np.int32), column(5), *map(column, (9.0, 1.0, 9.5, 2.0)))
    >>> nothing = quote.take(np.array([], dtype=np.int64))
    >>> len(state.update(nothing, quote)), len(state.update(quote, nothing)), len(state.update(nothing, quote))
    (1, 1, 0)
    """

    def __init__(self) -> None:
        super().__init__({"has_book": Column("u1")}, version=1)

    def update(self, books: BookColumns, quotes: BookColumns) -> BookColumns:
        """Return the tops of the next stretch of time, in arrival order; every code must have its row."""
        has_book = self._state["has_book"]
        if not len(quotes):
            has_book[books.code] = 1
            return books
        if not len(books):
            passed = has_book[quotes.code] == 0
            return quotes if passed.all() else quotes.take(passed)
        from_book = np.empty(len(books) + len(quotes), dtype=np.bool_)
        row = np.empty(len(from_book), dtype=np.int64)
        book_keys = frozen(books.code), frozen(books.ts)
        n = _merge_rows(has_book, *book_keys, frozen(quotes.code), frozen(quotes.ts), from_book, row)
        return _interleave(books, quotes, from_book[:n], row[:n])


def _interleave(
    books: BookColumns, quotes: BookColumns, from_book: npt.NDArray[np.bool_], row: IntArray
) -> BookColumns:
    chosen = np.where(from_book, row, row + len(books))
    both = (np.concatenate([getattr(books, name), getattr(quotes, name)]) for name in _NAMES)
    return BookColumns(*(array[chosen] for array in both))
