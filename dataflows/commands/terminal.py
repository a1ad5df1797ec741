"""What commands show on a terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dataflows.runs import RunResult
from schemas.enums import CountKind

__all__ = ["console", "print_json", "progress_bar", "run_tables"]

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
"""Results go here."""


class _Rate(ProgressColumn):
    """Rows per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else "", style="cyan")


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress while the block runs; yield what takes `(done, total)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), _Rate(unit))
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=max(total, 1))


def print_json(content: dict[str, Any]) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(content, separators=(",", ":"), default=str) + "\n")
    sys.stdout.flush()


def run_tables(result: RunResult) -> None:
    """Print counters and digests of a run."""
    counts = Table("kind", "topic or table", "reason", box=SIMPLE_HEAD, title="Counts", title_justify="left")
    counts.add_column("records", justify="right")
    for item in result.counts:
        if item.kind != CountKind.WRITTEN.value:
            counts.add_row(item.kind, item.subject, item.reason, f"{item.count:,}")
    console.print(counts)
    tables = Table("table", box=SIMPLE_HEAD, title="Output", title_justify="left")
    tables.add_column("rows", justify="right")
    tables.add_column("digest")
    for name, digest in result.digests.items():
        tables.add_row(name, f"{digest.rows:,}", digest.digest)
    console.print(tables)
    unaccounted = result.unaccounted()
    if unaccounted:
        console.print(f"[bold red]counts do not add up[/]: {unaccounted}")
    else:
        console.print("counts add up: every record read was decoded or dead-lettered")
    console.print(f"{result.rows:,} records in {result.seconds:.1f} s: {result.rows_per_second:,.0f} a second")
