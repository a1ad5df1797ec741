"""`signalbox import`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from dataflows.commands.terminal import print_json, print_table, progress_bar
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
        names = _short_names([file.path for file in report.files])
        rows = [_cells(name, file) for name, file in zip(names, report.files, strict=True)]
        print_table("", ("file", "accepted", "quarantined", "repaired", "clock skew", "remarks"), rows)
        typer.echo(f"accepted {report.accepted:,}, quarantined {report.quarantined:,}; archive: {archive}")
    if strict and report.quarantined:
        sys.exit(ExitCode.FINDINGS)


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of files below the folder that they share: two of them may have one name."""
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    shared = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    return [str(path.absolute().relative_to(shared)) for path in paths]


def _cells(name: str, file: FileReport) -> tuple[str, ...]:
    remarks = [file.skipped] if file.skipped else []
    if file.order_violations:
        remarks.append(f"{file.order_violations:,} records went back in time and were raised")
    return (
        name,
        _counts(file.rows),
        _counts(file.quarantined),
        _counts(file.repaired),
        "" if file.skew_ns is None else f"{file.skew_ns / 1e9:+.3f} s",
        "; ".join([*remarks, *file.remarks]),
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
