"""Run the graph from an input into a database, and account for it: what replays and live runs share."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from dataflows.cluster import LOST, Cluster
from dataflows.collector import sparing_collector
from dataflows.graph import FLOW_ID, build_graph
from dataflows.recovery import Identity, discard_recovery, keep_starts, prepare_recovery, read_identity
from dataflows.run_names import check_run_id
from dataflows.runs import RunResult
from dataflows.settings import Settings
from operators.feature_engine import feature_set
from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError, ExitCode, SignalboxError, TransientError
from schemas.failure import first_failure, forget_failures
from sinks.retry import Backoff
from sinks.store import Run, RunCount, Store
from sinks.tables import RowWriter, TableSink
from sinks.writer import BufferedWriter

__all__ = ["Execution", "Input", "Progress", "execute"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_KEPT_ROWS: Final = 10_000
"""Rows of a table that the snapshot of a live run may keep; while it catches up there are more, and it waits."""
Progress = Callable[[int], None]
"""Takes records delivered so far."""


class Input(Protocol):
    """What delivers the records: a Bytewax source of arrivals that knows how far it is."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources."""

    @property
    def delivered(self) -> int:
        """Records delivered by this process."""

    @property
    def exhausted(self) -> bool:
        """Whether this process has come to the end of a bounded input."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One run, in one process or as a member of a cluster.

    Parameters
    ----------
    run_id
        Name of the run. A run that was stopped or killed is resumed under its name.
    settings
        The configuration.
    source
        The input; it ends once `stop` is set.
    origin
        What is read, in words; a run is resumed only from the same.
    stop
        Set by SIGINT, SIGTERM, or whoever wants the run to end early.
    workers
        Worker threads of this process; the result does not depend on it.
    cluster
        The other processes.
    recovery
        Folder of snapshots, or None to run without.
    outlets
        Makes the writer that every row goes through, from the one of the database.
    starts
        Returns where each source begins that has no snapshot. It is kept beside the snapshots, and kept again if it
        has changed at the end.
    drain
        How long a stop may take before the process gives up; None for as long as it takes.
    bounded
        Whether the input has an end, and the run with it.
    """

    run_id: str
    settings: Settings
    source: Any
    origin: str
    stop: threading.Event
    workers: int = 1
    cluster: Cluster = field(default_factory=Cluster)
    recovery: Path | None = None
    outlets: Callable[[BufferedWriter], RowWriter] | None = None
    starts: Callable[[], dict[str, Any]] = dict
    drain: timedelta | None = None
    bounded: bool = True


def execute(job: Execution, store: Store, *, progress: Progress | None = None) -> RunResult:
    """Run until the input ends, or until SIGINT or SIGTERM, and account for it.

    Parameters
    ----------
    job
        What to run.
    store
        Open database.
    progress
        Called a few times a second.

    Raises
    ------
    ConfigError
        The run exists with another configuration, or is complete.
    InputError
        The input is missing or unreadable.
    StorageError
        The database refused rows.
    TransientError
        Another process of the cluster ended.
    """
    run = _describe(job)
    config, resumable = None, False
    if job.cluster.leads:
        config, resumable = _begin(job, run, store)
    elif job.recovery is not None:
        config = RecoveryConfig(str(job.recovery))
    writers = _Writers(job, store)
    flow = build_graph(job.settings, job.source, job.source.sources, TableSink(writers.make, partial(_kept_rows, job)))
    started = time.perf_counter()
    with _stopping_on_signals(job):
        try:
            with _reporting(job.source, progress), sparing_collector():
                _run(flow, job, config)
            writers.flush()
            if job.cluster.leads and job.recovery is not None:
                keep_starts(job.recovery, job.starts())
        except BaseException:
            if job.cluster.leads:
                with suppress(SignalboxError):  # the first error is the one to show, and at once
                    Store(store.connection, Backoff(attempts=1)).finish_run(job.run_id, RunStatus.FAILED)
            raise
        finally:
            writers.close()
        seconds = time.perf_counter() - started
        status = _status(job)
        if not job.cluster.leads:
            return RunResult(job.run_id, status, resumable, job.source.delivered, seconds, (), {})
        result = _account(job, store, status, seconds, resumed=resumable)
    if job.recovery is not None and status is RunStatus.COMPLETE:
        discard_recovery(job.recovery)
    return result


