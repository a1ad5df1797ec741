"""Replay an archive through the graph into a database."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bytewax.errors import BytewaxRuntimeError
from bytewax.run import cli_main

from dataflows.graph import build_graph
from dataflows.recovery import discard_recovery, prepare_recovery
from dataflows.runs import RunResult, check_run_id
from dataflows.settings import Settings
from dataflows.sources.archive import ArchiveSource, ReplayRange
from operators.feature_engine import feature_set
from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError, SignalboxError
from schemas.time import format_time
from sinks.archive import Archive
from sinks.store import Run, RunCount, Store
from sinks.tables import TableSink
from sinks.writer import BufferedWriter

__all__ = ["Replay", "replay"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
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
    """

    archive: Archive
    run_id: str
    settings: Settings = field(default_factory=Settings)
    replay: ReplayRange = field(default_factory=ReplayRange)
    workers: int = 1
    batch_rows: int = 262_144
    recovery: Path | None = None


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
    run = _describe(job)
    _check_run(run, store)
    config, resumable = None, False
    if job.recovery is not None:
        config, resumable = prepare_recovery(job.recovery, fresh=store.find_run(job.run_id) is None)
    stop = threading.Event()
    source = ArchiveSource(job.archive, batch_rows=job.batch_rows, replay=job.replay, stop=stop)
    store.start_run(run)
    writers: list[BufferedWriter] = []

    def make_writer() -> BufferedWriter:
        # the sink flushes at each snapshot, so rows need not be written before for their age
        age = job.settings.recovery.snapshot_interval
        rows = job.settings.sink.batch_rows
        writers.append(BufferedWriter(store, run_id=job.run_id, max_rows=rows, max_age=age))
        return writers[-1]

    flow = build_graph(job.settings, source, source.sources, TableSink(make_writer))
    started = time.perf_counter()
    try:
        with _stopping_on_signals(stop), _reporting(source, progress):
            _run(flow, job, config)
        for writer in writers:
            writer.flush()
    except BaseException:
        with suppress(SignalboxError):  # the first error is the one to show
            store.finish_run(job.run_id, RunStatus.FAILED)
        raise
    finally:
        for writer in writers:
            writer.close()
    seconds = time.perf_counter() - started
    status = RunStatus.STOPPED if stop.is_set() and not source.exhausted else RunStatus.COMPLETE
    result = _account(job, store, status, source.delivered, seconds, resumed=resumable)
    if job.recovery is not None and status is RunStatus.COMPLETE:
        discard_recovery(job.recovery)
    return result


def _describe(job: Replay) -> Run:
    features = feature_set(job.settings.compute)
    return Run(
        run_id=check_run_id(job.run_id),
        version=version("signalbox"),
        config_hash=job.settings.content_hash(),
        feature_set=features.hash,
        feature_names=features.names,
        config=job.settings.model_dump_json(),
        source=_source_text(job),
    )


def _source_text(job: Replay) -> str:
    records = sum(entry.get("rows", 0) for entry in job.archive.manifest()["sources"].values())
    whole = ReplayRange()
    start = "the first record" if job.replay.start == whole.start else format_time(job.replay.start)
    stop = "the last" if job.replay.stop == whole.stop else f"before {format_time(job.replay.stop)}"
    return f"archive `{job.archive.root.name}` of {records} records, from {start} to {stop}"


def _check_run(run: Run, store: Store) -> None:
    known = store.find_run(run.run_id)
    if known is None:
        return
    if store.run_status(run.run_id) is RunStatus.COMPLETE:
        raise ConfigError(f"expected a new run id, was `{run.run_id}`, which is complete; choose another `--run-id`")
    for name in ("version", "config_hash", "source"):
        if getattr(known, name) != getattr(run, name):
            raise ConfigError(
                f"run `{run.run_id}` began with {name} `{getattr(known, name)}`, found `{getattr(run, name)}`; "
                "resume it with what it began with, or choose another `--run-id`"
            )


def _run(flow: Any, job: Replay, recovery: Any) -> None:
    interval: timedelta = job.settings.recovery.snapshot_interval
    try:
        cli_main(flow, workers_per_process=job.workers, epoch_interval=interval, recovery_config=recovery)
    except BytewaxRuntimeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, SignalboxError):
            raise cause from error
        raise


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the input; what is in the graph is finished and stored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _reporting(source: ArchiveSource, progress: Progress | None) -> Iterator[None]:
    if progress is None:
        yield
        return
    done = threading.Event()

    def report() -> None:
        while not done.wait(0.2):
            progress(source.delivered, source.rows)

    thread = threading.Thread(target=report, name="signalbox-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        progress(source.delivered, source.rows)


def _account(job: Replay, store: Store, status: RunStatus, rows: int, seconds: float, *, resumed: bool) -> RunResult:
    digests = store.digest(job.run_id)
    written = [RunCount(CountKind.WRITTEN.value, table, "", digest.rows) for table, digest in digests.items()]
    store.write_counts(job.run_id, written)
    store.finish_run(job.run_id, status)
    return RunResult(job.run_id, status, resumed, rows, seconds, tuple(store.counts(job.run_id)), digests)
