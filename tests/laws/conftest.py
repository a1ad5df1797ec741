"""Runs of the whole graph in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from dataflows.graph import build_graph
from dataflows.recovery import prepare_recovery
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulationReport, SimulatorConfig, simulate
from dataflows.sources.archive import ArchiveSource
from dataflows.sources.replay_range import ReplayRange
from schemas.time import duration_ns
from sinks.archive import Archive, ArchiveWriter
from sinks.memory import MemoryWriter
from sinks.tables import TableSink
from tests.short_windows import ACROSS, EVENT_BARS, STRATEGIES

Rows = dict[str, list[dict[str, Any]]]
TABLES = (
    "bars", "event_bars", "features", "cross_section", "signals", "predictions", "outcomes", "drift_events",
    "dead_letters", "late_events", "run_counts",
)  # fmt: skip
GRID_NS = 50_000_000
"""Grid of the coarse market: the bars' ends and decisions lie on it."""


@dataclass(frozen=True)
class Market:
    """A simulated market in an archive."""

    archive: Archive
    report: SimulationReport
    config: SimulatorConfig

    @property
    def start(self) -> int:
        """First moment, ns."""
        return self.config.start_ns

    @property
    def length(self) -> int:
        """Time from the first moment to the last, ns."""
        return duration_ns(self.config.duration)

    def records(self, topic: str) -> pa.RecordBatch:
        """Return all records of a topic in arrival order."""
        table = pa.concat_tables(pq.read_table(path) for path in self.archive.files(topic))
        return table.unify_dictionaries().combine_chunks().to_batches()[0]

    def copy(self, folder: Path, change: Callable[[str, pa.RecordBatch], list[pa.RecordBatch]]) -> Archive:
        """Write the records again, each topic's through `change(topic, batch) -> parts`."""
        archive = Archive.create(folder)
        for topic in self.archive.topics():
            for number, part in enumerate(change(topic, self.records(topic))):
                with ArchiveWriter(archive, topic, f"part-{number}") as writer:
                    writer.append(part)
        return archive


class PowerCutError(Exception):
    """The process is gone."""


@dataclass
class Crash:
    """Ends the process at a chosen place once the sources have delivered so often.

    Parameters
    ----------
    place
        `source`: instead of the next delivery; `before` or `after`: around the next time that rows are stored.
    deliveries
        Deliveries before.
    """

    place: str
    deliveries: int

    def delivered(self) -> None:
        self.deliveries -= 1
        self.reach("source")

    def reach(self, place: str) -> None:
        if self.deliveries < 0 and place == self.place:
            raise PowerCutError


class CrashingSource(ArchiveSource):
    """An archive source that crashes where it is told to, and cuts where it is told to."""

    def __init__(self, archive: Archive, *, crash: Crash | None, cuts: list[int] | None, **options: Any) -> None:
        super().__init__(archive, **options)
        self._crash = crash
        self._cuts = self._cuts if cuts is None else cuts

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        deliver = part.next_batch

        def next_batch() -> Any:
            arrivals = deliver()
            if arrivals and self._crash is not None:
                self._crash.delivered()
            return arrivals

        part.next_batch = next_batch  # type: ignore[method-assign]
        return part


class CrashingWriter(MemoryWriter):
    """A writer that crashes where it is told to, and then has lost what it had not stored."""

    crash: Crash | None = None

    def flush(self) -> None:
        self._reach("before")
        super().flush()
        self._reach("after")

    def secure(self, table: str, most: int) -> pa.Table | None:
        self._reach("before")
        rows = super().secure(table, most)
        self._reach("after")
        return rows

    def _reach(self, place: str) -> None:
        if self.crash is not None:
            self.crash.reach(place)

    def restart(self, crash: Crash | None) -> None:
        """Begin again with what is stored."""
        self._pending = []
        self.crash = crash


