"""`signalbox compare`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer

from dataflows.commands.terminal import print_json, print_table, progress_bar
from dataflows.comparison import Comparison, RowDifference, RunReference, TableDifference, compare_runs
from dataflows.comparison.result import UNKNOWN
from dataflows.report.text import visible
from schemas.errors import ExitCode
from schemas.time import format_duration, format_time

__all__ = ["run_compare"]

_COLUMNS: Final = 4
"""Columns of a differing row that a line shows; `--json` has all."""
_TEXT: Final = 60
"""Characters of a value that a line shows."""
_ZEROS: Final = re.compile(r"(T\d\d:\d\d:\d\d(?:\.\d*[1-9])?)\.?0*Z")
"""Decimals of a time that are zero."""
_EVIDENCE: Final = 10
"""Lines of evidence that are shown for a cause; `--json` has all."""


def run_compare(
    run_a: str, run_b: str, *, db: str, db_b: str | None, tables: Sequence[str], limit: int, as_json: bool
) -> None:
    """Compare two runs and print what differs; exit with `FINDINGS` if something does."""
    a, b = RunReference(db, run_a), RunReference(db if db_b is None else db_b, run_b)
    with progress_bar("comparing", "rows") as progress:
        comparison = compare_runs(a, b, tables=tables, limit=limit, progress=progress)
    if as_json:
        print_json(comparison.to_json())
    else:
        _print(comparison)
    if not comparison.is_equal:
        sys.exit(ExitCode.FINDINGS)


def _print(comparison: Comparison) -> None:
    _print_first(comparison)
    _print_runs(comparison)
    _print_tables(comparison)
    _print_causes(comparison)
    for table in comparison.tables:
        if not table.is_equal:
            _print_rows(table)
    typer.echo(
        "equal: every compared row of A is in B, to the last bit, and no other"
        if comparison.is_equal
        else "the runs differ"
    )


def _print_first(comparison: Comparison) -> None:
    if comparison.first is None:
        return
    table, row = comparison.first
    when = "" if row.time is None else f"{_time(row.time)}, "
    beyond = "; see the possible causes" if row.cause == UNKNOWN and comparison.causes else ""
    what = f"`{table}`, {_key_text(row)}: {_difference_text(row)}"
    typer.echo(f"first difference: {when}{what}; cause: {row.cause}{beyond}\n")


def _print_runs(comparison: Comparison) -> None:
    facts = (comparison.a, comparison.b)
    rows = [
        (side, item.run.run_id, item.status.name.lower(), item.run.version, item.run.config_hash[:12],
         item.run.feature_set[:12], visible(item.run.source), item.database)
        for side, item in zip("AB", facts, strict=True)
    ]  # fmt: skip
    print_table("Runs", ("", "run", "status", "version", "config", "features", "source", "database"), rows)


def _print_tables(comparison: Comparison) -> None:
    rows = [
        (table.table, *(f"{count:,}" for count in _numbers(table)), "" if table.first is None else _time(table.first))
        for table in comparison.tables
    ]
    headings = ("table", "A", "B", "equal", "only A", "only B", "differ", "first difference")
    print_table("Rows", headings, rows, numbers=6)
    digests = [
        (table.table, table.digest_a.digest, "the same" if table.digest_a == table.digest_b else table.digest_b.digest)
        for table in comparison.tables
    ]
    print_table("Digests", ("table", "A", "B"), digests)


def _numbers(table: TableDifference) -> tuple[int, ...]:
    return (table.digest_a.rows, table.digest_b.rows, table.equal, table.only_a, table.only_b, table.differing)


def _print_rows(table: TableDifference) -> None:
    rows = [
        ("" if row.time is None else _time(row.time), _key_text(row), _difference_text(row), row.cause)
        for row in table.examples
    ]
    print_table(f"First differences in {table.table}", ("time", "row", "difference (A -> B)", "cause"), rows)
    if table.columns:
        columns = ", ".join(f"{name} {count:,}" for name, count in list(table.columns.items())[:_EVIDENCE])
        typer.echo(f"columns that differ, in {table.examined:,} rows looked at: {columns}\n")
    if table.first is None:
        return
    causes = ", ".join(f"{cause}: {count:,}" for cause, count in table.causes.items())
    typer.echo(f"causes, of {sum(table.causes.values()):,} rows looked at: {causes}\n")


def _print_causes(comparison: Comparison) -> None:
    if comparison.is_equal:
        return
    if not comparison.causes:
        typer.echo("Possible causes\n\nunknown: configuration, features, version, source and counts are the same\n")
        return
    rows = []
    for number, cause in enumerate(comparison.causes, start=1):
        evidence = list(cause.evidence[:_EVIDENCE])
        if len(cause.evidence) > _EVIDENCE:
            evidence.append(f"and {len(cause.evidence) - _EVIDENCE} more")
        rows.append((f"{number}. {cause.summary}", "\n".join(evidence)))
    print_table("Possible causes, the likeliest first", ("cause", "evidence"), rows)


def _key_text(row: RowDifference) -> str:
    """Return a row's key without its time, which stands beside it, and without digests."""
    shown = {name: value for name, value in row.key.items() if name not in ("ts", "signal_id")}
    return " ".join(_key_part(name, value) for name, value in shown.items())


def _key_part(name: str, value: Any) -> str:
    if name == "interval_ns":
        return format_duration(value)
    if name in ("partition", "offset", "ts_start"):
        return f"{name} {_text(value)}"
    return _text(value)


def _difference_text(row: RowDifference) -> str:
    if row.a is None or row.b is None:
        return "only in A" if row.b is None else "only in B"
    parts = [f"{name} {_change(row.a[name], row.b[name])}" for name in list(row.a)[:_COLUMNS]]
    if len(row.a) > _COLUMNS:
        parts.append(f"and {len(row.a) - _COLUMNS} more columns")
    return ", ".join(parts)


def _change(a: Any, b: Any) -> str:
    text_a, text_b = _text(a), _text(b)
    return f"{text_a} -> {text_b}" if text_a != text_b else "differs beyond what is shown"


def _text(value: Any) -> str:
    return "no value" if value is None else _ZEROS.sub(r"\1Z", visible(str(value), _TEXT))


def _time(ts: int) -> str:
    return _text(format_time(ts))
