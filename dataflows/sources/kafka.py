"""Bytewax source over Kafka: every partition is a source with a clock of its own.

Where a partition stands, and its clock, are part of the engine's snapshot. The consumer group is told for
information only: what it says is never read. At the end of its partition a source of a live feed moves its clock with
the wall clock, so that a topic with nothing to say holds nobody back.

The partitions of a run are fixed while it runs. When a topic gets another, the input ends in good order, behind all
that it has ever delivered; the run that goes on reads the new partition with the clock at which this one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Lock, get_ident
from typing import Any, Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import KafkaError

from dataflows.sources.kafka_avro import SchemaCache
from dataflows.sources.kafka_client import open_admin, open_consumer, watermarks
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_decode import RecordDecoder
from dataflows.sources.kafka_lane import Lane
from dataflows.sources.kafka_pace import NEVER, Pace
from dataflows.sources.kafka_range import within
from dataflows.sources.kafka_reader import Reader
from dataflows.sources.kafka_starts import (
    PartitionStart,
    check_bounded,
    check_same_topic,
    keep,
    resolve,
    restore,
)
from dataflows.sources.kafka_topics import TopicState, TopicWatch, describe
from dataflows.sources.kafka_trace import describe_records
from dataflows.sources.replay_range import ReplayRange
from dataflows.sources.schema_registry import SchemaRegistry
from operators.admission import DecodeLimits
from operators.arrival import Arrival
from schemas.errors import InputError, VersionError
from schemas.failure import noted
from schemas.telemetry import stage
from schemas.time import END_OF_TIME, duration_ns

__all__ = ["KafkaSource"]

_VERSION: Final = 2


class _KafkaPartition(StatefulSourcePartition[Arrival, dict[str, Any]]):
    """One partition. Its snapshot is its clock, the offset of its next record, and the topic that it is of."""

    def __init__(
        self,
        topic: str,
        topic_id: str,
        lane: Lane,
        clock: int,
        decoder: RecordDecoder,
        reader: Reader,
        source: KafkaSource,
    ) -> None:
        self._topic = topic
        self._topic_id = topic_id
        self._lane = lane
        self._clock = clock
        self._reader = reader
        self._decoder = decoder
        self._source = source
        self._pace = source.pace
        self._watch = source.watch
        self._replay = source.replay
        self._stop = source.stop
        config = self._config = source.config
        self._margin = duration_ns(config.idle_margin)
        self._interval = duration_ns(config.idle_interval)
        # with clock = "record" the wall clock means nothing, and a bounded input ends by itself
        self._follows_wall = config.follow and config.topics[topic].clock != "record"
        # a run that was killed may have been as far as this when it was
        self._reached = lane.high, source.wall_clock() - self._margin if self._follows_wall else NEVER
        self._ended = False
        self._pace.start(lane.source, clock)

    @noted
    def next_batch(self) -> list[Arrival]:
        """Deliver the next records, or the clock alone, without waiting."""
        self._watch.look()
        if self._stop.is_set() or self._ended:
            raise StopIteration
        if self._source.is_growing and self._has_caught_up():
            self._ended = True
            self._source.end_for_growth(self._lane.source)
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
        with stage("receive", self._topic, root=True) as span:
            messages = self._lane.take(self._config.batch_records, self._config.batch_bytes)
            describe_records(span, self._lane.name, self._lane.partition, messages)
            delivery = self._decoder.decode(messages, self._clock)
            if delivery.batch is None:
                span.discard()
        self._clock = delivery.clock
        if self._replay is not None:
            delivery = within(delivery, self._replay)
            if self._clock >= self._replay.stop:
                self._lane.cut()
        rows, size = (delivery.batch.num_rows, delivery.batch.nbytes) if delivery.batch is not None else (0, 0)
        self._pace.deliver(self._lane.source, self._clock, rows, size)
        return Arrival(
            self._lane.source,
            self._topic,
            self._clock,
            delivery.batch,
            delivery.order_violations,
            span.trace,
            delivery.is_checked,
        )

    def _has_caught_up(self) -> bool:
        """Return whether everything was delivered that the run can have had before it went on."""
        position, clock = self._reached
        return self._lane.position >= position and self._clock >= clock

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
        return {
            "version": _VERSION,
            "topic_id": self._topic_id,
            "clock": self._clock,
            "offset": self._lane.position,
            "end": self._lane.end,
        }

    def close(self) -> None:
        """Let the other partitions go on and stop reading."""
        self._reader.commit(self._lane, at_once=True)
        self._pace.finish(self._lane.source)
        self._reader.remove(self._lane)
        self._source.close_schemas()


class KafkaSource(FixedPartitionedSource[Arrival, dict[str, Any]]):
    """The configured topics as one input. Use `KafkaSource.connect`.

    Parameters
    ----------
    config
        The configuration.
    starts
        Where each partition begins without a snapshot, by source.
    topics
        The topics as they are now.
    schemas
        Schemas of Avro records; None where no topic has them.
    limits
        Bounds of admission, as the graph has them: the bytes of records that break them are kept for the dead letters.
    replay
        Part of the records that is delivered; all of them where it is None.
    stop
        Ends the input early once it is set. The input sets it where it ends because topics have got partitions.
    wall_clock
        Tells UTC ns; only decides when idle partitions move their clocks.
    """

    def __init__(
        self,
        config: KafkaConfig,
        starts: Mapping[str, PartitionStart],
        topics: Mapping[str, TopicState],
        *,
        schemas: SchemaCache | None = None,
        limits: DecodeLimits | None = None,
        replay: ReplayRange | None = None,
        stop: Event | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.config = config
        self.replay = replay
        self.stop = stop or Event()
        self.wall_clock = wall_clock
        self.pace = Pace(config.lead_bytes)
        self._starts = starts
        self._topics = {
            topic: TopicState(state.topic_id, sum(source.rpartition("/")[0] == topic for source in starts))
            for topic, state in topics.items()
        }
        self.watch = TopicWatch(config, self._topics, topics)
        self._schemas = schemas
        self._limits = limits or DecodeLimits()
        self._lanes: dict[str, Lane] = {}
        self._ended_for_growth: set[str] = set()
        self._readers: dict[int, Reader] = {}
        self._lock = Lock()

    @classmethod
    def connect(
        cls,
        config: KafkaConfig,
        *,
        starts: Mapping[str, Any] | None = None,
        replay: ReplayRange | None = None,
        limits: DecodeLimits | None = None,
        stop: Event | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> KafkaSource:
        """Ask the brokers for the partitions of the topics, where they begin and, if the input is bounded, end.

        Parameters
        ----------
        config
            The configuration.
        starts
            What `starts` gave when the run began, for a run that goes on: partitions without a snapshot then begin
            where they began before. Without it they begin where the configuration says now.
        replay
            Part of the records, by `ts_recv`. The input is then bounded, begins at the range's start, and needs none
            of `follow`, `start` and `start_offsets`.
        limits, stop, wall_clock
            See the class.

        Raises
        ------
        InputError
            A topic or a partition is missing, we may not read it, or a topic was made anew since the run began.
        ConfigError
            The run began with other topics, or bounded where this is not.
        TransientError
            No broker answered in time, or the schema registry did not.
        """
        if replay is not None:
            config = config.model_copy(update={"follow": False, "start_offsets": {}})
        refused: list[KafkaError] = []
        consumer = open_consumer(config, refused.append)
        try:
            topics = describe(consumer, open_admin(config), config)
            known = resolve(consumer, config, topics, replay) if starts is None else restore(starts, config, topics)
        finally:
            consumer.close()
        schemas = _connect_schemas(config)
        return cls(
            config, known, topics, schemas=schemas, limits=limits, replay=replay, stop=stop, wall_clock=wall_clock
        )

    def starts(self) -> dict[str, dict[str, Any]]:
        """Return where every partition begins that has no snapshot, as plain values that JSON can hold.

        Keep them before the run starts, and give them to `connect` whenever it goes on. Once the input has ended for
        partitions that were `added`, these are among them: keep them again.
        """
        clock = self.pace.frontier()
        ids = {topic: state.topic_id for topic, state in self._topics.items()}
        added = {source: PartitionStart(0, None, ids[source.rpartition("/")[0]], clock) for source in self.added}
        return keep({**self._starts, **added})

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, `topic/partition`."""
        return tuple(self._starts)

    @property
    def is_growing(self) -> bool:
        """Whether topics have got partitions that this input, which has no end, does not read."""
        return self.config.follow and bool(self.watch.partitions)

    @property
    def added(self) -> tuple[str, ...]:
        """Names of new partitions for which this input has ended; none before, or if it ended for another reason.

        A run that goes on with the `starts` of now reads them too.
        """
        with self._lock:
            if not self._lanes or self._ended_for_growth != set(self._lanes):
                return ()
            return tuple(
                f"{topic}/{number}"
                for topic, count in self.watch.partitions.items()
                for number in range(self._topics[topic].partitions, count)
            )

    def check_partitions(self) -> None:
        """Say so if the input has ended because topics have got partitions.

        Raises
        ------
        InputError
            There are new partitions to read.
        """
        if self.added:
            raise InputError(
                f"expected the topics to keep their partitions, found the new {', '.join(self.added)}; everything up "
                "to now is stored: run it again to read the new partitions"
            )

    @property
    def delivered(self) -> int:
        """Rows delivered by this process so far."""
        return self.pace.delivered

    @property
    def exhausted(self) -> bool:
        """Whether every partition that this process reads has come to the end of its input."""
        with self._lock:
            return bool(self._lanes) and self.pace.exhausted >= set(self._lanes)

    def lag(self) -> dict[str, int]:
        """Return how many offsets each partition of this process is behind the end it knows of."""
        with self._lock:
            return {source: lane.lag for source, lane in self._lanes.items()}

    def queued(self) -> dict[str, int]:
        """Return how many bytes of each partition of this process were fetched and not handed on."""
        with self._lock:
            return {source: lane.queued for source, lane in self._lanes.items()}

    def clocks(self) -> dict[str, int]:
        """Return the clock of each partition that this process reads; the lowest holds up the others."""
        return self.pace.clocks()

    def list_parts(self) -> list[str]:
        """Return the partitions; each is read by one worker."""
        return list(self.sources)

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> _KafkaPartition:
        """Open a partition where it was left, or where the run began."""
        topic, _, number = for_part.rpartition("/")
        reader = self._reader()
        name, partition = self.config.topic_name(topic), int(number)
        low, high = watermarks(reader.consumer, self.config, name, partition)
        begin = self._starts[for_part] if resume_state is None else self._resumed(for_part, resume_state)
        topic_id = self._topics[topic].topic_id
        check_same_topic(for_part, begin.topic_id, topic_id)
        lane = Lane(for_part, name, partition, begin.offset, high, begin.end)
        # of an input that has come to its end, the records may be gone
        if (begin.end is None or lane.lag) and not low <= begin.offset <= high:
            raise InputError(
                f"expected offset {begin.offset} of `{for_part}`, found records from {low} up to {high}; what was "
                "before expired by retention, or the topic was made anew: keep records for longer, or start a new run"
            )
        reader.add(lane)
        with self._lock:
            self._lanes[for_part] = lane
        ahead = duration_ns(self.config.header_ahead)
        decoder = RecordDecoder(
            topic,
            partition,
            self.config.topics[topic],
            header_ahead_ns=ahead,
            limits=self._limits,
            schemas=self._schemas,
        )
        return _KafkaPartition(topic, topic_id, lane, begin.clock, decoder, reader, self)

    def end_for_growth(self, source: str) -> None:
        """Note that a partition has ended because topics have got partitions. Called by the partition itself."""
        with self._lock:
            self._ended_for_growth.add(source)
        if self.added:
            self.stop.set()  # there is more to read, so nobody may take this for the end of the input

    def close_schemas(self) -> None:
        """Close the connections to the schema registry; whoever still reads opens them again."""
        if self._schemas is not None:
            self._schemas.close()

    def _reader(self) -> Reader:
        """Return the consumer of the worker that asks."""
        with self._lock:
            reader = self._readers.get(get_ident())
            if reader is None or reader.closed:
                reader = self._readers[get_ident()] = Reader(self.config, self.wall_clock)
            return reader

    def _resumed(self, source: str, state: dict[str, Any]) -> PartitionStart:
        if state["version"] != _VERSION:
            raise VersionError(
                f"expected a snapshot of `{source}` of version {_VERSION}, found {state['version']}; start a new run"
            )
        check_bounded(state["end"], self.config)
        return PartitionStart(state["offset"], state["end"], state["topic_id"], state["clock"])


def _connect_schemas(config: KafkaConfig) -> SchemaCache | None:
    """Return the schemas of Avro records, once their registry has answered."""
    if config.schema_registry is None or all(topic.format != "avro" for topic in config.topics.values()):
        return None
    registry = SchemaRegistry(config.schema_registry, config.timeout.total_seconds())
    try:
        registry.check()
    finally:
        registry.close()
    return SchemaCache(registry)
