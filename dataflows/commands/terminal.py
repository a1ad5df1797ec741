"""What commands show on a terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from schemas.enums import CountKind, RunStatus

if TYPE_CHECKING:
    from dataflows.runs import RunResult

__all__ = ["print_json", "print_run", "print_table", "progress_bar", "say", "terminal_width"]

_PIPED_WIDTH: Final = 120
"""Characters of a line where the output goes to a file or another program."""


def terminal_width() -> int:
    """Return the characters of a line: the terminal's, or `COLUMNS`, or enough for most tables."""
    return shutil.get_terminal_size((_PIPED_WIDTH, 24)).columns


def say(message: str) -> None:
    """Tell the user something that is not part of the result, on standard error."""
    typer.echo(f"signalbox: {message}", err=True)


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
    """Show progress while the block runs, where standard error is a terminal; yield what takes `(done, total)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), _Rate(unit))
    screen = Console(file=sys.stderr)
    with Progress(
        *columns, TimeRemainingColumn(), console=screen, transient=True, disable=not screen.is_terminal
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=max(total, 1))


def print_json(content: dict[str, Any]) -> None:
    """Print one line of JSON."""
    typer.echo(json.dumps(content, separators=(",", ":"), default=str))


def print_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0, whole: int = 0
) -> None:
    """Print a table.

    Parameters
    ----------
    title
        Line above it; none where it is empty.
    headings
        Names of the columns.
    rows
        Cells, as text.
    numbers
        How many columns behind the first hold numbers.
    whole
        How many of the first columns are never broken over lines: names that are copied or searched for.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for position, heading in enumerate(headings):
        side: Literal["left", "right"] = "right" if 1 <= position <= numbers else "left"
        table.add_column(heading, justify=side, overflow="fold", no_wrap=position < whole)
    for row in rows:
        table.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=terminal_width(), highlight=False).print(table)
    lines = [title] * bool(title) + [line.rstrip() for line in text.getvalue().splitlines()]
    typer.echo("\n".join([*lines, ""]))


def print_run(result: RunResult) -> None:
    """Print what became of each topic's records, and the output with its digests."""
    _print_records(result)
    rows = [(name, f"{digest.rows:,}", digest.digest) for name, digest in result.digests.items()]
    print_table("Output", ("table", "rows", "digest"), rows, numbers=1)
    unaccounted = result.unaccounted()
    if unaccounted and result.status is RunStatus.STOPPED and min(unaccounted.values()) > 0:
        waiting = ", ".join(f"{topic} {count:,}" for topic, count in unaccounted.items())
        typer.echo(f"read and kept for when the run goes on, since other sources were behind: {waiting}")
    elif unaccounted:
        typer.echo(f"counts do not add up: {unaccounted}")
    else:
        typer.echo("counts add up: every record read was decoded or is in `dead_letters`")
    typer.echo(f"{result.rows:,} records in {result.seconds:.1f} s: {result.rows_per_second:,.0f} a second")


_KINDS: Final = {
    CountKind.READ: "read",
    CountKind.DECODED: "decoded",
    CountKind.DEAD_LETTERED: "dead letters",
    CountKind.LATE: "late",
    CountKind.ORDER_VIOLATION: "out of order",
}
"""Kinds of counters that are about records, with their headings."""


def _print_records(result: RunResult) -> None:
    """Print the records of each topic by what became of them, and why those that were refused or late were."""
    totals: dict[str, dict[str, int]] = {}
    reasons: dict[str, dict[str, int]] = {}
    for item in result.counts:
        if item.kind in _KINDS:
            kinds = totals.setdefault(item.subject, dict.fromkeys(_KINDS, 0))
            kinds[item.kind] += item.count
        if item.reason:
            reasons.setdefault(item.reason, {})[item.subject] = item.count
    rows = [(topic, *(f"{count:,}" for count in kinds.values())) for topic, kinds in sorted(totals.items())]
    print_table("Records", ("topic", *_KINDS.values()), rows, numbers=len(_KINDS))
    whys = [
        (reason, f"{sum(topics.values()):,}", ", ".join(f"{topic} {count:,}" for topic, count in topics.items()))
        for reason, topics in sorted(reasons.items())
    ]
    if whys:
        print_table("Refused or late", ("reason", "records", "topics"), whys, numbers=1)
