"""Stoikov's micro-price against closed forms and against linear algebra on a chain whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from operators.book_features import NAMES, BookFeatureConfig, BookFeatureState
from operators.book_top import quotes_top
from schemas.enums import Missing

TICK = 0.01
MICROPRICE, MID = NAMES.index("microprice"), NAMES.index("mid_price")


def run(signed_share, move_ticks, spread=1, cuts=(), **parameters):
    """Return the features of a book whose queue imbalance and moves of the mid, in ticks, are given.

    `move_ticks[i]` is the move from update i to i + 1; `spread` is in ticks.
    """
    config = BookFeatureConfig(tick_warm_up=1, **({"imbalance_states": 2, "spread_states": 1} | parameters))
    state = BookFeatureState(depth=1, config=config)
    state.ensure(1)
    share = np.asarray(signed_share, dtype=np.float64)
    n = len(share)
    ticks = 10_000 + np.r_[0, np.cumsum(np.asarray(move_ticks)[: n - 1])]
    bid, ask = ticks * TICK, (ticks + spread) * TICK
    top = quotes_top(np.zeros(n, np.int32), np.arange(n), bid, 1 + share, ask, 1 - share)
    parts = [state.update(top.take(part)) for part in np.split(np.arange(n), sorted(cuts))]
    return np.concatenate([part.values for part in parts]), np.concatenate([part.missing for part in parts])


def shift(values):
    return values[:, MICROPRICE] - values[:, MID]


def test_microprice_of_two_states_is_the_move_over_twice_the_chance_to_flip():
    rng = np.random.default_rng(3)
    sign = np.where(rng.random(101) < 0.5, 1.0, -1.0)
    moves = np.where(rng.random(100) < 0.3, sign[:-1], 0.0)
    values, missing = run(0.5 * sign, moves, microprice_refresh=100)
    assert set(missing[:100, MICROPRICE].tolist()) == {Missing.WARMING_UP}
    # g = r + (1 - q) g - q g, with r the mean move towards the heavier side and q the chance that the other is next
    r, q = np.mean(sign[:-1] * moves) * TICK, np.mean(sign[:-1] != sign[1:])
    assert shift(values)[100] == pytest.approx(sign[100] * r / (2 * q), rel=1e-9)


def test_microprice_finds_the_law_of_a_known_chain():
    """States -2, -1, 1, 2; the mid moves one tick towards the heavier side with a chance that grows with the share."""
    step = np.array([[0.6, 0.2, 0.15, 0.05], [0.3, 0.3, 0.3, 0.1], [0.1, 0.3, 0.3, 0.3], [0.05, 0.15, 0.2, 0.6]])
    move_chance = np.array([-0.3, -0.1, 0.1, 0.3])
    exact = np.linalg.lstsq(np.eye(4) - step, move_chance * TICK, rcond=None)[0]
    rng = np.random.default_rng(11)
    n = 200_000
    draws, moved = rng.random(n), rng.random(n)
    state = np.zeros(n, dtype=np.int64)
    cumulative = step.cumsum(axis=1)
    for i in range(1, n):
        state[i] = min(int(np.searchsorted(cumulative[state[i - 1]], draws[i])), 3)
    moves = np.where(moved < np.abs(move_chance[state]), np.sign(move_chance[state]), 0.0)
    share = np.array([-0.75, -0.25, 0.25, 0.75])[state]
    values, _ = run(share, moves, imbalance_states=4, microprice_half_life=10_000_000)
    at_the_end = [shift(values)[np.flatnonzero(state == k)[-1]] for k in range(4)]
    np.testing.assert_allclose(at_the_end, exact, rtol=0.03)
    np.testing.assert_allclose(at_the_end[:2], np.negative(at_the_end[:1:-1]), rtol=1e-9)


def random_book(n=400, seed=5):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.9, 0.9, n), rng.integers(-1, 2, n - 1)


def test_microprice_of_a_book_with_equal_quantities_is_the_mid():
    share, moves = random_book()
    share[350:] = 0.0
    values, missing = run(share, moves, microprice_refresh=100)
    assert (missing[350:, MICROPRICE] == Missing.OK).all()
    assert (shift(values)[350:] == 0.0).all()


def test_microprice_of_a_book_and_of_its_mirror_image_are_mirrored():
    share, moves = random_book()
    values, _ = run(share, moves, imbalance_states=6, microprice_refresh=100)
    mirrored, _ = run(-share, -moves, imbalance_states=6, microprice_refresh=100)
    assert np.isfinite(shift(values)[100:]).all()
    np.testing.assert_allclose(shift(mirrored)[100:], -shift(values)[100:], atol=1e-11)


def test_microprice_of_sides_that_never_mix_does_not_exist():
    share, moves = random_book()
    _, missing = run(np.abs(share), moves, microprice_refresh=100)
    assert set(missing[100:, MICROPRICE].tolist()) == {Missing.DEGENERATE}


def test_microprice_of_a_state_that_was_hardly_seen_warms_up():
    share, moves = random_book()
    share = 0.4 * share
    share[399] = 0.9
    _, missing = run(share, moves, imbalance_states=4, microprice_refresh=100, microprice_min_visits=5)
    assert missing[399, MICROPRICE] == Missing.WARMING_UP
    assert missing[398, MICROPRICE] == Missing.OK


def test_microprice_is_estimated_on_schedule_only():
    share, moves = random_book()
    values, _ = run(np.where(share > 0, 0.5, -0.5), moves, microprice_refresh=100)
    size = np.round(np.abs(shift(values)), 12)
    assert [len(set(size[start : start + 100].tolist())) for start in (100, 200)] == [1, 1]
    assert size[150] != size[250]


def test_microprice_forgets_old_transitions():
    rng = np.random.default_rng(9)
    sign = np.where(rng.random(4_001) < 0.5, 1.0, -1.0)
    moves = np.r_[sign[:2_000], -sign[2_000:-1]]
    values, _ = run(0.5 * sign, moves, microprice_refresh=100, microprice_half_life=100)
    assert (sign * shift(values))[1_999] == pytest.approx(TICK, rel=0.2)
    assert (sign * shift(values))[-1] == pytest.approx(-TICK, rel=0.2)


def test_microprice_does_not_count_a_jump():
    share, moves = random_book()
    moves[150] = 1_000
    values, _ = run(share, moves, microprice_refresh=100)
    assert np.nanmax(np.abs(shift(values))) < 5 * TICK


def test_microprice_starts_anew_when_the_tick_becomes_smaller():
    share, moves = random_book()
    spread = np.full(400, 4.0)
    spread[300:] = 2.0
    _, missing = run(share, 4.0 * moves, spread=spread, microprice_refresh=100)
    assert (missing[100:300, MICROPRICE] == Missing.OK).all()
    assert (missing[300:, MICROPRICE] == Missing.WARMING_UP).all()


def test_microprice_tells_spreads_apart():
    rng = np.random.default_rng(21)
    n = 6_000
    sign = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    spread = rng.integers(1, 4, n).astype(np.float64)
    moves = np.where(spread == 1, sign, 0.0)[:-1]
    values, _ = run(0.5 * sign, moves, spread=spread, spread_states=2, microprice_refresh=1_000)
    # the mid itself moves with the spread here: half a tick for each tick
    last = {wide: (sign * shift(values))[np.flatnonzero((spread > 1) == wide)[-1]] for wide in (False, True)}
    assert last[False] - last[True] == pytest.approx(TICK, rel=0.1)


def test_microprice_cut_anywhere_is_the_same():
    share, moves = random_book()
    whole = run(share, moves, microprice_refresh=50)
    cut = run(share, moves, microprice_refresh=50, cuts=(1, 49, 50, 51, 200))
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)
