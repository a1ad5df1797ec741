"""Why a row differs, where other rows tell: each rule names rows from which a row is computed, or that came before it.

A rule of the first kind looks whether the rows that one is made of differ; one of the second kind says only that it
follows a difference in what its state holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dataflows.comparison.columns import ComparedTable
from dataflows.comparison.examine import Examined, hashes_sql
from dataflows.comparison.result import UNKNOWN
from dataflows.comparison.rows import Span, UInts
from dataflows.comparison.sides import Sides
from schemas.time import format_time
from sinks.store import Store

__all__ = ["LINKS", "RULES", "Explained", "Rule", "explain"]

_EVENT: Final = "toUnixTimestamp64Nano(ts_event)"
_BAR: Final = "interval_ns, instrument_id, toUnixTimestamp64Nano(ts)"
_SERIES: Final = "interval_ns, instrument_id"
_DECISION: Final = "instrument_id, toUnixTimestamp64Nano(ts)"
_RECORD: Final = "topic, partition, offset"
LINKS: Final[dict[str, dict[str, str]]] = {
    "dead_letters": {"record": _RECORD, "instrument": "ifNull(instrument_id, '')"},
    "late_events": {
        "record": _RECORD,
        "window": f"interval_ns, instrument_id, toInt64({_EVENT} - positiveModulo({_EVENT}, interval_ns))",
    },
    "bars": {
        "window": "interval_ns, instrument_id, toUnixTimestamp64Nano(ts_start)",
        "bar": _BAR,
        "series": _SERIES,
        "instrument": "instrument_id",
    },
    "features": {"bar": _BAR, "series": _SERIES, "decision": _DECISION, "instrument": "instrument_id"},
    "signals": {"decision": _DECISION, "instrument": "instrument_id", "position": "strategy, instrument_id"},
}
"""What a row of each table belongs to: arguments of a hash, in SQL, by name. One name means one thing everywhere."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which a row can come to differ.

    Parameters
    ----------
    table
        Table of the row.
    upstream
        Table of the rows that it depends on.
    link
        What both belong to; see `LINKS`.
    cause
        What is said of the row.
    earlier
        Whether a difference that came before the row is looked for, not one in what the row is made of.
    """

    table: str
    upstream: str
    link: str
    cause: str
    earlier: bool = False


_REFUSED: Final = "follows a dead letter of its instrument that differs"
RULES: Final = (
    Rule("late_events", "dead_letters", "record", "the record's dead letter differs"),
    Rule("bars", "late_events", "window", "late events of the bar differ"),
    Rule("bars", "dead_letters", "instrument", _REFUSED, earlier=True),
    Rule("features", "bars", "bar", "its bar differs"),
    Rule("features", "bars", "series", "follows a bar of its instrument and interval that differs", earlier=True),
    Rule("features", "dead_letters", "instrument", _REFUSED, earlier=True),
    Rule("signals", "features", "decision", "features of its instrument at its time differ"),
    Rule(
        "signals", "signals", "position", "follows a signal of its strategy and instrument that differs", earlier=True
    ),
    Rule("signals", "features", "instrument", "follows features of its instrument that differ", earlier=True),
    Rule("signals", "dead_letters", "instrument", _REFUSED, earlier=True),
)
"""The rules, of each table the surest first."""
_DENSE: Final = ("bars", "features")
"""Tables with rows all the time, so that a run's first and last ones show when it began and ended."""
_OUTSIDE: Final = "the other run's rows of this table begin after it or end before it"


@dataclass(slots=True)
class Explained:
    """Causes of the examined rows of a table.

    Parameters
    ----------
    causes
        Cause of each row.
    evidence
        What it was seen by, empty where the cause is unknown.
    """

    causes: list[str]
    evidence: list[str]

    def tally(self) -> dict[str, int]:
        """Return how many rows have each cause, the most first."""
        return dict(Counter(self.causes).most_common())


