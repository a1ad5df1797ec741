"""`signalbox import`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dataflows.commands.terminal import console, print_json, progress_bar
from dataflows.importers import import_files
from dataflows.importers.base import FileReport, ImportOptions
from schemas.errors import ExitCode
from sinks.archive import Archive

__all__ = ["run_import"]


def run_import(
    format_: str, paths: Sequence[Path], archive: Path, options: ImportOptions, *, strict: bool, as_json: bool
) -> None:
    """Import files and print what was accepted, quarantined and repaired."""
    with progress_bar(f"import {format_}", "bytes") as progress:
        report = import_files(
            format_,
            paths,
            Archive.create(archive),
            options=options,
            progress=lambda step: progress(step.bytes_done, step.bytes_total),
        )
    if as_json:
        print_json(report.content())
    else:
        table = Table("file", "accepted", "quarantined", "repaired", "clock skew", "remarks", box=SIMPLE_HEAD)
        for file in report.files:
            table.add_row(*_cells(file))
        console.print(table)
        console.print(f"accepted {report.accepted:,}, quarantined {report.quarantined:,}; archive: {archive}")
    if strict and report.quarantined:
        sys.exit(ExitCode.FINDINGS)


def _cells(file: FileReport) -> tuple[str, ...]:
    remarks = [file.skipped] if file.skipped else []
    if file.order_violations:
        remarks.append(f"{file.order_violations:,} records went back in time and were raised")
    return (
        file.path.name,
        _counts(file.rows),
        _counts(file.quarantined),
        _counts(file.repaired),
        "" if file.skew_ns is None else f"{file.skew_ns / 1e9:+.3f} s",
        "; ".join([*remarks, *file.remarks]),
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
