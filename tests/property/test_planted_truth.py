"""Strategies on one instrument find the effect that is planted for them, and nothing where it is not."""

from __future__ import annotations

import pytest

from benchmarks.planted import PLANTED
from operators.strategies import STRATEGIES


def test_every_strategy_has_a_planted_market():
    assert set(PLANTED) == set(STRATEGIES)


@pytest.mark.parametrize("name", PLANTED)
def test_strategy_finds_its_effect(name):
    skill = PLANTED[name].skill(planted=True)
    assert skill.p_value < 1e-3
    assert skill.mean_bps > 1.0


@pytest.mark.parametrize("name", PLANTED)
def test_strategy_finds_nothing_without_the_effect(name):
    skill = PLANTED[name].skill(planted=False)
    assert skill.entries > 20
    assert skill.p_value > 0.01
