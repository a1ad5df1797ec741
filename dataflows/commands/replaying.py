"""`signalbox replay`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Final

import typer

from dataflows.cluster import Cluster
from dataflows.commands.kernels import announce_compilation
from dataflows.commands.terminal import print_json, print_run, progress_bar, say
from dataflows.live import TopicRun, run_topics
from dataflows.replay import Replay, replay
from dataflows.run_names import check_run_id, recovery_folder
from dataflows.runs import RunResult
from dataflows.settings import Settings, load_settings
from dataflows.sources.replay_range import ReplayRange
from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError, DataError, ExitCode
from schemas.time import parse_time
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["check_server", "replay_range", "run_replay"]

_NO_SNAPSHOTS: Final = "stopped before its end; it has no snapshots (--recovery), so the same command starts it anew"


def run_replay(
    archive: Path | None,
    kafka: str | None,
    db: str,
    run_id: str,
    *,
    start: str | None,
    stop: str | None,
    workers: int,
    cluster: Cluster,
    batch_rows: int,
    config: Path | None,
    recovery: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Replay an archive, or what topics hold, and print what came of it."""
    if (archive is None) == (kafka is None):
        raise ConfigError("expected one of `--archive` and `--kafka`, found both or none; name what to replay")
    check_server(db, cluster)
    settings = load_settings(config)
    part = replay_range(start, stop)
    folder = recovery_folder(db, check_run_id(run_id), recovery)
    if archive is not None:
        job = Replay(Archive.open(archive), run_id, settings, part, workers, batch_rows, folder, cluster)
        run = partial(replay, job)
    else:
        run = partial(run_topics, TopicRun(run_id, _with_brokers(settings, kafka), part, workers, cluster, folder))
    with Store.open(db) as store:
        announce_compilation()
        with progress_bar(f"replay {run_id}", "records") as progress:
            result = run(store, progress=progress)
        if report is not None and cluster.leads:
            from dataflows.report import build_report

            build_report(store, run_id, report, elapsed=result.seconds)
    if as_json:
        print_json(result.to_json())
    elif cluster.leads:
        typer.echo(f"run `{run_id}`: {result.status.name.lower()}{', resumed' if result.resumed else ''}\n")
        print_run(result)
        if report is not None:
            typer.echo(f"report: {report}")
    what = "archive has" if archive is not None else "topics have"
    _remark(result, what, leads=cluster.leads, resumable=folder is not None)


def _remark(result: RunResult, what: str, *, leads: bool, resumable: bool) -> None:
    """Say what is unusual about the end of a replay; exit with 130 where it was stopped."""
    if leads and result.status is RunStatus.COMPLETE and not any(c.kind == CountKind.READ for c in result.counts):
        say(f"the {what} no records in this range")
    if result.status is RunStatus.STOPPED:
        say("stopped before its end; the same command resumes it" if resumable else _NO_SNAPSHOTS)
        sys.exit(ExitCode.INTERRUPTED)


def check_server(db: str, cluster: Cluster) -> None:
    """Refuse a database that several processes cannot share.

    Raises
    ------
    ConfigError
        The cluster has several processes, and the database is a folder.
    """
    if cluster.addresses and "://" not in db:
        raise ConfigError(
            f"expected the URL of a database server for {len(cluster.addresses)} processes, found the folder `{db}`, "
            "which one process holds at a time; name a server with `--db`"
        )


def _with_brokers(settings: Settings, brokers: str | None) -> Settings:
    if settings.kafka is None:
        raise ConfigError(
            "expected the topics and their clocks in section `[kafka]` of the configuration, found none; name a file "
            "with `--config`"
        )
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"brokers": brokers})})


def replay_range(start: str | None, stop: str | None) -> ReplayRange:
    """Return the range that `--from` and `--to` name; either may be left out.

    Raises
    ------
    ConfigError
        One is not a time, names no zone or cannot be told in nanoseconds, or the first is not before the last.
    """
    whole = ReplayRange()
    first = whole.start if start is None else _time("--from", start)
    last = whole.stop if stop is None else _time("--to", stop)
    if first >= last:
        found = f"{start or 'the first record'} and {stop or 'the last'}"
        raise ConfigError(f"expected `--from` before `--to`, found {found}")
    return ReplayRange(first, last)


def _time(option: str, text: str) -> int:
    try:
        return parse_time(text)
    except DataError as error:
        raise ConfigError(f"`{option}`: {error.detail}") from error