def _kept_rows(job: Execution) -> int:
    """Return how many rows of a table a snapshot may keep: none where nobody waits for what comes behind it."""
    return 0 if job.bounded or job.stop.is_set() else _KEPT_ROWS


def _status(job: Execution) -> RunStatus:
    """Return how the run ended, which every process of a cluster has to see in the same way.

    Without an end there is nothing to complete. A process that was told to stop has read less than there was, while
    the one that leads may have come to the end of its own input.
    """
    stopped = job.stop.is_set() and not job.source.exhausted
    others = (_marker(job, number) for number in range(len(job.cluster.addresses)))
    if not job.bounded or stopped or any(marker is not None and marker.exists() for marker in others):
        return RunStatus.STOPPED
    return RunStatus.COMPLETE


def _marker(job: Execution, process_id: int) -> Path | None:
    """Return the file that says that a process of the cluster was told to stop."""
    if job.recovery is None or not job.cluster.addresses:
        return None
    return job.recovery / f"stopped-{process_id}"


def _begin(job: Execution, run: Run, store: Store) -> tuple[RecoveryConfig | None, bool]:
    """Check that the run may begin or go on, and record that it does."""
    known = _check_run(run, store)
    config, resumable = None, False
    if job.recovery is not None:
        identity = Identity(FLOW_ID, run.run_id, run.config_hash, run.source, job.starts())
        config, resumable = prepare_recovery(
            job.recovery,
            identity,
            fresh=known is None,
            partitions=job.settings.recovery.partitions,
        )
    store.start_run(run)
    return config, resumable


def _describe(job: Execution) -> Run:
    features = feature_set(job.settings.compute)
    return Run(
        run_id=check_run_id(job.run_id),
        version=version("signalbox"),
        config_hash=job.settings.result_hash(),
        feature_set=features.hash,
        feature_names=features.names,
        config=job.settings.model_dump_json(),
        source=job.origin,
    )


def _check_run(run: Run, store: Store) -> Run | None:
    """Return the run as the database knows it, if it may go on; None for a new one."""
    known = store.find_run(run.run_id)
    if known is None:
        return None
    if store.run_status(run.run_id) is RunStatus.COMPLETE:
        raise ConfigError(f"expected a new run id, was `{run.run_id}`, which is complete; choose another `--run-id`")
    for name in ("config_hash", "source"):
        if getattr(known, name) != getattr(run, name):
            raise ConfigError(
                f"run `{run.run_id}` began with {name} `{getattr(known, name)}`, found `{getattr(run, name)}`; "
                "resume it with what it began with, or choose another `--run-id`"
            )
    return known


def _check_starts(job: Execution) -> None:
    """Refuse to go on where this process read an older folder than the one that its leader prepared."""
    identity = read_identity(job.recovery) if job.recovery is not None else None
    if identity is not None and identity.starts != job.starts():
        raise TransientError(
            f"expected the run to begin as process 0 wrote in `{job.recovery}`, found that it did so after this one "
            "had looked; start all processes again"
        )


