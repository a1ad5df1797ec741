"""Features of earnings: small logs with known answers, and what happens at the bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from operators.book_features import NAMES, BookFeatureColumns
from operators.events.config import EarningsConfig
from operators.events.earnings import EarningsGroup
from operators.events.keys import text_keys
from operators.events.sessions import SessionTable, session_table
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.errors import ConfigError, InvariantError
from schemas.time import parse_time

H = 3600 * 10**9
D = 24 * H
NAN = math.nan


def frame(records: list[tuple[Any, ...]] = (), trades: list[tuple[int, float]] = ()) -> FrameInputs:
    """Return records `(ts, id, due, estimate, actual)` and trades `(ts, price)` of instrument 0."""
    batches, codes = {}, {}
    if records:
        names = ("ts_recv", "report_id", "ts_report", "eps_estimate", "eps_actual")
        columns = dict(zip(names, zip(*records, strict=True), strict=True))
        batches["earnings"] = make_batch(
            "earnings", {name: list(column) for name, column in columns.items()}, len(records)
        )
    if trades:
        ts, price = zip(*trades, strict=True)
        batches["trades"] = make_batch("trades", {"ts_recv": list(ts), "price": list(price)}, len(trades))
    codes = {topic: np.zeros(batch.num_rows, np.int32) for topic, batch in batches.items()}
    book = BookFeatureColumns(
        np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
    )
    return FrameInputs(batches, codes, 2**62, book, Refusals())


def make(**parameters: Any) -> EarningsGroup:
    group = EarningsGroup(EarningsConfig(**parameters), SessionTable(np.arange(0, 400) * D))
    for state in group.states().values():
        state.ensure(1)
    return group


def decide(group: EarningsGroup, inputs: FrameInputs, *ts: int) -> list[dict[str, Any]]:
    """Return value, or why there is none, of each feature at each decision, by its name without the prefix."""
    at = DecisionColumns(np.zeros(len(ts), np.int32), np.zeros(len(ts), np.int32), np.array(ts, dtype=np.int64))
    values, missing = group.update(inputs, at)
    names = [spec.name.removeprefix("earnings_") for spec in group.specs()]
    return [
        {name: Missing(why) if why else value for name, value, why in zip(names, *row, strict=True)}
        for row in zip(values.tolist(), missing.tolist(), strict=True)
    ]


def test_report_from_announcement_to_drift():
    records = [(D, "q1", 20 * D, 2.0, None), (15 * D, "q1", 20 * D, 1.6, None), (20 * D + H, "q1", 20 * D, 1.9, 2.0)]
    trades = [(9 * D, 100.0), (11 * D, 110.0), (20 * D - 1, 120.0), (20 * D + 1, 90.0), (21 * D, 99.0)]
    early, inside, due, after = decide(make(), frame(records, trades), 5 * D, 16 * D, 20 * D, 22 * D)
    assert early["days_until"] == 15
    assert (early["window"], early["proximity"], early["revision"], early["sessions_until"]) == (0, 0, 0, 15)
    assert early["pre_drift"] is Missing.DEGENERATE
    assert early["surprise"] is early["days_since"] is early["drift"] is Missing.NO_INPUT
    assert (inside["window"], inside["proximity"]) == (1, 0.6)
    assert inside["revision"] == pytest.approx(-0.2)
    assert inside["pre_drift"] == pytest.approx(math.log(110 / 100))
    assert (due["days_since"], due["drift"]) == (0, 0)
    assert due["surprise"] is due["days_until"] is Missing.NO_INPUT
    assert after["surprise"] == pytest.approx((2.0 - 1.6) / 1.6)  # not by the estimate that came with the figures
    assert after["surprise_yield"] == pytest.approx(0.4 / 90)
    assert after["drift"] == pytest.approx(math.log(99 / 120))
    assert after["days_since"] == 2


def test_figures_count_from_their_arrival_not_from_what_they_say():
    records = [(D, "q1", 2 * D, 1.0, None), (5 * D, "q1", 2 * D, None, 1.5)]
    at_arrival, later = decide(make(), frame(records), 5 * D, 5 * D + 1)
    assert at_arrival["surprise"] is Missing.NO_INPUT
    assert later["surprise"] == 0.5


def test_figures_before_they_are_due_make_the_report_happen():
    records, trades = [(D, "q1", 9 * D, 1.0, None), (5 * D, "q1", 9 * D, None, 1.5)], [(D, 10.0), (6 * D, 11.0)]
    (found,) = decide(make(), frame(records, trades), 7 * D)
    assert found["days_since"] == 2
    assert found["drift"] == pytest.approx(math.log(1.1))
    assert found["days_until"] is Missing.NO_INPUT


def test_mean_surprise_is_of_the_last_reports_and_corrections_replace():
    records = [(i * D, f"q{i}", i * D, 1.0, 1.0 + i / 10) for i in range(1, 5)]
    group = make(n_reports=3)
    (found,) = decide(group, frame(records), 5 * D)
    assert found["surprise"] == pytest.approx(0.4)
    assert found["surprise_mean"] == pytest.approx(0.3)
    (found,) = decide(group, frame([(6 * D, "q3", 3 * D, None, 1.6)]), 7 * D)
    assert found["surprise"] == pytest.approx(0.4)
    assert found["surprise_mean"] == pytest.approx((0.2 + 0.6 + 0.4) / 3)
    assert found["days_since"] == 3


@pytest.mark.parametrize(
    ("estimate", "actual", "expected"),
    [
        (None, 1.0, Missing.NO_INPUT), (0.0, 1.0, Missing.DEGENERATE), (NAN, 1.0, Missing.NO_INPUT),
        (math.inf, 1.0, Missing.NO_INPUT), (-1.0, -0.5, 0.5), (-1.0, -1e308, -1e308), (0.02, 1e308, Missing.NOT_FINITE),
    ],
)  # fmt: skip
def test_surprise_without_a_usable_estimate_has_a_reason_and_later_ones_have_values(estimate, actual, expected):
    group = make()
    (found,) = decide(group, frame([(D, "a", D, estimate, actual)]), 2 * D)
    assert found["surprise"] == expected
    (found,) = decide(group, frame([(3 * D, "b", 3 * D, 1.0, 1.25)]), 4 * D)
    assert found["surprise"] == 0.25


def test_surprise_and_drift_go_stale():
    records, trades = [(D, "a", D, 1.0, 1.5)], [(D - 1, 10.0)]
    fresh, stale = decide(make(max_age="10d"), frame(records, trades), 11 * D, 11 * D + 1)
    assert fresh["drift"] == 0.0
    assert [stale[name] for name in ("surprise", "surprise_yield", "surprise_mean", "drift")] == [Missing.STALE] * 4
    assert stale["days_since"] > 10


def test_report_that_is_put_off_is_ahead_again():
    group = make()
    (found,) = decide(group, frame([(D, "a", 5 * D, 1.0, None)]), 6 * D)
    assert found["days_until"] is Missing.NO_INPUT
    (found,) = decide(group, frame([(7 * D, "a", 30 * D, None, None)]), 8 * D)
    assert (found["days_until"], found["days_since"]) == (22, 3)


def test_report_that_is_due_last_is_dropped_where_there_is_no_room():
    group = make(max_reports=2)
    decide(group, frame([(D, "a", 10 * D, 1.0, None), (D, "b", 30 * D, 1.0, None), (D, "c", 40 * D, 1.0, None)]), 2 * D)
    assert group.dropped == 1  # the new one
    decide(group, frame([(3 * D, "d", 20 * D, 1.0, None)]), 4 * D)
    assert group.dropped == 2  # b
    (found,) = decide(group, frame(), 11 * D)
    assert found["days_until"] == 9
    (found,) = decide(group, frame([(12 * D, "e", 90 * D, 1.0, None)]), 13 * D)
    assert group.dropped == 3  # a, which still waits for its figures
    assert found["days_until"] == 7


def test_report_that_waits_too_long_for_figures_makes_room():
    group = make(max_reports=1, max_overdue="5d")
    (found,) = decide(group, frame([(D, "a", 2 * D, 1.0, None), (8 * D, "b", 9 * D, 1.0, None)]), 8 * D + H)
    assert group.dropped == 0
    assert found["days_until"] == pytest.approx(1 - 1 / 24)


def test_prices_that_are_none_are_no_trades():
    trades = [(1, 10.0), (D, NAN), (D, 0.0), (D, -5.0), (D, math.inf)]
    (found,) = decide(make(), frame([(2 * D, "a", 5 * D, 1.0, None)], trades), 3 * D)
    assert found["pre_drift"] == 0.0


def test_decision_after_a_later_record_is_refused():
    group = make()
    decide(group, frame([(5, "a", D, 1.0, None)]), 6)
    with pytest.raises(InvariantError, match="before its earnings records at or past that time"):
        decide(group, frame(), 5)


@pytest.mark.parametrize("changed", [{"window": "0s"}, {"n_reports": 0}, {"min_estimate": 0}, {"calendar": "XNOWHERE"}])
def test_config_is_checked(changed):
    with pytest.raises(ValidationError, match=next(iter(changed))):
        EarningsConfig(**changed)
    assert EarningsConfig(calendar="24/7").calendar == "24/7"


def test_sessions_skip_holidays_and_know_half_days():
    table = session_table("XNYS")
    days = ["2026-07-02T12:00:00Z", "2026-07-06T12:00:00Z", "2026-11-27T17:59:00Z", "2026-11-27T18:00:00Z"]
    index = table.index(np.array([parse_time(day) for day in days]))
    assert np.diff(index).tolist() == [1, index[2] - index[1], 1]  # July 3rd is off; the 27th closes at 13:00
    with pytest.raises(ConfigError, match="ascending order"):
        SessionTable(np.array([2, 1]))
    with pytest.raises(ConfigError, match="ascending order"):
        SessionTable(np.array([], dtype=np.int64))


def test_keys_are_the_same_on_every_machine():
    assert text_keys(["AAPL-2026Q1", None]).tolist() == [443615265152106301, -5426141060434712860]
