"""What `signalbox compare` prints of a comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dataflows.commands.comparing import _print
from dataflows.comparison import Cause, Comparison, RowDifference, RunFacts, TableDifference
from schemas.enums import RunStatus
from sinks.digests import TableDigest
from sinks.store import Run

FACTS = RunFacts("db", Run("a", "0.1.0", "c", "f", (), "{}", "archive"), RunStatus.COMPLETE, (), {}, (), ())
KEY = {"interval_ns": 60 * 10**9, "instrument_id": "A\x1b[2J", "ts_start": "2024-01-01T00:00:00.000000000Z"}
ROW = RowDifference("differs", 1_704_067_261_500_000_000, KEY, {"close": 1.0}, {"close": None}, "unknown")
TABLE = TableDifference(
    "bars", 5, 0, 0, 1, ROW.time, {"close": 1}, 1, {"unknown": 1}, (ROW,), TableDigest(6, "x"), TableDigest(6, "y")
)


@pytest.fixture
def printed(capsys, monkeypatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")

    def show(table: TableDifference, *causes: Cause) -> str:
        _print(Comparison(FACTS, FACTS, (table,), causes))
        return capsys.readouterr().out

    return show


def test_first_difference_stands_on_top_and_obeys_no_terminal_code(printed):
    text = printed(TABLE, Cause("version", "the versions differ", ("1 in A, 2 in B",)))
    assert text.splitlines()[0] == (
        r"first difference: 2024-01-01T00:01:01.5Z, `bars`, 1m A\x1b[2J ts_start 2024-01-01T00:00:00Z: "
        "close 1.0 -> no value; cause: unknown; see the possible causes"
    )
    assert "1. the versions differ   1 in A, 2 in B" in text


def test_unknown_cause_is_said(printed):
    text = printed(TABLE)
    assert "unknown: configuration, features, version, source and counts are the same" in text
    assert "causes, of 1 rows looked at: unknown: 1" in text


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (replace(ROW, a=None), "only in B"),
        (replace(ROW, b=None), "only in A"),
        (replace(ROW, a={"detail": "x"}, b={"detail": "x"}), "detail differs beyond what is shown"),
        (replace(ROW, a=dict.fromkeys("uvwxyz", 1), b=dict.fromkeys("uvwxyz", 2)), "x 1 -> 2, and 2 more columns"),
    ],
)
def test_difference_is_shown_in_a_line(printed, row, shown):
    assert shown in printed(replace(TABLE, examples=(row,)))


def test_long_evidence_is_cut(printed):
    text = printed(TABLE, Cause("configuration", "it differs", tuple(f"key {number}" for number in range(12))))
    assert "key 9" in text
    assert "key 10" not in text
    assert "and 2 more" in text


def test_equal_runs_are_said_to_be(printed):
    text = printed(replace(TABLE, differing=0, first=None, columns={}, causes={}, examples=()))
    assert text.endswith("equal: every compared row of A is in B, to the last bit, and no other\n")
    assert "ossible causes" not in text