def settings(**changes: Any) -> Settings:
    """Settings with short windows, so that a few minutes have signals of every strategy."""
    compute = {"bars": {"intervals": ["1s", "10s"]}, "event_bars": EVENT_BARS, "strategies": STRATEGIES}
    content: dict[str, Any] = {"compute": compute, **ACROSS}
    return Settings.model_validate(content | changes)


def run_in_memory(
    archive: Archive,
    *,
    writer: MemoryWriter | None = None,
    config: Settings | None = None,
    workers: int = 1,
    batch_rows: int = 10_000_000,
    cuts: list[int] | None = None,
    replay: ReplayRange | None = None,
    recovery: RecoveryConfig | None = None,
    epoch: timedelta = timedelta(seconds=10),
    crash: Crash | None = None,
    kept: int = 0,
) -> Rows:
    """Run the graph over an archive and return the rows of every table."""
    writer = writer or MemoryWriter()
    if isinstance(writer, CrashingWriter):
        writer.restart(crash)
    source = CrashingSource(archive, crash=crash, cuts=cuts, batch_rows=batch_rows, replay=replay)
    flow = build_graph(config or settings(), source, source.sources, TableSink(lambda: writer, lambda: kept))
    cli_main(flow, workers_per_process=workers, epoch_interval=epoch, recovery_config=recovery)
    writer.flush()
    return {table: writer.rows(table) for table in TABLES}


@pytest.fixture(scope="session")
def run() -> Callable[..., Rows]:
    return run_in_memory


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    return settings


@pytest.fixture(scope="session")
def make_crash() -> type[Crash]:
    return Crash


@pytest.fixture
def crashing_writer() -> CrashingWriter:
    return CrashingWriter()


@pytest.fixture
def recovery(tmp_path: Path) -> Callable[[], RecoveryConfig]:
    """Return a function that prepares the test's recovery folder, as each start of a command does."""
    return lambda: prepare_recovery(tmp_path / "recovery")[0]


def _simulate(folder: Path, **changes: Any) -> Market:
    content: dict[str, Any] = {
        "seed": 7, "instruments": 5, "duration": "3m", "trade_rate": 1.0, "book_rate": 1.5, "snapshot_interval": "20s",
        "news_rate": 60.0,
        "faults": FaultConfig(
            duplicate_trades=9, duplicate_news=9, duplicate_social=9, late_trades=5, late_by="30s", sequence_gaps=3,
            crossed_quotes=4, crossed_books=2, malformed=2, missing_field=1, wrong_type=1, naive_time=1,
            out_of_range=1,
        ),
    }  # fmt: skip
    config = SimulatorConfig(**content | changes)
    archive = Archive.create(folder)
    return Market(archive, simulate(config, archive), config)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Three minutes of five instruments with every fault."""
    return _simulate(tmp_path_factory.mktemp("market") / "archive")


@pytest.fixture(scope="session")
def expected(market: Market) -> Rows:
    """The market in one batch, on one worker."""
    return run_in_memory(market.archive)


@pytest.fixture(scope="session")
def coarse(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """The market with all times rounded down to a grid: records, bars' ends and decisions meet at one nanosecond."""

    def floor(topic: str, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        for name in ("ts_event", "ts_recv"):
            column = batch.column(name)
            rounded = pc.multiply(pc.divide(column.cast(pa.int64()), GRID_NS), GRID_NS).cast(column.type)
            batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), rounded)
        return [batch]

    archive = market.copy(tmp_path_factory.mktemp("coarse") / "archive", floor)
    return Market(archive, market.report, market.config)


@pytest.fixture(scope="session")
def expected_coarse(coarse: Market) -> Rows:
    """The coarse market in one batch, on one worker."""
    return run_in_memory(coarse.archive)


@pytest.fixture(scope="session")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Few seconds of a busy market, short enough for one record a batch."""
    changes = {"instruments": 2, "duration": "12s", "trade_rate": 6.0, "book_rate": 6.0, "faults": FaultConfig()}
    return _simulate(tmp_path_factory.mktemp("moment") / "archive", **changes)
