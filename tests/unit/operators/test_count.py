"""Counters of a run: totals that survive a resume, as rows of `run_counts`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from operators.count import METRICS, CountState, count_rows
from schemas.enums import CountKind
from schemas.tables import RUN_COUNTS

KEYS = st.tuples(st.sampled_from(["read", "late"]), st.sampled_from(["news", "trades"]), st.sampled_from(["", "x"]))
INCREMENTS = st.lists(st.dictionaries(KEYS, st.integers(1, 2**40), max_size=4), max_size=10)


@given(increments=INCREMENTS, cut=st.integers(0, 10))
def test_totals_are_the_sums_also_over_a_resume(increments, cut):
    state = CountState()
    for part in increments[:cut]:
        state.update(part)
    twin = CountState()
    twin.restore(state.snapshot())
    for part in increments[cut:]:
        twin.update(part)
    expected = {}
    for part in increments:
        for key, n in part.items():
            expected[key] = expected.get(key, 0) + n
    assert twin.totals == expected
    assert list(twin.totals) == sorted(expected)


def test_snapshot_is_not_changed_by_later_increments():
    state = CountState()
    state.update({("read", "trades", ""): 3})
    snapshot = state.snapshot()
    state.update({("read", "trades", ""): 4})
    assert snapshot == [("read", "trades", "", 3)]


def test_rows_have_the_columns_of_the_table_without_the_run():
    rows = count_rows({("late", "trades", "bar_closed"): 2, ("read", "trades", ""): 2**40})
    assert rows.schema.names == list(RUN_COUNTS.names[1:])
    assert [field.type for field in rows.schema] == [RUN_COUNTS.arrow.field(name).type for name in rows.schema.names]
    assert rows.to_pylist() == [
        {"kind": "late", "subject": "trades", "reason": "bar_closed", "count": 2},
        {"kind": "read", "subject": "trades", "reason": "", "count": 2**40},
    ]


def test_rows_of_no_counts_are_none():
    rows = count_rows({})
    assert rows.num_rows == 0
    assert [field.type for field in rows.schema] == [RUN_COUNTS.arrow.field(name).type for name in rows.schema.names]


def test_every_kind_that_is_added_up_has_a_metric():
    assert set(METRICS) == set(CountKind) - {CountKind.WRITTEN}
