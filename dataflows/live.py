"""Run the graph on Kafka topics: on and on as they grow, or up to where they end now."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dataflows.cluster import Cluster
from dataflows.execution import Execution, execute
from dataflows.outlets import Outlets
from dataflows.recovery import read_identity
from dataflows.replay import range_text
from dataflows.runs import RunResult
from dataflows.settings import Settings
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.replay_range import ReplayRange
from dataflows.status import Observed, SourceStatus, StatusWriter
from dataflows.telemetry import register_source, start_telemetry
from dataflows.topics import kafka_section
from schemas.errors import ConfigError, TransientError
from sinks.store import Store

__all__ = ["TopicRun", "run_topics"]

_LEADER_S: Final = 300.0
"""How long the other processes wait for the one that leads."""
_LOOK_S: Final = 0.2
_SWITCH_S: Final = 0.0005
"""A tenth of the default. A thread that waits for the interpreter gets it after so long, seconds."""
Progress = Callable[[int, int], None]
"""Takes records delivered so far, and those with the lag that is known."""


@dataclass(frozen=True, slots=True)
class TopicRun:
    """What to run.

    Parameters
    ----------
    run_id
        Name of the run. A run that was stopped or killed is resumed under its name.
    settings
        The configuration; it names brokers and topics.
    part
        Part of the topics that is replayed, up to where they end when the run begins; None follows them.
    workers
        Worker threads of this process; the result does not depend on it.
    cluster
        The other processes.
    recovery
        Folder of snapshots. Processes of a cluster share it. None runs without, which only a replay can.
    """

    run_id: str
    settings: Settings
    part: ReplayRange | None = None
    workers: int = 1
    cluster: Cluster = field(default_factory=Cluster)
    recovery: Path | None = None


def run_topics(
    job: TopicRun, store: Store, *, stop: threading.Event | None = None, progress: Progress | None = None
) -> RunResult:
    """Run topics to their end, or until SIGINT or SIGTERM, and account for it.

    Parameters
    ----------
    job
        What to run.
    store
        Open database.
    stop
        Ends the run once it is set.
    progress
        Called a few times a second.

    Raises
    ------
    ConfigError
        No brokers are configured, a live run has no recovery folder, or the run exists with another configuration.
    InputError
        A topic is missing or has got partitions, or what was to be read next has expired.
    StorageError
        The database refused rows.
    TransientError
        No broker answered in time, or another process of the cluster ended.
    """
    config = _kafka(job)
    stop = stop or threading.Event()
    source = KafkaSource.connect(
        config, starts=_starts(job, store), replay=job.part, limits=job.settings.compute.decode, stop=stop
    )
    outlets = Outlets(job.settings, config, job.run_id) if job.part is None else None
    execution = Execution(
        run_id=job.run_id,
        settings=job.settings,
        source=source,
        origin=_origin(config, job.part),
        stop=stop,
        workers=job.workers,
        cluster=job.cluster,
        recovery=job.recovery,
        outlets=outlets,
        starts=source.starts,
        drain=job.settings.recovery.drain,
        bounded=job.part is not None,
    )
    status = _status(job, source, outlets, stop)
    telemetry = start_telemetry(job.settings.telemetry, job.run_id, str(job.cluster.process_id))
    threads = _prompt_threads() if job.part is None else nullcontext()
    with threads, telemetry, closing(outlets) if outlets else nullcontext(), status or nullcontext():
        register_source(source)
        result = execute(execution, store, progress=_report(source, progress))
    source.check_partitions()
    if job.part is None and not stop.is_set():
        raise TransientError(
            "expected the run to go on until it is told to stop, found that the other processes ended it; see their "
            "logs, and start all of them again: the run goes on from its snapshot"
        )
    return result


@contextmanager
def _prompt_threads() -> Iterator[None]:
    """Have threads hand over the interpreter sooner: a signal waits for the one that inserts, or tells the status."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _kafka(job: TopicRun) -> KafkaConfig:
    config = kafka_section(job.settings)
    if job.part is None and job.recovery is None:
        raise ConfigError(
            "expected a folder for the snapshots of a live run, found none; name one with `--recovery`, on a volume "
            "that all processes share"
        )
    return config.model_copy(update={"follow": job.part is None})


def _starts(job: TopicRun, store: Store) -> Mapping[str, Any] | None:
    """Return where the sources began when the run did; None for one that begins now.

    The process that leads decides; the others wait for what it wrote.
    """
    if job.recovery is None:
        return None
    if job.cluster.leads:
        identity = read_identity(job.recovery) if store.find_run(job.run_id) is not None else None
        return identity.starts if identity is not None and identity.starts else None
    deadline = time.monotonic() + _LEADER_S
    while (identity := read_identity(job.recovery)) is None:
        if time.monotonic() > deadline:
            raise TransientError(
                f"expected process 0 to prepare `{job.recovery}` within {_LEADER_S:.0f} s, found nothing there; start "
                "it, and see that all processes share the folder"
            )
        time.sleep(_LOOK_S)
    return identity.starts


def _origin(config: KafkaConfig, part: ReplayRange | None) -> str:
    topics = ", ".join(
        f"{config.topic_name(name)} ({topic.format}, {topic.clock} clock)" for name, topic in config.topics.items()
    )
    return f"topics {topics}" + (f", {range_text(part)}" if part is not None else "")


def _report(source: KafkaSource, progress: Progress | None) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda delivered: progress(delivered, delivered + sum(source.lag().values()))


def _status(job: TopicRun, source: KafkaSource, outlets: Outlets | None, stop: threading.Event) -> StatusWriter | None:
    if job.recovery is None:
        return None

    def collect() -> Observed:
        lag = source.lag()
        sources = {name: SourceStatus(clock, lag.get(name, 0)) for name, clock in source.clocks().items()}
        state = "draining" if stop.is_set() else "running"
        if outlets is None:
            return Observed(state, source.delivered, sources)
        return Observed(state, source.delivered, sources, outlets.written, outlets.drift)

    size = max(len(job.cluster.addresses), 1)
    return StatusWriter(job.recovery, job.run_id, job.cluster.process_id, size, collect)
