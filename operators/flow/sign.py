"""Who was the aggressor of a trade: the exchange's flag where there is one, else the rule of Lee and Ready."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from operators.columns import CodeArray, FloatArray, Int8Array, frozen
from operators.flow.layout import LARGEST, SMALLEST
from operators.state import Column, InstrumentState

__all__ = ["TradeSignState"]


class TradeSignState(InstrumentState):
    r"""Sign of each trade: 1 bought by the aggressor, -1 sold, 0 unknown.

    The flag of the exchange decides where it says buy or sell. Else the quote rule: a trade above the prevailing mid
    was bought, one below it sold. At the mid, and where there is no mid, the tick test: the sign of the price against
    the last different price of the instrument. With prices $p_i$, mid $m_i$ and $j = \max\{k < i : p_k \ne p_i\}$:

    $$ q_i = \mathrm{sgn}(p_i - m_i) \ \text{if that is not 0, else}\ \mathrm{sgn}(p_i - p_j). $$

    Notes
    -----
    The sign is 0 where no rule decides: before the first price change of an instrument without mid. A price that is
    not between 1e-30 and 1e30 gets 0, and the tick test does not remember it. The paper lagged quotes by five seconds,
    for the reporting of its day; here the quote is the one that had arrived. On a feed whose best prices come before
    the trades that moved them the quote rule errs: a trade at the bid is then above a mid that it pushed down itself.
    On two captures of Binance, spot and futures, the rule finds 94 and 96 % of the venue's flags from books, which
    follow the trades by up to 100 ms, but 52 and 87 % from best prices; the tick test alone finds 96 and 97 %. About
    10 ns a trade.

    Examples
    --------
    >>> state = TradeSignState()
    >>> state.ensure(1)
    >>> mid = np.array([10.0, 10.0, 10.0, np.nan])
    >>> state.update(np.zeros(4, np.int32), np.array([10.0, 10.5, 10.0, 10.0]), np.zeros(4, np.int8), mid).tolist()
    [0, 1, -1, -1]

    References
    ----------
    Lee, C. and Ready, M. (1991). Inferring trade direction from intraday data. Journal of Finance 46(2), 733-746.
    """

    def __init__(self) -> None:
        super().__init__({"price": Column("f8", fill=float("nan")), "tick": Column("i1")}, version=1)

    def update(self, code: CodeArray, price: FloatArray, side: Int8Array, mid: FloatArray) -> Int8Array:
        """Take the next trades in order of arrival and return the sign of each; every code must have its row.

        Parameters
        ----------
        code
            Instrument codes, shape `(n,)`.
        price
            Price, quote currency, shape `(n,)`.
        side
            `Side` of the aggressor as the exchange flags it, shape `(n,)`; anything but 1 and -1 is no flag.
        mid
            Prevailing mid, shape `(n,)`; NaN where unknown.
        """
        sign = np.zeros(len(code), dtype=np.int8)
        inputs = frozen(code), frozen(price), frozen(side), frozen(mid)
        _sign(inputs, self._state["price"], self._state["tick"], sign)
        return sign


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sign(trades: Any, last_price: FloatArray, last_tick: Int8Array, sign: Int8Array) -> None:
    code, price, side, mid = trades
    for i in range(len(code)):
        p = price[i]
        if not SMALLEST <= p <= LARGEST:
            continue
        c = code[i]
        if p > last_price[c]:
            last_tick[c] = 1
        elif p < last_price[c]:
            last_tick[c] = -1
        last_price[c] = p
        if side[i] == 1 or side[i] == -1:
            sign[i] = side[i]
        elif p > mid[i]:
            sign[i] = 1
        elif p < mid[i]:
            sign[i] = -1
        else:
            sign[i] = last_tick[c]
