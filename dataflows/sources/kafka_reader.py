"""One consumer for all partitions that a worker reads.

Polling a consumer costs the same for one partition as for all, so the partitions of a worker share one. Whoever
finds its queue empty polls, and what comes is put in the queue of the partition that it belongs to. Nothing here
waits: a poll takes what the client library has fetched meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import groupby
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dataflows.sources.kafka_client import open_consumer, refusal
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_lane import Lane
from schemas.errors import InputError, SignalboxError

__all__ = ["Reader"]

_LOG = logging.getLogger(__name__)
_POLL_NS: Final = 250_000
"""Time between two polls that find nothing: every partition of the worker asks, one poll answers all."""
_CONTACT_NS: Final = 1_500_000_000
"""Silence of a broker after which its partitions count as out of sight. It answers a fetch after 100 ms at the latest,
and we hear of it 250 ms later; the rest is for a machine that is busy."""
_COMMIT_NS: Final = 1_000_000_000
"""Time between two commits of a partition. They inform tools, so more would be load without use."""


class _Partition(msgspec.Struct, gc=False):
    leader: int
    ls_offset: int


class _Topic(msgspec.Struct, gc=False):
    partitions: dict[str, _Partition]


class _Broker(msgspec.Struct, gc=False):
    nodeid: int
    rxidle: int
    """microseconds since the last answer, -1 before the first"""


class _Statistics(msgspec.Struct, gc=False):
    brokers: dict[str, _Broker]
    topics: dict[str, _Topic]


_read_statistics = msgspec.json.Decoder(_Statistics).decode


class Reader:
    """The consumer of one worker. Used by that worker's thread only.

    Parameters
    ----------
    config
        The configuration.
    wall_clock
        Tells UTC ns.
    """

    def __init__(self, config: KafkaConfig, wall_clock: Callable[[], int]) -> None:
        self._config = config
        self._wall_clock = wall_clock
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._unassigned = False
        self._idle_until = 0
        self._failure: SignalboxError | None = None
        self.consumer: Consumer = open_consumer(config, self._on_error, self._on_statistics)
        self.seen = 0
        """wall clock before the last poll that took everything there was: what is not in a queue came later"""

    def add(self, lane: Lane) -> None:
        """Read a partition, from its position on."""
        lane.fetched = lane.position
        self._lanes[lane.name, lane.partition] = lane
        self._unassigned = True

    def remove(self, lane: Lane) -> None:
        """Stop reading a partition; with the last one the consumer is closed."""
        if self._lanes.pop((lane.name, lane.partition), None) is None:
            return
        if not self._lanes:
            self.consumer.close()
        elif not lane.paused and not self._unassigned:
            self.consumer.pause([TopicPartition(lane.name, lane.partition)])

    @property
    def closed(self) -> bool:
        """Whether no partition is left."""
        return not self._lanes

    def poll(self) -> None:
        """Fill the queues with what has been fetched, without waiting.

        Raises
        ------
        InputError
            An offset has expired, a topic is gone, or the brokers do not let us in.
        """
        if time.monotonic_ns() < self._idle_until:
            return
        if self._unassigned:
            self._assign()
        self._pause()
        now, most = self._wall_clock(), self._config.batch_records
        messages = self.consumer.consume(most, 0)
        if self._failure is not None:
            raise self._failure
        self._distribute(messages)
        if len(messages) < most:
            self.seen = now
        if not messages:
            self._idle_until = time.monotonic_ns() + _POLL_NS

    def _assign(self) -> None:
        for lane in self._lanes.values():
            lane.eof, lane.heard, lane.paused = -1, False, lane.fetched_all
        wanted = [lane for lane in self._lanes.values() if not lane.paused]
        self.consumer.assign([TopicPartition(lane.name, lane.partition, lane.fetched) for lane in wanted])
        self._unassigned = False

    def _pause(self) -> None:
        """Fetch no more for partitions with full queues while those are too large together, and go on when empty.

        Only who has an empty queue polls, so without this the queues of the others would grow with every poll.
        """
        full = sum(lane.queued for lane in self._lanes.values()) >= self._config.queue_bytes
        hold, release = [], []
        for lane in self._lanes.values():
            if not lane.paused and (lane.fetched_all or (full and lane.queue)):
                lane.eof, lane.heard, lane.paused = -1, False, True
                hold.append(TopicPartition(lane.name, lane.partition))
            elif lane.paused and not lane.queue and not lane.fetched_all:
                lane.paused = False
                release.append(TopicPartition(lane.name, lane.partition))
        if hold:
            self.consumer.pause(hold)
        if release:
            self.consumer.resume(release)

    def _distribute(self, messages: list[Message]) -> None:
        if any(map(Message.error, messages)):
            messages = self._without_events(messages)
        # records come in runs of one partition
        for partition, run in groupby(messages, Message.partition):
            for name, records in groupby(run, Message.topic):
                lane = self._lanes.get((name or "", partition or 0))
                if lane is not None:
                    lane.extend(list(records))
        for lane in self._lanes.values():
            if lane.eof > lane.fetched:
                lane.reach(lane.eof)

    def _without_events(self, messages: list[Message]) -> list[Message]:
        """Take what the client library has to say out of the records."""
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            else:
                self._take_event(error, message, self._lanes.get((message.topic() or "", message.partition() or 0)))
        return records

    def _take_event(self, error: KafkaError, message: Message, lane: Lane | None) -> None:
        if lane is None:
            self._on_error(error)
        elif error.code() == KafkaError._PARTITION_EOF:
            lane.eof, lane.heard = message.offset() or 0, True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise InputError(
                f"expected offset {lane.fetched} of `{lane.source}`, found that the brokers no longer have it; "
                "it expired by retention or the topic was made anew: keep records for longer, or start a new run"
            )
        else:
            failure = refusal(error, f"`{lane.source}` (`{lane.name}`, partition {lane.partition})")
            if failure is not None:
                raise failure
            _LOG.warning("reading `%s`: %s; trying again", lane.source, error.str())

    def _on_error(self, error: KafkaError) -> None:
        """Take an error that belongs to no partition. Called by the client library from within a poll."""
        self._failure = self._failure or refusal(error, f"the brokers `{self._config.brokers}`")
        _LOG.warning("kafka: %s", error.str())

    def _on_statistics(self, text: str) -> None:
        """Learn which leaders answer and how far partitions reach. Called from within a poll."""
        statistics = _read_statistics(text)
        now = time.monotonic_ns()
        silent = {broker.nodeid: broker.rxidle for broker in statistics.brokers.values() if broker.rxidle >= 0}
        for name, topic in statistics.topics.items():
            for number, found in topic.partitions.items():
                lane = self._lanes.get((name, int(number)))
                if lane is None:
                    continue
                lane.high = max(lane.high, found.ls_offset)
                if found.leader in silent:
                    lane.contact = max(lane.contact, now - silent[found.leader] * 1000)

    def is_idle(self, lane: Lane) -> bool:
        """Return whether no record of a partition was there, and not handed on, at the time `seen`.

        The leader must have answered lately, and its last answer must have told of nothing behind what was fetched.
        """
        if lane.queue or not lane.heard or time.monotonic_ns() - lane.contact > _CONTACT_NS:
            return False
        if lane.eof >= lane.fetched:
            return True
        # the end is announced only with the next empty answer; that there is nothing more is known before
        known = self.consumer.get_watermark_offsets(TopicPartition(lane.name, lane.partition), cached=True)
        return int(known[1]) == lane.fetched

    def commit(self, lane: Lane, *, at_once: bool = False) -> None:
        """Tell the consumer group how far a partition has been handed on; nobody waits, and nothing depends on it."""
        now = time.monotonic_ns()
        if (lane.name, lane.partition) not in self._lanes:
            return
        if not at_once and now - lane.committed < _COMMIT_NS:
            return
        lane.committed = now
        try:
            self.consumer.commit(offsets=[TopicPartition(lane.name, lane.partition, lane.position)], asynchronous=True)
        except KafkaException as error:
            _LOG.warning("committing `%s`: %s", lane.source, error)
