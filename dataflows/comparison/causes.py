"""What about two runs as wholes can make their rows differ, the likeliest first.

A cause is a function of both runs and of what was found in their tables; it returns None where it does not apply. A
further cause is a further function in `CAUSES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from dataflows.comparison.result import Cause, TableDifference
from dataflows.comparison.sides import RunFacts
from dataflows.report.text import visible
from schemas.enums import CountKind, RunStatus

__all__ = ["CAUSES", "find_causes"]

_SECTION: Final = "compute"
"""Section of the configuration that decides what rows are computed."""
_NOT_THERE: Final = "not there"
_NAMES_SHOWN: Final = 20
"""Features that a line lists."""

Tables = Mapping[str, TableDifference]
CauseRule = Callable[[RunFacts, RunFacts, Tables], Cause | None]


def find_causes(a: RunFacts, b: RunFacts, tables: Tables) -> tuple[Cause, ...]:
    """Return what can make the rows of two runs differ, the likeliest first.

    Parameters
    ----------
    a, b
        The runs.
    tables
        What was found in the tables that were compared, by name.
    """
    found = (rule(a, b, tables) for rule in CAUSES)
    return tuple(cause for cause in found if cause is not None)


def _configuration(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    evidence = tuple(_config_differences(a, b, decisive=True))
    return _cause("configuration", "the configuration of what is computed differs", evidence)


def _other_settings(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    evidence = tuple(_config_differences(a, b, decisive=False))
    return _cause("settings", f"settings outside `{_SECTION}` differ, which should change no row", evidence)


def _feature_set(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    if a.run.feature_set == b.run.feature_set:
        return None
    only_a = [name for name in a.run.feature_names if name not in b.run.feature_names]
    only_b = [name for name in b.run.feature_names if name not in a.run.feature_names]
    evidence = [f"only in {side}: {_listed(names)}" for side, names in (("A", only_a), ("B", only_b)) if names]
    if not evidence:
        order = "order" if a.run.feature_names != b.run.feature_names else "definition"
        evidence = [f"the same features in another {order}: {a.run.feature_set} in A, {b.run.feature_set} in B"]
    return _cause("feature_set", "the feature sets differ", tuple(evidence))


def _version(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    return _cause("version", "the versions of Signalbox differ", _pair(a.run.version, b.run.version))


def _source(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    return _cause("source", "what was read differs", _pair(visible(a.run.source), visible(b.run.source)))


def _incomplete(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    evidence = tuple(
        f"run {side} (`{facts.run.run_id}`) is {facts.status.name.lower()}"
        for side, facts in (("A", a), ("B", b))
        if facts.status is not RunStatus.COMPLETE
    )
    return _cause("incomplete", "a run is not complete", evidence)


def _order_violations(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    counts = _counts(a, b, CountKind.ORDER_VIOLATION)
    evidence = tuple(f"{topic}: {in_a:,} in A, {in_b:,} in B" for topic, (in_a, in_b) in counts.items() if in_a or in_b)
    return _cause("order_violations", "records arrived out of order and were raised to the clock", evidence)


def _late(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    return _one_sided("late_events", "late events", CountKind.LATE, a, b, tables)


def _dead_letters(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    return _one_sided("dead_letters", "dead letters", CountKind.DEAD_LETTERED, a, b, tables)


def _one_sided(table: str, noun: str, kind: CountKind, a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    counts = _counts(a, b, kind)
    evidence = [f"{name}: {in_a:,} in A, {in_b:,} in B" for name, (in_a, in_b) in counts.items() if in_a != in_b]
    found = tables.get(table)
    if found is not None and (found.only_a or found.only_b):
        evidence.insert(0, f"{found.only_a:,} only in A, {found.only_b:,} only in B")
    return _cause(table, f"{noun} are in one run only", tuple(evidence))


def _records(a: RunFacts, b: RunFacts, tables: Tables) -> Cause | None:
    counts = _counts(a, b, CountKind.READ)
    evidence = tuple(f"{topic}: {in_a:,} in A, {in_b:,} in B" for topic, (in_a, in_b) in counts.items() if in_a != in_b)
    return _cause("records", "the numbers of records that were read differ", evidence)


CAUSES: Final[tuple[CauseRule, ...]] = (
    _configuration,
    _feature_set,
    _version,
    _source,
    _incomplete,
    _order_violations,
    _late,
    _dead_letters,
    _records,
    _other_settings,
)
"""What can be the cause, the likeliest first."""


def _cause(kind: str, summary: str, evidence: tuple[str, ...]) -> Cause | None:
    return Cause(kind, summary, evidence) if evidence else None


def _pair(a: str, b: str) -> tuple[str, ...]:
    return () if a == b else (f"{a} in A, {b} in B",)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _counts(a: RunFacts, b: RunFacts, kind: CountKind) -> dict[str, tuple[int, int]]:
    """Return a kind's counters of both runs, by topic and, where it has one, reason."""
    found: dict[str, list[int]] = {}
    for side, facts in enumerate((a, b)):
        for item in facts.counts:
            if item.kind == kind:
                name = f"{item.subject}, {item.reason}" if item.reason else item.subject
                found.setdefault(name, [0, 0])[side] += item.count
    return {name: (in_a, in_b) for name, (in_a, in_b) in sorted(found.items())}


def _config_differences(a: RunFacts, b: RunFacts, *, decisive: bool) -> Iterator[str]:
    config_a, config_b = _flat(_parsed(a)), _flat(_parsed(b))
    for key in sorted(config_a | config_b):
        value_a, value_b = config_a.get(key, _NOT_THERE), config_b.get(key, _NOT_THERE)
        if value_a != value_b and (key.split(".")[0] == _SECTION) is decisive:
            yield f"`{key}`: {visible(value_a)} in A, {visible(value_b)} in B"


def _parsed(facts: RunFacts) -> Any:
    try:
        return json.loads(facts.run.config)
    except ValueError:
        return {_SECTION: facts.run.config}


def _flat(content: Any, path: str = "") -> dict[str, str]:
    """Return the value of each key as JSON, by its path."""
    if not isinstance(content, dict) or not content:
        return {path: json.dumps(content)} if path else {}
    flat: dict[str, str] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{path}.{name}" if path else str(name))
    return flat
