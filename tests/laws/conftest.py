"""Runs of the whole graph in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from dataflows.graph import build_graph
from dataflows.recovery import prepare_recovery
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulationReport, SimulatorConfig, simulate
from dataflows.sources.archive import ArchiveSource, ReplayRange
from sinks.archive import Archive
from sinks.memory import MemoryWriter
from sinks.tables import TableSink

Rows = dict[str, list[dict[str, Any]]]
TABLES = ("bars", "features", "signals", "dead_letters", "late_events", "run_counts")


@dataclass(frozen=True)
class Market:
    """A simulated market in an archive."""

    archive: Archive
    report: SimulationReport
    config: SimulatorConfig


@dataclass
class Crash:
    """Makes the source fail after some deliveries."""

    after: int
    deliveries: int = field(default=0)

    def delivered(self) -> None:
        self.deliveries += 1
        if self.deliveries > self.after:
            raise RuntimeError("power cut")


class CrashingSource(ArchiveSource):
    """An archive source that fails at a chosen delivery."""

    crash: Crash

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        deliver = part.next_batch

        def next_batch() -> Any:
            self.crash.delivered()
            return deliver()

        part.next_batch = next_batch  # type: ignore[method-assign]
        return part


def settings(**changes: Any) -> Settings:
    """Settings with short windows, so that a few minutes have signals of every strategy."""
    content: dict[str, Any] = {
        "compute": {
            "bars": {"intervals": ["1s", "10s"]},
            "strategies": {
                "mean_reversion": {"interval": "1s", "entry_zscore": 1.5},
                "breakout": {"interval": "1s", "min_relative_volume": 0.5},
                "microstructure_alpha": {"entry_zscore": 1.0, "cooldown": "0s"},
            },
        }
    }
    return Settings.model_validate(content | changes)


def run_in_memory(
    archive: Archive,
    *,
    writer: MemoryWriter | None = None,
    config: Settings | None = None,
    workers: int = 1,
    batch_rows: int = 4_096,
    replay: ReplayRange | None = None,
    recovery: RecoveryConfig | None = None,
    epoch: timedelta = timedelta(seconds=10),
    crash: Crash | None = None,
) -> Rows:
    """Run the graph over an archive and return the rows of every table."""
    writer = writer or MemoryWriter()
    source = CrashingSource(archive, batch_rows=batch_rows, replay=replay)
    source.crash = crash or Crash(after=2**62)
    flow = build_graph(config or settings(), source, source.sources, TableSink(lambda: writer))
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
def recovery_config(tmp_path: Path) -> RecoveryConfig:
    config, _ = prepare_recovery(tmp_path / "recovery")
    return config


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Six minutes of six instruments with every fault."""
    config = SimulatorConfig(
        seed=7, instruments=6, duration="6m", trade_rate=1.0, book_rate=1.5, snapshot_interval="20s", news_rate=60.0,
        faults=FaultConfig(
            duplicate_trades=6, duplicate_news=2, duplicate_social=2, late_trades=5, late_by="30s", sequence_gaps=3,
            crossed_quotes=4, crossed_books=2, malformed=2, missing_field=1, wrong_type=1, naive_time=1,
            out_of_range=1,
        ),
    )  # fmt: skip
    archive = Archive.create(tmp_path_factory.mktemp("market") / "archive")
    return Market(archive, simulate(config, archive), config)


@pytest.fixture(scope="session")
def expected(market: Market) -> Rows:
    """The market in one batch, on one worker."""
    return run_in_memory(market.archive, batch_rows=10_000_000)
