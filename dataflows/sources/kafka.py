"""Bytewax source over Kafka: every partition is a source with a clock of its own.

Where a partition stands, and its clock, are part of the engine's snapshot. The consumer group is told for
information only: what it says is never read. At the end of its partition a source of a live feed moves its clock with
the wall clock, so that a topic with nothing to say holds nobody back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, get_ident
from typing import Any, Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import KafkaError

from dataflows.sources.kafka_client import offset_at, open_consumer, partition_count, watermarks
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_decode import RecordDecoder
from dataflows.sources.kafka_lane import Lane
from dataflows.sources.kafka_pace import NEVER, Pace
from dataflows.sources.kafka_reader import Reader
from operators.admission import DecodeLimits
from operators.arrival import Arrival
from schemas.errors import ConfigError, InputError, VersionError
from schemas.time import END_OF_TIME, duration_ns

__all__ = ["KafkaSource"]

_VERSION: Final = 1


class _KafkaPartition(StatefulSourcePartition[Arrival, dict[str, Any]]):
    """One partition. Its snapshot is its clock and the offset of its next record."""

    def __init__(
        self,
        topic: str,
        lane: Lane,
        clock: int,
        decoder: RecordDecoder,
        reader: Reader,
        pace: Pace,
        config: KafkaConfig,
        stop: Event,
    ) -> None:
        self._topic = topic
        self._lane = lane
        self._clock = clock
        self._reader = reader
        self._pace = pace
        self._config = config
        self._stop = stop
        self._decoder = decoder
        self._margin = duration_ns(config.idle_margin)
        self._interval = duration_ns(config.idle_interval)
        # with clock = "record" the wall clock means nothing, and a bounded input ends by itself
        self._follows_wall = config.follow and config.topics[topic].clock != "record"
        self._ended = False
        pace.start(lane.source, clock)

    def next_batch(self) -> list[Arrival]:
        """Deliver the next records, or the clock alone, without waiting."""
        if self._stop.is_set() or self._ended:
            raise StopIteration
        if self._lane.is_complete():
            return self._end()
        if not self._pace.may_go(self._lane.source):
            return []
        if not self._lane.queue:
            self._reader.poll()
        if self._lane.queue:
            return [self._deliver()]
        return self._end() if self._lane.is_complete() else self._idle()

    def _deliver(self) -> Arrival:
        messages = self._lane.take(self._config.batch_records, self._config.batch_bytes)
        delivery = self._decoder.decode(messages, self._clock)
        self._clock = delivery.clock
        rows, size = (delivery.batch.num_rows, delivery.batch.nbytes) if delivery.batch is not None else (0, 0)
        self._pace.deliver(self._lane.source, self._clock, rows, size)
        return Arrival(self._lane.source, self._topic, self._clock, delivery.batch, delivery.order_violations)

    def _idle(self) -> list[Arrival]:
        """Move the clock with the wall clock, if it is certain that nothing older is still to come."""
        if not (self._follows_wall and self._reader.is_idle(self._lane)):
            return []
        clock = self._reader.seen - self._margin
        if clock < self._clock + self._interval:
            return []
        return [self._announce(clock)]

    def _end(self) -> list[Arrival]:
        # announced on resuming too: the shards must hear that this source is done
        self._ended = True
        return [self._announce(END_OF_TIME)]

    def _announce(self, clock: int) -> Arrival:
        self._clock = clock
        self._pace.deliver(self._lane.source, clock, 0, 0)
        return Arrival(self._lane.source, self._topic, clock, None)

    def snapshot(self) -> dict[str, Any]:
        """Return clock, position and end after the last delivery."""
        self._reader.commit(self._lane)
        return {"version": _VERSION, "clock": self._clock, "offset": self._lane.position, "end": self._lane.end}

    def close(self) -> None:
        """Let the other partitions go on and stop reading."""
        self._reader.commit(self._lane, at_once=True)
        self._pace.finish(self._lane.source)
        self._reader.remove(self._lane)


class KafkaSource(FixedPartitionedSource[Arrival, dict[str, Any]]):
    """The configured topics as one input. Use `KafkaSource.connect`.

    Parameters
    ----------
    config
        The configuration.
    partitions
        Number of partitions of each topic.
    ends
        Offset at which each partition's input ends, by source; empty where it goes on.
    limits
        Bounds of admission, as the graph has them: the bytes of records that break them are kept for the dead letters.
    stop
        Ends the input early once it is set.
    wall_clock
        Tells UTC ns; only decides when idle partitions move their clocks.
    """

    def __init__(
        self,
        config: KafkaConfig,
        partitions: dict[str, int],
        ends: dict[str, int],
        *,
        limits: DecodeLimits | None = None,
        stop: Event | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._config = config
        self._partitions = partitions
        self._ends = ends
        self._limits = limits or DecodeLimits()
        self._stop = stop or Event()
        self._wall_clock = wall_clock
        self._pace = Pace(config.lead_bytes)
        self._lanes: dict[str, Lane] = {}
        self._readers: dict[int, Reader] = {}
        self._lock = Lock()

    @classmethod
    def connect(
        cls,
        config: KafkaConfig,
        *,
        limits: DecodeLimits | None = None,
        stop: Event | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> KafkaSource:
        """Ask the brokers for the partitions of the topics and, if the input is bounded, for their ends.

        Raises
        ------
        InputError
            A topic or a partition is missing, or we may not read it.
        TransientError
            No broker answered in time.
        """
        refused: list[KafkaError] = []
        consumer = open_consumer(config, refused.append)
        try:
            partitions = {topic: partition_count(consumer, config, topic) for topic in config.topics}
            ends = {}
            if not config.follow:
                for topic, count in partitions.items():
                    for partition in range(count):
                        _, end = watermarks(consumer, config, config.topic_name(topic), partition)
                        ends[f"{topic}/{partition}"] = end
        finally:
            consumer.close()
        source = cls(config, partitions, ends, limits=limits, stop=stop, wall_clock=wall_clock)
        absent = sorted(set(config.start_offsets) - set(source.sources))
        if absent:
            raise InputError(f"`start_offsets`: expected partitions that exist, found {', '.join(absent)}")
        return source

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, `topic/partition`."""
        return tuple(f"{topic}/{number}" for topic, count in self._partitions.items() for number in range(count))

    @property
    def delivered(self) -> int:
        """Rows delivered by this process so far."""
        return self._pace.delivered

    @property
    def exhausted(self) -> bool:
        """Whether every partition that this process reads has come to the end of its input."""
        with self._lock:
            return bool(self._lanes) and self._pace.exhausted >= set(self._lanes)

    def lag(self) -> dict[str, int]:
        """Return how many offsets each partition of this process is behind the end it knows of."""
        with self._lock:
            return {source: lane.lag for source, lane in self._lanes.items()}

    def clocks(self) -> dict[str, int]:
        """Return the clock of each partition that this process reads; the lowest holds up the others."""
        return self._pace.clocks()

    def list_parts(self) -> list[str]:
        """Return the partitions; each is read by one worker."""
        return list(self.sources)

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> _KafkaPartition:
        """Open a partition where it was left, or where the configuration says."""
        topic, _, number = for_part.rpartition("/")
        reader = self._reader()
        name, partition = self._config.topic_name(topic), int(number)
        low, high = watermarks(reader.consumer, self._config, name, partition)
        clock, end = NEVER, self._ends.get(for_part)
        if resume_state is None:
            offset = self._start(reader, topic, partition, low, high)
            if end is not None:
                end = max(end, offset)
        else:
            clock, offset, end = self._resumed(for_part, resume_state)
        lane = Lane(for_part, name, partition, offset, high, end)
        # of an input that has come to its end, the records may be gone
        if (end is None or lane.lag) and not low <= offset <= high:
            raise InputError(
                f"expected offset {offset} of `{for_part}`, found records from {low} up to {high}; what was before "
                "expired by retention, or the topic was made anew: keep records for longer, or start a new run"
            )
        reader.add(lane)
        with self._lock:
            self._lanes[for_part] = lane
        ahead = duration_ns(self._config.header_ahead)
        decoder = RecordDecoder(
            topic, partition, self._config.topics[topic], header_ahead_ns=ahead, limits=self._limits
        )
        return _KafkaPartition(topic, lane, clock, decoder, reader, self._pace, self._config, self._stop)

    def _reader(self) -> Reader:
        """Return the consumer of the worker that asks."""
        with self._lock:
            reader = self._readers.get(get_ident())
            if reader is None or reader.closed:
                counts = {self._config.topic_name(topic): count for topic, count in self._partitions.items()}
                reader = self._readers[get_ident()] = Reader(self._config, counts, self._wall_clock)
            return reader

    def _start(self, reader: Reader, topic: str, partition: int, low: int, high: int) -> int:
        chosen = self._config.start_offsets.get(f"{topic}/{partition}")
        if chosen is not None:
            return chosen
        if isinstance(self._config.start, str):
            return low if self._config.start == "earliest" else high
        name = self._config.topic_name(topic)
        return max(offset_at(reader.consumer, self._config, name, partition, self._config.start, high), low)

    def _resumed(self, source: str, state: dict[str, Any]) -> tuple[int, int, int | None]:
        if state["version"] != _VERSION:
            raise VersionError(
                f"expected a snapshot of `{source}` of version {_VERSION}, found {state['version']}; start a new run"
            )
        if (state["end"] is None) != self._config.follow:
            raise ConfigError(
                f"expected `follow = {str(state['end'] is None).lower()}`, with which the run began, was "
                f"{str(self._config.follow).lower()}; a run cannot change from one to the other"
            )
        return state["clock"], state["offset"], state["end"]
