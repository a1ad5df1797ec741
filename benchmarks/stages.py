"""Where the time of a run goes: CPU and wall seconds of each stage of the graph, without those it calls.

Methods are wrapped for the length of a run; a stage that is called within another is taken off it. CPU time is that
of the calling thread, so waiting and a busy machine do not count. What Bytewax' engine uses is what is left of the
main thread, which it runs on, and what the database's own threads use is what is left of the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

__all__ = ["TARGETS", "Stages", "resolve"]

TARGETS: Final[tuple[tuple[str, str, str], ...]] = (
    ("dataflows.sources.archive_reader", "_File.read", "read parquet"),
    ("dataflows.sources.archive", "_TopicPartition.next_batch", "cut slices"),
    ("dataflows.graph", "_admit", "validate"),
    ("operators.route", "Router.split", "route"),
    ("operators.align", "AlignState.update", "align"),
    ("operators.shard", "ShardState.update", "shard: the rest"),
    ("operators.directory", "Directory.first_gap", "instrument codes"),
    ("operators.directory", "Directory.codes", "instrument codes"),
    ("operators.feature_engine", "FeatureEngine.update", "features: the rest"),
    ("operators.feature_engine", "FeatureEngine._take_trades", "trades to bars"),
    ("operators.duplicates", "SequenceWindow.update", "duplicate trades"),
    ("operators.duplicates", "TextIdWindow.update", "duplicate texts"),
    ("operators.book_intake", "BookIntake.update", "top of book"),
    ("operators.book_features", "BookFeatureState.update", "book features"),
    ("operators.book_sampler", "BookSampler.sample", "sample books at bars"),
    ("operators.feature_engine", "FeatureEngine._fill_bar_features", "bar features"),
    ("operators.text.group", "TextGroup.update", "sentiment"),
    ("models.text.sentiment", "FinanceSentiment.score", "score texts"),
    ("operators.signal_engine", "SignalEngine._view", "strategy views"),
    ("operators.strategies.mean_reversion", "MeanReversion.on_frame", "strategies on bars"),
    ("operators.strategies.breakout", "Breakout.on_frame", "strategies on bars"),
    ("operators.strategies.microstructure_alpha", "MicrostructureAlpha.on_frame", "microstructure strategy"),
    ("operators.signal_engine", "SignalEngine._rows", "signal rows"),
    ("operators.shard", "ShardState._bar_rows", "bar and feature rows"),
    ("operators.shard", "ShardState.snapshot", "snapshots"),
    ("operators.align", "AlignState.snapshot", "snapshots"),
    ("sinks.writer", "BufferedWriter.write", "hand rows to the writer"),
    ("sinks.writer", "BufferedWriter.flush", "wait for inserts"),
    ("sinks.store", "conform", "conform rows"),
    ("sinks.clickhouse", "Connection.insert_arrow", "insert into ClickHouse"),
    ("dataflows.execution", "_account", "count and digest"),
)
"""Module, attribute path, stage."""


def resolve(module: str, path: str) -> tuple[Any, str]:
    """Return the object that holds a target, and its name there; `AttributeError` where it is gone."""
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    getattr(owner, name)
    return owner, name


@dataclass(slots=True)
class _Total:
    cpu: float = 0.0
    wall: float = 0.0
    calls: int = 0


@dataclass(slots=True)
class Stages:
    """Times of the stages of one run.

    Examples
    --------
    >>> stages = Stages()
    >>> stages.timed("work", lambda: 5)()
    5
    >>> stages.totals()["work"]["calls"]
    1
    """

    _totals: dict[str, _Total] = field(default_factory=dict)
    _local: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    main_cpu: float = 0.0
    """CPU seconds of all stages on the main thread"""

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time taken."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            stack = self._local.__dict__.setdefault("stack", [])
            inner = [0.0, 0.0]
            stack.append(inner)
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                stack.pop()
                if stack:
                    stack[-1][0] += cpu
                    stack[-1][1] += wall
                self._add(stage, cpu - inner[0], wall - inner[1])

        return wrapper

    def _add(self, stage: str, cpu: float, wall: float) -> None:
        with self._lock:
            total = self._totals.setdefault(stage, _Total())
            total.cpu += cpu
            total.wall += wall
            total.calls += 1
            if threading.current_thread() is threading.main_thread():
                self.main_cpu += cpu

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Time every target while the context lasts."""
        places = [(*resolve(module, path), stage) for module, path, stage in TARGETS]
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for (owner, name, stage), (_, _, original) in zip(places, before, strict=True):
            setattr(owner, name, self.timed(stage, original))
        try:
            yield
        finally:
            for owner, name, original in before:
                setattr(owner, name, original)

    def totals(self) -> dict[str, dict[str, float]]:
        """Return CPU seconds, wall seconds and calls by stage, the costliest first."""
        ordered = sorted(self._totals.items(), key=lambda item: -item[1].cpu)
        return {
            stage: {"cpu_s": round(total.cpu, 9), "wall_s": round(total.wall, 9), "calls": total.calls}
            for stage, total in ordered
        }
