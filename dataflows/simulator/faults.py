"""Faults: where they are, how they are put among the good records, and what must become of them.

Every fault is planned before the market is made, so the market is the same with and without faults, and
the counts are exact. Late trades and sequence gaps happen in the order flow (a late trade needs an id, a
gap needs a snapshot behind it); all other faults are records added here, and good records keep every byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.simulator.config import STEP_NS, SimulatorConfig
from dataflows.simulator.latent import TICK
from dataflows.simulator.payloads import BAD_REASONS, bad_payload
from dataflows.simulator.streams import random_stream
from dataflows.simulator.tape import NEVER
from schemas.batches import concat_batches, make_batch, times
from schemas.enums import BookKind, DeadLetterReason, LateReason
from schemas.errors import ConfigError
from schemas.records import TOPICS
from schemas.time import duration_ns

__all__ = ["GOOD", "LABELS", "FaultPlan", "label"]

IntArray = npt.NDArray[np.int64]
LabelArray = npt.NDArray[np.uint8]

LABELS: Final = (
    "",
    LateReason.BAR_CLOSED.value,
    DeadLetterReason.DUPLICATE.value,
    DeadLetterReason.CROSSED_BOOK.value,
    DeadLetterReason.SEQUENCE_GAP.value,
    *(reason.value for reason in BAD_REASONS),
)
"""What must become of a record, by its label; the first is a good one."""
GOOD: Final = 0

_MARGIN: Final = 0.9
"""Share of the market after which no fault begins that needs records behind it."""
_SHORTEST_GAP: Final = 3
_LONGEST_GAP: Final = 10
_SOON_NS: Final[dict[str, tuple[int, int]]] = {
    "trades": (10**6, 200 * 10**6),
    "news": (10**8, 5 * 10**9),
    "social": (10**8, 5 * 10**9),
}
"""How long after the first a duplicate arrives."""


def label(reason: str) -> int:
    """Return the label of a reason."""
    return LABELS.index(reason)


@dataclass(slots=True)
class _Copies:
    """Faults that are made from a good record of their topic: when, and how many are made."""

    topic: str
    reason: DeadLetterReason
    key: str
    ts: IntArray
    made: int = 0


@dataclass(frozen=True, slots=True)
class _Broken:
    """Records of one topic that cannot be decoded, in the order of their times."""

    ts: IntArray
    labels: LabelArray
    payloads: list[bytes]


class FaultPlan:
    """Every fault of a market.

    Parameters
    ----------
    config
        The market.

    Attributes
    ----------
    late_ts
        Arrival of the late trades of each instrument, ascending, `NEVER` behind the last; shape `(n, k)`.
    gap_ts, gap_length
        Earliest time of each sequence gap, likewise, and its length in deltas; shape `(n, k)`.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._draw = random_stream(config.seed, "faults")
        faults = config.faults
        late_share = duration_ns(faults.late_by) / (config.n_steps * STEP_NS)
        late = self._moments(faults.late_trades, late_share + 0.01, 0.99)
        self.late_ts = self._by_instrument(late, config.instruments)
        gaps = self._moments(faults.sequence_gaps, 0.02, _MARGIN)
        self.gap_ts = self._by_instrument(gaps, max(config.n_l2, 1))
        self.gap_length = self._draw.integers(_SHORTEST_GAP, _LONGEST_GAP + 1, self.gap_ts.shape)
        duplicate, crossed = DeadLetterReason.DUPLICATE, DeadLetterReason.CROSSED_BOOK
        self._copies = [
            _Copies(topic, reason, key, self._moments(getattr(faults, key), 0.0, _MARGIN))
            for topic, reason, key in (
                ("trades", duplicate, "duplicate_trades"),
                ("news", duplicate, "duplicate_news"),
                ("social", duplicate, "duplicate_social"),
                ("quotes", crossed, "crossed_quotes"),
                ("books", crossed, "crossed_books"),
            )
        ]
        self._broken = {topic: self._break(topic) for topic in TOPICS}

    def _moments(self, count: int, first: float, last: float) -> IntArray:
        length = self._config.n_steps * STEP_NS
        drawn = self._draw.uniform(min(first, last), last, count) * length
        return np.asarray(self._config.start_ns + np.sort(drawn.astype(np.int64)))

    def _by_instrument(self, ts: IntArray, choices: int) -> IntArray:
        """Return the times of each instrument in its row, with `NEVER` behind them."""
        instrument = self._draw.integers(0, choices, len(ts))
        most = int(np.bincount(instrument, minlength=1).max()) if len(ts) else 0
        table = np.full((self._config.instruments, most + 1), NEVER, dtype=np.int64)
        for number in np.unique(instrument):
            own = ts[instrument == number]
            table[number, : len(own)] = own
        return table

    def _break(self, topic: str) -> _Broken:
        counts = [getattr(self._config.faults, reason.value) for reason in BAD_REASONS]
        reasons = np.repeat(np.arange(len(BAD_REASONS)), counts)
        variants = np.concatenate([np.arange(count) for count in counts]).astype(np.int64)
        shuffled = self._draw.permutation(len(reasons))
        reasons, variants = reasons[shuffled], variants[shuffled]
        ts = self._moments(len(reasons), 0.0, 1.0)
        names = [self._config.instrument_ids[i] for i in self._draw.integers(0, self._config.instruments, len(ts))]
        payloads = [
            bad_payload(topic, BAD_REASONS[reason], name, moment, variant)
            for reason, name, moment, variant in zip(
                reasons.tolist(), names, ts.tolist(), variants.tolist(), strict=True
            )
        ]
        labels = np.array([label(BAD_REASONS[reason].value) for reason in reasons], dtype=np.uint8)
        return _Broken(ts, labels, payloads)

    def inject(
        self, topic: str, batch: pa.RecordBatch, labels: LabelArray, begin: int, end: int
    ) -> tuple[pa.RecordBatch, LabelArray]:
        """Return the records of a slice with the faults that fall into it behind them, and all their labels.

        Parameters
        ----------
        topic
            Topic of the records.
        batch, labels
            Records of the slice in arrival order, and their labels, shape `(n,)`.
        begin, end
            The slice, UTC ns.
        """
        batches, all_labels = [batch], [labels]
        for copies in self._copies:
            if copies.topic == topic:
                made = self._copy(copies, batch, labels, end)
                batches.append(made)
                all_labels.append(np.full(made.num_rows, label(copies.reason.value), dtype=np.uint8))
        broken = self._broken[topic]
        rows = slice(*np.searchsorted(broken.ts, [begin, end]).tolist())
        if rows.stop > rows.start:
            columns = {"ts_recv": broken.ts[rows], "partition": _zeros(rows), "offset": _zeros(rows)}
            columns["raw"] = pa.array(broken.payloads[rows], type=pa.binary())
            batches.append(make_batch(topic, columns, rows.stop - rows.start))
            all_labels.append(broken.labels[rows])
        filled = [part for part in batches if part.num_rows]
        return (concat_batches(filled) if filled else batch), np.concatenate(all_labels)

    def _copy(self, copies: _Copies, batch: pa.RecordBatch, labels: LabelArray, end: int) -> pa.RecordBatch:
        """Return faulty copies of good records: all that are due, if there is a record to copy."""
        due = int(np.searchsorted(copies.ts, end)) - copies.made
        candidates = np.flatnonzero(labels == GOOD)
        if not due or not len(candidates):
            return batch.slice(0, 0)
        copies.made += due
        rows = np.sort(self._draw.choice(candidates, due))
        origin = batch.take(pa.array(rows))
        if copies.reason is DeadLetterReason.CROSSED_BOOK:
            return _crossed_quotes(origin) if copies.topic == "quotes" else _crossed_books(origin)
        delay = self._draw.integers(*_SOON_NS[copies.topic], due)
        # never behind the first record of the next slice, which is received after the end of this one
        latest = max(end, int(times(batch, "ts_recv")[-1]))
        return _replaced(origin, {"ts_recv": np.minimum(times(origin, "ts_recv") + delay, latest)})

    def check_complete(self, gaps: IntArray) -> None:
        """Check that every planned fault has found a place.

        Parameters
        ----------
        gaps
            First and last sequence lost by each gap, shape `(n, k, 2)`.

        Raises
        ------
        ConfigError
            The market has too few records of a kind for its faults.
        """
        made = {copies.key: (copies.made, len(copies.ts)) for copies in self._copies}
        made["sequence_gaps"] = (int(np.count_nonzero(gaps[:, :, 1])), int(np.count_nonzero(self.gap_ts < NEVER)))
        for key, (found, wanted) in made.items():
            if found < wanted:
                raise ConfigError(
                    f"expected room for {wanted} faults of `faults.{key}`, found room for {found}; lower it, raise "
                    "the rate of the records that it needs, or simulate for longer"
                )


