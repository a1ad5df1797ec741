"""`signalbox status`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from dataflows.commands.terminal import print_json
from dataflows.run_names import check_run_id, recovery_folder
from dataflows.status import ProcessStatus, last_snapshot, read_status
from schemas.errors import ConfigError, ExitCode, InputError
from schemas.time import END_OF_TIME, format_time

__all__ = ["faults", "run_status"]

_FRESH_S: Final = 15.0
"""A process that has not written its status for so long does not run well."""
_SNAPSHOT_S: Final = 120.0
"""A live run whose last snapshot is older does not get on."""
_REFRESH_S: Final = 1.0


def run_status(db: str | None, run_id: str, *, recovery: Path | None, check: bool, watch: bool, as_json: bool) -> None:
    """Print how the processes of a run are; with `check` exit with 8 unless all of them are well."""
    folder = _folder(db, run_id, recovery)
    if check:
        _check(folder)
        return
    statuses = read_status(folder)
    if as_json:
        snapshot = last_snapshot(folder)
        print_json({"processes": [asdict(status) for status in statuses], "last_snapshot": snapshot})
        return
    screen = Console()
    if not (watch and screen.is_terminal):
        for table in _tables(folder, statuses):
            screen.print(table)
        return
    with Live(console=screen, auto_refresh=False) as view:
        while True:
            view.update(_stack(_tables(folder, read_status(folder))), refresh=True)
            time.sleep(_REFRESH_S)


def faults(statuses: tuple[ProcessStatus, ...], snapshot: int | None, now: int) -> list[str]:
    """Return what is wrong with a run, in sentences; nothing where all is well."""
    found = []
    for status in statuses:
        name = f"process {status.process_id} (pid {status.pid} on {status.host})"
        if status.state != "running":
            found.append(f"{name} is {status.state}")
        elif status.age(now) > _FRESH_S:
            found.append(f"{name} was last heard of {status.age(now):.0f} s ago")
    absent = set(range(statuses[0].processes)) - {status.process_id for status in statuses}
    found.extend(f"process {number} was never heard of" for number in sorted(absent))
    started = min(status.started for status in statuses)
    if now - max(snapshot or 0, started) > _SNAPSHOT_S * 1e9:
        found.append(f"the last snapshot is older than {_SNAPSHOT_S:.0f} s")
    return found


def _folder(db: str | None, run_id: str, recovery: Path | None) -> Path:
    folder = recovery_folder(db or "://", check_run_id(run_id), recovery)
    if folder is None:
        raise ConfigError("expected the folder of snapshots, found only a server's URL; name it with `--recovery`")
    return folder


def _check(folder: Path) -> None:
    try:
        found = faults(read_status(folder), last_snapshot(folder), time.time_ns())
    except InputError as error:
        found = [str(error)]
    for fault in found:
        typer.echo(fault)
    sys.exit(ExitCode.FINDINGS if found else ExitCode.OK)


def _stack(tables: list[Table]) -> Table:
    grid = Table.grid()
    for table in tables:
        grid.add_row(table)
    return grid


def _tables(folder: Path, statuses: tuple[ProcessStatus, ...]) -> list[Table]:
    now = time.time_ns()
    snapshot = last_snapshot(folder)
    age = "none yet" if snapshot is None else f"{(now - snapshot) / 1e9:.1f} s ago"
    processes = Table(title=f"run `{statuses[0].run_id}`, last snapshot {age}", title_justify="left")
    for heading in ("process", "pid", "state", "heard of", "up", "records", "a second", "rows stored"):
        processes.add_column(heading, justify="left" if heading in ("process", "state") else "right")
    for status in statuses:
        processes.add_row(
            f"{status.process_id} on {status.host}",
            str(status.pid),
            status.state,
            f"{status.age(now):.0f} s ago",
            f"{(status.updated - status.started) / 1e9:,.0f} s",
            f"{status.delivered:,}",
            f"{status.rate:,.0f}",
            f"{sum(status.written.values()):,}",
        )
    sources = Table(title="sources", title_justify="left")
    for heading in ("source", "process", "lag", "behind", "clock"):
        sources.add_column(heading, justify="left" if heading == "source" else "right")
    for status in statuses:
        for name, source in sorted(status.sources.items()):
            known = 0 < source.clock < END_OF_TIME
            sources.add_row(
                name,
                str(status.process_id),
                f"{source.lag:,}",
                f"{(status.updated - source.clock) / 1e9:,.3f} s" if known else "-",
                format_time(source.clock) if known else "-",
            )
    return [processes, sources, *_drift_tables(statuses)]


def _drift_tables(statuses: tuple[ProcessStatus, ...]) -> list[Table]:
    """Return the streams that drifted, the latest first; no table where none has."""
    found = [(name, drift) for status in statuses for name, drift in status.drift.items()]
    if not found:
        return []
    table = Table(title="drift since the start", title_justify="left")
    table.add_column("stream", overflow="fold")
    table.add_column("drifts", justify="right")
    table.add_column("latest", justify="right", no_wrap=True)
    table.add_column("found by", no_wrap=True)
    for name, drift in sorted(found, key=lambda entry: (-entry[1].ts, entry[0])):
        table.add_row(name, f"{drift.events:,}", format_time(drift.ts), drift.detector)
    return [table]
