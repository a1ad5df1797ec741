"""The peer that takes one event at a time: bars of one second and one minute in plain Bytewax.

Two programs on the same input. `windows` uses the shipped `fold_window` with an event clock, as Bytewax'
own examples do. `stateful_map` keeps the open bar of a key itself and emits it when the next one begins,
which is about the least that one Python call per event can cost.

Both read the trades of an archive as tuples in large batches, key them by instrument and write the bars
to Parquet. Neither checks, deduplicates or snapshots anything, and late trades are treated as each program
does by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import bytewax.operators as op
import bytewax.operators.windowing as win
import pyarrow as pa
import pyarrow.parquet as pq
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

__all__ = ["Program", "run"]

Program = Literal["windows", "stateful_map"]
Trade = tuple[str, int, float, float, int]
"""Instrument, event time, price, size, side."""
Bar = tuple[str, int, int, float, float, float, float, float, float, int, float]

_BATCH: Final = 1_000
_INTERVALS: Final = (timedelta(seconds=1), timedelta(minutes=1))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = ("instrument_id", "ts_event", "price", "size", "side")
_NAMES: Final = (
    "instrument_id", "interval_ns", "ts_start", "open", "high", "low", "close", "volume", "notional", "trade_count",
    "buy_volume",
)  # fmt: skip


class _Trades(StatefulSourcePartition[Trade, None]):
    def __init__(self, files: list[Path]) -> None:
        self._batches = self._read(files)

    @staticmethod
    def _read(files: list[Path]) -> Iterator[list[Trade]]:
        for path in files:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH, columns=list(_COLUMNS)):
                columns = [batch.column(name) for name in _COLUMNS]
                columns[1] = columns[1].cast(pa.int64())
                yield list(zip(*(column.to_pylist() for column in columns), strict=True))

    def next_batch(self) -> list[Trade]:
        return next(self._batches)

    def snapshot(self) -> None:
        return None


class _TradeSource(FixedPartitionedSource[Trade, None]):
    def __init__(self, archive: Path) -> None:
        self._files = sorted((archive / "trades").glob("*/*.parquet"))

    def list_parts(self) -> list[str]:
        return ["trades"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Trades:
        return _Trades(self._files)


class _Collect(StatelessSinkPartition[Bar]):
    def __init__(self, bars: list[Bar]) -> None:
        self._bars = bars

    def write_batch(self, items: list[Bar]) -> None:
        self._bars.extend(items)


class _BarSink(DynamicSink[Bar]):
    def __init__(self, bars: list[Bar]) -> None:
        self._bars = bars

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Collect:
        return _Collect(self._bars)


class _Bar:
    """An open bar."""

    __slots__ = ("buy_volume", "close", "high", "low", "notional", "open", "start", "trade_count", "volume")

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.open = self.close = 0.0
        self.high = float("-inf")
        self.low = float("inf")
        self.volume = self.notional = self.buy_volume = 0.0
        self.trade_count = 0

    def add(self, trade: Trade) -> _Bar:
        _, _, price, size, side = trade
        if not self.trade_count:
            self.open = price
        if price > self.high:
            self.high = price
        if price < self.low:
            self.low = price
        self.close = price
        self.volume += size
        self.notional += price * size
        self.trade_count += 1
        if side == 1:
            self.buy_volume += size
        return self

    def row(self, instrument: str, interval: int, start: int) -> Bar:
        return (
            instrument, interval, start, self.open, self.high, self.low, self.close, self.volume, self.notional,
            self.trade_count, self.buy_volume,
        )  # fmt: skip


def run(archive: Path, out: Path, *, program: Program) -> int:
    """Run a program over the trades of an archive; write the bars to `out` and return their number."""
    bars: list[Bar] = []
    flow = Dataflow("bars_per_event")
    trades = op.key_on("instrument", op.input("trades", flow, _TradeSource(archive)), lambda trade: trade[0])
    build = _windows if program == "windows" else _stateful_map
    for interval in _INTERVALS:
        op.output(f"write_{_ns(interval)}", build(trades, interval), _BarSink(bars))
    run_main(flow)
    out.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: list(column) for name, column in zip(_NAMES, zip(*bars, strict=True), strict=True)})
    pq.write_table(table, out / "bars.parquet")
    return len(bars)


def _ns(interval: timedelta) -> int:
    return int(interval.total_seconds()) * 10**9


def _event_time(trade: Trade) -> datetime:
    return datetime.fromtimestamp(trade[1] / 1e9, UTC)


def _windows(trades: KeyedStream[Trade], interval: timedelta) -> Any:
    length = _ns(interval)
    folded = win.fold_window(
        f"fold_{length}",
        trades,
        clock=win.EventClock(_event_time, wait_for_system_duration=timedelta(seconds=1)),
        windower=win.TumblingWindower(length=interval, align_to=_EPOCH),
        builder=_Bar,
        folder=_Bar.add,
        merger=_no_merge,
    )
    return op.map(f"bar_{length}", folded.down, lambda item: item[1][1].row(item[0], length, item[1][0] * length))


def _no_merge(left: _Bar, right: _Bar) -> _Bar:
    raise TypeError("expected tumbling windows, which never merge")


def _stateful_map(trades: KeyedStream[Trade], interval: timedelta) -> Any:
    length = _ns(interval)

    def step(bar: _Bar | None, trade: Trade) -> tuple[_Bar, Iterable[Bar]]:
        start = trade[1] // length * length
        closed: tuple[Bar, ...] = ()
        if bar is None or start > bar.start:
            closed = (bar.row(trade[0], length, bar.start),) if bar is not None else ()
            bar = _Bar(start)
        return bar.add(trade), closed

    stepped = op.stateful_map(f"step_{length}", trades, step)
    return op.flat_map(f"closed_{length}", stepped, lambda item: item[1])
