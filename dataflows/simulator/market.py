"""The market as slices of time: every topic's records in order of arrival, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.simulator.book_flow import advance
from dataflows.simulator.config import STEP_NS, SimulatorConfig
from dataflows.simulator.earnings import plan_earnings
from dataflows.simulator.faults import LABELS, FaultPlan
from dataflows.simulator.latent import REGIMES, TICK, LatentPrices, LatentSlice
from dataflows.simulator.option_chain import OptionChains
from dataflows.simulator.stories import SOCIAL_SHARE, Stories, plan_news, plan_social
from dataflows.simulator.streams import random_stream
from dataflows.simulator.tables import LabelArray, Labelled, TopicTables
from dataflows.simulator.tape import make_flow, make_tape
from schemas.batches import concat_batches, times
from schemas.records import TOPICS
from schemas.time import END_OF_TIME, duration_ns, format_time

__all__ = ["Fault", "Market", "generate_topics"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fault:
    """One injected fault, by the record that shows it.

    Parameters
    ----------
    topic, partition, offset
        Where the record stands in the archive.
    reason
        What must become of it: a `DeadLetterReason` or a `LateReason`, by its text.
    """

    topic: str
    partition: int
    offset: int
    reason: str


class _Sequencer:
    """Puts one topic's records into order of arrival, numbers them, and holds back what arrives after a slice."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._held: Labelled | None = None
        self.offset = 0
        self.faults: list[Fault] = []

    def release(self, batch: pa.RecordBatch, labels: LabelArray, until: int) -> pa.RecordBatch:
        """Return the records that arrive before `until`, with their offsets."""
        if self._held is not None and self._held[1].size:
            batch = concat_batches([self._held[0], batch])
            labels = np.concatenate([self._held[1], labels])
        recv = times(batch, "ts_recv")
        if np.any(recv[1:] < recv[:-1]):
            order = np.argsort(recv, kind="stable")
            batch, labels, recv = batch.take(pa.array(order)), labels[order], recv[order]
        count = int(np.searchsorted(recv, until))
        self._held = batch.slice(count), labels[count:]
        self.faults += [
            Fault(self._topic, 0, self.offset + row, LABELS[labels[row]])
            for row in np.flatnonzero(labels[:count]).tolist()
        ]
        offsets = pa.array(np.arange(self.offset, self.offset + count))
        self.offset += count
        released = batch.slice(0, count)
        return released.set_column(released.schema.get_field_index("offset"), released.schema.field("offset"), offsets)


