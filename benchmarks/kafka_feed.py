"""An open-loop producer of trades and quotes: `python -m benchmarks.kafka_feed --brokers B --trades T --quotes Q`.

Record `i` is due at `begin + i / rate`, whoever is slow. Its header `ts_recv` says when it was due, so that what is
computed from it carries that time, and a delay anywhere shows as latency of every record that was due meanwhile.

The universe rotates: in each slot an instrument lives for so long, then another takes its place for good. Lives of
slots begin at different times, so instruments come and go all the time.

Messages are put together from templates; producing costs some microseconds of a core each.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import numpy as np
from confluent_kafka import KafkaError, Message, Producer

__all__ = ["Feed", "Universe", "main"]

_SECOND: Final = 10**9
_VARIANTS: Final = 512
"""Different quotes and trades of a slot: enough that averages over minutes differ, few enough to fit the cache."""
_EVENT_LAG: Final = 1_000_000
"""Records happened so long before they arrive, ns."""
_TICK_S: Final = 0.001
_MOST_AT_ONCE: Final = 2_000
"""Records between two looks at confirmations, where the feed is behind."""
_FLUSH_S: Final = 60.0
_FOR_EVER: Final = 2**63
_SOURCES: Final = ("quotes", "trades")
"""Records with an even number are quotes, the others trades."""


@dataclass(frozen=True, slots=True)
class Universe:
    """Instruments that come and go.

    Parameters
    ----------
    slots
        Instruments alive at a time.
    life
        How long each lives, ns; 0 is for ever.

    Examples
    --------
    >>> universe = Universe(slots=2, life=10)
    >>> [universe.generation(slot, 0) for slot in range(2)], [universe.generation(slot, 5) for slot in range(2)]
    ([0, 0], [0, 1])
    >>> universe.name(1, 1), universe.seen(25)
    ('I0001.1', 7)
    """

    slots: int
    life: int

    def generation(self, slot: int, elapsed: int) -> int:
        """Return how many instruments the slot has had before the one of this time."""
        return (elapsed + slot * self.life // self.slots) // self.life if self.life else 0

    def end(self, slot: int, generation: int) -> int:
        """Return when an instrument goes, ns since the beginning."""
        return (generation + 1) * self.life - slot * self.life // self.slots if self.life else _FOR_EVER

    def name(self, slot: int, generation: int) -> str:
        """Return the name of an instrument."""
        return f"I{slot:04d}.{generation}"

    def seen(self, elapsed: int) -> int:
        """Return how many instruments there have been."""
        return sum(self.generation(slot, elapsed) + 1 for slot in range(self.slots))


class Feed:
    """Makes the records, in the order in which they are due.

    Parameters
    ----------
    universe
        The instruments.
    partitions
        Partitions of each topic; an instrument keeps to one.
    seed
        Seed of prices and sizes.

    Examples
    --------
    >>> feed = Feed(Universe(slots=1, life=0), partitions=2, seed=1)
    >>> topic, partition, value = feed.record(1, 1_700_000_000_000_000_000, 0)
    >>> topic, sorted(json.loads(value))
    ('trades', ['instrument_id', 'price', 'side', 'size', 'trade_id', 'ts_event'])
    """

    def __init__(self, universe: Universe, partitions: int, seed: int = 1) -> None:
        self._universe = universe
        self._partitions = partitions
        rng = np.random.default_rng(seed)
        bodies = [_bodies(rng) for _ in range(universe.slots)]
        self._bodies = [[quotes for quotes, _ in bodies], [trades for _, trades in bodies]]
        self._heads = [b""] * universe.slots
        self._places = [0] * universe.slots
        self._until = [-1] * universe.slots

    def record(self, number: int, due: int, elapsed: int) -> tuple[str, int, bytes]:
        """Return topic, partition and bytes of a record.

        Parameters
        ----------
        number
            Number of the record.
        due
            When it is due, UTC ns.
        elapsed
            The same since the beginning, ns.
        """
        kind = number & 1
        turn, slot = divmod(number >> 1, self._universe.slots)
        if elapsed > self._until[slot]:
            self._rotate(slot, elapsed)
        value = b"%b%d%b%d}" % (self._heads[slot], due - _EVENT_LAG, self._bodies[kind][slot][turn % _VARIANTS], number)
        return _SOURCES[kind], self._places[slot], value

    def _rotate(self, slot: int, elapsed: int) -> None:
        """Put the instrument of this time into the slot."""
        universe = self._universe
        generation = universe.generation(slot, elapsed)
        name = universe.name(slot, generation).encode()
        self._heads[slot] = b'{"instrument_id":"%b","ts_event":' % name
        self._places[slot] = crc32(name) % self._partitions
        self._until[slot] = universe.end(slot, generation) - 1


def _bodies(rng: np.random.Generator) -> tuple[list[bytes], list[bytes]]:
    """Return the middle of quotes and trades of a slot: a walk of the price that ends where it began."""
    steps = rng.choice([-1, 0, 1], size=_VARIANTS // 2, p=[0.1, 0.8, 0.1])
    bid = rng.integers(4_000, 40_000) + np.cumsum(np.concatenate((steps, -steps[::-1])))
    sizes = 100 * np.ceil(rng.gamma(4.0, 2.0, size=(2, _VARIANTS))).astype(int)
    traded = np.ceil(rng.gamma(1.5, 60.0, size=_VARIANTS)).astype(int)
    bought = rng.random(_VARIANTS) < 0.5
    quotes = [
        b',"bid_price":%.2f,"bid_size":%d.0,"ask_price":%.2f,"ask_size":%d.0,"sequence":'
        % (b / 100, bs, (b + 1) / 100, s)
        for b, bs, s in zip(bid.tolist(), *sizes.tolist(), strict=True)
    ]
    trades = [
        b',"price":%.2f,"size":%d.0,"side":"%b","trade_id":' % ((b + up) / 100, size, b"buy" if up else b"sell")
        for b, size, up in zip(bid.tolist(), traded.tolist(), bought.tolist(), strict=True)
    ]
    return quotes, trades


class _Sender:
    """Sends what is due, and keeps account of it."""

    def __init__(self, brokers: str, names: dict[str, str], linger_ms: float) -> None:
        self._names = names
        self._producer = Producer(
            {"bootstrap.servers": brokers, "linger.ms": linger_ms, "compression.type": "lz4", "acks": "all"}
            | {"enable.idempotence": True, "batch.size": 2**18, "queue.buffering.max.messages": 400_000}
        )
        self.sent = dict.fromkeys(names, 0)
        self.failed = 0
        self._error = ""

    def send(self, topic: str, partition: int, value: bytes, due: int) -> None:
        while True:
            try:
                self._producer.produce(
                    self._names[topic], value, partition=partition, headers=[("ts_recv", b"%d" % due)],
                    on_delivery=self._settle,
                )  # fmt: skip
                break
            except BufferError:
                self._producer.poll(0.01)
        self.sent[topic] += 1

    def poll(self) -> None:
        self._producer.poll(0)

    def finish(self) -> None:
        if self._producer.flush(_FLUSH_S) or self.failed:
            raise SystemExit(f"expected every record confirmed, found {self.failed} refused: {self._error}")

    def _settle(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failed += 1
            self._error = error.str()


def run(feed: Feed, sender: _Sender, *, begin: int, rate: float, seconds: float) -> dict[str, Any]:
    """Send what is due until the time is over or SIGTERM comes, and return what was sent and how late.

    Parameters
    ----------
    feed
        Makes the records.
    sender
        Sends them.
    begin
        When the first is due, UTC ns.
    rate
        Records per second.
    seconds
        How long.
    """
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    interval, total = _SECOND / rate, int(rate * seconds)
    number, behind = 0, 0
    while number < total and not stopped:
        now = time.time_ns()
        due = min(int((now - begin) / interval) + 1, total, number + _MOST_AT_ONCE)
        if due > number:
            behind = max(behind, now - begin - int(number * interval))
        for one in range(number, due):
            elapsed = int(one * interval)
            sender.send(*feed.record(one, begin + elapsed, elapsed), begin + elapsed)
        number = max(number, due)
        sender.poll()
        wait = (begin + int(number * interval) - time.time_ns()) / _SECOND
        if wait > 0:
            time.sleep(max(wait, _TICK_S))
    sender.finish()
    return {"sent": sender.sent, "records": number, "behind_ms": round(behind / 1e6, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True, help="addresses, host:port")
    parser.add_argument("--quotes", required=True, help="topic of quotes")
    parser.add_argument("--trades", required=True, help="topic of trades")
    parser.add_argument("--partitions", type=int, default=2, help="partitions of each topic")
    parser.add_argument("--begin", type=int, default=0, help="when the first record is due, UTC ns; now by default")
    parser.add_argument("--rate", type=float, default=20_000, help="records per second")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--instruments", type=int, default=200, help="instruments alive at a time")
    parser.add_argument("--life", type=float, default=0, help="seconds that each lives; for ever by default")
    parser.add_argument("--linger-ms", type=float, default=1.0, help="how long the producer gathers records")
    chosen = parser.parse_args()
    universe = Universe(chosen.instruments, int(chosen.life * _SECOND))
    sender = _Sender(chosen.brokers, {"quotes": chosen.quotes, "trades": chosen.trades}, chosen.linger_ms)
    feed = Feed(universe, chosen.partitions)
    begin, cpu = chosen.begin or time.time_ns(), time.process_time()
    found = run(feed, sender, begin=begin, rate=chosen.rate, seconds=chosen.seconds)
    spent = (time.time_ns() - begin) / _SECOND
    found |= {
        "instruments": universe.seen(int(spent * _SECOND)),
        "seconds": round(spent, 3),
        "cores": round((time.process_time() - cpu) / spent, 3),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
