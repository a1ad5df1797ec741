"""`signalbox demo`: a synthetic market through the whole road."""

from __future__ import annotations

import shlex
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import typer

from dataflows.commands.kernels import announce_compilation
from dataflows.commands.terminal import print_json, print_run, print_table, progress_bar, say
from dataflows.replay import Replay, replay
from dataflows.report import build_report
from dataflows.run_names import recovery_folder
from dataflows.runs import RunResult
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulationReport, SimulatorConfig, simulate
from schemas.enums import CountKind, RunStatus
from schemas.errors import ExitCode, InputError
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["demo_config", "fault_balance", "run_demo"]

_RUN_ID: Final = "demo"
_MARKER: Final = ".signalbox-demo"
"""Marks a folder as output of a demo: only such a folder is replaced."""
_LEAST_TEXTS: Final = 30
"""News and posts, each, that are expected at least: in a short market, too, some are there to be repeated."""
_QUERIES: Final = (
    "SELECT strategy, intent, signals, instruments, long, short FROM signal_summary",
    "SELECT * FROM signal_explanations ORDER BY ts DESC LIMIT 1",
    "SELECT topic, reason, count() AS records, any(detail) AS example FROM dead_letters GROUP BY topic, reason "
    "ORDER BY topic, reason",
)
"""What is suggested at the end."""
_SIGNALS: Final = (
    "SELECT strategy, countIf(intent = 'enter'), countIf(intent = 'exit'), avgIf(confidence, intent = 'enter') "
    "FROM signals WHERE run_id = {run:String} GROUP BY strategy ORDER BY strategy"
)


def demo_config(seed: int, minutes: int, instruments: int) -> SimulatorConfig:
    """Return the market of the demo: every effect planted, some of every fault."""
    faults = FaultConfig(
        duplicate_trades=25, duplicate_news=3, duplicate_social=3, late_trades=20 if minutes >= 5 else 0,
        sequence_gaps=5, crossed_quotes=10, crossed_books=3, malformed=2, missing_field=2, wrong_type=2,
        naive_time=2, out_of_range=2,
    )  # fmt: skip
    usual = SimulatorConfig()
    least = _LEAST_TEXTS / (minutes / 60 * instruments)
    return SimulatorConfig(
        seed=seed, duration=timedelta(minutes=minutes), instruments=instruments, faults=faults,
        news_rate=max(usual.news_rate, least), social_rate=max(usual.social_rate, least),
    )  # fmt: skip


def run_demo(out: Path, *, seed: int, minutes: int, instruments: int, replace: bool, as_json: bool) -> None:
    """Simulate, replay, report, and say where to look."""
    _make_room(out, replace=replace)
    announce_compilation()
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
        if result.status is RunStatus.STOPPED:
            say("stopped before its end; start again with --replace")
            sys.exit(ExitCode.INTERRUPTED)
        report = build_report(store, _RUN_ID, out / "report.html", archive=archive, elapsed=result.seconds)
        signals = store.connection.rows(_SIGNALS, {"run": _RUN_ID})
    faults = fault_balance(simulated, result)
    if as_json:
        print_json(result.to_json() | {"database": str(db), "report": str(report), "faults": faults})
    else:
        _show(result, signals, faults, db, report)


def _make_room(out: Path, *, replace: bool) -> None:
    """Make an empty folder; of those with something in them, only a demo's is emptied, and only if asked."""
    if out.exists() and not out.is_dir():
        raise InputError(f"expected a folder at `{out}`, found a file; name another place with --out")
    marker = out / _MARKER
    if out.is_dir() and any(out.iterdir()):
        if not (replace and marker.is_file()):
            remedy = "replace it with --replace, or name" if marker.is_file() else "name"
            found = "an earlier demo" if marker.is_file() else "other files"
            raise InputError(
                f"expected a new or empty folder at `{out}`, found {found}; {remedy} another folder with --out"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def fault_balance(simulated: SimulationReport, result: RunResult) -> dict[str, Any]:
    """Return how many faults were injected and how many were found, by topic and reason, and whether all agree."""
    injected = {
        f"{topic}/{reason}": count
        for topic, reasons in simulated.expected_dead_letters.items()
        for reason, count in reasons.items()
        if count
    }
    injected |= {f"trades/{reason}": count for reason, count in simulated.expected_late.items() if count}
    kinds = (CountKind.DEAD_LETTERED, CountKind.LATE)
    found = {f"{item.subject}/{item.reason}": item.count for item in result.counts if item.kind in kinds}
    return {
        "injected": dict(sorted(injected.items())),
        "found": dict(sorted(found.items())),
        "equal": injected == found,
    }


def _show(result: RunResult, signals: list[tuple[Any, ...]], faults: dict[str, Any], db: Path, report: Path) -> None:
    print_run(result)
    typer.echo(_verdict(faults))
    rows = [
        (str(name), f"{entries:,}", f"{exits:,}", f"{confidence:.2f}") for name, entries, exits, confidence in signals
    ]
    typer.echo("")
    print_table("Signals", ("strategy", "enter", "exit", "mean confidence of entries"), rows, numbers=3)
    typer.echo(f"report:   {report}\ndatabase: {db}\n\nTry:")
    for sql in _QUERIES:
        typer.echo(f'  {_command()} query --db {shlex.quote(str(db))} "{sql}"')


def _verdict(faults: dict[str, Any]) -> str:
    injected, found = faults["injected"], faults["found"]
    if faults["equal"]:
        return f"faults: {sum(injected.values())} were planted, each was found, and nothing else was refused"
    differing = [
        f"{name} {injected.get(name, 0)} planted, {found.get(name, 0)} found"
        for name in sorted(injected | found)
        if injected.get(name) != found.get(name)
    ]
    return f"FAULTS DIFFER: {'; '.join(differing)}"


def _command() -> str:
    """Return how the command was called, so that what is shown can be pasted."""
    called = Path(sys.argv[0])
    if called.name != "signalbox" or shutil.which("signalbox") == str(called):
        return "signalbox"
    called = called.absolute()
    return shlex.quote(str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called))