class Market:
    """One synthetic market. It is made once, by walking through `slices`.

    Parameters
    ----------
    config
        The market.

    Examples
    --------
    >>> market = Market(SimulatorConfig(instruments=2, duration="2s", l2_instruments=1))
    >>> topics = [sorted(part) for part in market.slices()]
    >>> {"books", "quotes", "trades"} <= set(topics[0]), market.faults
    (True, [])
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self._news, self._social = plan_news(config), plan_social(config)
        self._earnings = plan_earnings(config)
        drifts = self._news.drifts(config, 1.0) + self._social.drifts(config, SOCIAL_SHARE)
        reports = [drift for record in self._earnings if (drift := record.drift(config))]
        self._latent = LatentPrices(config, [*drifts, *reports])
        self._options = OptionChains(config, self._latent.first_price)
        self._plan = FaultPlan(config)
        self._tables = TopicTables(config)
        self._sequencers = {topic: _Sequencer(topic) for topic in TOPICS}
        self._tape = make_tape()
        half_spread = np.maximum(self._latent.first_price / TICK * config.spread_bps / 2e4, 0.5)
        self._flow = make_flow(
            random_stream(config.seed, "books").integers(0, 2**64, config.instruments, dtype=np.uint64),
            half_spread,
            config.start_ns,
            (config.trade_rate, config.book_rate),
            (self._plan.late_ts, duration_ns(config.faults.late_by)),
            (self._plan.gap_ts, self._plan.gap_length),
            (duration_ns(config.snapshot_interval), config.n_l2),
        )

    def slices(self) -> Iterator[dict[str, pa.RecordBatch]]:
        """Yield the records of each topic that has any, slice by slice; a slice arrives before the next.

        Raises
        ------
        ConfigError
            At the end, where the market had no room for a fault.
        """
        config = self.config
        for first in range(0, config.n_steps, config.slice_steps):
            steps = min(config.slice_steps, config.n_steps - first)
            begin = config.start_ns + first * STEP_NS
            end = begin + steps * STEP_NS
            is_last = first + steps == config.n_steps
            made = self._make(self._latent.advance(steps), first, begin, end)
            released = {}
            for topic in TOPICS:
                batch, labels = self._plan.inject(topic, *made[topic], begin, end)
                released[topic] = self._sequencers[topic].release(batch, labels, END_OF_TIME if is_last else end)
            if is_last:
                self._plan.check_complete(self._flow.gaps)
            yield {topic: batch for topic, batch in released.items() if batch.num_rows}

    def _make(self, latent: LatentSlice, first: int, begin: int, end: int) -> dict[str, Labelled]:
        trades, quotes, books, levels = self._trade(latent, begin, end)
        tables = self._tables
        option_ts, options = self._options.states(latent, first)
        option_instrument = options.pop("instrument", option_ts)
        return {
            "books": tables.books(books, levels),
            "earnings": tables.earnings([record for record in self._earnings if begin <= record.ts < end]),
            "news": tables.items("news", *_between(self._news, begin, end)),
            "options": tables.items("options", option_ts, option_instrument, options),
            "quotes": tables.quotes(quotes),
            "social": tables.items("social", *_between(self._social, begin, end)),
            "trades": tables.trades(trades),
        }

    def _trade(self, latent: LatentSlice, begin: int, end: int) -> list[IntArray]:
        """Return what the tape holds after every instrument has traded through the slice."""
        fair = latent.price / TICK
        parts: list[list[IntArray]] = []
        first = 0
        while first < self.config.instruments:
            self._tape.counts[:] = 0
            first = advance(self._flow, self._tape, fair, latent.pressure, latent.intensity, begin, end, first)
            used = zip(self._tape[:4], self._tape.counts.tolist(), strict=True)
            parts.append([rows[:count].copy() for rows, count in used])
        return [np.concatenate(tables) for tables in zip(*parts, strict=True)]

    @property
    def faults(self) -> list[Fault]:
        """Faults in the slices so far, by topic and offset."""
        return [fault for sequencer in self._sequencers.values() for fault in sequencer.faults]

    def truth(self) -> dict[str, Any]:
        """Return what was planted, as plain JSON values."""
        config, latent, names = self.config, self._latent, self.config.instrument_ids
        changes = latent.regime_changes
        ends = [step for step, _ in changes[1:]] + [config.n_steps]
        stays = [
            (min(end, config.n_steps) - step) * STEP_NS / 1e9 for (step, _), end in zip(changes, ends, strict=True)
        ]
        return {
            "instruments": [
                {
                    "instrument_id": name,
                    "sector": int(latent.sector[row]),
                    "first_price": float(latent.first_price[row]),
                    "driver": names[latent.driver[row]],
                    "market_beta": float(latent.market_beta[row]),
                    "sector_beta": float(latent.sector_beta[row]),
                }
                for row, name in enumerate(names)
            ],
            "pairs": [
                {
                    "first": names[2 * pair],
                    "second": names[2 * pair + 1],
                    "hedge_ratio": float(latent.hedge_ratio[pair]),
                    "half_life_ns": duration_ns(config.pair_half_life),
                    "spread_deviation": float(latent.spread_deviation[pair]),
                }
                for pair in range(config.n_pairs)
            ],
            "regimes": [
                {"ts": format_time(config.start_ns + step * STEP_NS), "regime": REGIMES[regime], "seconds": seconds}
                for (step, regime), seconds in zip(changes, stays, strict=True)
            ],
            "news": _story_truth(self._news, 1.0, config),
            "social": _story_truth(self._social, SOCIAL_SHARE, config),
            "imbalance": {
                "drift_bps_per_second": config.imbalance_strength,
                "half_life_ns": duration_ns(config.imbalance_half_life),
            },
            "earnings": [
                {"instrument_id": names[record.instrument], "ts": format_time(record.ts), "surprise": record.surprise}
                for record in self._earnings
                if record.actual is not None
            ],
            "gaps": [
                {"instrument_id": names[row], "first_sequence": first, "last_sequence": last}
                for row, gaps in enumerate(self._flow.gaps.tolist())
                for first, last in gaps
                if last
            ],
        }


def _between(stories: Stories, begin: int, end: int) -> tuple[IntArray, IntArray, dict[str, list[str]]]:
    rows = slice(*np.searchsorted(stories.ts, [begin, end]).tolist())
    columns = {name: values[rows] for name, values in stories.columns.items()}
    return stories.ts[rows], stories.instrument[rows], columns


def _story_truth(stories: Stories, share: float, config: SimulatorConfig) -> dict[str, Any]:
    return {
        "items": len(stories.ts),
        "positive": int(np.count_nonzero(stories.sentiment > 0)),
        "negative": int(np.count_nonzero(stories.sentiment < 0)),
        "without_effect": int(np.count_nonzero(~stories.moves)),
        "lead_ns": duration_ns(config.news_lead),
        "impact_ns": duration_ns(config.news_impact),
        "move_bps": config.sentiment_strength * share,
    }


def generate_topics(config: SimulatorConfig) -> Iterator[dict[str, pa.RecordBatch]]:
    """Yield the market slice by slice: the records of each topic in order of arrival.

    A slice holds every record with `ts_recv` in its time, so slices never overlap. Offsets count from
    zero in each topic, in partition 0.

    Parameters
    ----------
    config
        The market.

    Raises
    ------
    ConfigError
        At the end, where the market had no room for a fault.

    Examples
    --------
    >>> slices = list(generate_topics(SimulatorConfig(instruments=1, duration="2s")))
    >>> int(slices[0]["quotes"].column("offset")[0].as_py())
    0
    """
    return Market(config).slices()
