"""`signalbox demo`: a synthetic market through the whole road."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dataflows.commands.replaying import recovery_folder
from dataflows.commands.terminal import console, print_json, progress_bar, run_tables
from dataflows.replay import Replay, replay
from dataflows.report import build_report
from dataflows.runs import RunResult
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulationReport, SimulatorConfig, simulate
from schemas.errors import InputError
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["demo_config", "run_demo"]

_RUN_ID: Final = "demo"
_MARKER: Final = ".signalbox-demo"
"""Marks a folder as output of a demo: only such a folder is replaced."""
_QUERIES: Final = (
    "SELECT strategy, intent, count() AS signals, round(avg(confidence), 3) AS confidence "
    "FROM signals GROUP BY strategy, intent ORDER BY strategy, intent",
    "SELECT ts, instrument_id, strategy, direction, intent, reason, inputs, thresholds FROM signals ORDER BY ts "
    "LIMIT 10",
    "SELECT topic, reason, count() AS records, any(detail) AS example FROM dead_letters GROUP BY topic, reason "
    "ORDER BY topic, reason",
)


def demo_config(seed: int, minutes: int, instruments: int) -> SimulatorConfig:
    """Return the market of the demo: every effect planted, some of every fault."""
    faults = FaultConfig(
        duplicate_trades=25, duplicate_news=3, duplicate_social=3, late_trades=20 if minutes >= 5 else 0,
        sequence_gaps=5, crossed_quotes=10, crossed_books=3, malformed=2, missing_field=2, wrong_type=2,
        naive_time=2, out_of_range=2,
    )  # fmt: skip
    return SimulatorConfig(seed=seed, duration=timedelta(minutes=minutes), instruments=instruments, faults=faults)


def run_demo(out: Path, *, seed: int, minutes: int, instruments: int, replace: bool, as_json: bool) -> None:
    """Simulate, replay, report, and say where to look."""
    _make_room(out, replace=replace)
    archive = Archive.create(out / "archive")
    config = demo_config(seed, minutes, instruments)
    with progress_bar("simulate a market", "records") as progress:
        simulated = simulate(
            config, archive, progress=lambda rows, share: progress(rows, round(rows / max(share, 0.01)))
        )
    db = out / "db"
    with Store.open(str(db)) as store:
        job = Replay(archive, _RUN_ID, Settings(), recovery=recovery_folder(str(db), _RUN_ID, None))
        with progress_bar("replay it through the graph", "records") as progress:
            result = replay(job, store, progress=progress)
        report = build_report(store, _RUN_ID, out / "report.html", archive=archive, elapsed=result.seconds)
        signals = store.connection.rows(
            "SELECT strategy, countIf(intent = 'enter'), countIf(intent = 'exit'), round(avg(confidence), 2) "
            "FROM signals WHERE run_id = {run:String} GROUP BY strategy ORDER BY strategy",
            {"run": _RUN_ID},
        )
    found = _faults_found(simulated, result)
    if not as_json:
        _show(result, simulated, signals, found, db, report)
    if as_json:
        print_json(result.to_json() | {"database": str(db), "report": str(report), "faults": found})


def _make_room(out: Path, *, replace: bool) -> None:
    marker = out / _MARKER
    if out.is_dir() and any(out.iterdir()):
        if not (replace and marker.is_file()):
            remedy = "add --replace" if marker.is_file() else "name another folder with --out"
            raise InputError(f"expected an empty folder at `{out}`, found files; {remedy}")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _faults_found(simulated: SimulationReport, result: RunResult) -> dict[str, Any]:
    """Return injected and found faults, by topic and reason."""
    found = {
        f"{item.subject}/{item.reason}": item.count for item in result.counts if item.kind in ("dead_lettered", "late")
    }
    injected = {
        f"{topic}/{reason}": count
        for topic, reasons in simulated.expected_dead_letters.items()
        for reason, count in reasons.items()
        if count
    }
    injected |= {f"trades/{reason}": count for reason, count in simulated.expected_late.items() if count}
    return {
        "injected": dict(sorted(injected.items())),
        "found": dict(sorted(found.items())),
        "equal": injected == found,
    }


def _show(
    result: RunResult,
    simulated: SimulationReport,
    signals: list[tuple[Any, ...]],
    found: dict[str, Any],
    db: Path,
    report: Path,
) -> None:
    topics = Table("topic", box=SIMPLE_HEAD, title="Simulated", title_justify="left")
    topics.add_column("records", justify="right")
    for topic, rows in simulated.rows.items():
        topics.add_row(topic, f"{rows:,}")
    console.print(topics)
    run_tables(result)
    strategies = Table("strategy", box=SIMPLE_HEAD, title="Signals", title_justify="left")
    for heading in ("enter", "exit", "mean confidence"):
        strategies.add_column(heading, justify="right")
    for name, entries, exits, confidence in signals:
        strategies.add_row(str(name), f"{entries:,}", f"{exits:,}", f"{confidence}")
    console.print(strategies)
    n_faults = sum(found["injected"].values())
    verdict = (
        "every one was found, and nothing else was refused" if found["equal"] else f"[bold red]differs[/]: {found}"
    )
    console.print(f"injected faults: {n_faults}; {verdict}")
    console.print(f"\nreport:   {report}\ndatabase: {db}\n\nTry:")
    for sql in _QUERIES:
        console.print(f'  {_command()} query --db {db} "{sql}"', markup=False)


def _command() -> str:
    """Return how the command was called, so that what is shown can be pasted."""
    called = Path(sys.argv[0])
    if called.name != "signalbox":
        return "signalbox"
    return str(called.relative_to(Path.cwd())) if called.is_relative_to(Path.cwd()) else str(called)