def _zeros(rows: slice) -> IntArray:
    return np.zeros(rows.stop - rows.start, dtype=np.int64)


def _replaced(batch: pa.RecordBatch, columns: dict[str, Any]) -> pa.RecordBatch:
    kept = {name: batch.column(name) for name in batch.schema.names}
    return make_batch(str(batch.schema.metadata[b"signalbox.schema"], "utf-8"), kept | columns, batch.num_rows)


def _crossed_quotes(origin: pa.RecordBatch) -> pa.RecordBatch:
    """Return quotes with the bid some ticks above the offer; without a sequence, since no book was ever so."""
    ask = origin.column("ask_price").to_numpy(zero_copy_only=False)
    above = TICK * (1 + np.arange(len(ask)) % 5)
    nothing = pa.nulls(len(ask), pa.int64())
    return _replaced(origin, {"bid_price": np.round(ask + above, 2), "sequence": nothing})


def _crossed_books(origin: pa.RecordBatch) -> pa.RecordBatch:
    """Return snapshots at the origin's sequence whose bids stand above a price of the origin, and offers below."""
    bids, asks = origin.column("bid_prices").to_pylist(), origin.column("ask_prices").to_pylist()
    price = [(bid or ask)[0] for bid, ask in zip(bids, asks, strict=True)]
    sizes = [[100.0, 200.0] for _ in price]
    nothing = pa.nulls(len(price), pa.int64())
    columns = {
        "kind": np.full(len(price), int(BookKind.SNAPSHOT), dtype=np.int8),
        "first_sequence": nothing,
        "previous_sequence": nothing,
        "bid_prices": [[round(p + 2 * TICK, 2), round(p + TICK, 2)] for p in price],
        "bid_sizes": sizes,
        "ask_prices": [[round(p - 2 * TICK, 2), round(p - TICK, 2)] for p in price],
        "ask_sizes": sizes,
    }
    return _replaced(origin, columns)
