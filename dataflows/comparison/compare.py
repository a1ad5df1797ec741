"""Compares two runs: what they are, their rows table by table, then causes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Final

from dataflows.comparison.causes import find_causes
from dataflows.comparison.columns import ComparedTable, compared_table
from dataflows.comparison.examine import Examined, examine, read_values
from dataflows.comparison.explain import LINKS, Explained, explain
from dataflows.comparison.result import UNKNOWN, Comparison, RowDifference, TableDifference
from dataflows.comparison.rows import CHUNK_ROWS, DifferentRows, compare_rows
from dataflows.comparison.sides import RunFacts, RunReference, Sides, read_facts
from schemas.errors import ConfigError
from schemas.tables import FEATURES, RUN_COUNTS, TABLES
from sinks.store import OUTPUT_TABLES

__all__ = ["COMPARED_TABLES", "compare_runs"]

_FLOW: Final = ("dead_letters", "late_events", "bars", "features", "signals")
COMPARED_TABLES: Final = (*sorted(OUTPUT_TABLES, key=[*_FLOW, *OUTPUT_TABLES].index), RUN_COUNTS.name)
"""Tables that are compared, in the order in which data flows."""
Progress = Callable[[int, int], None]
"""Takes rows compared so far and rows in all."""
_Facts = tuple[RunFacts, RunFacts]


def compare_runs(
    a: RunReference,
    b: RunReference,
    *,
    tables: Sequence[str] | None = None,
    limit: int = 10,
    chunk_rows: int = CHUNK_ROWS,
    progress: Progress | None = None,
) -> Comparison:
    """Return which rows differ between two runs, and why, where that is known.

    Memory is bounded whatever the runs hold: rows are compared in parts. The runs should not be written meanwhile.

    Parameters
    ----------
    a, b
        The runs, of one database or of two.
    tables
        Tables to compare; all output tables and `run_counts` by default.
    limit
        Examples of each table, the first differences in time.
    chunk_rows
        Rows that are fetched of each run at once; the result does not depend on it.
    progress
        Called after each table.

    Raises
    ------
    ConfigError
        Both are the same run, a table is unknown, or a number is out of bounds.
    InputError
        A database or run is not there.
    StorageLockedError
        A database is open elsewhere.
    """
    names = _check_tables(tables)
    if not 1 <= limit <= 1_000 or chunk_rows < 1:
        raise ConfigError(f"expected a limit from 1 to 1000 and parts of a row or more, found {limit} and {chunk_rows}")
    with Sides(a, b) as sides:
        facts = sides.ask(lambda store, side: read_facts(store, sides.references[side].run_id, names))
        columns = {name: _columns(name, facts) for name in COMPARED_TABLES}
        found = _find(sides, facts, {name: columns[name] for name in names}, chunk_rows, progress)
        examined = {name: _examine(sides, columns[name], rows) for name, rows in found.items()}
        results = {}
        for name, rows in found.items():
            causes = explain(sides, name, columns, examined, rows.spans)
            examples = _examples(sides, columns[name], examined[name], causes, limit)
            results[name] = _table(columns[name][0], facts, rows, examined[name], causes, examples)
    different = not all(table.is_equal for table in results.values())
    return Comparison(*facts, tuple(results.values()), find_causes(*facts, results) if different else ())


def _check_tables(tables: Sequence[str] | None) -> tuple[str, ...]:
    if not tables:
        return COMPARED_TABLES
    for name in tables:
        if name not in COMPARED_TABLES:
            near = get_close_matches(name, COMPARED_TABLES, n=1)
            close = f", which is close to `{near[0]}`" if near else ""
            raise ConfigError(f"expected a table among {', '.join(COMPARED_TABLES)}, found `{name}`{close}")
    return tuple(name for name in COMPARED_TABLES if name in tables)


def _columns(name: str, facts: _Facts) -> tuple[ComparedTable, ...]:
    if name != FEATURES.name:
        return tuple(compared_table(TABLES[name]) for _ in facts)
    features = sorted({feature for side in facts for feature in side.present})
    return tuple(compared_table(FEATURES, features, side.stored) for side in facts)


def _find(
    sides: Sides,
    facts: _Facts,
    columns: dict[str, tuple[ComparedTable, ...]],
    chunk_rows: int,
    progress: Progress | None,
) -> dict[str, DifferentRows]:
    sizes = {name: max(side.digests[name].rows for side in facts) for name in columns}
    found = {}
    for name, tables in columns.items():
        found[name] = compare_rows(sides, tables, sizes[name], chunk_rows=chunk_rows)
        if progress is not None:
            progress(sum(sizes[done] for done in found), sum(sizes.values()))
    return found


def _examine(sides: Sides, tables: Sequence[ComparedTable], found: DifferentRows) -> Examined | None:
    if not any(found.counts.values()):
        return None
    return examine(sides, tables, found, LINKS.get(tables[0].name, {}))


def _table(
    columns: ComparedTable,
    facts: _Facts,
    found: DifferentRows,
    examined: Examined | None,
    causes: Explained,
    examples: tuple[RowDifference, ...],
) -> TableDifference:
    return TableDifference(
        table=columns.name,
        equal=found.equal,
        only_a=found.counts["only_a"],
        only_b=found.counts["only_b"],
        differing=found.counts["differs"],
        first=found.first if columns.time else None,
        columns={} if examined is None else examined.columns(),
        examined=0 if examined is None else examined.kinds.count("differs"),
        causes=causes.tally(),
        examples=examples,
        digest_a=facts[0].digests[columns.name],
        digest_b=facts[1].digests[columns.name],
    )


def _examples(
    sides: Sides, tables: Sequence[ComparedTable], rows: Examined | None, causes: Explained, limit: int
) -> tuple[RowDifference, ...]:
    if rows is None:
        return ()
    values = read_values(sides, tables, rows.keys[:limit])
    found = []
    for position, hashed in enumerate(rows.keys[:limit].tolist()):
        a, b = (side.get(hashed) for side in values)
        cause, evidence = causes.causes[position], causes.evidence[position]
        shown = rows.differing_columns(position) if a and b else None
        found.append(
            RowDifference(
                difference=rows.kinds[position],
                time=int(rows.times[position]) if tables[0].time else None,
                key=next(row[0] for row in (a, b) if row is not None),
                a=None if a is None else {name: a[1][name] for name in shown or a[1]},
                b=None if b is None else {name: b[1][name] for name in shown or b[1]},
                cause=cause if cause == UNKNOWN else f"{cause} ({evidence})",
            )
        )
    return tuple(sorted(found, key=lambda row: (row.time or 0, *row.key.values())))