def explain(
    sides: Sides,
    name: str,
    tables: Mapping[str, Sequence[ComparedTable]],
    examined: Mapping[str, Examined | None],
    spans: tuple[Span, Span],
) -> Explained:
    """Return why the examined rows of a table differ.

    Parameters
    ----------
    sides
        The runs.
    name
        The table.
    tables
        Every output table as each side has it.
    examined
        Differing rows by table: None where a table has none, no entry where it was not compared.
    spans
        First and last time of each run's rows of the table.
    """
    rows = examined[name]
    if rows is None:
        return Explained([], [])
    found = Explained([UNKNOWN] * len(rows.keys), [""] * len(rows.keys))
    for rule in RULES:
        if rule.table != name or examined.get(rule.upstream, rows) is None:
            continue
        open_rows = np.array([cause == UNKNOWN for cause in found.causes])
        upstream = examined.get(rule.upstream)
        if rule.earlier:
            seen = {} if upstream is None else _earlier(rows, open_rows, upstream, rule.link)
        else:
            seen = _made_of(sides, rows, open_rows, tables[rule.upstream], rule.link)
        for row, evidence in seen.items():
            found.causes[row], found.evidence[row] = rule.cause, evidence
    if name in _DENSE:
        _outside(rows, found, spans)
    return found


def _outside(rows: Examined, found: Explained, spans: tuple[Span, Span]) -> None:
    """Explain rows of one run from before the first or after the last row of the other."""
    for row, kind in enumerate(rows.kinds):
        if found.causes[row] != UNKNOWN or kind == "differs":
            continue
        other, span = ("B", spans[1]) if kind == "only_a" else ("A", spans[0])
        if span is None or not span[0] <= rows.times[row] <= span[1]:
            has = "has none" if span is None else f"has rows from {format_time(span[0])} to {format_time(span[1])}"
            found.causes[row], found.evidence[row] = _OUTSIDE, f"{other} {has}"


def _earlier(rows: Examined, wanted: npt.NDArray[np.bool_], upstream: Examined, link: str) -> dict[int, str]:
    # rows are in order of time, so the first of each group is its earliest
    groups, at = np.unique(upstream.links[link], return_index=True)
    first = dict(zip(groups.tolist(), upstream.times[at].tolist(), strict=True))
    seen = {}
    for row in np.flatnonzero(wanted).tolist():
        began = first.get(int(rows.links[link][row]))
        if began is not None and began < rows.times[row]:
            seen[row] = f"first at {format_time(began)}"
    return seen


def _made_of(
    sides: Sides, rows: Examined, wanted: npt.NDArray[np.bool_], upstream: Sequence[ComparedTable], link: str
) -> dict[int, str]:
    groups = np.unique(rows.links[link][wanted])
    if not len(groups):
        return {}
    terms = LINKS[upstream[0].name][link]

    def ask(store: Store, side: int) -> dict[int, tuple[int, ...]]:
        return _group_sums(store, sides.references[side].run_id, upstream[side], terms, groups)

    a, b = sides.ask(ask)
    seen = {}
    for row in np.flatnonzero(wanted).tolist():
        group = int(rows.links[link][row])
        in_a, in_b = a.get(group, (0, 0, 0)), b.get(group, (0, 0, 0))
        if in_a != in_b:
            same = in_a[0] == in_b[0]
            seen[row] = "other values" if same else f"{in_a[0]} in A, {in_b[0]} in B"
    return seen


def _group_sums(
    store: Store, run_id: str, table: ComparedTable, terms: str, groups: UInts
) -> dict[int, tuple[int, ...]]:
    rows = table.select(f"xxh3({terms}) AS _link")
    sql = (
        f"SELECT _link, count(), sum(_row), groupBitXor(_row) FROM ({rows}) "
        f"WHERE _link IN {hashes_sql(groups)} GROUP BY _link"
    )
    return {int(group): tuple(sums) for group, *sums in store.connection.rows(sql, {"run": run_id})}
