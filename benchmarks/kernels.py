"""`python -m benchmarks.kernels`: nanoseconds per row of the main states, each alone, on a million rows.

Rows come in batches of the size that a shard sees in a replay. Each state is made afresh for each run and the
best of the runs counts, which is the figure that a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.workload import FULL, Workload, generate
from operators.arrival import Arrival
from operators.bars import BarState
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_sampler import BookSampler
from operators.book_top import quotes_top
from operators.columns import BarColumns, BookColumns, frozen
from operators.decode import DecodeLimits, validate
from operators.duplicates import SequenceWindow
from operators.features import BAR_FEATURES
from operators.route import Router
from operators.strategies.base import StrategyView
from operators.strategies.microstructure_alpha import MicrostructureAlpha, MicrostructureAlphaConfig
from schemas.batches import make_batch

__all__ = ["Kernel", "kernels", "measure"]

_ROWS: Final = 1_000_000
_BATCH: Final = 16_384
_SECOND: Final = 10**9
_MID: Final = NAMES.index("mid_price")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One state to measure.

    Parameters
    ----------
    name
        What it does.
    rows
        Rows of one run.
    make
        Makes a fresh state and returns the run.
    """

    name: str
    rows: int
    make: Callable[[], Callable[[], None]]


def measure(kernel: Kernel, runs: int) -> float:
    """Return the nanoseconds per row of the best of the runs, after one that is not counted."""
    seconds = []
    for _ in range(runs + 1):
        run = kernel.make()
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) * 1e9 / kernel.rows


