"""`signalbox report`."""

from __future__ import annotations

from pathlib import Path

import typer

from dataflows.report import build_report
from schemas.errors import InputError
from sinks.store import Store

__all__ = ["run_report"]


def run_report(db: str, out: Path, run_id: str | None) -> None:
    """Write the report of a run."""
    with Store.open(db, create=False, read_only=True) as store:
        path = build_report(store, run_id or _only_run(store), out)
    typer.echo(f"report: {path}")


def _only_run(store: Store) -> str:
    """Return the run of a database that has one.

    Raises
    ------
    InputError
        It has none, or several.
    """
    runs = store.run_ids()
    if not runs:
        raise InputError(f"expected a run in `{store.location}`, found none; make one with `signalbox replay`")
    if len(runs) > 1:
        raise InputError(f"expected one run in `{store.location}`, found {', '.join(runs)}; choose with `--run-id`")
    return runs[0]
