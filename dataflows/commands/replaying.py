"""`signalbox replay`."""

from __future__ import annotations

import sys
from pathlib import Path

from dataflows.commands.terminal import console, print_json, progress_bar, run_tables
from dataflows.replay import Replay, replay
from dataflows.runs import check_run_id
from dataflows.settings import load_settings
from dataflows.sources.archive import ReplayRange
from schemas.enums import RunStatus
from schemas.errors import ConfigError, DataError, ExitCode
from schemas.time import parse_time
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["recovery_folder", "run_replay"]


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
        replay=_range(start, stop),
        workers=workers,
        batch_rows=batch_rows,
        recovery=recovery_folder(db, run_id, recovery),
    )
    with Store.open(db) as store:
        with progress_bar(f"replay {run_id}", "records") as progress:
            result = replay(job, store, progress=progress)
        if report is not None:
            from dataflows.report import build_report

            build_report(store, run_id, report, elapsed=result.seconds)
    if not as_json:
        console.print(f"run `{result.run_id}`: {result.status.name.lower()}{', resumed' if result.resumed else ''}")
        run_tables(result)
    if as_json:
        print_json(result.to_json())
    if result.status is RunStatus.STOPPED:
        console.print("stopped; the same command resumes it", style="yellow") if not as_json else None
        sys.exit(ExitCode.INTERRUPTED)


def _range(start: str | None, stop: str | None) -> ReplayRange:
    default = ReplayRange()
    try:
        first = default.start if start is None else parse_time(start)
        last = default.stop if stop is None else parse_time(stop)
    except DataError as error:
        raise ConfigError(f"`--from` and `--to`: {error.detail}") from error
    if first >= last:
        raise ConfigError(f"expected `--from` before `--to`, was {start} and {stop}")
    return ReplayRange(first, last)
