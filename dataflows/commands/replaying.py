"""`signalbox replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import typer

from dataflows.commands.kernels import announce_compilation
from dataflows.commands.terminal import print_json, print_run, progress_bar, say
from dataflows.replay import Replay, replay
from dataflows.runs import check_run_id
from dataflows.settings import load_settings
from dataflows.sources.archive import ReplayRange
from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError, DataError, ExitCode
from schemas.time import parse_time
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["recovery_folder", "replay_range", "run_replay"]

_NO_SNAPSHOTS: Final = "stopped before its end; it has no snapshots (--recovery), so the same command starts it anew"


def recovery_folder(db: str, run_id: str, given: Path | None) -> Path | None:
    """Return where snapshots go: the folder that was named, else one inside an embedded database's folder.

    A database on a server has no folder of its own; without a named one the run has no snapshots.
    """
    if given is not None:
        return given / run_id
    return None if "://" in db else Path(db) / "recovery" / run_id


def run_replay(
    archive: Path,
    db: str,
    run_id: str,
    *,
    start: str | None,
    stop: str | None,
    workers: int,
    batch_rows: int,
    config: Path | None,
    recovery: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Replay an archive and print what came of it."""
    settings = load_settings(config)
    job = Replay(
        archive=Archive.open(archive),
        run_id=check_run_id(run_id),
        settings=settings,
        replay=replay_range(start, stop),
        workers=workers,
        batch_rows=batch_rows,
        recovery=recovery_folder(db, run_id, recovery),
    )
    with Store.open(db) as store:
        announce_compilation()
        with progress_bar(f"replay {run_id}", "records") as progress:
            result = replay(job, store, progress=progress)
        if report is not None:
            from dataflows.report import build_report

            build_report(store, run_id, report, elapsed=result.seconds)
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(f"run `{run_id}`: {result.status.name.lower()}{', resumed' if result.resumed else ''}\n")
        print_run(result)
        if report is not None:
            typer.echo(f"report: {report}")
    if result.status is RunStatus.COMPLETE and not any(item.kind == CountKind.READ for item in result.counts):
        say("the archive has no records in this range")
    if result.status is RunStatus.STOPPED:
        say("stopped before its end; the same command resumes it" if job.recovery else _NO_SNAPSHOTS)
        sys.exit(ExitCode.INTERRUPTED)


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
