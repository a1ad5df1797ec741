"""No component is idle: the ensemble loses by every specialist that is left out, and each strategy earns its effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ablation import leave_out
from models.specialists import SPECIALISTS
from operators.strategies import STRATEGIES
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES

PAGE = Path(__file__).parents[2] / "docs" / "ablation.md"


@pytest.mark.parametrize("name", SPECIALISTS)
def test_ensemble_knows_less_without_the_specialist(name):
    found = leave_out(name)
    assert found.rise > 0.01
    assert found.p_value < 1e-6


@pytest.mark.parametrize("name", SPECIALISTS)
def test_specialist_with_nothing_to_find_is_seen_to_be_idle(name):
    """The measure can fail: what an idle component adds is not taken for skill."""
    found = leave_out(name, planted=tuple(each for each in SPECIALISTS if each != name))
    assert found.rise < 0.005
    assert found.p_value > 1e-6


def test_report_has_every_specialist_and_strategy():
    page = PAGE.read_text()
    assert all(f"| {name} |" in page for name in (*SPECIALISTS, *STRATEGIES, *UNIVERSE_STRATEGIES))
