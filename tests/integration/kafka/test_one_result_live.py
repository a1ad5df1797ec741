"""A day on Kafka gives the same tables live, replayed from its topics, and replayed from its recording."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataflows.publishing import publish
from dataflows.settings import load_settings
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from schemas.records import TOPICS
from scripts.live_run import LiveRun, write_config
from sinks.archive import Archive
from sinks.store import Store
from tests.services.clickhouse_http import ClickHouseHttp, serve_clickhouse

PARTITIONS = 2
FAULTS = FaultConfig(duplicate_trades=9, late_trades=7, sequence_gaps=2, malformed=3, wrong_type=2, crossed_quotes=2)


@dataclass(frozen=True)
class Day:
    """A simulated day with faults, on topics of its own."""

    archive: Path
    config: Path
    sources: int


@pytest.fixture(scope="module")
def day(kafka_broker: Any, topic: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("day")
    market = SimulatorConfig(seed=5, instruments=8, duration="8m", snapshot_interval="30s", faults=FAULTS)
    simulate(market, Archive.create(folder / "archive"))
    names = {name: topic(PARTITIONS) for name in TOPICS}
    config = write_config(folder / "signalbox.toml", kafka_broker.address, names)
    settings = load_settings(config)
    assert settings.kafka is not None
    publish(Archive.open(folder / "archive"), settings.kafka)
    return Day(folder / "archive", config, PARTITIONS * len(names))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHttp]:
    with serve_clickhouse(tmp_path_factory.mktemp("server") / "data") as served:
        yield served


def digests(url: str, run_id: str) -> dict[str, Any]:
    with Store.open(url, read_only=True) as store:
        found = store.digest(run_id)
        counts = [count for count in store.counts(run_id) if count.kind != "written"]
    assert all(found[table].rows for table in ("bars", "features", "signals", "dead_letters"))
    return {"digests": found, "counts": counts}


@pytest.mark.slow
def test_live_replay_of_topics_and_replay_of_recording_agree_on_one_and_three_processes(
    day: Day, server: ClickHouseHttp, tmp_path: Path
):
    recording = tmp_path / "recording"
    signalbox("record", "--config", day.config, "--archive", recording, "--until-end")
    signalbox("replay", "--archive", recording, "--db", server.url, "--run-id", "archive")
    expected = digests(server.url, "archive")
    for count in (1, 3):
        live = LiveRun(f"live-{count}", server.url, day.config, tmp_path / "recovery", tmp_path / "logs")
        live.start(count)
        live.await_caught_up(day.sources)
        assert live.stop() == [0] * count, live.errors()
        assert digests(server.url, live.run_id) == expected, f"live on {count}"
        brokers = load_settings(day.config).kafka.brokers  # type: ignore[union-attr]
        again = LiveRun(
            f"topics-{count}", server.url, day.config, tmp_path / "recovery", tmp_path / "logs",
            ("replay", "--kafka", brokers),
        )  # fmt: skip
        again.start(count)
        assert again.wait(120) == [0] * count, again.errors()
        assert digests(server.url, again.run_id) == expected, f"replay of topics on {count}"


def signalbox(*arguments: object) -> None:
    command = [sys.executable, "-m", "dataflows.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
