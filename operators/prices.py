"""The last price of each instrument, as of the moments that others ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, IntArray, frozen
from operators.state import Column, InstrumentState

__all__ = ["PriceState"]

_NEVER = -(2**62)


class PriceState(InstrumentState):
    """The last trade's price or mid of the book, whichever came later.

    Notes
    -----
    A question at time T is answered from prices that arrived strictly before T. A price that is not finite and
    above zero is passed over. Of a trade and a mid that arrived at once the trade is later, as the topics are
    ordered. Cost is about 3 ns a price.

    Examples
    --------
    >>> state = PriceState()
    >>> state.ensure(1)
    >>> code = np.zeros(2, dtype=np.int32)
    >>> mids, trades = (code, np.array([1, 5]), np.array([10.0, 11.0])), (code, np.array([2, 5]), np.array([9.0, 8.0]))
    >>> price, age = state.update(mids, trades, np.zeros(3, dtype=np.int32), np.array([1, 2, 6]))
    >>> price, age
    (array([nan, 10.,  8.]), array([nan,  1.,  1.]))
    """

    def __init__(self) -> None:
        super().__init__({"price": Column("f8", fill=np.nan), "ts": Column("i8", fill=_NEVER)}, version=1)

    def update(
        self,
        mids: tuple[CodeArray, IntArray, FloatArray],
        trades: tuple[CodeArray, IntArray, FloatArray],
        code: CodeArray,
        ts: IntArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Take the next prices and answer the next questions.

        Parameters
        ----------
        mids, trades
            Instrument codes, arrival times in ns and prices, each in arrival order.
        code, ts
            Instrument and time of each question, times never decreasing; a later call asks about nothing earlier
            than the prices of this one.

        Returns
        -------
        price
            Shape `(m,)`; NaN where there was none.
        age
            Time since it arrived, ns, shape `(m,)`; NaN where there was none.
        """
        price, age = np.full(len(code), np.nan), np.full(len(code), np.nan)
        _walk(
            *(frozen(column) for column in mids), *(frozen(column) for column in trades), frozen(code), frozen(ts),
            self._state["price"], self._state["ts"], price, age,
        )  # fmt: skip
        return price, age


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _walk(
    mid_code: Any, mid_ts: Any, mid: Any, trade_code: Any, trade_ts: Any, trade: Any, code: Any, ts: Any,
    last: Any, last_ts: Any, price: Any, age: Any,
) -> None:  # fmt: skip
    i = j = 0
    for k in range(len(code) + 1):
        until = ts[k] if k < len(code) else np.int64(2**63 - 1)
        while True:
            has_mid, has_trade = i < len(mid_ts) and mid_ts[i] < until, j < len(trade_ts) and trade_ts[j] < until
            if has_mid and (not has_trade or mid_ts[i] <= trade_ts[j]):
                c, value, at = mid_code[i], mid[i], mid_ts[i]
                i += 1
            elif has_trade:
                c, value, at = trade_code[j], trade[j], trade_ts[j]
                j += 1
            else:
                break
            if value > 0.0 and np.isfinite(value):
                last[c] = value
                last_ts[c] = at
        if k < len(code) and not np.isnan(last[code[k]]):
            price[k] = last[code[k]]
            age[k] = ts[k] - last_ts[code[k]]
