"""The quote that prevailed when a trade arrived: an as-of join of trades with updates of their instrument's book."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from operators.book_features import NAMES, BookFeatureColumns
from operators.columns import CodeArray, FloatArray, IntArray, frozen
from operators.flow.layout import LARGEST, NEVER, SMALLEST
from operators.state import Column, InstrumentState

__all__ = ["PrevailingQuoteState"]

_COLUMNS: Final = tuple(NAMES.index(name) for name in ("bid_price", "ask_price", "mid_price"))


class PrevailingQuoteState(InstrumentState):
    """Best bid, best offer and mid of an instrument as of each trade.

    A trade sees the updates that arrived at or before its own time. Of records that arrived at the same nanosecond
    books and quotes come before trades, as the topics are ordered.

    Parameters
    ----------
    max_age_ns
        Age of the last update, ns, above which the quote is unknown.

    Raises
    ------
    ValueError
        The age is below 1.

    Notes
    -----
    All three are NaN where the quote is unknown: before the first update, after one without value (a lost, locked or
    one-sided book), when it is too old, and where the mid is not between 1e-30 and 1e30. An unsound update never
    hides behind the one before it. About 10 ns an update or trade.

    Examples
    --------
    >>> code, values = np.zeros(2, dtype=np.int32), np.full((2, len(NAMES)), 10.0)
    >>> values[1] = np.nan
    >>> book = BookFeatureColumns(code, np.array([5, 9]), values, np.zeros_like(values, dtype=np.uint8))
    >>> state = PrevailingQuoteState(max_age_ns=100)
    >>> state.ensure(1)
    >>> state.update(book, np.zeros(4, dtype=np.int32), np.array([4, 5, 8, 9]))[2]
    array([nan, 10., 10., nan])
    """

    def __init__(self, max_age_ns: int) -> None:
        if max_age_ns < 1:
            raise ValueError(f"expected `max_age_ns` of at least 1, was {max_age_ns}")
        self._max_age = max_age_ns
        columns = {"ts": Column("i8", fill=NEVER), "quote": Column("f8", fill=float("nan"), shape=(3,))}
        super().__init__(columns, version=1)

    def update(self, book: BookFeatureColumns, code: CodeArray, ts: IntArray) -> tuple[FloatArray, ...]:
        """Take the next updates and trades, both in order of arrival; every code must have its row.

        Parameters
        ----------
        book
            Book updates.
        code, ts
            Instrument and `ts_recv` of each trade, shape `(n,)`.

        Returns
        -------
        bid, ask, mid
            Shape `(n,)`, quote currency; NaN where unknown.
        """
        found = np.empty((3, len(code)))
        _join(
            (frozen(book.code), frozen(book.ts), frozen(book.values)), (frozen(code), frozen(ts)),
            (self._state["ts"], self._state["quote"]), self._max_age, found,
        )  # fmt: skip
        return found[0], found[1], found[2]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _join(updates: Any, trades: Any, state: Any, max_age: int, found: FloatArray) -> None:
    update_code, update_ts, values = updates
    trade_code, trade_ts = trades
    quote_ts, quote = state
    bid, ask, mid = _COLUMNS
    n_trades, trade = len(trade_code), 0
    for update in range(len(update_code) + 1):
        last = update == len(update_code)
        while trade < n_trades and (last or trade_ts[trade] < update_ts[update]):
            c = trade_code[trade]
            known = quote_ts[c] != NEVER and trade_ts[trade] - quote_ts[c] <= max_age
            for k in range(3):
                found[k, trade] = quote[c, k] if known else np.nan
            trade += 1
        if not last:
            c = update_code[update]
            quote_ts[c] = update_ts[update]
            sound = SMALLEST <= values[update, mid] <= LARGEST
            quote[c, 0] = values[update, bid] if sound else np.nan
            quote[c, 1] = values[update, ask] if sound else np.nan
            quote[c, 2] = values[update, mid] if sound else np.nan
