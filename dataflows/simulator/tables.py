"""From what happened in the market to the columns of its topics, in order of arrival."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.simulator.config import SimulatorConfig
from dataflows.simulator.earnings import Earnings
from dataflows.simulator.faults import GOOD, label
from dataflows.simulator.streams import random_stream
from schemas.batches import make_batch
from schemas.enums import DeadLetterReason, LateReason
from schemas.time import duration_ns

__all__ = ["VENUE", "TopicTables"]

IntArray = npt.NDArray[np.int64]
LabelArray = npt.NDArray[np.uint8]
Labelled = tuple[pa.RecordBatch, LabelArray]

VENUE: Final = "XSIM"
_TICKS_PER_UNIT: Final = 100.0
_LATENCY_FACTOR: Final = {
    "books": 1.2,
    "earnings": 1.4,
    "news": 1.4,
    "options": 1.0,
    "quotes": 0.8,
    "social": 1.4,
    "trades": 0.6,
}
_LATENCY_DEVIATION: Final = 0.35
"""Deviation of the logarithm of a latency: one in a thousand is three times the median."""
_LATENCY_CAP: Final = 20.0


class TopicTables:
    """Makes the batches of each topic; keeps what one slice leaves to the next.

    Within a topic records arrive in the order in which they happened: a latency that would let one
    overtake another holds it back behind that one.

    Parameters
    ----------
    config
        The market.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._names = pa.array(config.instrument_ids)
        self._latency_draws = {topic: random_stream(config.seed, f"latency.{topic}") for topic in _LATENCY_FACTOR}
        self._last_recv = dict.fromkeys(_LATENCY_FACTOR, 0)
        self._skew = duration_ns(config.clock_skew)
        self._late_by = duration_ns(config.faults.late_by)

    def _received(self, topic: str, ts: IntArray) -> IntArray:
        """Return when each record arrives, given when it happened in ascending order."""
        median = duration_ns(self._config.latency) * _LATENCY_FACTOR[topic]
        normal = self._latency_draws[topic].standard_normal(len(ts))
        latency = np.minimum(np.exp(_LATENCY_DEVIATION * normal), _LATENCY_CAP) * median
        first = [self._last_recv[topic]]
        recv = np.maximum.accumulate(np.concatenate((first, ts + latency.astype(np.int64))))[1:]
        if len(recv):
            self._last_recv[topic] = int(recv[-1])
        return np.asarray(recv)

    def _batch(
        self, topic: str, instrument: IntArray, ts: IntArray, ts_event: IntArray, columns: Any
    ) -> pa.RecordBatch:
        zeros = np.zeros(len(ts), dtype=np.int64)
        common = {
            "instrument_id": pa.DictionaryArray.from_arrays(pa.array(instrument.astype(np.int32)), self._names),
            "ts_event": ts_event,
            "ts_recv": self._received(topic, ts),
            "partition": zeros,
            "offset": zeros,
        }
        return make_batch(topic, common | columns, len(ts))

    def trades(self, rows: IntArray) -> Labelled:
        """Return the trades; see `Tape.trades`."""
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        late = rows[:, 6] > 0
        columns = {
            "price": rows[:, 2] / _TICKS_PER_UNIT,
            "size": rows[:, 3].astype(np.float64),
            "side": rows[:, 4].astype(np.int8),
            "trade_id": np.ascontiguousarray(rows[:, 5]),
            "venue": _constant(len(rows)),
        }
        ts = np.ascontiguousarray(rows[:, 1])
        batch = self._batch("trades", rows[:, 0], ts, ts + self._skew - self._late_by * late, columns)
        return batch, np.where(late, label(LateReason.BAR_CLOSED), GOOD).astype(np.uint8)

    def quotes(self, rows: IntArray) -> Labelled:
        """Return the quotes; see `Tape.quotes`."""
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        columns = {
            "bid_price": rows[:, 2] / _TICKS_PER_UNIT,
            "bid_size": rows[:, 3].astype(np.float64),
            "ask_price": rows[:, 4] / _TICKS_PER_UNIT,
            "ask_size": rows[:, 5].astype(np.float64),
            "sequence": np.ascontiguousarray(rows[:, 6]),
            "venue": _constant(len(rows)),
        }
        return self._venue_batch("quotes", rows, columns), _all_good(len(rows))

    def books(self, rows: IntArray, levels: IntArray) -> Labelled:
        """Return the messages of the books; see `Tape.books` and `Tape.levels`."""
        order = np.argsort(rows[:, 1], kind="stable")
        n_bids, n_asks = rows[:, 6], rows[:, 7]
        is_bid = np.repeat(np.tile([True, False], len(rows)), np.column_stack((n_bids, n_asks)).ravel())
        taken = pa.array(order)
        columns: dict[str, Any] = {}
        for side, counts, chosen in (("bid", n_bids, is_bid), ("ask", n_asks, ~is_bid)):
            offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
            for name, column, scale in (("prices", 0, _TICKS_PER_UNIT), ("sizes", 1, 1.0)):
                values = pa.array(levels[chosen, column] / scale)
                columns[f"{side}_{name}"] = pa.ListArray.from_arrays(offsets, values).take(taken)
        rows = rows[order]
        columns["kind"] = rows[:, 2].astype(np.int8)
        columns["last_sequence"] = np.ascontiguousarray(rows[:, 4])
        for name, column in (("first_sequence", 3), ("previous_sequence", 5)):
            columns[name] = pa.array(np.ascontiguousarray(rows[:, column]), mask=rows[:, column] < 0)
        labels = np.where(rows[:, 8] > 0, label(DeadLetterReason.SEQUENCE_GAP), GOOD).astype(np.uint8)
        return self._venue_batch("books", rows, columns), labels

    def _venue_batch(self, topic: str, rows: IntArray, columns: dict[str, Any]) -> pa.RecordBatch:
        ts = np.ascontiguousarray(rows[:, 1])
        return self._batch(topic, rows[:, 0], ts, ts + self._skew, columns)

    def items(self, topic: str, ts: IntArray, instrument: IntArray, columns: dict[str, Any]) -> Labelled:
        """Return news items, posts or option states, given their columns in the order of time."""
        return self._batch(topic, instrument, ts, ts, columns), _all_good(len(ts))

    def earnings(self, records: list[Earnings]) -> Labelled:
        """Return earnings records."""
        ts = np.array([record.ts for record in records], dtype=np.int64)
        instrument = np.array([record.instrument for record in records], dtype=np.int64)
        columns = {
            "report_id": [f"{self._config.instrument_ids[who]}-earnings" for who in instrument.tolist()],
            "ts_report": np.array([record.ts_report for record in records], dtype=np.int64),
            "eps_estimate": [record.estimate for record in records],
            "eps_actual": [record.actual for record in records],
        }
        return self._batch("earnings", instrument, ts, ts, columns), _all_good(len(ts))


def _constant(n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([VENUE]))


def _all_good(n: int) -> LabelArray:
    return np.full(n, GOOD, dtype=np.uint8)
