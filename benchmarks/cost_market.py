"""Input of the cost benchmark: frames of a market in which every instrument is equally busy.

Records per instrument and second are the same for any number of instruments, and so are records per frame, so that what
a record costs differs by nothing but the number of instruments. Within a second instruments take turns at random, which
is the order that caches like least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.texts import headlines, posts
from operators.arrival import Frame
from operators.columns import BarColumns, frozen
from schemas.batches import make_batch
from schemas.enums import OptionRight

__all__ = ["Density", "Market", "bar_frames"]

_START: Final = 1_704_205_800 * 10**9
"""2024-01-02 14:30 UTC"""
_SECOND: Final = 10**9
_DAY: Final = 86_400 * _SECOND
_TICK: Final = 0.01
_SHARE: Final = {"news": 0.002, "social": 0.002, "earnings": 0.001, "options": 0.01}
"""Records of the other topics for each quote or trade."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Density:
    """Records of an instrument in a second."""

    quotes: int
    trades: int


class Market:
    """Frames of successive seconds.

    Parameters
    ----------
    instruments
        Number of instruments.
    frame
        Records of a frame.
    seed
        Seed of everything.
    """

    def __init__(self, instruments: int, frame: int = 16_384, seed: int = 20240102) -> None:
        self._rng = np.random.default_rng(seed)
        self._n = instruments
        self._frame = frame
        self._names = pa.array([f"SB{code:05d}" for code in range(instruments)])
        self._bid = self._rng.integers(4_000, 40_000, size=instruments)
        self._second = 0
        self._offset = 0

    def second(self, density: Density) -> Iterator[Frame]:
        """Return the frames of the next second."""
        n = self._n * (density.quotes + density.trades)
        code = np.tile(np.arange(self._n, dtype=np.int32), density.quotes + density.trades)
        is_trade = np.repeat([False, True], [self._n * density.quotes, self._n * density.trades])
        order = self._rng.permutation(n)
        begin = _START + self._second * _SECOND
        ts = begin + (np.arange(n) + 1) * (_SECOND // (n + 1))
        self._bid += self._rng.integers(-1, 2, size=self._n)
        self._second += 1
        for first in range(0, n, self._frame):
            rows = order[first : first + self._frame]
            times = ts[first : first + self._frame]
            end = first + self._frame >= n
            frontier = begin + _SECOND if end else int(times[-1]) + 1
            yield Frame(frontier, dict(self._batches(code[rows], is_trade[rows], times)))

    def _batches(
        self, code: npt.NDArray[np.int32], is_trade: npt.NDArray[np.bool_], ts: Indices
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        bid = self._bid[code] + self._rng.integers(-1, 2, size=len(code))
        quote, trade = np.flatnonzero(~is_trade), np.flatnonzero(is_trade)
        yield from self._batch("quotes", code, ts, quote, self._quotes(bid[quote]))
        yield from self._batch("trades", code, ts, trade, self._trades(bid[trade]))
        for topic, share in _SHARE.items():
            rows = np.flatnonzero(self._rng.random(len(code)) < share)
            yield from self._batch(topic, code, ts, rows, getattr(self, f"_{topic}")(code[rows], ts[rows]))
        self._offset += len(code)

    def _batch(
        self, topic: str, code: npt.NDArray[np.int32], ts: Indices, rows: Indices, columns: dict[str, Any]
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        if not len(rows):
            return
        symbols = pa.DictionaryArray.from_arrays(pa.array(code[rows]), self._names)
        times = {"ts_event": ts[rows], "ts_recv": ts[rows]}
        where = {"partition": np.zeros(len(rows), dtype=np.int32), "offset": self._offset + rows}
        yield topic, make_batch(topic, {"instrument_id": symbols} | times | where | columns, len(rows))

    def _quotes(self, bid: Indices) -> dict[str, Any]:
        n = len(bid)
        return {
            "bid_price": np.round(bid * _TICK, 2),
            "bid_size": 100.0 * self._rng.integers(1, 20, size=n),
            "ask_price": np.round((bid + self._rng.integers(1, 3, size=n)) * _TICK, 2),
            "ask_size": 100.0 * self._rng.integers(1, 20, size=n),
            "sequence": np.arange(n),
        }

    def _trades(self, bid: Indices) -> dict[str, Any]:
        n = len(bid)
        side = self._rng.choice(np.array([-1, 1], dtype=np.int8), size=n)
        return {
            "price": np.round((bid + (side > 0)) * _TICK, 2),
            "size": np.ceil(self._rng.gamma(1.5, 60.0, size=n)),
            "side": side,
            "trade_id": self._offset + np.arange(n),
        }

    def _news(self, code: npt.NDArray[np.int32], ts: Indices) -> dict[str, Any]:
        n = len(code)
        return {"news_id": self._ids(n), "source": ["wire"] * n, "headline": headlines(self._rng, n)}

    def _social(self, code: npt.NDArray[np.int32], ts: Indices) -> dict[str, Any]:
        n = len(code)
        authors = [f"a{author}" for author in self._rng.integers(5000, size=n).tolist()]
        return {
            "post_id": self._ids(n),
            "platform": ["forum"] * n,
            "author": authors,
            "text": posts(self._rng, n),
        }

    def _earnings(self, code: npt.NDArray[np.int32], ts: Indices) -> dict[str, Any]:
        n = len(code)
        return {
            "report_id": [f"{instrument}-{number}" for instrument, number in zip(code, range(n), strict=True)],
            "ts_report": ts + 5 * _DAY,
            "eps_estimate": self._rng.normal(1.0, 0.1, size=n),
            "eps_actual": np.full(n, np.nan),
        }

    def _options(self, code: npt.NDArray[np.int32], ts: Indices) -> dict[str, Any]:
        """Return contracts of sixteen for each instrument: four strikes, two expiries, calls and puts."""
        n = len(code)
        number = self._rng.integers(0, 16, size=n)
        price = self._bid[code] * _TICK
        right = np.where(number % 2 == 0, OptionRight.CALL, OptionRight.PUT).astype(np.int8)
        return {
            "contract_id": [f"{instrument}-{k}" for instrument, k in zip(code, number, strict=True)],
            "ts_expiry": _START + (30 + 60 * (number // 2 % 2)) * _DAY,
            "strike": np.round(price) + number // 4,
            "right": right,
            "price": np.round(price * 0.03, 2),
            "volume": self._rng.integers(0, 500, size=n).astype(np.float64),
            "open_interest": self._rng.integers(0, 5000, size=n).astype(np.float64),
            "implied_volatility": self._rng.uniform(0.2, 0.5, size=n),
            "delta": np.where(right == OptionRight.CALL, 0.5, -0.5),
            "underlying_price": price,
        }

    def _ids(self, n: int) -> list[str]:
        return [f"i{self._offset}-{index}" for index in range(n)]


def bar_frames(instruments: int, bars: int, frame: int = 10_000, seed: int = 20240102) -> list[BarColumns]:
    """Return closed bars of one second, `bars` of each instrument, instrument after instrument within each second.

    Parameters
    ----------
    instruments, bars
        Number of instruments, and of bars of each.
    frame
        Bars of a frame at least; a frame holds whole seconds.
    seed
        Seed of everything.
    """
    rng = np.random.default_rng(seed)
    seconds = max(1, frame // instruments)
    close = np.full(instruments, 100.0)
    frames = []
    for first in range(0, bars, seconds):
        m = min(seconds, bars - first)
        steps = np.exp(np.cumsum(rng.normal(0.0, 1e-3, size=(m, instruments)), axis=0))
        path = close * steps
        opens = np.concatenate([close[None], path[:-1]]).ravel()
        close = path[-1]
        frames.append(_bars(rng, opens, path.ravel(), first + np.repeat(np.arange(m), instruments), instruments))
    return frames


def _bars(
    rng: np.random.Generator,
    opens: npt.NDArray[np.float64],
    close: npt.NDArray[np.float64],
    second: Indices,
    instruments: int,
) -> BarColumns:
    n = len(close)
    start = _START + second * _SECOND
    volume = rng.integers(1, 1000, size=n).astype(np.float64)
    vwap = 0.5 * (opens + close)
    return BarColumns(
        code=frozen((np.arange(n) % instruments).astype(np.int32)),
        interval_ns=frozen(np.full(n, _SECOND)),
        ts_start=frozen(start),
        ts_end=frozen(start + _SECOND),
        ts=frozen(start + 2 * _SECOND),
        open=frozen(opens),
        high=frozen(np.maximum(opens, close) * (1.0 + 1e-3 * rng.random(n))),
        low=frozen(np.minimum(opens, close) * (1.0 - 1e-3 * rng.random(n))),
        close=frozen(close),
        volume=frozen(volume),
        notional=frozen(volume * vwap),
        vwap=frozen(vwap),
        trade_count=frozen(np.full(n, 10)),
        buy_volume=frozen(volume / 2),
    )
