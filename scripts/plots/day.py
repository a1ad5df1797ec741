"""The synthetic day that is plotted: a small market from the simulator, run through the graph, read from the store.

What differs from the defaults: bars of a minute, and of other lengths only where a strategy asks for them; quieter
books and fewer trades, so that it takes seconds; the planted pair is given to pairs trading; statistical arbitrage
looks for pairs in a shorter window; the correlation strategy takes weaker peers and smaller departures; and specialists
have a horizon of five minutes, a cost band of one basis point and answer after five outcomes, as five hours hold few.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.replay import Replay, replay
from dataflows.settings import Settings
from dataflows.simulator import SimulatorConfig, simulate
from operators.cross_section import cross_section_set
from operators.feature_engine import feature_set
from operators.strategies import STRATEGIES
from schemas.enums import Missing
from schemas.time import duration_ns, parse_duration
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["MARKET", "SETTINGS", "Day", "read_day"]

MARKET: Final = SimulatorConfig(
    seed=1, duration=timedelta(hours=5), instruments=12, trade_rate=0.2, book_rate=0.6, l2_instruments=4,
    earnings=4, option_instruments=4,
)  # fmt: skip
_INTERVAL: Final = "1m"


def _intervals() -> list[str]:
    """Return the lengths of bars that are plotted or decided on."""
    asked = {cls.Config().content().get("interval", _INTERVAL) for cls in STRATEGIES.values()}
    return sorted(asked | {_INTERVAL})


SETTINGS: Final = Settings.model_validate(
    {
        "shards": 1,
        "compute": {"bars": {"intervals": _intervals()}},
        "universe": {
            "strategies": {
                "pairs_trading": {"pairs": [["SIM001", "SIM000"]]},
                "statistical_arbitrage": {"window": 120, "min_obs": 100},
                "correlation": {"min_peer_correlation": 0.1, "min_peers": 2, "entry_zscore": 1.5},
            },
            "cross_section": {"sectors": {name: f"sector_{at % 4}" for at, name in enumerate(MARKET.instrument_ids)}},
        },
        "specialists": {
            "horizon": "5m",
            "cost_band_bps": 1.0,
            "learning": {"min_outcomes": 5.0},
        },
    }
)
_RUN: Final = "day"
_FEATURES: Final = (
    "SELECT toString(instrument_id) AS instrument, toUnixTimestamp64Nano(ts) AS t, * EXCEPT (instrument_id, ts) "
    "FROM {table} WHERE run_id = {{run:String}} AND interval_ns = {{interval:Int64}} ORDER BY instrument, t"
)
_SIGNALS: Final = (
    "SELECT toString(strategy), toString(instrument_id), toUnixTimestamp64Nano(ts), toString(direction), "
    "toString(intent), price FROM signals WHERE run_id = {run:String} ORDER BY 1, 3, 2, signal_id"
)
_ANSWERS: Final = (
    "SELECT toString(model), toString(instrument_id), toUnixTimestamp64Nano(ts), probability FROM predictions "
    "WHERE run_id = {run:String} ORDER BY 1, 2, 3"
)
_OUTCOMES: Final = (
    "SELECT toString(model), toString(instrument_id), toUnixTimestamp64Nano(ts), toString(label), probability "
    "FROM outcomes WHERE run_id = {run:String} ORDER BY 1, 2, 3"
)
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Day:
    """What the run left.

    Parameters
    ----------
    ts
        Decision times, UTC ns, shape `(n,)`.
    instruments
        Instruments, in alphabetical order.
    columns
        Name to values, a row for each instrument, shape `(instruments, n)`; NaN where there is none. `close` too.
    missing
        Name to `Missing` codes, same shape.
    signals
        Strategy, instrument, time, direction, intent and price of each signal.
    answers
        Model, instrument, time and probability of each answer.
    outcomes
        Model, instrument, time, label and probability of each outcome.
    """

    ts: npt.NDArray[np.int64]
    instruments: tuple[str, ...]
    columns: dict[str, FloatArray]
    missing: dict[str, npt.NDArray[np.uint8]]
    signals: list[tuple[Any, ...]]
    answers: list[tuple[Any, ...]]
    outcomes: list[tuple[Any, ...]]

    def row(self, instrument: str) -> int:
        """Return the row of an instrument."""
        return self.instruments.index(instrument)


def read_day() -> Day:
    """Simulate, replay, and read what is plotted."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive.create(Path(folder) / "archive")
        simulate(MARKET, archive)
        with Store.open(str(Path(folder) / "db")) as store:
            replay(Replay(archive, _RUN, SETTINGS), store)
            return _read(store)


def _read(store: Store) -> Day:
    run: dict[str, Any] = {"run": _RUN}
    interval_ns = duration_ns(parse_duration(_INTERVAL))
    connection = store.connection
    bars, features, cross = (
        connection.arrow(_FEATURES.format(table=table), run | {"interval": interval_ns})
        for table in ("bars", "features", "cross_section")
    )
    grid = _Grid.of(features)
    columns = {"close": grid.place(bars, _numbers(bars, "close"))}
    missing: dict[str, npt.NDArray[np.uint8]] = {}
    sets = ((features, feature_set(SETTINGS.compute)), (cross, cross_section_set(SETTINGS.universe.cross_section)))
    for table, described in sets:
        codes = np.array(table["missing"].to_pylist(), dtype=np.float64)
        for at, name in enumerate(described.names):
            columns[name] = grid.place(table, _numbers(table, name))
            found = grid.place(table, codes[:, at])
            missing[name] = np.where(np.isfinite(found), found, Missing.NO_INPUT).astype(np.uint8)
    rows = (connection.rows(sql, run) for sql in (_SIGNALS, _ANSWERS, _OUTCOMES))
    return Day(grid.ts, grid.instruments, columns, missing, *rows)


def _numbers(table: pa.Table, name: str) -> FloatArray:
    """Return a column as numbers; a rank is in the map of ranks."""
    if name in table.column_names:
        return np.array(table[name].to_pylist(), dtype=np.float64)
    key = name.removeprefix("rank_")
    ranks = [{_text(of): value for of, value in row} for row in table["ranks"].to_pylist()]
    return np.array([row.get(key, np.nan) for row in ranks], dtype=np.float64)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class _Grid:
    """Instruments by decision times."""

    ts: npt.NDArray[np.int64]
    instruments: tuple[str, ...]

    @classmethod
    def of(cls, table: pa.Table) -> _Grid:
        names = sorted({_text(name) for name in table["instrument"].to_pylist()})
        return cls(np.unique(np.array(table["t"].to_pylist(), dtype=np.int64)), tuple(names))

    def place(self, table: pa.Table, values: FloatArray) -> FloatArray:
        """Return values by instrument and time, NaN where the table has no row."""
        placed = np.full((len(self.instruments), len(self.ts)), np.nan)
        rows = [self.instruments.index(_text(name)) for name in table["instrument"].to_pylist()]
        placed[rows, np.searchsorted(self.ts, np.array(table["t"].to_pylist(), dtype=np.int64))] = values
        return placed
