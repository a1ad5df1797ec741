"""Publish an archive to Kafka: the records of all topics in arrival order, as fast as possible or in step with time.

This is how a recorded or simulated day is put on the input topics. With `clock = "record"` every record carries its
`ts_recv`, and heartbeats on every partition say how far the time has come, so that a partition without records holds
nobody up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np

from dataflows.publishing_messages import IntArray, MessageEncoder
from dataflows.publishing_outbox import Headers, Outbox
from dataflows.publishing_slices import Merged, Schedule, Shift, Slices, merge
from dataflows.sources.archive_reader import group_spans
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.topics import TopicState, describe_inputs
from schemas.errors import ConfigError, InputError, SignalboxError
from schemas.time import END_OF_TIME, duration_ns, format_time
from sinks.archive import Archive

__all__ = ["FINAL_HEARTBEAT", "PublishOptions", "PublishResult", "publish"]

FINAL_HEARTBEAT: Final = END_OF_TIME - 1
"""Clock of a partition to which nothing will be published any more."""

Progress = Callable[[int, int], None]
"""Takes rows published so far and rows in all."""
Trace = Callable[[], str | None]
"""Returns the W3C `traceparent` of the next few records, or None."""

_FAST_ROWS: Final = 32_768
"""Rows of all topics that are encoded at once: some 10 MB, and a tenth of a second."""
_PACED_ROWS: Final = 4_096
"""The same where records are due at a time of their own: encoding must not hold up those that are due meanwhile."""
_MOST_ROWS: Final = 2**20
_SENT_AT_ONCE: Final = 1_000
"""Messages between two looks at confirmations and at whether to stop."""
_LONGEST_WAIT: Final = 0.05
_SHORTEST_WAIT: Final = 0.001
_MS: Final = 10**6
_BEFORE_ALL: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How an archive is published.

    Parameters
    ----------
    speed
        Records are sent at this multiple of the speed at which they arrived; 0 is as fast as possible.
    heartbeat
        Time of the records between two heartbeats, for topics with `clock = "record"`.
    final_heartbeat
        Whether the last heartbeat says that nothing will follow, ever: whoever reads the topics then closes everything
        that waits for time to pass. Nothing can be published to them afterwards. Without it the last heartbeat has the
        time of the last record.
    rows_per_record
        Most rows of an Arrow record.
    shift_times
        Whether all times of a row are moved so that it arrives when it is sent, and keeps its latency: a feed of now
        made of records of then. Rows that are kept as bytes are not changed. It needs a speed.

    Raises
    ------
    ConfigError
        A value is out of bounds, or times are to be shifted without a speed.
    """

    speed: float = 0.0
    heartbeat: timedelta = timedelta(seconds=1)
    final_heartbeat: bool = True
    rows_per_record: int = 1_000
    shift_times: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= 1e9:
            raise ConfigError(f"expected a speed of 0 to 1e9, found {self.speed}; 0 is as fast as possible")
        if not timedelta(milliseconds=1) <= self.heartbeat <= timedelta(days=1):
            raise ConfigError(f"expected a heartbeat every 1ms to 1d, found {self.heartbeat}; correct it")
        if self.shift_times and not self.speed:
            raise ConfigError("expected a speed where times are shifted, found 0; 1 is that of the recording")


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What was published; all of it is stored.

    Parameters
    ----------
    complete
        Whether it is the whole archive; otherwise publishing was stopped.
    rows
        Rows of each topic.
    total
        Rows that the archive has in these topics.
    messages
        Kafka records with rows.
    heartbeats
        Kafka records without.
    raw_rows
        How many of the rows are bytes that the archive could not decode, or kept; where publishing was stopped, of
        those that were ready to be sent.
    value_bytes
        Bytes of the values, before compression.
    first, last
        When the first and the last row arrived, UTC ns; None if there was none.
    seconds
        How long it took.
    behind
        Longest that a row was sent after it was due, seconds; 0 without a speed.
    left_out
        Rows of topics that the configuration lacks.
    remarks
        What to know about the topics.
    """

    complete: bool
    rows: dict[str, int]
    total: int
    messages: int
    heartbeats: int
    raw_rows: int
    value_bytes: int
    first: int | None
    last: int | None
    seconds: float
    behind: float
    left_out: dict[str, int]
    remarks: tuple[str, ...]

    @property
    def published(self) -> int:
        """Rows of all topics."""
        return sum(self.rows.values())

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__} | {"published": self.published}


def publish(
    archive: Archive,
    config: KafkaConfig,
    options: PublishOptions | None = None,
    *,
    trace: Trace | None = None,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> PublishResult:
    """Publish the records of an archive to the input topics, and wait until all are stored.

    Within a partition records stand in arrival order. A record is sent when all that arrived before it, in any
    topic, have been.

    Parameters
    ----------
    archive
        The archive.
    config
        Brokers and topics, with the format and the clock of each. Topics that it lacks are left out, and told.
    options
        How.
    trace
        Gives header `traceparent` of the next messages; called every thousand or so.
    stop
        Ends publishing early once it is set; what was sent by then is stored.
    progress
        Called with rows so far and in all.

    Raises
    ------
    ConfigError
        A format cannot be published.
    InputError
        The archive is unreadable or has nothing for these topics; a topic is missing, or holds later records already;
        the brokers refused a record.
    TransientError
        The brokers did not answer, or did not confirm a record, in time. The message says how far it came.

    Notes
    -----
    With `clock = "header"` the header `ts_recv` is the archive's, or, with a speed, the wall time at which the record
    is sent: then the topic is like that of a live feed. With `clock = "broker"` it is always the time of publishing.
    An Arrow record then has one time, for all of its rows.
    """
    options = options or PublishOptions()
    topics = [topic for topic in archive.topics() if topic in config.topics]
    if not topics:
        found = ", ".join(archive.topics()) or "none"
        raise InputError(f"expected records of topics {', '.join(config.topics)} in `{archive.root}`, found {found}")
    for topic in topics:  # before anything is asked
        _encoder(topic, config, options, 1)
    states = describe_inputs(config)
    encoders = {topic: _encoder(topic, config, options, len(states[topic].partitions)) for topic in topics}
    source = Slices(archive, topics, _slice_rows(config, options, states))
    with closing(source):
        first = time.time_ns() if options.shift_times else source.first
        _refuse_older(config, states, first)
        remarks = _remarks(config, states, first)
        with Outbox(config) as outbox:
            publisher = _Publisher(config, options, encoders, states, outbox, trace, stop or threading.Event())
            try:
                complete = publisher.run(source, progress)
            except SignalboxError as error:
                raise type(error)(f"{error}; {publisher.how_far(source.rows)}") from error
    left_out = {topic: _rows(archive, topic) for topic in archive.topics() if topic not in config.topics}
    return publisher.result(complete, source.rows, left_out, remarks)


def _encoder(topic: str, config: KafkaConfig, options: PublishOptions, partitions: int) -> MessageEncoder:
    entry = config.topics[topic]
    cut = options.speed > 0 or entry.clock == "record"  # rows do not wait for later ones, nor straddle a heartbeat
    span = duration_ns(options.heartbeat) if cut else 0
    return MessageEncoder(topic, entry, partitions, rows_per_record=options.rows_per_record, span_ns=span)


def _slice_rows(config: KafkaConfig, options: PublishOptions, states: Mapping[str, TopicState]) -> int:
    """Return rows to encode at once, enough to fill an Arrow record of every partition."""
    if options.speed > 0:
        return _PACED_ROWS
    arrow = [len(states[topic].partitions) for topic, entry in config.topics.items() if entry.format == "arrow"]
    return min(max(_FAST_ROWS, options.rows_per_record * sum(arrow)), _MOST_ROWS)


def _refuse_older(config: KafkaConfig, states: Mapping[str, TopicState], first: int) -> None:
    """Refuse to publish behind records that are later: a reader would raise all to the time of those."""
    for topic, state in states.items():
        own_time = config.topics[topic].clock == "record" and state.config.get(_STAMPS) != "LogAppendTime"
        if own_time and state.newest is not None and state.newest > first:
            raise InputError(
                f"expected `{state.name}` to hold nothing later than {format_time(first)}, where publishing begins, "
                f'found records of {format_time(state.newest)}; with `clock = "record"` time cannot go back: publish '
                "to new topics"
            )


_STAMPS: Final = "message.timestamp.type"


def _remarks(config: KafkaConfig, states: Mapping[str, TopicState], first: int) -> tuple[str, ...]:
    remarks = []
    for topic, state in states.items():
        if config.topics[topic].clock != "record":
            continue
        if state.records:
            remarks.append(
                f"`{state.name}` held {state.records:,} records before; if the last of them are final heartbeats, a "
                "reader takes all that follows for records of the end of time"
            )
        kept = int(state.config.get("retention.ms", "-1"))
        if state.config.get(_STAMPS) != "LogAppendTime" and 0 <= kept < time.time() * 1000 - first / _MS:
            remarks.append(
                f"`{state.name}` keeps records for {timedelta(milliseconds=kept)} and will soon delete these, which "
                "are older; set `retention.ms` to -1"
            )
    return tuple(remarks)


def _rows(archive: Archive, topic: str) -> int:
    return sum(span.rows for span in group_spans(topic, archive.files(topic)))


@dataclass(slots=True)
class _Counts:
    rows: IntArray
    messages: int = 0
    heartbeats: int = 0
    raw_rows: int = 0
    value_bytes: int = 0
    first: int | None = None
    last: int | None = None
    behind: float = 0.0


class _Publisher:
    """Sends slices: encodes them, waits until their records are due, and puts heartbeats between them."""

    def __init__(
        self,
        config: KafkaConfig,
        options: PublishOptions,
        encoders: Mapping[str, MessageEncoder],
        states: Mapping[str, TopicState],
        outbox: Outbox,
        trace: Trace | None,
        stop: threading.Event,
    ) -> None:
        self._options = options
        self._encoders = encoders
        self._outbox = outbox
        self._trace = trace
        self._stop = stop
        self._topics = list(encoders)
        self._routes = [(config.topic_name(topic), config.topics[topic].clock) for topic in encoders]
        self._beating = [
            (config.topic_name(topic), state.partition)
            for topic, entry in config.topics.items()
            if entry.clock == "record"
            for state in states[topic].partitions
        ]
        self._span = duration_ns(options.heartbeat)
        self._beat = _BEFORE_ALL
        self._wall = 0
        self._schedule = Schedule(0, 0.0)
        self._counts = _Counts(np.zeros(len(encoders), dtype=np.int64))
        self._began = time.perf_counter()

    def run(self, source: Slices, progress: Progress | None) -> bool:
        """Publish everything and return True, or stop and return False; what was sent is stored then."""
        shift = None
        first, speed = source.first, self._options.speed
        if self._options.shift_times:
            shift = Shift(first, time.time_ns(), speed)
            first, speed = shift.begin, 1.0
        self._schedule = Schedule(first, speed)
        for batches in source:
            if shift is not None:
                batches = {topic: shift.apply(topic, batch) for topic, batch in batches.items()}
            encoded = {
                place: self._encoders[topic].encode(batches[topic])
                for place, topic in enumerate(self._topics)
                if topic in batches
            }
            self._counts.raw_rows += sum(part.raw_rows for part in encoded.values())
            self._send_slice(merge(encoded), source.rows, progress)
            if self._stop.is_set():
                break
        complete = int(self._counts.rows.sum()) == source.rows
        if complete and self._counts.last is not None:
            self._heartbeat(FINAL_HEARTBEAT if self._options.final_heartbeat else self._counts.last)
        self._outbox.finish()
        return complete

    def _send_slice(self, slice_: Merged, total: int, progress: Progress | None) -> None:
        position, count = 0, len(slice_.values)
        while position < count and not self._stop.is_set():
            now = self._schedule.now()
            due = int(np.searchsorted(slice_.ts, now, side="right"))
            if due <= position:
                self._idle(now, int(slice_.ts[position]))
                continue
            self._counts.behind = max(self._counts.behind, self._schedule.seconds(now - int(slice_.ts[position])))
            end = min(due, position + _SENT_AT_ONCE)
            self._send(slice_, position, end)
            position = end
            self._outbox.poll()
            if progress is not None:
                progress(int(self._counts.rows.sum()), total)

    def _idle(self, now: int, until: int) -> None:
        """Wait for the next record, though not for long, and let the time of the partitions go on meanwhile."""
        if now >= self._beat + self._span and self._beat != _BEFORE_ALL:
            self._heartbeat(now // self._span * self._span)
        self._outbox.poll()
        self._stop.wait(min(max(self._schedule.seconds(until - now), _SHORTEST_WAIT), _LONGEST_WAIT))

    def _send(self, slice_: Merged, begin: int, end: int) -> None:
        """Send messages, with a heartbeat before the first of each span of time."""
        parent = self._trace() if self._trace is not None else None
        common: Headers = [] if parent is None else [("traceparent", parent.encode())]
        if not self._beating:
            self._send_run(slice_, begin, end, common)
            return
        spans = slice_.ts[begin:end] // self._span
        cuts = (np.flatnonzero(np.diff(spans)) + 1 + begin).tolist()
        for start, stop in pairwise([begin, *cuts, end]):
            beat = int(slice_.ts[start]) // self._span * self._span
            if beat > self._beat:
                self._heartbeat(beat)
            self._send_run(slice_, start, stop, common)

    def _send_run(self, slice_: Merged, begin: int, end: int, common: Headers) -> None:
        self._wall = max(self._wall, time.time_ns())
        wall = self._wall if self._options.speed else None
        send = self._outbox.send
        times = slice_.ts[begin:end]
        stamps = np.maximum(times // _MS, 1).tolist()  # 0 would be the time of now
        places, values, keys = slice_.topics[begin:end], slice_.values[begin:end], slice_.keys[begin:end]
        partitions = slice_.partitions[begin:end]
        for place, value, key, partition, ts, stamp in zip(
            places, values, keys, partitions, times.tolist(), stamps, strict=True
        ):
            name, clock = self._routes[place]
            headers = common
            if value is None:
                headers = [*common, ("heartbeat", b"%d" % ts)]
            elif clock == "header":
                headers = [*common, ("ts_recv", b"%d" % (ts if wall is None else wall))]
            send(name, value, key, partition, stamp if clock == "record" else 0, headers or None)
        self._count(slice_, begin, end)

    def _count(self, slice_: Merged, begin: int, end: int) -> None:
        counts, rows = self._counts, slice_.rows[begin:end]
        values = [value for value in slice_.values[begin:end] if value is not None]
        np.add.at(counts.rows, slice_.topics[begin:end], rows)
        counts.messages += len(values)
        counts.heartbeats += end - begin - len(values)
        counts.value_bytes += sum(map(len, values))
        if counts.first is None:
            counts.first = int(slice_.ts[begin])
        counts.last = int(slice_.ts[end - 1])

    def _heartbeat(self, ts: int) -> None:
        """Tell every partition that carries its own time that all records before `ts` have been sent."""
        self._beat = ts
        latest = ts if ts != FINAL_HEARTBEAT else self._counts.last or 0
        for name, partition in self._beating:
            self._outbox.send(name, None, None, partition, max(latest // _MS, 1), [("heartbeat", b"%d" % ts)])
        self._counts.heartbeats += len(self._beating)

    def how_far(self, total: int) -> str:
        """Return in words what was published before a failure."""
        counts = self._counts
        until = "" if counts.last is None else f", up to {format_time(counts.last)}"
        return (
            f"{int(counts.rows.sum()):,} of {total:,} rows had been sent{until}, and {self._outbox.stored:,} of "
            f"{self._outbox.sent:,} Kafka records confirmed: the topics hold a part of the archive, publish to new ones"
        )

    def result(self, complete: bool, total: int, left_out: dict[str, int], remarks: tuple[str, ...]) -> PublishResult:
        """Return what was published."""
        counts = self._counts
        return PublishResult(
            complete=complete,
            rows=dict(zip(self._topics, counts.rows.tolist(), strict=True)),
            total=total,
            messages=counts.messages,
            heartbeats=counts.heartbeats,
            raw_rows=counts.raw_rows,
            value_bytes=counts.value_bytes,
            first=counts.first,
            last=counts.last,
            seconds=time.perf_counter() - self._began,
            behind=counts.behind,
            left_out=left_out,
            remarks=remarks,
        )
