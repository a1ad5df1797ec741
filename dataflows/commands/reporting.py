"""`signalbox report`."""

from __future__ import annotations

from pathlib import Path

from dataflows.commands.terminal import console
from dataflows.report import build_report
from schemas.errors import InputError
from sinks.store import Store

__all__ = ["run_report"]


def run_report(db: str, out: Path, run_id: str | None) -> None:
    """Write the report of a run."""
    with Store.open(db, create=False, read_only=True) as store:
        runs = store.run_ids()
        if not runs or (run_id is not None and run_id not in runs):
            raise InputError(f"expected run `{run_id or 'any'}` in `{store.location}`, found {list(runs)}")
        if run_id is None and len(runs) > 1:
            raise InputError(f"expected `--run-id` where there are several runs, found {list(runs)}")
        path = build_report(store, run_id or runs[-1], out)
    console.print(f"report: {path}")