def kernels(rows: int = _ROWS, batch: int = _BATCH) -> list[Kernel]:
    """Return the states to measure, with their input ready."""
    market = generate(Workload(instruments=100, quotes=rows, trades=rows, news=0, posts=0, seconds=rows // 1400 + 60))
    trades, quotes = market["trades"], market["quotes"]
    parts = [slice(start, min(start + batch, rows)) for start in range(0, rows, batch)]
    tops = [_tops(quotes, part) for part in parts]
    books = _book_features(tops)
    bars = _bars(rows)
    return [
        _validate("trades", trades, parts),
        _validate("quotes", quotes, parts),
        _route(trades, parts),
        _duplicates(trades, parts),
        _trades_to_bars(trades, parts),
        _quote_features(tops),
        _sampler(books),
        _microstructure(books),
        *(_bar_feature(name, bars) for name in BAR_FEATURES),
    ]


def _codes(columns: dict[str, Any], part: slice) -> Any:
    return frozen(columns["instrument_id"].indices.to_numpy()[part])


def _batches(topic: str, columns: dict[str, Any], parts: list[slice]) -> list[pa.RecordBatch]:
    made = []
    for part in parts:
        n = part.stop - part.start
        chunk = {
            name: value.slice(part.start, n) if isinstance(value, pa.Array) else value[part]
            for name, value in columns.items()
        }
        where = {"partition": np.zeros(n, dtype=np.int32), "offset": np.arange(part.start, part.stop)}
        made.append(make_batch(topic, chunk | where, n))
    return made


def _validate(topic: str, columns: dict[str, Any], parts: list[slice]) -> Kernel:
    batches = _batches(topic, columns, parts)
    limits = DecodeLimits()

    def run() -> None:
        for batch in batches:
            validate(topic, batch, limits)

    return Kernel(f"validate {topic}", parts[-1].stop, lambda: run)


def _route(columns: dict[str, Any], parts: list[slice]) -> Kernel:
    arrivals = [Arrival("trades", "trades", 0, batch) for batch in _batches("trades", columns, parts)]

    def run() -> None:
        router = Router(4)
        for arrival in arrivals:
            router.split(arrival)

    return Kernel("route trades to 4 shards", parts[-1].stop, lambda: run)


def _duplicates(columns: dict[str, Any], parts: list[slice]) -> Kernel:
    inputs = [(_codes(columns, part), frozen(columns["trade_id"][part])) for part in parts]

    def make() -> Callable[[], None]:
        window = SequenceWindow()
        window.ensure(100)

        def run() -> None:
            for code, ident in inputs:
                window.update(code, ident)

        return run

    return Kernel("duplicate trades", parts[-1].stop, make)


def _trades_to_bars(columns: dict[str, Any], parts: list[slice]) -> Kernel:
    def column(name: str, part: slice) -> Any:
        return frozen(columns[name][part])

    inputs = [
        (_codes(columns, part), column("ts_event", part), column("ts_recv", part), column("price", part),
         column("size", part), column("side", part), int(columns["ts_recv"][part][-1]) + 1)
        for part in parts
    ]  # fmt: skip

    def make() -> Callable[[], None]:
        state = BarState((_SECOND, 60 * _SECOND), grace_ns=_SECOND, max_ahead_ns=5 * _SECOND)
        state.ensure(100)

        def run() -> None:
            for trades in inputs:
                state.update(*trades)

        return run

    return Kernel("trades to bars of 1 s and 1 m", parts[-1].stop, make)


def _tops(columns: dict[str, Any], part: slice) -> BookColumns:
    names = ("ts_recv", "bid_price", "bid_size", "ask_price", "ask_size")
    return quotes_top(_codes(columns, part), *(frozen(columns[name][part]) for name in names))


def _book_features(tops: list[BookColumns]) -> list[BookFeatureColumns]:
    state = BookFeatureState()
    state.ensure(100)
    return [state.update(top) for top in tops]


def _quote_features(tops: list[BookColumns]) -> Kernel:
    def make() -> Callable[[], None]:
        state = BookFeatureState()
        state.ensure(100)

        def run() -> None:
            for top in tops:
                state.update(top)

        return run

    return Kernel("quotes to book features", sum(map(len, tops)), make)


def _sampler(books: list[BookFeatureColumns]) -> Kernel:
    nothing = np.empty(0, dtype=np.int32)

    def make() -> Callable[[], None]:
        sampler = BookSampler(2, max_age_ns=60 * _SECOND)
        sampler.ensure(100)

        def run() -> None:
            for book in books:
                sampler.sample(book, nothing, nothing, nothing.astype(np.int64))

        return run

    return Kernel("sampler, updates only", sum(map(len, books)), make)


def _microstructure(books: list[BookFeatureColumns]) -> Kernel:
    needs = np.array([NAMES.index(name) for name in MicrostructureAlpha.needs])

    def make() -> Callable[[], None]:
        strategy = MicrostructureAlpha(MicrostructureAlphaConfig())
        strategy.state.ensure(100)

        def run() -> None:
            for book in books:
                view = StrategyView(
                    book.code, book.ts, book.values[:, _MID], book.values[:, needs], book.missing[:, needs]
                )
                strategy.on_frame(view)

        return run

    return Kernel("microstructure strategy", sum(map(len, books)), make)


def _bars(rows: int) -> list[BarColumns]:
    """Return closed bars of 100 instruments, a thousand to a frame as in a replay."""
    rng = np.random.default_rng(FULL.seed)
    frames = []
    for frame in range(rows // 1000):
        n = 1000
        close = 100.0 * np.exp(0.001 * rng.standard_normal(n))
        start = (np.arange(n) // 100 + frame * 10) * _SECOND
        volume = rng.gamma(2.0, 500.0, size=n)
        frames.append(
            BarColumns(
                code=frozen((np.arange(n) % 100).astype(np.int32)),
                interval_ns=frozen(np.full(n, _SECOND)),
                ts_start=frozen(start),
                ts_end=frozen(start + _SECOND),
                ts=frozen(start + 2 * _SECOND),
                open=frozen(close),
                high=frozen(close * 1.001),
                low=frozen(close * 0.999),
                close=frozen(close),
                volume=frozen(volume),
                notional=frozen(volume * close),
                vwap=frozen(close),
                trade_count=frozen(np.full(n, 10)),
                buy_volume=frozen(volume / 2),
            )
        )
    return frames


def _bar_feature(name: str, frames: list[BarColumns]) -> Kernel:
    cls = BAR_FEATURES[name]

    def make() -> Callable[[], None]:
        feature = cls(cls.Config())
        feature.state.ensure(100)

        def run() -> None:
            for bars in frames:
                feature.update(bars)

        return run

    return Kernel(f"bar feature {name}", sum(map(len, frames)), make)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ROWS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object of names to ns per row")
    arguments = parser.parse_args()
    figures = {kernel.name: round(measure(kernel, arguments.runs), 2) for kernel in kernels(arguments.rows)}
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, ns in figures.items():
        print(f"{name:34s} {ns:8.1f} ns/row")


if __name__ == "__main__":
    main()
