"""Replay recorded history through the graph into a database: an archive, or topics up to where they end now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dataflows.cluster import Cluster
from dataflows.execution import Execution, execute
from dataflows.runs import RunResult
from dataflows.settings import Settings
from dataflows.sources.archive import ArchiveSource
from dataflows.sources.replay_range import ReplayRange
from dataflows.telemetry import start_telemetry
from schemas.time import format_time
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["Replay", "range_text", "replay"]

Progress = Callable[[int, int], None]
"""Takes records delivered so far and records in all."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What to replay.

    Parameters
    ----------
    archive
        The archive.
    run_id
        Name of the run. A run that was stopped or killed is resumed under its name.
    settings
        The configuration.
    replay
        Part of the archive.
    workers
        Worker threads; the result does not depend on it.
    batch_rows
        Records of all topics together in a batch; the result does not depend on it.
    recovery
        Folder of snapshots, or None to run without: a run that is killed then starts over.
    cluster
        The other processes, which need the same archive and one database on a server.
    """

    archive: Archive
    run_id: str
    settings: Settings = field(default_factory=Settings)
    replay: ReplayRange = field(default_factory=ReplayRange)
    workers: int = 1
    batch_rows: int = 262_144
    recovery: Path | None = None
    cluster: Cluster = field(default_factory=Cluster)


def replay(job: Replay, store: Store, *, progress: Progress | None = None) -> RunResult:
    """Run a replay to its end, or until SIGINT or SIGTERM, and account for it.

    Parameters
    ----------
    job
        What to replay.
    store
        Open database.
    progress
        Called a few times a second.

    Raises
    ------
    ConfigError
        The run exists with another configuration, or is complete.
    InputError
        The archive is empty or unreadable.
    StorageError
        The database refused rows.
    """
    stop = threading.Event()
    source = ArchiveSource(job.archive, batch_rows=job.batch_rows, replay=job.replay, stop=stop)
    execution = Execution(
        run_id=job.run_id,
        settings=job.settings,
        source=source,
        origin=_origin(job),
        stop=stop,
        workers=job.workers,
        cluster=job.cluster,
        recovery=job.recovery,
    )
    report = None if progress is None else lambda delivered: progress(delivered, source.rows)
    with start_telemetry(job.settings.telemetry, job.run_id, str(job.cluster.process_id)):
        return execute(execution, store, progress=report)


def _origin(job: Replay) -> str:
    records = sum(entry.get("rows", 0) for entry in job.archive.manifest()["sources"].values())
    return f"archive `{job.archive.root.name}` of {records} records, {range_text(job.replay)}"


def range_text(part: ReplayRange) -> str:
    """Return a range in words."""
    whole = ReplayRange()
    start = "the first record" if part.start == whole.start else format_time(part.start)
    stop = "the last" if part.stop == whole.stop else f"before {format_time(part.stop)}"
    return f"from {start} to {stop}"
