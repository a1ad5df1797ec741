"""Strategies find the effect that is planted for them, and nothing where it is not."""

from __future__ import annotations

import pytest

from benchmarks.planted import PLANTED
from benchmarks.planted_universe import PLANTED_UNIVERSES
from operators.strategies import STRATEGIES
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES

EVERY = PLANTED | PLANTED_UNIVERSES


def test_every_strategy_has_a_planted_market():
    assert set(EVERY) == {*STRATEGIES, *UNIVERSE_STRATEGIES}


@pytest.mark.parametrize("name", EVERY)
def test_strategy_finds_its_effect(name):
    skill = EVERY[name].skill(planted=True)
    assert skill.p_value < 1e-3
    assert skill.mean_bps > 1.0


@pytest.mark.parametrize("name", EVERY)
def test_strategy_finds_nothing_without_the_effect(name):
    skill = EVERY[name].skill(planted=False)
    assert skill.entries > 10
    assert skill.p_value > 0.01
