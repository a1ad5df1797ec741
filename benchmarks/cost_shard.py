"""What a record costs in a whole shard with every feature on, and what of it each feature takes.

Two shards, of few and of many instruments, get frames in turn. Each stage is timed where it runs, within the shard: its
state shares the caches with all others, as it does in a run. Time is processor time of the thread.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from benchmarks.cost_market import Density, Market
from benchmarks.stages import Stages
from operators.arrival import Rows
from operators.shard import ShardState
from operators.shard_config import ShardConfig

__all__ = ["DENSITY", "Side", "catalogue", "measure_shards"]

DENSITY: Final = Density(quotes=16, trades=12)
"""That of the workload of the other comparisons: 28 records per instrument and second."""
_WARM_UP: Final = Density(quotes=1, trades=1)
_OWN: Final = {
    "book": ("quotes",),
    "flow": ("trades", "quotes"),
    "trades to bars": ("trades",),
    "event bars": ("trades",),
    "duplicate trades": ("trades",),
}
"""Topics whose records are the rows of a stage; of all others the rows are the bars."""


def catalogue() -> ShardConfig:
    """Return the configuration: every feature and event bar, bars of one second, no strategy."""
    return ShardConfig.model_validate(
        {
            "bars": {"intervals": (timedelta(seconds=1),)},
            "event_bars": {"ticks": [20], "volumes": [2_000], "notionals": [500_000], "imbalances": [20]},
            "options": {"max_contracts": 64},
            "strategies": {"enabled": []},
        }
    )


@dataclass(slots=True)
class _Taken:
    """What was counted and timed in the seconds of one run."""

    seconds: float = 0.0
    records: dict[str, int] = field(default_factory=dict)
    bars: int = 0


class Side:
    """One shard and its market.

    Parameters
    ----------
    instruments
        Number of instruments.
    warm_up
        Seconds, and bars of each instrument, before anything is measured.
    """

    def __init__(self, instruments: int, warm_up: int) -> None:
        self.instruments = instruments
        self._market = Market(instruments)
        self._shard = ShardState(catalogue())
        for _ in range(warm_up):
            self._run(_WARM_UP, _Taken())

    def _run(self, density: Density, taken: _Taken) -> None:
        for frame in self._market.second(density):
            for topic, batch in frame.batches.items():
                taken.records[topic] = taken.records.get(topic, 0) + batch.num_rows
            began = time.thread_time()
            outputs = self._shard.update(frame)
            taken.seconds += time.thread_time() - began
            taken.bars += sum(
                rows.batch.num_rows for rows in outputs if isinstance(rows, Rows) and rows.table == "bars"
            )

    def measure(self, seconds: int) -> dict[str, float]:
        """Return ns per record of the shard (`whole`), and ns per row of its own of each stage."""
        stages = Stages()
        places = _places(self._shard)
        before = [(owner, owner.update) for _, owner in places]
        for (name, owner), (_, update) in zip(places, before, strict=True):
            setattr(owner, "update", stages.timed(name, update))  # noqa: B010
        taken = _Taken()
        try:
            for _ in range(seconds):
                self._run(DENSITY, taken)
        finally:
            for owner, _ in before:
                delattr(owner, "update")
        figures = {"whole": 1e9 * taken.seconds / sum(taken.records.values())}
        for name, total in stages.totals().items():
            rows = sum(taken.records.get(topic, 0) for topic in _OWN.get(name, ())) or taken.bars
            figures[name] = 1e9 * total["cpu_s"] / rows
        return figures


def _places(shard: ShardState) -> list[tuple[str, Any]]:
    """Return what is timed: a name and the object whose `update` it is."""
    engine: Any = shard._engine
    features = [(f"bar feature {feature.name}", feature) for feature in engine._bar_features[0]]
    single = [
        ("book", engine._book_features),
        ("trades to bars", engine._bars),
        ("event bars", engine.event_bars),
        ("duplicate trades", engine._trade_ids),
    ]
    return [*features, *single, *engine._groups.items()]


def measure_shards(few: int, many: int, seconds: int, warm_up: int, runs: int) -> dict[str, Any]:
    """Return by stage the medians of ns per row with few and with many instruments, their ratio, and the row.

    Parameters
    ----------
    few, many
        Numbers of instruments.
    seconds
        Seconds of a run with many instruments; with few a run has as many records.
    warm_up
        Seconds before the first run.
    runs
        Runs of each side, in turn.
    """
    sides = Side(few, warm_up), Side(many, warm_up)
    lengths = seconds * many // few, seconds
    samples: list[list[dict[str, float]]] = [[], []]
    for _ in range(runs):
        for side, length, found in zip(sides, lengths, samples, strict=True):
            found.append(side.measure(length))
    return {
        name: _line(name, [run[name] for run in samples[0]], [run[name] for run in samples[1]])
        for name in samples[0][0]
    }


def _line(name: str, few: list[float], many: list[float]) -> dict[str, Any]:
    row = "record" if name == "whole" else " or ".join(topic.rstrip("s") for topic in _OWN.get(name, ("bars",)))
    return {
        "row": row,
        "few_ns": round(statistics.median(few), 1),
        "many_ns": round(statistics.median(many), 1),
        "ratio": round(statistics.median(many) / statistics.median(few), 3),
    }
