"""Runs: safe names, and accounts that show what is missing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.run_names import check_run_id
from dataflows.runs import RunResult
from schemas.enums import RunStatus
from schemas.errors import ConfigError
from sinks.digests import TableDigest
from sinks.store import RunCount


def result(*counts: RunCount, rows: int = 100, seconds: float = 2.0) -> RunResult:
    digests = {"bars": TableDigest(3, "abc")}
    return RunResult("r", RunStatus.COMPLETE, False, rows, seconds, counts, digests)


@pytest.mark.parametrize("run_id", ["a", "2024-08-08_btc", "A.b-c_9", "x" * 100])
def test_run_id_that_is_a_safe_name_is_taken(run_id):
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "-x", "_x", "a/b", "a\\b", "a b", "a\n", "ä", "x" * 101, "a;b", "a'b", "../x", "a\x00"]
)
def test_run_id_that_is_no_safe_name_is_refused(run_id):
    with pytest.raises(ConfigError, match="expected a run id of letters, digits"):
        check_run_id(run_id)


@given(run_id=st.text(max_size=12))
def test_run_id_that_is_taken_names_one_folder(run_id):
    try:
        check_run_id(run_id)
    except ConfigError:
        return
    assert run_id.isascii()
    assert not set(run_id) & set("/\\ \n'\"`;")
    assert run_id not in (".", "..")


def count(kind: str, subject: str, n: int, reason: str = "") -> RunCount:
    return RunCount(kind, subject, reason, n)


def test_unaccounted_counts_that_add_up_are_nothing():
    counts = (
        count("read", "trades", 10),
        count("decoded", "trades", 7),
        count("dead_lettered", "trades", 2, "duplicate"),
        count("dead_lettered", "trades", 1, "malformed"),
        count("late", "trades", 5, "bar_closed"),
        count("order_violation", "trades", 3),
    )
    assert result(*counts).unaccounted() == {}


def test_unaccounted_names_the_topic_and_the_difference():
    counts = (
        count("read", "trades", 10),
        count("decoded", "trades", 7),
        count("read", "news", 4),
        count("decoded", "news", 5),
    )
    assert result(*counts).unaccounted() == {"trades": 3, "news": -1}


def test_rate_is_records_a_second():
    assert result().rows_per_second == 50.0
    assert result(seconds=0.0).rows_per_second == 0.0


def test_json_holds_plain_values():
    content = result(count("read", "trades", 10)).to_json()
    assert json.loads(json.dumps(content)) == content
    assert content["status"] == "complete"
    assert content["rows_per_second"] == 50.0
    assert content["counts"] == [{"kind": "read", "subject": "trades", "reason": "", "count": 10}]
    assert set(content["digests"]) == {"bars"}
