"""Strategies over several instruments find what was planted, and nothing where nothing was."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.universe_market import MINUTE, frames_of, names, run, trades, walks, with_lags, with_pair
from operators.cross_section import CorrelationMatrix, CrossSection, CrossSectionConfig
from operators.strategies.correlation import Correlation, CorrelationConfig, departures
from operators.strategies.decayed_spread import DecayedSpread
from operators.strategies.hedge import HedgeState
from operators.strategies.pair_positions import PAIR_EVIDENCE, PAIR_REASONS
from operators.strategies.pairs_trading import PairsTrading, PairsTradingConfig
from operators.strategies.statistical_arbitrage import StatisticalArbitrage, StatisticalArbitrageConfig
from operators.strategies.universe_base import pair_number
from schemas.enums import Direction, Intent
from schemas.errors import VersionError

CROSS = CrossSectionConfig(window=250, min_overlap=30, max_correlated=20, select_every=60, correlate_every=25)
PAIR = ("S000", "S001")


def pairs_config(**parameters) -> PairsTradingConfig:
    return PairsTradingConfig.model_validate({"pairs": [PAIR], "window": 60, **parameters})


# --- pairs trading


@pytest.mark.parametrize("parameters", [{}, {"hedge": "kalman"}, {"spread": "price"}])
def test_pairs_trading_earns_on_a_cointegrated_pair(parameters):
    gains = []
    for seed in range(4):
        closes = with_pair(walks(seed, 900, 2), seed, hedge_ratio=1.0)
        found = trades(run(PairsTrading(pairs_config(**parameters)), frames_of(closes, PAIR), None))
        legs = {}
        for pair, leg, since, until, gain in found:
            legs.setdefault((pair, since, until), {})[leg] = gain
        assert all(set(both) == {1, 2} for both in legs.values()), "both legs open and end together"
        gains += [both[1] + both[2] for both in legs.values()]
    assert len(gains) > 40
    assert binomtest(sum(gain > 0 for gain in gains), len(gains), 0.5, "greater").pvalue < 1e-4
    assert np.mean(gains) > 0.005


def test_pairs_trading_evidence_rebuilds_the_decision():
    closes = with_pair(walks(1, 600, 2), 1)
    strategy = PairsTrading(pairs_config())
    decisions = run(strategy, frames_of(closes, PAIR), None)
    assert len(decisions) > 20
    for _, decision in decisions:
        seen = decision.evidence
        assert set(seen) == set(PAIR_EVIDENCE)
        assert seen["pair_id"] == pair_number("S000/S001")
        assert seen["leg"] == decision.leg == 1 + PAIR.index(decision.instrument)
        spread = np.log(seen["first_price"]) - seen["intercept"] - seen["hedge_ratio"] * np.log(seen["second_price"])
        assert seen["zscore"] == pytest.approx((spread - seen["spread_mean"]) / seen["spread_deviation"])
        assert decision.price == seen["first_price" if decision.leg == 1 else "second_price"]
        if decision.intent is Intent.ENTER:
            assert 2.0 <= abs(seen["zscore"]) < 4.0
            side = Direction.LONG if seen["zscore"] < 0 else Direction.SHORT
            assert decision.direction == (side if decision.leg == 1 else -side)
            assert decision.confidence == pytest.approx(min(abs(seen["zscore"]) / 4, 1.0))
        else:
            assert decision.confidence == 1.0


def held_spread(side: int = -1):
    """Return closes that warm a pair up and then open it: the spread of logs is `0.01 (-1)^t`, then far out."""
    t = np.arange(60)
    x = 50 * np.exp(0.02 * np.sin(t / 5))
    y = x * np.exp(0.01 * (-1.0) ** t)
    return np.column_stack([np.append(y, 50 * np.exp(side * 0.03)), np.append(x, 50.0)])


def reasons_of(closes, **parameters) -> list[tuple[int, str, str]]:
    found = run(PairsTrading(pairs_config(**parameters)), frames_of(closes, PAIR), None)
    return [(number, item.intent.name, PAIR_REASONS[item.reason]) for number, item in found if item.leg == 1]


def after(rows) -> np.ndarray:
    """Return the closes of an opened pair with more rows: log spread, or NaN for a missing first or second leg."""
    more = [[np.nan if first is None else 50 * np.exp(first), np.nan if second is None else 50.0]
            for first, second in rows]  # fmt: skip
    return np.vstack([held_spread(), more])


def test_pairs_trading_opens_and_ends_at_the_mean():
    assert reasons_of(after([(-0.02, 0), (0.0, 0)])) == [
        (60, "ENTER", "spread is far below its mean"),
        (62, "EXIT", "spread came back to its mean"),
    ]


def test_pairs_trading_stopped_pair_waits_until_it_was_near_again():
    found = reasons_of(after([(-0.05, 0), (-0.03, 0), (-0.01, 0), (-0.031, 0)]), exit_zscore=0.1)
    assert found == [
        (60, "ENTER", "spread is far below its mean"),
        (61, "EXIT", "spread went on to the stop"),
        (64, "ENTER", "spread is far below its mean"),
    ]


def test_pairs_trading_beyond_the_stop_does_not_open():
    closes = held_spread()
    closes[-1, 0] = 50 * np.exp(-0.08)
    assert reasons_of(closes) == []


def test_pairs_trading_held_too_long_ends():
    found = reasons_of(after([(-0.03, 0)] * 5), max_holding="3m")
    assert found[1] == (63, "EXIT", "held as long as allowed")


def test_pairs_trading_missing_leg_opens_nothing():
    closes = held_spread()
    closes[-1, 1] = np.nan
    assert reasons_of(closes) == []


def test_pairs_trading_exit_takes_the_last_close_of_a_missing_leg():
    frames = frames_of(after([(0.0, None)]), PAIR)
    decisions = run(PairsTrading(pairs_config()), frames, None)
    exits = [decision for number, decision in decisions if number == 61]
    assert [(item.instrument, item.direction, item.price) for item in exits] == [("S000", 1, 50.0), ("S001", -1, 50.0)]
    assert exits[0].evidence["second_price_age_seconds"] == 60.0
    assert exits[0].evidence["first_price_age_seconds"] == 0.0


def test_pairs_trading_both_legs_missing_still_ends_in_time():
    closes = np.column_stack([after([(None, None)] * 4), np.full(65, 10.0)])
    found = run(PairsTrading(pairs_config(max_holding="2m")), frames_of(closes, (*PAIR, "Z")), None)
    assert [(number, item.intent.name) for number, item in found][2:] == [(62, "EXIT"), (62, "EXIT")]


def test_pairs_trading_leg_without_bars_for_too_long_ends_the_pair():
    found = reasons_of(after([(-0.03, None)] * 4), max_price_age="2m")
    assert found[1] == (63, "EXIT", "a leg had no bar for too long")


def test_pairs_trading_frame_that_is_not_complete_opens_nothing_and_ends_what_is_held():
    opened, shut = (
        run(PairsTrading(pairs_config()), frames_of(after([(0.0, 0)]), PAIR, incomplete=skipped), None)
        for skipped in ((61,), (60,))
    )
    assert [(number, item.intent.name) for number, item in opened if item.leg == 1] == [(60, "ENTER"), (61, "EXIT")]
    assert shut == []


def test_pairs_trading_insane_hedge_ratio_opens_nothing():
    assert reasons_of(held_spread(), max_hedge_ratio=0.5) == []
    assert reasons_of(held_spread(), min_hedge_ratio=1.5) == []


def test_pairs_trading_degenerate_spread_decides_nothing():
    closes = np.full((100, 2), 50.0)
    closes[60:, 0] = 60.0
    assert reasons_of(closes) == []
    x = 50 * np.exp(0.02 * np.sin(np.arange(100.0)))
    assert reasons_of(np.column_stack([2 * x, x])) == []


@pytest.mark.parametrize("hedge", ["rolling", "kalman"])
@pytest.mark.parametrize("spread", ["log", "price"])
@pytest.mark.parametrize("bad", [0.0, -5.0, np.inf, 1e308, 5e-324])
def test_pairs_trading_one_hostile_close_is_forgotten(hedge, spread, bad):
    closes = with_pair(walks(2, 900, 2), 2, hedge_ratio=1.0)
    hostile = closes.copy()
    hostile[100, 1] = bad
    clean, found = (
        run(PairsTrading(pairs_config(hedge=hedge, spread=spread)), frames_of(table, PAIR), None)
        for table in (closes, hostile)
    )
    late = [(number, item.intent, item.instrument) for number, item in found if number > 700]
    assert late
    same = set(late) & {(number, item.intent, item.instrument) for number, item in clean if number > 700}
    assert len(same) > 0.5 * len(late)


def test_pairs_trading_unknown_position_blocks_the_entry():
    frames = frames_of(held_spread(), PAIR)
    before = PairsTrading(PairsTradingConfig.model_validate({"pairs": [("S001", "S002")], "window": 60}))
    strategy = PairsTrading(pairs_config())
    strategy.restore(before.snapshot())
    assert strategy.inactive == "the position of S000/S001 is not known"
    assert run(strategy, frames, None) == []
    again = PairsTrading(pairs_config())
    again.restore(strategy.snapshot())
    assert again.inactive == strategy.inactive


def test_pairs_trading_snapshot_that_holds_another_pair_is_refused():
    strategy = PairsTrading(pairs_config())
    run(strategy, frames_of(held_spread(), PAIR), None)
    with pytest.raises(VersionError, match=r"that holds configured pairs, found version 1 and \['S000/S001'\]"):
        PairsTrading(PairsTradingConfig(pairs=(("A", "B"),))).restore(strategy.snapshot())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pairs": [("A", "A")]}, "expected distinct `pairs`"),
        ({"pairs": [("A", "B"), ("B", "A")]}, "expected distinct `pairs`"),
        ({"entry_zscore": 0.4}, "expected `exit_zscore` below `entry_zscore`"),
        ({"stop_zscore": 2.0}, "expected `exit_zscore` below `entry_zscore`"),
        ({"min_hedge_ratio": 30.0}, "expected `min_hedge_ratio` up to"),
    ],
)
def test_pairs_trading_config_inconsistent_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        pairs_config(**parameters)


# --- estimates


def test_hedge_rolling_equals_least_squares_over_the_window():
    rng = np.random.default_rng(4)
    x, y = np.cumsum(rng.normal(size=(2, 90, 3)), axis=1)
    state = HedgeState(3, 25, "rolling")
    for t in range(90):
        state.update(np.arange(3), y[t], x[t])
        found = state.spreads()
        assert np.isnan(found).all() == (t < 24)
        if t >= 24:
            for pair in range(3):
                own_x, own_y = x[t - 24 : t + 1, pair], y[t - 24 : t + 1, pair]
                slope, intercept = np.polyfit(own_x, own_y, 1)
                rest = own_y - intercept - slope * own_x
                np.testing.assert_allclose(found[pair], [intercept, slope, 0.0, rest.std()], rtol=1e-7, atol=1e-9)


def test_hedge_kalman_equals_the_filter_in_matrices():
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.normal(size=80)) + 20
    y = 2 + 1.5 * x + rng.normal(size=80)
    q, state = 1e-3, HedgeState(1, 20, "kalman", process_variance=1e-3)
    theta, covariance = np.zeros(2), 1e6 * np.eye(2)
    for t in range(80):
        if t:
            covariance = covariance + q * np.eye(2)
        h = np.array([1.0, x[t]])
        gain = covariance @ h / (h @ covariance @ h + 1)
        theta = theta + gain * (y[t] - h @ theta)
        covariance = covariance - np.outer(gain, h) @ covariance
        state.update(np.array([0]), y[t : t + 1], x[t : t + 1])
    rest = y[60:] - theta[0] - theta[1] * x[60:]
    np.testing.assert_allclose(state.spreads()[0], [*theta, rest.mean(), rest.std()], rtol=1e-6)


def test_decayed_spread_follows_the_weighted_regression():
    rng = np.random.default_rng(6)
    x = np.cumsum(rng.normal(size=120))
    y = 1 + 0.5 * x + rng.normal(size=120)
    spread = DecayedSpread.over(y[:70], x[:70], 30)
    for a, b in zip(y[70:], x[70:], strict=True):
        spread.update(a, b, 30)
    weights = 0.5 ** (np.arange(119, -1, -1) / 30)
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weights))
    rest = y - intercept - slope * x
    deviation = np.sqrt((weights * rest**2).sum() / weights.sum())
    np.testing.assert_allclose(spread.coefficients(), [intercept, slope, deviation], rtol=1e-9)


def test_decayed_spread_degenerate_has_no_value():
    walk = np.cumsum(np.random.default_rng(7).normal(size=50))
    for y, x in ((walk, np.ones(50)), (2 * walk + 1, walk), (np.ones(50), walk)):
        assert np.isnan(DecayedSpread.over(y, x, 30).coefficients()).all()


# --- statistical arbitrage


def arbitrage(**parameters) -> StatisticalArbitrage:
    given = {"window": 250, "min_obs": 200, "test_every": 25, "min_correlation": 0.2, **parameters}
    return StatisticalArbitrage(StatisticalArbitrageConfig.model_validate(given))


def test_statistical_arbitrage_finds_the_planted_pair_and_earns_on_it():
    gains = []
    for seed in range(3):
        strategy = arbitrage()
        decisions = run(strategy, frames_of(with_pair(walks(seed, 1_000, 10), seed), names(10)), CROSS)
        pairs = {decision.pair for _, decision in decisions}
        assert "S000/S001" in pairs
        mine = [(number, item) for number, item in decisions if item.pair == "S000/S001"]
        entries = [item.evidence for _, item in mine if item.intent is Intent.ENTER]
        assert np.median([seen["hedge_ratio"] for seen in entries]) == pytest.approx(0.8, abs=0.15)
        assert 1.5 < np.median([seen["half_life"] for seen in entries]) < 6
        assert all(seen["p_value"] <= 0.2 and seen["statistic"] < -2 for seen in entries)
        legs = {}
        for _, leg, since, until, gain in trades(mine):
            legs.setdefault((since, until), {})[leg] = gain
        gains += [both[1] + both[2] * 0.8 for both in legs.values()]
    assert len(gains) > 30
    assert binomtest(sum(gain > 0 for gain in gains), len(gains), 0.5, "greater").pvalue < 1e-4


@pytest.mark.parametrize("correction", ["bonferroni", "benjamini_hochberg"])
def test_statistical_arbitrage_one_schedule_finds_no_more_than_the_nominal_rate_among_walks(correction):
    families, found = 300, 0
    for seed in range(families):
        logs = np.log(walks(100 + seed, 251, 8))
        returns = np.diff(logs, axis=0)
        nobody = np.full(8, -1)
        matrix = CorrelationMatrix(
            names(8), nobody, np.corrcoef(returns.T), returns.std(axis=0), 0.0, returns, logs[1:]
        )
        strategy = arbitrage(test_every=1, correction=correction)
        frame = frames_of(np.exp(logs[-1:]), names(8))[0]
        strategy.on_frame(frame, CrossSection((), np.empty((8, 0)), np.empty((8, 0), np.uint8), matrix))
        found += bool(strategy.pairs)
    assert binomtest(found, families, 0.05, "greater").pvalue > 0.01


def test_statistical_arbitrage_broken_pair_is_ended_and_dropped():
    closes = with_pair(walks(4, 900, 10), 4)
    rng = np.random.default_rng(1)
    # from here on the spread is a walk of its own
    closes[500:, 0] = closes[499, 0] * np.exp(np.cumsum(rng.normal(0, 0.01, 400)))
    strategy = arbitrage(max_holding="30d", max_half_lives=100, stop_zscore=50)
    decisions = run(strategy, frames_of(closes, names(10)), CROSS)
    mine = [(number, item) for number, item in decisions if item.pair == "S000/S001"]
    assert mine
    assert mine[-1][1].intent is Intent.EXIT
    assert "S000/S001" not in strategy.pairs
    assert max(number for number, item in mine if item.intent is Intent.ENTER) < 750


def test_statistical_arbitrage_pair_that_cannot_be_tested_any_more_ends():
    closes = with_pair(walks(0, 1_000, 10), 0)
    strategy = arbitrage(max_price_age="30d", max_holding="30d", max_half_lives=100, stop_zscore=50)
    entry = next(
        number for number, item in run(arbitrage(), frames_of(closes, names(10)), CROSS) if item.pair == "S000/S001"
    )
    closes[entry + 1 :, 1] = np.nan
    config = CROSS.model_copy(update={"notional_half_life": 1, "max_correlated": 5})
    decisions = run(strategy, frames_of(closes, names(10)), config)
    mine = [item for _, item in decisions if item.pair == "S000/S001"]
    assert len(mine) % 4 == 0
    assert "S000/S001" not in strategy.pairs


def test_statistical_arbitrage_ends_after_some_half_lives():
    closes = with_pair(walks(1, 1_000, 10), 1)
    decisions = run(arbitrage(max_half_lives=0.2, exit_zscore=0.0), frames_of(closes, names(10)), CROSS)
    held = [item.evidence for _, item in decisions if item.intent is Intent.EXIT and item.reason == 4]
    assert held
    assert all(seen["frames_held"] >= 0.2 * seen["half_life"] for seen in held)
    assert all(seen["frames_held"] <= 0.2 * seen["half_life"] + 1 for seen in held)


def test_statistical_arbitrage_bounds_its_pairs():
    rng = np.random.default_rng(8)
    common = np.cumsum(rng.normal(0, 0.01, 600))[:, None]
    closes = 50 * np.exp(common + rng.normal(0, 0.01, (600, 12)))
    for correction in ("bonferroni", "benjamini_hochberg"):
        strategy = arbitrage(max_pairs=3, correction=correction, min_half_life=0.01)
        run(strategy, frames_of(closes, names(12)), CROSS)
        assert len(strategy.pairs) == 3
    few = arbitrage(max_candidates=1, min_half_life=0.01)
    run(few, frames_of(closes[:220], names(12)), CROSS)
    assert len(few.pairs) == 1


def test_statistical_arbitrage_damaged_snapshot_is_refused():
    strategy = arbitrage()
    kept = strategy.snapshot()
    kept["positions"]["held"] = {"A/B": [1, 0, 0, [0.0, 1.0, 0.0, 1.0, 5.0, 9.0]]}
    with pytest.raises(VersionError, match=r"found \['A/B'\] held and not followed"):
        strategy.restore(kept)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_obs": 300}, "expected `min_obs` up to `window`"),
        ({"significance": 0.3}, "expected `significance` up to `drop_significance`"),
        ({"min_half_life": 200.0}, "expected `min_half_life` up to"),
    ],
)
def test_statistical_arbitrage_config_inconsistent_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        arbitrage(**parameters)


# --- correlation


def test_departures_equal_the_regression_in_matrices():
    rng = np.random.default_rng(9)
    m = 12
    base = rng.normal(size=(400, m)) + 1.5 * rng.normal(size=(400, 1))
    correlation = np.corrcoef(base.T)
    correlation[2, 5] = correlation[5, 2] = np.nan
    moves = rng.normal(size=m)
    moves[7] = np.nan
    found = departures(moves, correlation, min_correlation=0.5, min_peers=3, max_peers=6)
    for i in range(m):
        peers = [j for j in range(m) if j not in (i, 7) and correlation[i, j] >= 0.5]
        peers = sorted(peers, key=lambda j: (-correlation[i, j], j))[:6]
        if i == 7:
            assert np.isnan(found[i]).all()
            continue
        rho = correlation[i, peers]
        w = rho / rho.sum()
        variance = w @ correlation[np.ix_(peers, peers)] @ w
        if np.isnan(variance):
            assert np.isnan(found[i]).all()
            continue
        implied = w @ rho / variance * (w @ moves[peers])
        explained = (w @ rho) ** 2 / variance
        expected = [(moves[i] - implied) / np.sqrt(1 - explained), moves[i], implied, len(peers), rho.mean(), explained]
        np.testing.assert_allclose(found[i], expected, rtol=1e-10)


def correlation_strategy(**parameters) -> Correlation:
    return Correlation(
        CorrelationConfig.model_validate(
            {"min_peer_correlation": 0.3, "entry_zscore": 3.0, "stop_zscore": 8.0, **parameters}
        )
    )


def test_correlation_finds_departures_that_come_back():
    won, total, chance_won, chance_total = 0, 0, 0, 0
    for seed in range(3):
        for reverts in (True, False):
            closes = with_lags(seed, 1_000, 15, reverts=reverts)
            found = trades(run(correlation_strategy(), frames_of(closes, names(15)), CROSS))
            market = np.log(closes).mean(axis=1)
            sides = []
            for name, _, since, until, gain in found:
                own = np.log(closes[until, int(name[1:])] / closes[since, int(name[1:])])
                side = np.sign(gain) * np.sign(own)
                sides.append(gain - side * (market[until] - market[since]) > 0)
            if reverts:
                won, total = won + sum(sides), total + len(sides)
            else:
                chance_won, chance_total = chance_won + sum(sides), chance_total + len(sides)
    assert total > 60
    assert binomtest(won, total, 0.5, "greater").pvalue < 1e-4
    assert won / total > chance_won / chance_total + 0.1
    assert binomtest(chance_won, chance_total, 0.5, "greater").pvalue > 0.01


def test_correlation_needs_enough_instruments():
    closes = with_lags(1, 600, 9, reverts=True)
    strategy = correlation_strategy()
    assert run(strategy, frames_of(closes, names(9)), CROSS) == []
    assert strategy.inactive == "fewer than 10 instruments have correlations"


def test_correlation_evidence_justifies_the_decision():
    closes = with_lags(2, 800, 15, reverts=True)
    strategy = correlation_strategy()
    decisions = run(strategy, frames_of(closes, names(15)), CROSS)
    assert strategy.inactive is None
    entries = [item for _, item in decisions if item.intent is Intent.ENTER]
    assert len(entries) > 10
    for item in entries:
        seen = item.evidence
        assert 3.0 <= abs(seen["zscore"]) < 8.0
        assert item.direction == -np.sign(seen["zscore"])
        assert seen["peers"] >= 3
        assert seen["mean_peer_correlation"] >= 0.3
        assert seen["zscore"] == pytest.approx(
            (seen["own_move"] - seen["implied_move"]) / np.sqrt(1 - seen["explained"])
        )
        assert 0 <= seen["intensity"] <= 1


def test_correlation_position_of_a_vanished_instrument_ends():
    closes = with_lags(3, 700, 15, reverts=True)
    number, entry = next(
        (number, item)
        for number, item in run(correlation_strategy(), frames_of(closes, names(15)), CROSS)
        if item.intent is Intent.ENTER
    )
    closes[number + 1 :, int(entry.instrument[1:])] = np.nan
    found = run(correlation_strategy(max_price_age="3m"), frames_of(closes, names(15)), CROSS)
    ends = [(at, item) for at, item in found if item.instrument == entry.instrument and item.intent is Intent.EXIT]
    assert [(at, Correlation.reasons[item.reason]) for at, item in ends][-1] == (number + 4, "had no bar for too long")
    assert ends[-1][1].price == entry.price


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"entry_zscore": 0.4}, "expected `exit_zscore` below `entry_zscore`"),
        ({"min_peers": 11}, "expected `min_peers` up to `max_peers`"),
        ({"min_instruments": 9}, "greater than or equal to 10"),
    ],
)
def test_correlation_config_inconsistent_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        correlation_strategy(**parameters)


def test_frames_are_a_minute_apart():
    assert np.diff([frame.ts for frame in frames_of(walks(1, 3, 2), PAIR)]).tolist() == [MINUTE, MINUTE]
