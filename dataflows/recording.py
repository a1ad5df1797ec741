"""Record topics to an archive: every record once, over restarts and crashes.

Partitions are read as the graph reads them and aligned as a shard aligns them, so that a topic's records are archived
in arrival order over all its partitions, with the times that the graph would see. Where each partition goes on is
committed together with the records (see `sinks.recording`): what was read and not committed is read again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final

from dataflows.recording_positions import PartitionPosition, ResumePoint
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_decode import ROWS_PER_RECORD
from dataflows.sources.kafka_pace import NEVER
from operators.admission import DecodeLimits
from operators.align import AlignState
from operators.arrival import Arrival
from schemas.enums import RunStatus
from schemas.errors import InputError, SignalboxError
from sinks.recording import Recording, Roll

__all__ = ["RecordProgress", "RecordResult", "Rolling", "record"]

_LOG = logging.getLogger(__name__)
_STEP: Final = "record"
_WAIT_SECONDS: Final = 0.005
"""Pause when no partition has anything: what arrives is archived much later anyway."""
_REPORT_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Rolling:
    """When files are finished and become part of the archive: at the first of these.

    Parameters
    ----------
    age
        Time since the last roll; what a reader of the archive waits for at most.
    rows
        Records of all topics together.
    size
        Bytes on disk of all topics together, looked at when a row group has been written.
    """

    age: timedelta = timedelta(minutes=15)
    rows: int = 5_000_000
    size: int = 2**30


@dataclass(frozen=True, slots=True)
class RecordProgress:
    """How far a recorder is.

    Parameters
    ----------
    rows
        Records archived, with those that wait for the next roll.
    lag
        Offsets that the partitions are behind the ends of their topics.
    """

    rows: int
    lag: int


@dataclass(frozen=True, slots=True)
class RecordResult:
    """What a recorder did.

    Parameters
    ----------
    status
        `COMPLETE` at the end of the topics, `STOPPED` before.
    resumed
        Whether it went on with a recording.
    rows
        Records archived, by topic.
    rolls
        Rolls with records.
    order_violations
        Records read whose `ts_recv` was raised, because their partition went back in time.
    lag
        Offsets behind the end that each partition knew of.
    positions
        Offset of the next record to archive, by partition.
    seconds
        How long it ran.
    """

    status: RunStatus
    resumed: bool
    rows: dict[str, int]
    rolls: int
    order_violations: int
    lag: dict[str, int]
    positions: dict[str, int]
    seconds: float

    @property
    def records(self) -> int:
        """Records archived."""
        return sum(self.rows.values())

    @property
    def rows_per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "status": self.status.name.lower(),
            "resumed": self.resumed,
            "records": self.records,
            "rows": self.rows,
            "rolls": self.rolls,
            "order_violations": self.order_violations,
            "lag": self.lag,
            "positions": self.positions,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second),
        }


def record(
    config: KafkaConfig,
    root: Path,
    *,
    limits: DecodeLimits | None = None,
    until_end: bool = False,
    start: datetime | None = None,
    rolling: Rolling | None = None,
    stop: Event | None = None,
    progress: Callable[[RecordProgress], None] | None = None,
    rolled: Callable[[Roll, int], None] | None = None,
) -> RecordResult:
    """Record the topics until `stop` is set, or until their present ends; go on where the recording was left.

    Parameters
    ----------
    config
        The brokers and topics.
    root
        Folder of the archive; made where there is none.
    limits
        Bounds of admission: the bytes of records that break them are kept for the dead letters of a replay.
    until_end
        Whether to end where the topics ended when this began; so it is with `follow = false` too.
    start
        Where a recording begins, instead of the configuration's `start`. It says nothing to one that has begun.
    rolling
        When files become part of the archive.
    stop
        Ends the recording early once it is set; what was read and aligned is committed.
    progress
        Called a few times a second.
    rolled
        Called after each roll, with the lag.

    Raises
    ------
    InputError
        Records that are not in the archive are gone from the brokers, a topic is missing or was made anew, topics
        have got partitions (which the next call reads), or the folder holds something else. What was complete before
        is committed.
    ConfigError
        The recording began with other topics.
    StorageLockedError
        Another recorder has the archive.
    StorageError
        There is no room to write. What was committed is whole.
    TransientError
        No broker answered at the start.
    """
    began = time.monotonic()
    config = config.model_copy(
        update={"follow": config.follow and not until_end, "start": config.start if start is None else start}
    )
    topics = {
        topic: {"name": config.topic_name(topic), "clock": one.clock, "format": one.format}
        for topic, one in config.topics.items()
    }
    stop = stop or Event()
    with Recording.open(root, topics) as recording:
        resumed = bool(recording.positions)
        source = KafkaSource.connect(config, limits=limits, stop=stop)
        recorder = _Recorder(config, recording, source, stop, rolling or Rolling(), progress, rolled)
        recorder.run()
        source.check_partitions()
        return RecordResult(
            status=RunStatus.COMPLETE if source.exhausted else RunStatus.STOPPED,
            resumed=resumed,
            rows=dict(sorted(recorder.rows.items())),
            rolls=recorder.rolls,
            order_violations=recorder.order_violations,
            lag=recorder.lag,
            positions={name: position["offset"] for name, position in sorted(recording.positions.items())},
            seconds=time.monotonic() - began,
        )


def _resume_states(source: KafkaSource, positions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the position of every partition; of one that is new to the recording, its first record."""
    if not positions:
        return {}
    starts = source.starts()
    gone = sorted(set(positions) - set(starts))
    if gone:
        raise InputError(
            f"expected the partitions of the recording, found no {', '.join(gone)}; was the topic made anew? "
            "Record into another folder"
        )
    frontier = max(position["frontier"] for position in positions.values())
    template = next(iter(positions.values()))["source"]
    states = {}
    for name, start in starts.items():
        begin = template | start | {"offset": 0, "clock": frontier}
        known = positions.get(name, {"source": begin, "last": -1, "frontier": frontier})
        # the source takes an end before its offset for an input that was read to its end
        if start["end"] is not None and known["source"]["offset"] > start["end"]:
            raise InputError(
                f"expected offset {known['source']['offset']} of `{name}`, found records up to {start['end']} only; "
                "the brokers have lost some, or the topic was made anew: record into another folder"
            )
        states[name] = known | {"source": known["source"] | {"end": start["end"]}}
    return states


