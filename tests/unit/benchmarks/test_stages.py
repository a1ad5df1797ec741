from __future__ import annotations

import time

import pytest

from benchmarks.stages import TARGETS, Stages, resolve


@pytest.mark.parametrize(("module", "path", "stage"), TARGETS)
def test_stage_target_exists(module: str, path: str, stage: str) -> None:
    owner, name = resolve(module, path)
    assert callable(getattr(owner, name)), stage


def test_resolve_target_gone_raises() -> None:
    with pytest.raises(AttributeError, match="Router"):
        resolve("operators.route", "Router.gone")


def _spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_stages_inner_stage_is_taken_off_the_outer_one() -> None:
    stages = Stages()
    inner = stages.timed("inner", lambda: _spin(0.02))

    def work() -> None:
        _spin(0.005)
        inner()

    stages.timed("outer", work)()
    totals = stages.totals()
    assert list(totals) == ["inner", "outer"]
    assert totals["inner"]["cpu_s"] >= 0.02
    assert 0.005 <= totals["outer"]["cpu_s"] < totals["inner"]["cpu_s"]


def test_stages_error_passes_through_and_is_timed() -> None:
    stages = Stages()

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        stages.timed("work", fail)()
    assert stages.totals()["work"]["calls"] == 1


def test_stages_installed_puts_everything_back() -> None:
    places = [resolve(module, path) for module, path, _ in TARGETS]
    before = [getattr(owner, name) for owner, name in places]
    with Stages().installed():
        assert all(getattr(owner, name) is not known for (owner, name), known in zip(places, before, strict=True))
    assert [getattr(owner, name) for owner, name in places] == before
