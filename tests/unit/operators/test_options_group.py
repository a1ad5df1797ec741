"""Features of option chains: small chains with known answers, and what happens at the bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.options import black_scholes_delta, black_scholes_price
from operators.book_features import NAMES, BookFeatureColumns
from operators.events.config import OptionsConfig
from operators.events.options import OptionsGroup
from operators.events.sessions import SessionTable
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.errors import InvariantError

H = 3600 * 10**9
D = 24 * H
NAMES_OF = [spec.name for spec in OptionsGroup(OptionsConfig(), 1).specs()]


def record(ts: int, days: float, strike: float, right: int, **columns: Any) -> dict[str, Any]:
    """Return the state of a contract that expires at the end of a day."""
    expiry = int(days * D)
    ident = f"{expiry}/{strike}/{right}"
    return {"ts_recv": ts, "contract_id": ident, "ts_expiry": expiry, "strike": strike, "right": right} | columns


def chain(ts: int, volatility: Any, **columns: Any) -> list[dict[str, Any]]:
    """Return puts and calls around a spot of 100 that expire after 20 and 40 days, with deltas of their own."""
    about = {"underlying_price": 100.0} | columns
    return [
        record(ts, days, strike, right, implied_volatility=volatility(days, strike, right), **about)
        for days in (20, 40)
        for strike in (80.0, 90.0, 95.0, 105.0, 110.0, 120.0)
        for right in (-1, 1)
    ]


def frame(records: list[dict[str, Any]]) -> FrameInputs:
    names = {name for row in records for name in row}
    batches = {}
    if records:
        columns = {name: [row.get(name) for row in records] for name in names}
        batches["options"] = make_batch("options", columns, len(records))
    codes = {topic: np.zeros(batch.num_rows, np.int32) for topic, batch in batches.items()}
    book = BookFeatureColumns(
        np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
    )
    return FrameInputs(batches, codes, 2**62, book, Refusals())


def make(n_intervals: int = 1, **parameters: Any) -> OptionsGroup:
    group = OptionsGroup(OptionsConfig(**parameters), n_intervals, SessionTable(np.arange(0, 400) * D))
    for state in group.states().values():
        state.ensure(1)
    return group


def decide(group: OptionsGroup, records: list[dict[str, Any]], ts: int, interval: int = 0) -> dict[str, Any]:
    """Return value, or why there is none, of each feature by name."""
    at = DecisionColumns(np.zeros(1, np.int32), np.full(1, interval, np.int32), np.array([ts]))
    values, missing = group.update(frame(records), at)
    row = zip(NAMES_OF, values[0].tolist(), missing[0].tolist(), strict=True)
    return {name: Missing(why) if why else value for name, value, why in row}


def test_volatility_is_interpolated_in_strike_and_in_total_variance():
    at_20, at_40 = {90.0: 0.5, 95.0: 0.24, 105.0: 0.20}, {95.0: 0.34, 105.0: 0.30}
    found = decide(make(), chain(0, lambda days, strike, _: (at_20 if days == 20 else at_40).get(strike, 0.4)), 1)
    weight = math.log(100 / 95) / math.log(105 / 95)
    near, far = 0.24 - 0.04 * weight, 0.34 - 0.04 * weight
    assert found["iv_atm"] == pytest.approx(math.sqrt((near**2 * 20 + far**2 * 40) / 2 / 30), rel=1e-12)
    assert found["iv_term_slope"] is Missing.DEGENERATE  # nothing is near 90 days


def test_nearest_expiry_serves_within_the_tolerance():
    flat = chain(0, lambda days, *_: 0.2 if days == 20 else 0.3)
    assert decide(make(maturity="45d", far_maturity="46d"), flat, 1)["iv_atm"] == pytest.approx(0.3)
    assert decide(make(maturity="60d", far_maturity="90d"), flat, 1)["iv_atm"] is Missing.DEGENERATE


def test_skew_is_put_less_call_at_a_quarter_delta():
    def volatility(days: int, strike: float, right: int) -> float:
        return 0.25 + (0.06 if right < 0 else 0.01)

    found = decide(make(), chain(0, volatility), 1)
    assert found["iv_skew"] == pytest.approx(0.05)  # deltas are computed where there are none
    given = [row | {"delta": 0.01 * row["right"]} for row in chain(0, volatility)]
    assert decide(make(), given, 1)["iv_skew"] is Missing.DEGENERATE  # and taken where there are


def test_volatility_and_delta_follow_from_the_price_where_they_are_missing():
    rows = chain(0, lambda *_: None)
    for row in rows:
        years = row["ts_expiry"] / (365 * D)
        row["price"] = float(black_scholes_price(100.0, row["strike"], years, 0.3, row["right"] > 0, 0.02))
        row["delta"] = 0.0
        row["implied_volatility"] = 0.0
    found = decide(make(rate=0.02), rows, 1)
    assert found["iv_atm"] == pytest.approx(0.3, rel=1e-9)
    assert found["iv_skew"] == pytest.approx(0.0, abs=1e-9)
    assert black_scholes_delta(100.0, 105.0, 20 / 365, 0.3, True, 0.02) < 0.5


def test_rank_and_percentile_are_among_the_ends_of_sessions():
    group = make(min_sessions=3)
    for day, level in enumerate([0.2, 0.4, 0.3]):
        decide(group, chain(day * D, lambda *_: 0.9), day * D + 1)  # what comes first in a session is not its end
        found = decide(group, chain(day * D + H, lambda *_, level=level: level), day * D + 2 * H)
        assert found["iv_rank"] is Missing.WARMING_UP
    found = decide(group, chain(3 * D, lambda *_: 0.35), 3 * D + 1)
    assert found["iv_rank"] == pytest.approx(0.75)
    assert found["iv_percentile"] == pytest.approx(2 / 3)
    found = decide(group, chain(3 * D + H, lambda *_: 0.5), 3 * D + 2 * H)
    assert (found["iv_rank"], found["iv_percentile"]) == (1, 1)


def test_volumes_flows_and_open_interest():
    group = make(n_intervals=2, min_volume_sessions=1, volume_span=1)
    put, call = (
        lambda ts, volume, interest, right=right: record(ts, 30, 100, right, volume=volume, open_interest=interest)
        for right in (-1, 1)
    )
    first = decide(group, [put(0, 10.0, 50.0), call(0, 40.0, 100.0)], 1)
    assert (first["put_call_volume_ratio"], first["put_call_open_interest_ratio"]) == (0.25, 0.5)
    assert first["option_volume_to_open_interest"] == pytest.approx(1 / 3)
    assert (first["option_flow"], first["option_flow_balance"]) == (0, Missing.DEGENERATE)
    assert first["option_volume_ratio"] is Missing.WARMING_UP
    assert first["open_interest_change"] is first["iv_atm"] is Missing.NO_INPUT
    second = decide(group, [put(H, 70.0, 50.0), call(H, 60.0, 100.0)], 2 * H)
    assert (second["option_flow"], second["option_flow_balance"]) == (80, 0.5)
    assert second["option_unusual_share"] == pytest.approx(70 / 130)
    quiet = decide(group, [], 3 * H)
    assert quiet["option_flow"] is quiet["option_flow_balance"] is Missing.NO_INPUT
    assert quiet["put_call_volume_ratio"] == pytest.approx(7 / 6)
    assert decide(group, [], 4 * H, interval=1)["option_flow"] == 80  # its own decision before is longer ago
    third = decide(group, [put(D, 13.0, 75.0), call(D, 13.0, 90.0)], D + 1)
    assert third["option_flow"] == 26  # a new session begins at zero
    assert third["option_volume_ratio"] == pytest.approx(26 / 130)
    assert third["open_interest_change"] == pytest.approx(15 / 150)
    fourth = decide(group, [put(D + H, 5.0, None), call(D + H, None, None)], D + 2 * H)
    assert fourth["option_flow"] == 5  # a volume that falls begins anew
    assert fourth["put_call_open_interest_ratio"] == pytest.approx(75 / 90)  # what is left out stays


def test_expired_contracts_make_room_and_further_ones_are_left_out():
    group = make(max_contracts=2)
    near, far, other = (record(0, days, 100, 1, volume=1.0) for days in (1, 20, 30))
    decide(group, [near, far, other], 1)
    assert group.dropped == 1
    found = decide(group, [other | {"ts_recv": D, "volume": 7.0}, far | {"ts_recv": D, "volume": 8.0}], D + 1)
    assert group.dropped == 1
    assert found["option_flow"] == 8  # the newcomer's first record adds none
    again = decide(group, [near | {"ts_recv": D + 2, "volume": 9.0, "ts_expiry": 10 * D}], D + 3)
    assert (group.dropped, again["option_flow"]) == (2, 0)


def test_records_that_say_nothing_take_no_room():
    group = make(max_contracts=2)
    empty = [record(0, 30, strike, 1, volume=0.0, open_interest=0.0, price=0.0) for strike in range(1, 50)]
    expired = [record(D, 1, strike, 1, volume=5.0) for strike in range(1, 50)]
    decide(group, [*empty, *expired, record(D, 30, 0.0, 1, volume=5.0)], D + 1)
    assert group.dropped == 0
    assert group.states()["chains"].arrays.counts[0, 0] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 1e308, 0.0])
def test_hostile_numbers_leave_no_trace(bad):
    group, clean = make(), make()
    rows = chain(1, lambda *_: 0.2, volume=5.0, open_interest=6.0)
    spoiled = [
        row | dict.fromkeys(("implied_volatility", "delta", "underlying_price"), bad) | {"price": 1e-300}
        for row in rows
    ]
    decide(group, [row | {"ts_recv": 0} for row in spoiled], 1)
    decide(clean, [row | dict.fromkeys(("implied_volatility", "underlying_price")) | {"ts_recv": 0} for row in rows], 1)
    found, expected = decide(group, rows, 2), decide(clean, rows, 2)
    assert found == expected
    assert found["iv_atm"] == pytest.approx(0.2)


def test_chain_goes_stale():
    group = make(max_age="1h")
    assert decide(group, chain(0, lambda *_: 0.2), H)["iv_atm"] == pytest.approx(0.2)
    stale = decide(group, [], H + 1)
    assert stale["iv_atm"] is stale["put_call_volume_ratio"] is Missing.STALE


def test_decision_after_a_later_record_is_refused():
    group = make()
    decide(group, chain(5, lambda *_: 0.2), 6)
    with pytest.raises(InvariantError, match="before its options records at or past that time"):
        decide(group, [], 5)
    with pytest.raises(ValueError, match="`n_intervals` of at least 1"):
        OptionsGroup(OptionsConfig(), 0)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"far_maturity": "30d"}, "`far_maturity` above `maturity` 30d, was 30d"),
        ({"min_sessions": 300}, "`min_sessions` of at most `window` 252, was 300"),
        ({"calendar": "nowhere"}, "a calendar of `exchange_calendars`"),
    ],
)
def test_config_is_checked(changed, match):
    with pytest.raises(ValidationError, match=match):
        OptionsConfig(**changed)