class _Writers:
    """Makes the writer of this process, and keeps what has to be flushed and closed at its end."""

    def __init__(self, job: Execution, store: Store) -> None:
        self._job = job
        self._store = store
        self._opened: list[tuple[BufferedWriter, RowWriter]] = []

    def make(self) -> RowWriter:
        # all processes are connected by now, so the one that leads has prepared the folder
        _check_starts(self._job)
        settings = self._job.settings
        # a replay flushes at each snapshot, so its rows need not be written before for their age
        age = settings.sink.max_age if not self._job.bounded else settings.recovery.snapshot_interval
        buffered = BufferedWriter(
            self._store,
            run_id=self._job.run_id,
            max_rows=settings.sink.batch_rows,
            max_age=age,
            # the end of the run raises what went wrong
            on_error=self._job.stop.set,
        )
        self._opened.append((buffered, buffered))
        if self._job.outlets is not None:
            self._opened[-1] = (buffered, self._job.outlets(buffered))
        return self._opened[-1][1]

    def flush(self) -> None:
        for _, writer in self._opened:
            writer.flush()

    def close(self) -> None:
        for buffered, _ in self._opened:
            buffered.close()


def _run(flow: Any, job: Execution, recovery: RecoveryConfig | None) -> None:
    interval: timedelta = job.settings.recovery.snapshot_interval
    cluster = job.cluster
    forget_failures()
    try:
        cli_main(
            flow,
            workers_per_process=job.workers,
            process_id=cluster.process_id if cluster.addresses else None,
            addresses=list(cluster.addresses) or None,
            epoch_interval=interval,
            recovery_config=recovery,
        )
    except BytewaxRuntimeError as error:
        if cluster.addresses:
            LOST.set()
        found = _known(error) or _known(first_failure())
        if found is not None:
            raise found from found.__cause__
        raise
    except BaseException as error:
        # in a cluster the engine loses its connections, which it reports as a panic, before it can report why
        if not cluster.addresses or isinstance(error, Exception | KeyboardInterrupt | SystemExit):
            raise
        LOST.set()
        failure = first_failure()
        if failure is not None:
            raise failure from failure.__cause__
        raise TransientError(
            f"expected the {len(cluster.addresses)} processes of the cluster to stay, found that one of them ended or "
            "could not be reached; see its log, and start all of them again: the run goes on from its snapshot"
        ) from error


def _known(error: BaseException | None) -> SignalboxError | None:
    """Return the error of ours that was raised last, among an error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, SignalboxError):
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


@contextmanager
def _stopping_on_signals(job: Execution) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the input; what is in the graph is finished, stored and accounted for in time.

    A second signal ends the process at once; the run then goes on from its last snapshot.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timer: list[threading.Timer] = []
    seen: list[int] = []
    marker = _marker(job, job.cluster.process_id)
    if marker is not None:
        marker.unlink(missing_ok=True)

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:  # the input may have set `stop` before the first one
            _leave("stopped at once by a second signal", ExitCode.INTERRUPTED)
        seen.append(number)
        job.stop.set()
        if marker is not None:
            with suppress(OSError):
                marker.touch(mode=0o600)
        if job.drain is not None:
            seconds = job.drain.total_seconds()
            timer.append(threading.Timer(seconds, _leave, (f"not drained after {seconds:g} s", ExitCode.DEADLINE)))
            timer[-1].daemon = True
            timer[-1].start()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for running in timer:
            running.cancel()


def _leave(why: str, code: ExitCode) -> None:
    """End the process without finishing: what was not snapshotted is computed again by the next one."""
    sys.stderr.write(f"signalbox: {why}; the same command goes on from the last snapshot\n")
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _reporting(source: Input, progress: Progress | None) -> Iterator[None]:
    if progress is None:
        yield
        return
    done = threading.Event()

    def report() -> None:
        while not done.wait(0.2):
            progress(source.delivered)

    thread = threading.Thread(target=report, name="signalbox-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        progress(source.delivered)


def _account(job: Execution, store: Store, status: RunStatus, seconds: float, *, resumed: bool) -> RunResult:
    digests = {}
    if job.bounded:  # of a live run, the tables may hold weeks
        digests = store.digest(job.run_id)
        written = [RunCount(CountKind.WRITTEN.value, table, "", digest.rows) for table, digest in digests.items()]
        store.write_counts(job.run_id, written)
    store.finish_run(job.run_id, status)
    rows = job.source.delivered
    return RunResult(job.run_id, status, resumed, rows, seconds, tuple(store.counts(job.run_id)), digests)
