"""Trades with the quote that prevailed and the sign of the aggressor: what everything about trade flow builds on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from operators.columns import CodeArray, Columns, FloatArray, Int8Array, IntArray
from operators.flow.layout import LARGEST, SMALLEST
from operators.flow.quotes import PrevailingQuoteState
from operators.flow.sign import TradeSignState
from operators.sampled import FrameInputs, InstrumentRows
from schemas.batches import floats, int8s, times

__all__ = ["NO_TRADES", "TradeEventStage", "TradeEvents"]


@dataclass(frozen=True, slots=True)
class TradeEvents(Columns):
    """Trades in order of arrival."""

    code: CodeArray
    ts: IntArray
    """`ts_recv`"""
    price: FloatArray
    size: FloatArray
    sign: Int8Array
    """1 bought by the aggressor, -1 sold, 0 unknown"""
    bid: FloatArray
    """best bid as the trade arrived; NaN where unknown, as the next two"""
    ask: FloatArray
    mid: FloatArray
    ts_event: IntArray
    """time of the trade by the venue's clock"""


class TradeEventStage:
    """From the records of a frame to `TradeEvents`.

    Parameters
    ----------
    max_quote_age_ns
        Age of the last book update, ns, above which the quote is unknown.

    Notes
    -----
    A trade whose price or size is not between 1e-30 and 1e30 keeps its row, with sign 0, and the tick test does not
    remember it.

    See Also
    --------
    operators.flow.quotes.PrevailingQuoteState : the quote.
    operators.flow.sign.TradeSignState : the sign.
    """

    def __init__(self, max_quote_age_ns: int) -> None:
        self._quotes = PrevailingQuoteState(max_quote_age_ns)
        self._sign = TradeSignState()

    def states(self) -> Mapping[str, InstrumentRows]:
        """Return the states, by name."""
        return {"quotes": self._quotes, "sign": self._sign}

    def update(self, frame: FrameInputs) -> TradeEvents:
        """Take the trades and book updates of a frame; every code must have its row."""
        batch, code = frame.batches.get("trades"), frame.codes.get("trades")
        if batch is None or code is None:
            self._quotes.update(frame.book, _NO_CODES, _NO_TIMES)
            return NO_TRADES
        ts, price, size = times(batch, "ts_recv"), floats(batch, "price"), floats(batch, "size")
        bid, ask, mid = self._quotes.update(frame.book, code, ts)
        sound = np.where((size >= SMALLEST) & (size <= LARGEST), price, np.nan)
        sign = self._sign.update(code, sound, int8s(batch, "side"), mid)
        return TradeEvents(code, ts, price, size, sign, bid, ask, mid, times(batch, "ts_event"))


_NO_CODES = np.empty(0, dtype=np.int32)
_NO_TIMES = np.empty(0, dtype=np.int64)
_NO_FLOATS = np.empty(0)
NO_TRADES = TradeEvents(
    _NO_CODES, _NO_TIMES, _NO_FLOATS, _NO_FLOATS, np.empty(0, dtype=np.int8), _NO_FLOATS, _NO_FLOATS, _NO_FLOATS,
    _NO_TIMES,
)  # fmt: skip
"""No trade."""
