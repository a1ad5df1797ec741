"""What a bar costs in each bar feature, ours one after the other in frames, Polars' in batch, and that both agree.

Ours get the bars as a shard does, all instruments of a second before the next second. Polars has them sorted by
instrument and time, as it likes them. Time is what passed on the clock: Polars uses every core, ours one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks.agreement import compare_frames
from benchmarks.cost_market import bar_frames
from benchmarks.peer_polars_features import PEER_FEATURES, bar_features
from operators.columns import BarColumns, FloatArray
from operators.features import BAR_FEATURES

__all__ = ["differing", "measure_bars"]

_COLUMNS: Final = ("open", "high", "low", "close", "volume", "notional")
_KEY: Final = ("instrument_id", "ts")


def _ours(name: str, frames: list[BarColumns], instruments: int) -> list[FloatArray]:
    feature = BAR_FEATURES[name](BAR_FEATURES[name].Config())
    feature.state.ensure(instruments)
    return [feature.update(bars)[0] for bars in frames]


def _table(frames: list[BarColumns]) -> pl.DataFrame:
    columns = {name: np.concatenate([getattr(bars, name) for bars in frames]) for name in (*_COLUMNS, "ts")}
    code = np.concatenate([bars.code for bars in frames])
    return pl.DataFrame({"interval_ns": np.ones(len(code), dtype=np.int64), "instrument_id": code} | columns)


def _names(name: str) -> list[str]:
    return [spec.name for spec in BAR_FEATURES[name].specs(BAR_FEATURES[name].Config())]


def differing(instruments: int, bars: int) -> list[str]:
    """Return the columns whose values differ beyond the tolerance of `benchmarks.agreement`."""
    frames = bar_frames(instruments, bars)
    table = _table(frames)
    theirs = bar_features(table.sort("instrument_id", "ts").lazy(), PEER_FEATURES).collect()
    ours = {
        column: values
        for name in PEER_FEATURES
        for column, values in zip(_names(name), np.concatenate(_ours(name, frames, instruments)).T, strict=True)
    }
    found = compare_frames("bars", table.with_columns(**ours), theirs, _KEY, ("instrument_id", "ts", *ours))
    return [difference.column for difference in found if difference.count]


def _clock(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _medians(sides: dict[str, Callable[[], Any]], bars: int, runs: int) -> dict[str, float]:
    """Return ns per bar of each side, which take turns, after one run that is not counted."""
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(runs + 1):
        for side, call in sides.items():
            samples[side].append(_clock(call))
    return {side: round(1e9 * statistics.median(taken[1:]) / bars, 1) for side, taken in samples.items()}


def _beside(figures: dict[str, float]) -> dict[str, float]:
    return figures | {"ratio": round(figures["polars_ns"] / figures["ours_ns"], 3)}


def measure_bars(instruments: int, bars: int, runs: int) -> dict[str, dict[str, float]]:
    """Return by feature, and for `all` that Polars has, ns per bar of ours and of Polars, and the ratio.

    Features that Polars does not compute have ours alone, and are not among `all`.

    Parameters
    ----------
    instruments, bars
        Number of instruments, and of bars of each.
    runs
        Runs of each side, in turn.
    """
    frames = bar_frames(instruments, bars)
    table = _table(frames).sort("instrument_id", "ts").lazy()
    n = instruments * bars

    def ours(*names: str) -> Callable[[], Any]:
        return lambda: [_ours(name, frames, instruments) and None for name in names]

    def theirs(*names: str) -> Callable[[], Any]:
        return lambda: bar_features(table, names).collect()

    found: dict[str, dict[str, float]] = {}
    for name in BAR_FEATURES:
        if name in PEER_FEATURES:
            found[name] = _beside(_medians({"ours_ns": ours(name), "polars_ns": theirs(name)}, n, runs))
        else:
            found[name] = _medians({"ours_ns": ours(name)}, n, runs)
    both = {"ours_ns": ours(*PEER_FEATURES), "polars_ns": theirs(*PEER_FEATURES)}
    found["all"] = _beside(_medians(both, n, runs))
    return found
