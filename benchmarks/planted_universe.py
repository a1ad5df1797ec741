"""Universes with one known effect each, for the strategies that compare instruments.

A pair is judged by the ratio of its prices, in the direction of its first leg; a single instrument by its price over
the geometric mean of the universe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from benchmarks.planted import Planted, Signals
from benchmarks.universe_market import MINUTE, Floats, frames_of, names, run, walks, with_lags, with_pair
from operators.columns import FloatArray, IntArray
from operators.cross_section import CrossSectionConfig
from operators.strategies.correlation import Correlation, CorrelationConfig
from operators.strategies.pairs_trading import PairsTrading, PairsTradingConfig
from operators.strategies.statistical_arbitrage import StatisticalArbitrage, StatisticalArbitrageConfig
from operators.strategies.universe_base import UniverseStrategy
from schemas.enums import Intent

__all__ = ["PLANTED_UNIVERSES"]

_FRAMES: Final = 1_000
_CROSS: Final = CrossSectionConfig(window=250, min_overlap=30, max_correlated=20, select_every=60, correlate_every=25)


def _over(
    n: int, markets: int, market: Callable[[int, float], Floats], strategy: Callable[[], UniverseStrategy],
    cross: CrossSectionConfig | None,
) -> Any:  # fmt: skip
    """Return what gives the signals of a strategy on some markets of `n` instruments."""

    def signals(_: str, strength: float, seed: int) -> Signals:
        entries: list[tuple[str, int, int, float]] = []
        prices: dict[str, tuple[IntArray, FloatArray]] = {}
        ts = np.arange(1, _FRAMES + 1) * MINUTE
        for number in range(markets):
            closes = market(seed * markets + number, strength)
            for name, frame, direction in _entries(strategy(), closes, names(n), cross):
                judged = f"{number}/{name}"
                prices[judged] = ts, _judged(closes, names(n), name)
                entries.append((judged, int(ts[frame]), direction, float(prices[judged][1][frame])))
        return Signals(entries, prices)

    return signals


def _entries(
    strategy: UniverseStrategy, closes: Floats, instruments: tuple[str, ...], cross: CrossSectionConfig | None
) -> Iterator[tuple[str, int, int]]:
    """Yield pair or instrument, frame and direction of each entry."""
    for frame, decision in run(strategy, frames_of(closes, instruments), cross):
        if decision.intent is Intent.ENTER and decision.leg in (0, 1):
            yield decision.pair or decision.instrument, frame, int(decision.direction)


def _judged(closes: Floats, instruments: tuple[str, ...], name: str) -> Floats:
    """Return the ratio of the prices of a pair, or the price of an instrument over the mean."""
    logs = np.log(closes)
    first, _, second = name.partition("/")
    against = logs[:, instruments.index(second)] if second else logs.mean(axis=1)
    return np.asarray(np.exp(logs[:, instruments.index(first)] - against))


def _cointegrated(n: int) -> Callable[[int, float], Floats]:
    """Return what makes walks, with one cointegrated pair where the strength is above zero."""

    def market(seed: int, strength: float) -> Floats:
        closes = walks(seed, _FRAMES, n)
        return with_pair(closes, seed, hedge_ratio=1.0) if strength > 0 else closes

    return market


def _pairs_trading() -> PairsTrading:
    return PairsTrading(PairsTradingConfig.model_validate({"pairs": [("S000", "S001")], "window": 60}))


def _statistical_arbitrage() -> StatisticalArbitrage:
    parameters = {"window": 250, "min_obs": 200, "test_every": 25, "min_correlation": 0.2}
    return StatisticalArbitrage(StatisticalArbitrageConfig.model_validate(parameters))


def _correlation() -> Correlation:
    parameters = {"min_peer_correlation": 0.3, "entry_zscore": 3.0, "stop_zscore": 8.0}
    return Correlation(CorrelationConfig.model_validate(parameters))


PLANTED_UNIVERSES: Final = {
    each.strategy: each
    for each in (
        Planted(
            "pairs_trading", "the given pair is cointegrated", 1.0, 5 * MINUTE,
            _over(2, 6, _cointegrated(2), _pairs_trading, None),
        ),
        Planted(
            "statistical_arbitrage", "one pair of ten instruments is cointegrated", 1.0, 5 * MINUTE,
            _over(10, 6, _cointegrated(10), _statistical_arbitrage, _CROSS),
        ),
        Planted(
            "correlation", "an instrument departs from its peers and comes back", 1.0, 10 * MINUTE,
            _over(
                15, 4, lambda seed, strength: with_lags(seed, _FRAMES, 15, reverts=strength > 0), _correlation, _CROSS
            ),
        ),
    )
}  # fmt: skip
"""A market for each strategy on a universe, by its name."""