@dataclass(slots=True)
class _Partition:
    """One partition: the source's, and where it goes on."""

    part: Any
    position: PartitionPosition
    open: bool = True


@dataclass(slots=True)
class _Recorder:
    """Reads, aligns and archives in one thread."""

    config: KafkaConfig
    recording: Recording
    source: KafkaSource
    stop: Event
    rolling: Rolling
    progress: Callable[[RecordProgress], None] | None
    rolled: Callable[[Roll, int], None] | None
    rows: dict[str, int] = field(default_factory=dict)
    rolls: int = 0
    order_violations: int = 0
    lag: dict[str, int] = field(default_factory=dict)
    _partitions: dict[str, _Partition] = field(default_factory=dict)
    _align: AlignState = field(default_factory=lambda: AlignState(()))
    _opened: bool = False
    _frontier: int = NEVER
    _committed: float = 0.0
    _reported: float = 0.0

    def run(self) -> None:
        try:
            self._open()
            self._read()
            self._commit()
        except Exception:
            # what is complete is kept: the records might be gone from the brokers when they are read again
            if self._opened and not self.recording.failed:
                try:
                    self._commit()
                except SignalboxError as error:
                    _LOG.warning("committing the last records: %s", error)
            raise
        finally:
            self.lag = self.source.lag()
            for partition in self._partitions.values():
                partition.part.close()

    def _open(self) -> None:
        saved = _resume_states(self.source, self.recording.positions)
        self._frontier = max((position["frontier"] for position in saved.values()), default=NEVER)
        self._align = AlignState(self.source.sources)
        for name in self.source.list_parts():
            known = saved.get(name)
            part = self.source.build_part(_STEP, name, None if known is None else known["source"])
            snapshot = part.snapshot()
            start = ResumePoint(snapshot["offset"], snapshot["clock"], -1 if known is None else known["last"])
            arrow = self.config.topics[name.rpartition("/")[0]].format == "arrow"
            position = PartitionPosition(start, rows_per_record=ROWS_PER_RECORD if arrow else 1)
            self._partitions[name] = _Partition(part, position)
            # clocks of a recording that goes on are known; without them a quiet partition would hold up the rest
            self._align.update([Arrival(name, name.rpartition("/")[0], snapshot["clock"], None)])
        self._opened = True
        # where `start = "latest"` was must not be forgotten, even if no record comes
        self._commit()

    def _read(self) -> None:
        while any(partition.open for partition in self._partitions.values()):
            arrivals = [arrival for name in self._partitions for arrival in self._next(name)]
            self._archive(arrivals)
            if self._is_due():
                self._commit()
            self._report()
            if not arrivals:
                self.stop.wait(_WAIT_SECONDS)

    def _next(self, name: str) -> list[Arrival]:
        partition = self._partitions[name]
        if not partition.open:
            return []
        try:
            arrivals: list[Arrival] = partition.part.next_batch()
        except StopIteration:
            partition.open = False
            partition.part.close()
            return []
        return [self._note(partition, arrival) for arrival in arrivals]

    def _note(self, partition: _Partition, arrival: Arrival) -> Arrival:
        self.order_violations += arrival.order_violations
        batch = None if arrival.batch is None else partition.position.fresh(arrival.batch)
        offset = partition.part.snapshot()["offset"]
        partition.position.deliver(batch, offset=offset, clock=arrival.clock)
        return replace(arrival, batch=batch)

    def _archive(self, arrivals: list[Arrival]) -> None:
        frame = self._align.update(arrivals) if arrivals else None
        if frame is None:
            return
        for topic, batch in frame.batches.items():
            self.recording.append(topic, batch)
        for partition in self._partitions.values():
            partition.position.archive_below(frame.frontier)
        # to the end of a bounded input there is no promise that later records are later
        if self.config.follow:
            self._frontier = max(self._frontier, frame.frontier)

    def _is_due(self) -> bool:
        aged = time.monotonic() - self._committed >= self.rolling.age.total_seconds()
        return aged or self.recording.rows >= self.rolling.rows or self.recording.size >= self.rolling.size

    def _commit(self) -> None:
        self._committed = time.monotonic()
        positions = {name: self._position(partition) for name, partition in self._partitions.items()}
        if not self.recording.rows and positions == self.recording.positions:
            return
        roll = self.recording.commit(positions)
        if roll is None:
            return
        self.rolls += 1
        for topic, rows in roll.rows.items():
            self.rows[topic] = self.rows.get(topic, 0) + rows
        lag = sum(self.source.lag().values())
        _LOG.info(
            "roll %d: %d records in %d files of %d bytes, lag %d",
            roll.number, sum(roll.rows.values()), roll.files, roll.size, lag,
        )  # fmt: skip
        if self.rolled is not None:
            self.rolled(roll, lag)

    def _report(self) -> None:
        now = time.monotonic()
        if self.progress is not None and now >= self._reported + _REPORT_SECONDS:
            self._reported = now
            rows = sum(self.rows.values()) + self.recording.rows
            self.progress(RecordProgress(rows, sum(self.source.lag().values())))

    def _position(self, partition: _Partition) -> dict[str, Any]:
        """Return plain JSON: the source's own snapshot, moved to behind the last archived record."""
        point = partition.position.point
        moved = partition.part.snapshot() | {"offset": point.offset, "clock": point.clock, "end": None}
        return {"source": moved, "offset": point.offset, "last": point.last, "frontier": self._frontier}
