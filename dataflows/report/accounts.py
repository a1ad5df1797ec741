"""What became of every record of a run, from its counters and its stored rows, and whether they agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dataflows.report.queries import Queries
from schemas.enums import CountKind
from schemas.tables import DEAD_LETTERS, LATE_EVENTS
from sinks.archive import Archive
from sinks.store import RunCount

__all__ = ["Accounts", "Check", "TableAccount", "TopicAccount", "run_accounts"]


@dataclass(frozen=True, slots=True)
class TopicAccount:
    """Counters of one topic; `archived` is None where no archive was given."""

    topic: str
    archived: int | None
    read: int
    decoded: int
    dead_lettered: int
    late: int
    order_violations: int

    @property
    def balanced(self) -> bool:
        """Whether every record that was read was decoded or refused."""
        return self.read == self.decoded + self.dead_lettered


@dataclass(frozen=True, slots=True)
class TableAccount:
    """Rows of one output table: stored, counted by the writer if it did, and their digest."""

    table: str
    rows: int
    written: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Check:
    """Two numbers that must be equal."""

    name: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether they are."""
        return self.left == self.right


@dataclass(frozen=True, slots=True)
class Accounts:
    """The books of a run.

    Parameters
    ----------
    topics
        Counters by topic.
    tables
        Stored rows by output table.
    reasons
        Counters that have a reason.
    checks
        What must be equal; empty while the run has no counters.
    """

    topics: tuple[TopicAccount, ...]
    tables: tuple[TableAccount, ...]
    reasons: tuple[RunCount, ...]
    checks: tuple[Check, ...]

    @property
    def read(self) -> int:
        """Records read, over all topics."""
        return sum(topic.read for topic in self.topics)

    @property
    def add_up(self) -> bool | None:
        """Whether every check holds; None where there is none."""
        return all(check.holds for check in self.checks) if self.checks else None


def run_accounts(queries: Queries, archive: Archive | None = None) -> Accounts:
    """Return the books of a run.

    Parameters
    ----------
    queries
        The run.
    archive
        What the run read, to state its records beside those read; a run may read a part of it.
    """
    counts = queries.store.counts(queries.run_id)
    topics = _topics(counts, archive)
    tables = _tables(queries, counts)
    reasons = tuple(count for count in counts if count.reason)
    checks = _checks(queries, topics, tables) if counts else ()
    return Accounts(topics, tables, reasons, checks)


def _topics(counts: Sequence[RunCount], archive: Archive | None) -> tuple[TopicAccount, ...]:
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for count in counts:
        if count.kind != CountKind.WRITTEN:
            totals[count.subject, count.kind] += count.count
    archived = _archived(archive)
    names = sorted({topic for topic, _ in totals} | set(archived))
    kinds = (CountKind.READ, CountKind.DECODED, CountKind.DEAD_LETTERED, CountKind.LATE, CountKind.ORDER_VIOLATION)
    return tuple(
        TopicAccount(
            name,
            None if archive is None else archived.get(name, 0),
            *(totals.get((name, kind.value), 0) for kind in kinds),
        )
        for name in names
    )


def _archived(archive: Archive | None) -> dict[str, int]:
    rows: dict[str, int] = defaultdict(int)
    if archive is not None:
        for name, source in archive.manifest()["sources"].items():
            rows[name.partition("/")[0]] += int(source.get("rows", 0)) if source["complete"] else 0
    return dict(rows)


def _tables(queries: Queries, counts: Sequence[RunCount]) -> tuple[TableAccount, ...]:
    written = {count.subject: count.count for count in counts if count.kind == CountKind.WRITTEN}
    digests = queries.store.digest(queries.run_id)
    return tuple(TableAccount(name, found.rows, written.get(name), found.digest) for name, found in digests.items())


def _checks(queries: Queries, topics: Sequence[TopicAccount], tables: Sequence[TableAccount]) -> tuple[Check, ...]:
    stored = {table.table: table.rows for table in tables}
    checks = [
        Check(f"{topic.topic}: read = decoded + dead-lettered", topic.read, topic.decoded + topic.dead_lettered)
        for topic in topics
    ]
    refused = sum(topic.dead_lettered for topic in topics)
    checks.append(Check("dead-lettered = rows of dead_letters", refused, stored[DEAD_LETTERS.name]))
    late = sum(topic.late for topic in topics)
    checks.append(Check(f"late = records in {LATE_EVENTS.name}", late, queries.late_records()))
    return tuple(checks)
