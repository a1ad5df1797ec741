"""What a comparison of two runs found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from dataflows.comparison.sides import RunFacts
from schemas.time import format_time
from sinks.digests import TableDigest

__all__ = ["UNKNOWN", "Cause", "Comparison", "Difference", "RowDifference", "TableDifference"]

UNKNOWN: Final = "unknown"
"""Cause of a row that nothing explains."""
Difference = Literal["only_a", "only_b", "differs"]
"""How a row differs: it is in one run only, or in both with other values."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Something about the runs as wholes that can make rows differ.

    Parameters
    ----------
    kind
        What it is, such as `configuration`.
    summary
        One line.
    evidence
        What it was seen by.
    """

    kind: str
    summary: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One row that differs.

    Parameters
    ----------
    difference
        How it differs.
    time
        Its time on the arrival clock, ns, or None where its table has none.
    key
        Its natural key without the run, as plain JSON values.
    a, b
        Values in each run as plain JSON values, None where the run does not have the row. Of a row that both have,
        the columns that differ.
    cause
        Why, or `unknown`.
    """

    difference: Difference
    time: int | None
    key: dict[str, Any]
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    cause: str

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self) | {"time": _time(self.time)}


@dataclass(frozen=True, slots=True)
class TableDifference:
    """How the rows of one table differ.

    Parameters
    ----------
    table
        The table.
    equal, only_a, only_b, differing
        Rows that are equal, in one run only, and in both with other values.
    first
        Time of the first difference on the arrival clock, ns, or None.
    columns
        Differing rows by column, the most first; of `examined` rows that differ.
    examined
        Differing rows whose columns were looked at: the first ones in time.
    causes
        Rows by cause, of those whose cause was looked for: the first ones of each kind in time.
    examples
        The first differences in time.
    digest_a, digest_b
        Rows and digest of each run.
    """

    table: str
    equal: int
    only_a: int
    only_b: int
    differing: int
    first: int | None
    columns: dict[str, int]
    examined: int
    causes: dict[str, int]
    examples: tuple[RowDifference, ...]
    digest_a: TableDigest
    digest_b: TableDigest

    @property
    def is_equal(self) -> bool:
        """Whether no row differs."""
        return not (self.only_a or self.only_b or self.differing)

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain JSON values."""
        return {
            "table": self.table,
            "is_equal": self.is_equal,
            "rows": {"a": self.digest_a.rows, "b": self.digest_b.rows},
            "digest": {"a": self.digest_a.digest, "b": self.digest_b.digest},
            "equal": self.equal,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "differing": self.differing,
            "first": _time(self.first),
            "columns": self.columns,
            "examined": self.examined,
            "causes": self.causes,
            "examples": [row.to_json() for row in self.examples],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two runs differ.

    Parameters
    ----------
    a, b
        The runs.
    tables
        Each table that was compared, in the order in which data flows.
    causes
        What about the runs as wholes can make rows differ, the likeliest first; none where the runs are equal.
    """

    a: RunFacts
    b: RunFacts
    tables: tuple[TableDifference, ...]
    causes: tuple[Cause, ...]

    @property
    def is_equal(self) -> bool:
        """Whether no row of any compared table differs."""
        return all(table.is_equal for table in self.tables)

    @property
    def first(self) -> tuple[str, RowDifference] | None:
        """Table and row of the first difference in time, which is usually the root of those after it."""
        found = [(table.first, position) for position, table in enumerate(self.tables) if table.first is not None]
        if not found:
            return None
        table = self.tables[min(found)[1]]
        return table.table, table.examples[0]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        first = self.first
        return {
            "is_equal": self.is_equal,
            "a": _run(self.a),
            "b": _run(self.b),
            "first": None if first is None else {"table": first[0], **first[1].to_json()},
            "causes": [asdict(cause) for cause in self.causes],
            "tables": [table.to_json() for table in self.tables],
        }


def _run(facts: RunFacts) -> dict[str, Any]:
    return {
        "run_id": facts.run.run_id,
        "database": facts.database,
        "status": facts.status.name.lower(),
        "version": facts.run.version,
        "config_hash": facts.run.config_hash,
        "feature_set": facts.run.feature_set,
        "source": facts.run.source,
    }


def _time(ts: int | None) -> str | None:
    return None if ts is None else format_time(ts)
