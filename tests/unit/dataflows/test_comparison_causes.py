"""What about two runs as wholes is named as a possible cause, with which evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dataflows.comparison import RunFacts, TableDifference
from dataflows.comparison.causes import find_causes
from schemas.enums import RunStatus
from sinks.digests import TableDigest
from sinks.store import Run, RunCount

CONFIG: dict[str, Any] = {"shards": 4, "compute": {"bars": {"grace": "1s", "intervals": ["1s", "1m"]}}}
FACTS = RunFacts(
    "db",
    Run("a", "0.1.0", "c", "f", ("rsi", "vwap"), json.dumps(CONFIG), "archive"),
    RunStatus.COMPLETE,
    (),
    {},
    (),
    (),
)
NONE = TableDigest(0, "0")


def _with(**run: Any) -> RunFacts:
    return replace(FACTS, run=replace(FACTS.run, run_id="b", **run))


def _counting(*counts: tuple[str, str, str, int]) -> RunFacts:
    return replace(FACTS, counts=tuple(RunCount(*count) for count in counts))


def _found(a: RunFacts, b: RunFacts, *tables: TableDifference) -> dict[str, tuple[str, ...]]:
    return {cause.kind: cause.evidence for cause in find_causes(a, b, {table.table: table for table in tables})}


def _table(name: str, only_a: int, only_b: int) -> TableDifference:
    return TableDifference(name, 0, only_a, only_b, 0, None, {}, 0, {}, (), NONE, NONE)


def test_causes_of_runs_that_are_alike_are_none():
    assert _found(FACTS, _with()) == {}


def test_configuration_names_each_key_with_both_values():
    config = CONFIG | {"compute": {"bars": {"grace": "2s", "intervals": ["1s", "1m"]}, "new": {}}}
    assert _found(FACTS, _with(config=json.dumps(config))) == {
        "configuration": ('`compute.bars.grace`: "1s" in A, "2s" in B', "`compute.new`: not there in A, {} in B")
    }


def test_configuration_that_decides_no_row_comes_last():
    b = replace(_with(config=json.dumps(CONFIG | {"shards": 8})), status=RunStatus.FAILED)
    assert list(_found(FACTS, b).items()) == [
        ("incomplete", ("run B (`b`) is failed",)),
        ("settings", ("`shards`: 4 in A, 8 in B",)),
    ]


def test_configuration_that_is_no_json_is_compared_as_text():
    assert _found(_with(config="x"), _with(config="y")) == {"configuration": ('`compute`: "x" in A, "y" in B',)}


@pytest.mark.parametrize(
    ("names", "evidence"),
    [
        (("rsi", "spread"), ("only in A: vwap", "only in B: spread")),
        (("rsi",), ("only in A: vwap",)),
        (("vwap", "rsi"), ("the same features in another order: f in A, g in B",)),
        (("rsi", "vwap"), ("the same features in another definition: f in A, g in B",)),
    ],
)
def test_feature_sets_name_the_features(names, evidence):
    assert _found(FACTS, _with(feature_set="g", feature_names=names)) == {"feature_set": evidence}


def test_many_features_are_cut():
    names = tuple(f"f{number}" for number in range(25))
    (evidence,) = _found(_with(feature_names=()), _with(feature_set="g", feature_names=names))["feature_set"]
    assert evidence.endswith("f19 and 5 more")


def test_version_and_source_are_shown_of_both():
    found = _found(FACTS, _with(version="0.2.0", source="topics"))
    assert list(found.items()) == [
        ("version", ("0.1.0 in A, 0.2.0 in B",)),
        ("source", ("archive in A, topics in B",)),
    ]


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.STOPPED, RunStatus.FAILED])
def test_run_that_is_not_complete_is_named(status):
    assert _found(replace(FACTS, status=status), FACTS) == {"incomplete": (f"run A (`a`) is {status.name.lower()}",)}


def test_order_violations_count_even_where_both_have_them():
    counts = _counting(("order_violation", "books", "", 3), ("order_violation", "trades", "", 0))
    assert _found(counts, counts) == {"order_violations": ("books: 3 in A, 3 in B",)}


def test_dead_letters_differ_by_reason():
    a = _counting(("dead_lettered", "trades", "duplicate", 5), ("dead_lettered", "books", "sequence_gap", 1))
    b = _counting(("dead_lettered", "trades", "duplicate", 3), ("dead_lettered", "books", "sequence_gap", 1))
    assert _found(a, b) == {"dead_letters": ("trades, duplicate: 5 in A, 3 in B",)}


def test_late_events_of_one_run_are_seen_in_the_table_too():
    assert _found(FACTS, FACTS, _table("late_events", 0, 1_200)) == {"late_events": ("0 only in A, 1,200 only in B",)}
    assert _found(FACTS, FACTS, _table("late_events", 0, 0)) == {}


def test_topic_that_one_run_did_not_read_is_named():
    a = _counting(("read", "news", "", 12), ("read", "trades", "", 7))
    b = _counting(("read", "trades", "", 7))
    assert _found(a, b) == {"records": ("news: 12 in A, 0 in B",)}
