from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from benchmarks import cost_bars
from benchmarks.cost import SMOKE, CostEntry, measure_cost, summary
from benchmarks.cost_market import Density, Market
from benchmarks.cost_shard import Side, catalogue
from benchmarks.peer_polars_features import PEER_FEATURES
from benchmarks.run import write
from operators.feature_engine import feature_set
from operators.feature_groups import GROUPS
from operators.features import BAR_FEATURES


@pytest.fixture(scope="module")
def lines() -> list[CostEntry]:
    return measure_cost(replace(SMOKE, warm_up=3, bars=30))


def test_cost_every_feature_and_group_has_its_figures(lines: list[CostEntry]) -> None:
    stages = lines[0].details["stages"]
    assert set(stages) >= {*GROUPS, *(f"bar feature {name}" for name in BAR_FEATURES)}
    assert all(figures["few_ns"] > 0.0 and figures["many_ns"] > 0.0 for figures in stages.values())
    assert len(lines[0].ns_per_row) == 2


def test_cost_polars_stands_beside_what_it_computes_alone(lines: list[CostEntry]) -> None:
    for line in lines[1:]:
        features = line.details["features"]
        assert set(features) == set(BAR_FEATURES)
        assert {name for name, figures in features.items() if "polars_ns" not in figures} == set(
            line.details["left_out"]
        )


def test_cost_lines_go_into_the_results_and_are_read_back(lines: list[CostEntry], tmp_path: Path) -> None:
    path = write(lines, tmp_path)
    assert [CostEntry(**line) for line in json.loads(path.read_text())] == lines
    assert len(summary(lines)) == 3 + len(lines[0].details["stages"]) + 2 * len(BAR_FEATURES)
    assert asdict(lines[0])["work"].startswith("full catalogue")


def test_cost_bars_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cost_bars.differing(3, 150) == []
    monkeypatch.setitem(PEER_FEATURES, "rsi", lambda: [{"rsi": pl.col("close")}])
    assert cost_bars.differing(3, 150) == ["rsi"]


def test_catalogue_has_every_feature() -> None:
    names = feature_set(catalogue()).names
    assert {spec.name for cls in BAR_FEATURES.values() for spec in cls.specs(cls.Config())} <= set(names)


def test_market_density_does_not_depend_on_the_number_of_instruments() -> None:
    for instruments in (3, 30):
        frames = list(Market(instruments, frame=64).second(Density(quotes=4, trades=3)))
        assert sum(frame.batches["quotes"].num_rows for frame in frames) == 4 * instruments
        assert sum(frame.batches["trades"].num_rows for frame in frames) == 3 * instruments
        assert all(frame.frontier <= later.frontier for frame, later in pairwise(frames))


def test_side_measured_leaves_the_shard_as_it_was() -> None:
    side = Side(2, warm_up=1)
    assert side.measure(1)["whole"] > 0.0
    assert "update" not in vars(side._shard._engine._groups["flow"])
