"""Pairs of real stocks: a pair that is known to be cointegrated, and pairs that nobody chose."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.universe_market import run, trades
from operators.cointegration import accepted, critical_value, engle_granger
from operators.cross_section import CrossSectionConfig, CrossSectionState
from operators.strategies.pairs_trading import PairsTrading, PairsTradingConfig
from operators.strategies.statistical_arbitrage import StatisticalArbitrage, StatisticalArbitrageConfig
from operators.universe import UniverseFrame
from schemas.enums import Intent

pytestmark = pytest.mark.real

Floats = npt.NDArray[np.float64]
DAY = 86_400 * 10**9


def _closes(folder: Path, name: str) -> tuple[tuple[str, ...], Floats]:
    with (folder / "pairs" / name).open(encoding="utf-8-sig") as file:
        header, *rows = list(csv.reader(file))
    order = np.argsort(header[1:])
    table = np.array([[float(value) for value in row[1:]] for row in rows])
    return tuple(np.array(header[1:])[order].tolist()), table[:, order]


def _frames(instruments: tuple[str, ...], closes: Floats) -> list[UniverseFrame]:
    n = len(instruments)
    nothing = (np.empty((n, 0)), np.empty((n, 0), np.uint8))
    return [
        UniverseFrame((day + 1) * DAY, DAY, instruments, row, np.full(n, 1e6), (), *nothing, live=n)
        for day, row in enumerate(closes)
    ]


def test_bkd_esc_is_cointegrated(real_data: Path) -> None:
    _, closes = _closes(real_data, "BKD_ESC_2009_2011.csv")
    assert len(closes) == 1005
    # published for this pair: p = 0.0002 of prices, without lagged differences
    prices = engle_granger(closes, np.array([0, 1]), np.array([1, 0]), lags=0)
    assert (prices.p_value < 0.0004).all()
    logs = engle_granger(np.log(closes), np.array([0]), np.array([1]), lags=1)
    assert logs.statistic[0] < critical_value(0.01, 1003)
    assert logs.p_value[0] < 0.0002
    assert 1.0 < logs.hedge_ratio[0] < 1.6
    assert 5 < logs.half_life[0] < 20


def test_bkd_esc_is_found_in_the_stream_and_traded(real_data: Path) -> None:
    instruments, closes = _closes(real_data, "BKD_ESC_2009_2011.csv")
    config = StatisticalArbitrageConfig.model_validate(
        {"window": 500, "min_obs": 450, "test_every": 21, "half_life": 250, "max_holding": "365d",
         "max_price_age": "5d"}
    )  # fmt: skip
    strategy = StatisticalArbitrage(config)
    decisions = run(strategy, _frames(instruments, closes), CrossSectionConfig(window=500, max_correlated=2))
    assert strategy.pairs == ("BKD/ESC",)
    entries = [item.evidence for _, item in decisions if item.intent is Intent.ENTER]
    assert entries
    assert all(seen["p_value"] < 0.2 and seen["correlation"] > 0.4 for seen in entries)


def test_bkd_esc_configured_earns_before_costs(real_data: Path) -> None:
    instruments, closes = _closes(real_data, "BKD_ESC_2009_2011.csv")
    config = PairsTradingConfig.model_validate(
        {"pairs": [("BKD", "ESC")], "window": 120, "max_holding": "90d", "max_price_age": "5d"}
    )
    found = trades(run(PairsTrading(config), _frames(instruments, closes), None))
    assert len(found) >= 20
    assert sum(gain for *_, gain in found) > 0


@pytest.mark.parametrize("correction", ["bonferroni", "benjamini_hochberg"])
def test_random_sp100_pairs_are_accepted_at_no_more_than_the_nominal_rate(
    real_data: Path, correction: Literal["bonferroni", "benjamini_hochberg"]
) -> None:
    instruments, closes = _closes(real_data, "sp100_prices.csv")
    first, second = np.triu_indices(len(instruments), k=1)
    p = engle_granger(np.log(closes), first, second, lags=1).p_value
    # alone 8 % of these pairs pass at 5 %: they share instruments, and some move together for a reason
    assert 0.05 < np.mean(p <= 0.05) < 0.1
    # all of them as one family
    assert not accepted(p, 0.05, correction).any()
    # random families of fifty: pairs pass far less often than at the level
    rng = np.random.default_rng(7)
    families = [rng.choice(len(first), 50, replace=False) for _ in range(100)]
    assert np.mean([accepted(p[family], 0.05, correction).mean() for family in families]) < 0.005


def test_sp100_cross_section_is_a_market(real_data: Path) -> None:
    instruments, closes = _closes(real_data, "sp100_prices.csv")
    state = CrossSectionState(CrossSectionConfig(half_life=10_000, max_correlated=50), 200, 10_000 * DAY)
    for frame in _frames(instruments, closes):
        cross = state.update(frame)
    column = {name: cross.values[:, at] for at, name in enumerate(cross.names)}
    assert column["market_beta"].mean() == pytest.approx(1.0, abs=0.02)
    moves = np.diff(np.log(closes), axis=0)
    moves[np.abs(moves) > 0.5] = np.nan
    pair = np.column_stack((np.nanmean(moves, axis=1), moves[:, 0]))
    beta = np.polyfit(*pair[np.isfinite(pair).all(axis=1)].T, 1)[0]
    assert column["market_beta"][0] == pytest.approx(beta, rel=0.03)
    assert 0.2 < np.nanmean(column["mean_correlation"]) < 0.8
    assert 0 < cross.matrix.intensity < 0.5
