"""Markets with one known effect each, and how well signals foretell the price in them.

Each market has the effect that one strategy is made for, and the same market can be had without it (strength 0). The
direction of an entry is right where the price has moved its way after the strategy's horizon. Entries of an
instrument that come within a horizon of one counted before are left out, so that what is counted does not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import ndtr
from scipy.stats import binomtest

from dataflows.simulator import SimulatorConfig
from dataflows.simulator.market import Market
from operators.arrival import Frame, Rows
from operators.book_features import NAMES, BookFeatureColumns
from operators.columns import BarColumns, FloatArray, IntArray
from operators.feature_engine import FeatureFrame, feature_set
from operators.shard import ShardState
from operators.shard_config import ShardConfig
from operators.signal_engine import SignalEngine
from operators.strategies.base import PREDICTION_NAMES, StrategyView
from schemas.batches import floats, make_batch, times
from schemas.enums import Intent, Missing
from schemas.time import END_OF_TIME

__all__ = ["PLANTED", "Planted", "Signals", "Skill"]

_SECOND: Final = 10**9
_MINUTE: Final = 60 * _SECOND
_SIGMA: Final = 5e-4
"""Standard deviation of the return of a bar of a minute, where nothing is planted."""
_PRINTS: Final = 4
"""Trades in a bar."""


@dataclass(frozen=True, slots=True)
class Skill:
    """How often the direction was right.

    Parameters
    ----------
    entries
        Entries that were counted.
    right
        Those after which the price went their way.
    mean_bps
        Mean return their way over the horizon, basis points.
    """

    entries: int
    right: int
    mean_bps: float

    @property
    def p_value(self) -> float:
        """Return the chance of as many right directions, or more, where each is a fair coin (binomial test)."""
        return float(binomtest(self.right, self.entries, 0.5, "greater").pvalue) if self.entries else 1.0


@dataclass(frozen=True, slots=True)
class Signals:
    """Entries, and the prices that they are judged by."""

    entries: list[tuple[str, int, int, float]]
    """instrument, time, direction, price"""
    prices: dict[str, tuple[IntArray, FloatArray]]
    """times and prices of each instrument"""


@dataclass(frozen=True, slots=True)
class Planted:
    """A market with an effect that one strategy should find.

    Parameters
    ----------
    strategy
        Name of the strategy.
    effect
        What is planted, in words.
    strength
        Its strength, in the unit of the market.
    horizon_ns
        Time over which a direction is judged.
    run
        Returns the signals at a strength and a seed.
    """

    strategy: str
    effect: str
    strength: float
    horizon_ns: int
    run: Callable[[str, float, int], Signals]

    def skill(self, *, planted: bool, seed: int = 1) -> Skill:
        """Return the skill of the strategy in the market with the effect, or without it."""
        found = self.run(self.strategy, self.strength if planted else 0.0, seed)
        counted: dict[str, int] = {}
        gains = []
        for instrument, ts, direction, price in found.entries:
            if ts < counted.get(instrument, ts):
                continue
            when, prices = found.prices[instrument]
            if ts + self.horizon_ns > when[-1]:
                continue
            later = prices[np.searchsorted(when, ts + self.horizon_ns, side="right") - 1]
            if later != price:
                counted[instrument] = ts + self.horizon_ns
                gains.append(direction * np.log(later / price))
        return Skill(len(gains), sum(gain > 0 for gain in gains), float(np.mean(gains)) * 1e4 if gains else 0.0)


# --- markets of trades


def _regimes(rng: np.random.Generator, bars: int, n: int, mean_length: int, states: tuple[int, ...]) -> IntArray:
    """Return a state of each instrument at each bar, shape `(bars, n)`, that lasts for some time."""
    found = np.zeros((bars, n), dtype=np.int64)
    for k in range(n):
        start = 0
        while start < bars:
            length = int(mean_length * rng.uniform(0.7, 1.3))
            found[start : start + length, k] = rng.choice(states)
            start += length
    return found


def _trending(rng: np.random.Generator, strength: float) -> tuple[FloatArray, FloatArray]:
    """Return log prices whose drift, `strength` deviations a bar, goes up, down or nowhere for two hours."""
    drift = _regimes(rng, 2_000, 16, 120, (-1, 0, 1)) * strength
    return np.cumsum(_SIGMA * (rng.normal(size=drift.shape) + drift), axis=0), np.ones(drift.shape)


def _reverting(rng: np.random.Generator, strength: float) -> tuple[FloatArray, FloatArray]:
    """Return log prices of which the share `strength` of a departure from a walk goes back at each bar."""
    shocks = _SIGMA * rng.normal(size=(2_000, 16))
    level = np.zeros(shocks.shape)
    for t in range(1, len(level)):
        level[t] = (1 - strength) * level[t - 1] + shocks[t]
    return level + np.cumsum(0.1 * _SIGMA * rng.normal(size=shocks.shape), axis=0), np.ones(shocks.shape)


def _bursting(rng: np.random.Generator, strength: float) -> tuple[FloatArray, FloatArray]:
    """Return log prices that stay in a channel, and leave it on volume with a drift of `strength` deviations."""
    n, calm, burst = 16, 60, 20
    parts, volumes = [np.zeros((1, n))], []
    for _ in range(30):
        still = 0.3 * _SIGMA * rng.normal(size=(calm, n))
        moves = _SIGMA * (rng.normal(size=(burst, n)) + strength * rng.choice([-1, 1], n))
        parts += [parts[-1][-1] + still, parts[-1][-1] + still[-1] + np.cumsum(moves, axis=0)]
        volumes += [np.ones((calm, n)), np.full((burst, n), 4.0)]
    return np.concatenate(parts[1:]), np.concatenate(volumes)


def _changing(rng: np.random.Generator, strength: float) -> tuple[FloatArray, FloatArray]:
    """Return log prices that trend for two hours and revert for two, in turn, by instrument."""
    bars, n = 2_400, 16
    kind = _regimes(rng, bars, n, 120, (-1, 0, 0, 1))
    level, base = np.zeros((bars, n)), np.zeros(n)
    shocks = _SIGMA * rng.normal(size=(bars, n))
    for t in range(1, bars):
        trends = kind[t] != 0
        base = np.where(trends, level[t - 1], base)
        back = np.where(trends, 0.0, strength * 0.5 * (base - level[t - 1]))
        level[t] = level[t - 1] + back + shocks[t] + kind[t] * strength * 0.5 * _SIGMA
    return level, np.ones((bars, n))


def _from_trades(make: Callable[[np.random.Generator, float], tuple[FloatArray, FloatArray]]) -> Any:
    def run(strategy: str, strength: float, seed: int) -> Signals:
        rng = np.random.default_rng(seed)
        level, volume = make(rng, strength)
        bars, n = level.shape
        # prints of a bar lead from its open to its close, with noise that is gone at the close
        before = np.vstack([level[:1], level[:-1]])
        share = (np.arange(_PRINTS) + 1) / _PRINTS
        path = before[:, None, :] + (level - before)[:, None, :] * share[None, :, None]
        path[:, :-1] += 0.5 * _SIGMA * rng.normal(size=(bars, _PRINTS - 1, n))
        price = (100.0 * np.exp(path)).reshape(bars * _PRINTS, n)
        size = np.repeat(volume, _PRINTS, axis=0) * rng.uniform(0.5, 1.5, price.shape)
        ts = np.arange(1, len(price) + 1) * (_MINUTE // _PRINTS) - _SECOND
        rows = price.size
        batch = make_batch(
            "trades",
            {
                "instrument_id": [f"I{k:02d}" for k in range(n)] * len(price), "ts_event": np.repeat(ts, n),
                "ts_recv": np.repeat(ts, n), "partition": np.zeros(rows, np.int32), "offset": np.arange(rows),
                "price": price.ravel(), "size": size.ravel(), "side": np.ones(rows, np.int8),
                "trade_id": np.arange(rows),
            },
            rows,
        )  # fmt: skip
        return _shard(strategy, [{"trades": batch}], {"bars": {"intervals": ["1m"]}})

    return run


# --- simulated markets


def _from_simulator(key: str, parameters: dict[str, Any] | None = None, **market: Any) -> Any:
    def run(strategy: str, strength: float, seed: int) -> Signals:
        quiet = {"pairs": 0, "jump_rate": 0, "earnings": 0, "option_instruments": 0, "l2_instruments": 0,
                 "news_rate": 0, "social_rate": 0, "sentiment_strength": 0, "imbalance_strength": 0}  # fmt: skip
        config = SimulatorConfig.model_validate(quiet | market | {key: strength, "seed": seed})
        own = {strategy: parameters} if parameters else {}
        return _shard(strategy, Market(config).slices(), {"bars": {"intervals": ["1m"]}}, own)

    return run


def _shard(strategy: str, slices: Any, content: dict[str, Any], parameters: dict[str, Any] | None = None) -> Signals:
    strategies = {"enabled": [strategy]} | (parameters or {})
    state = ShardState(ShardConfig.model_validate({**content, "strategies": strategies}))
    entries: list[tuple[str, int, int, float]] = []
    parts: dict[str, list[tuple[IntArray, FloatArray]]] = {}
    for batches in slices:
        for name, ts, price in _prices(batches):
            parts.setdefault(name, []).append((ts, price))
        newest = max(int(times(batch, "ts_recv")[-1]) for batch in batches.values())
        entries += _entries(state.update(Frame(newest + 1, batches)))
    entries += _entries(state.update(Frame(END_OF_TIME, {})))
    prices = {
        name: (np.concatenate([ts for ts, _ in found]), np.concatenate([price for _, price in found]))
        for name, found in parts.items()
    }
    return Signals(entries, prices)


def _prices(batches: dict[str, pa.RecordBatch]) -> Iterator[tuple[str, IntArray, FloatArray]]:
    """Yield the mids of each instrument that is quoted, or its trades where nothing is quoted."""
    quotes = batches.get("quotes")
    batch = batches.get("trades") if quotes is None else quotes
    if batch is None:
        return
    price = floats(batch, "price") if quotes is None else (floats(batch, "bid_price") + floats(batch, "ask_price")) / 2
    names = np.array(batch.column("instrument_id").cast(pa.string()).to_pylist())
    ts = times(batch, "ts_recv")
    for name in np.unique(names).tolist():
        own = names == name
        yield name, ts[own], price[own]


def _entries(outputs: Any) -> list[tuple[str, int, int, float]]:
    found = []
    for output in outputs:
        if isinstance(output, Rows) and output.table == "signals":
            found += _from_rows(output.batch)
    return found


def _from_rows(batch: pa.RecordBatch) -> list[tuple[str, int, int, float]]:
    return [
        (row["instrument_id"], row["ts"].value, row["direction"], row["price"])
        for row in batch.select(["instrument_id", "ts", "direction", "intent", "price"]).to_pylist()
        if row["intent"] == Intent.ENTER
    ]


# --- a model's predictions


def _from_predictions(strategy: str, strength: float, seed: int) -> Signals:
    """Return signals on predictions at each close that lead the returns by `strength` deviations a bar."""
    rng = np.random.default_rng(seed)
    bars, n = 1_500, 16
    view = np.zeros((bars, n))
    for t in range(1, bars):
        view[t] = 0.9 * view[t - 1] + np.sqrt(1 - 0.81) * rng.normal(size=n)
    moves = _SIGMA * rng.normal(size=(bars, n))
    moves[1:] += strength * _SIGMA * view[:-1]
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    ts = np.repeat(np.arange(1, bars + 1) * _MINUTE, n)
    code = np.tile(np.arange(n, dtype=np.int32), bars)
    said = {
        "probability": ndtr(view.ravel()), "expected_return": 20 * _SIGMA * view.ravel(),
        "uncertainty": np.full(view.size, 15 * _SIGMA),
    }  # fmt: skip
    config = ShardConfig.model_validate(
        {"bars": {"intervals": ["1m"]}, "strategies": {"enabled": [strategy], strategy: {"model": "planted"}}}
    )
    features = feature_set(config)
    engine = SignalEngine(config, features, NAMES)
    engine.ensure(n)
    names = [f"I{k:02d}" for k in range(n)]
    shape = (len(ts), len(features.names))
    frame = FeatureFrame(
        _bars(code, ts, close.ravel()),
        np.full(shape, np.nan),
        np.full(shape, Missing.WARMING_UP, dtype=np.uint8),
        BookFeatureColumns(
            np.empty(0, np.int32), np.empty(0, np.int64), np.empty((0, len(NAMES))), np.empty((0, len(NAMES)), np.uint8)
        ),
        predictions={
            "planted": StrategyView(
                code, ts, close.ravel(), np.column_stack([said[name] for name in PREDICTION_NAMES]),
                np.zeros((len(ts), len(PREDICTION_NAMES)), np.uint8),
            )
        },
    )  # fmt: skip
    entries = [entry for batch in engine.update(frame, names) for entry in _from_rows(batch)]
    return Signals(entries, {name: (ts[k::n], np.ascontiguousarray(close[:, k])) for k, name in enumerate(names)})


def _bars(code: npt.NDArray[np.int32], ts: IntArray, close: FloatArray) -> BarColumns:
    n = len(code)
    one = np.ones(n)
    return BarColumns(
        code=code, interval_ns=np.full(n, _MINUTE), ts_start=ts - _MINUTE, ts_end=ts, ts=ts, open=close, high=close,
        low=close, close=close, volume=one, notional=close, vwap=close, trade_count=np.ones(n, np.int64),
        buy_volume=one,
    )  # fmt: skip


_TEXTS: Final[dict[str, Any]] = {
    "instruments": 40, "duration": "8h", "trade_rate": 0.2, "book_rate": 0.1, "news_rate": 6, "social_rate": 12,
    "volatility": 0.1, "news_lead": "5s", "news_impact": "10m",
}  # fmt: skip

PLANTED: Final = {
    each.strategy: each
    for each in (
        Planted("mean_reversion", "departures from a walk revert", 0.15, 5 * _MINUTE, _from_trades(_reverting)),
        Planted("breakout", "a channel is left on volume with a drift", 0.5, 10 * _MINUTE, _from_trades(_bursting)),
        Planted("momentum", "a drift lasts for two hours", 0.35, 15 * _MINUTE, _from_trades(_trending)),
        Planted("regime_adaptive", "trends and reversion take turns", 1.0, 10 * _MINUTE, _from_trades(_changing)),
        Planted(
            "sentiment", "news and posts lead the price over ten minutes", 80.0, 3 * _MINUTE,
            _from_simulator("sentiment_strength", **_TEXTS),
        ),
        Planted(
            "news_analytics", "news lead the price over ten minutes", 80.0, 3 * _MINUTE,
            _from_simulator("sentiment_strength", **_TEXTS),
        ),
        Planted(
            "microstructure_alpha", "one-sided order flow leads the mid", 1.0, 5 * _SECOND,
            # the simulated pressure is bounded: its imbalance hardly ever goes 2.5 deviations from its mean
            _from_simulator(
                "imbalance_strength", {"entry_zscore": 1.5}, instruments=20, duration="1h", trade_rate=2, book_rate=10
            ),
        ),
        Planted("ml_classification", "a model's probability leads the return", 0.5, 5 * _MINUTE, _from_predictions),
        Planted("ml_regression", "a model's expected return leads the return", 0.5, 5 * _MINUTE, _from_predictions),
        Planted("ml_momentum", "a model's probability leads the return", 0.5, 5 * _MINUTE, _from_predictions),
    )
}  # fmt: skip
"""A market for each strategy on one instrument, by its name."""
