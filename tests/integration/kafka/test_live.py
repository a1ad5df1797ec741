"""A live run stops in order, goes on where it stopped, tells how it is, and refuses what is not its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dataflows.live import TopicRun, run_topics
from dataflows.publishing import PublishOptions, publish
from dataflows.settings import load_settings
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from dataflows.sources.replay_range import ReplayRange
from schemas.errors import ExitCode
from schemas.records import TOPICS
from scripts.live_run import LiveRun
from sinks.archive import Archive
from sinks.store import OUTPUT_TABLES, RunCount, Store
from tests.services.clickhouse_http import ClickHouseHttp, Fault, serve_clickhouse
from tests.services.live_topics import FAST, LiveTopics, until

PARTITIONS = 2
SOURCES = PARTITIONS * len(TOPICS)
SNAPSHOTS = f'{FAST}\n[recovery]\nsnapshot_interval = "200ms"\n'
FAULTS = FaultConfig(duplicate_trades=4, late_trades=4, late_by="30s", sequence_gaps=2, malformed=3, crossed_quotes=2)
MARKET = SimulatorConfig(seed=11, instruments=6, duration="2m", snapshot_interval="20s", faults=FAULTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHttp]:
    with serve_clickhouse(tmp_path_factory.mktemp("server") / "data") as served:
        yield served


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("market") / "archive"
    simulate(MARKET, Archive.create(folder))
    return Archive.open(folder)


@pytest.fixture
def empty(kafka_broker: Any, topic: Callable[..., str], server: ClickHouseHttp, tmp_path: Path) -> Iterator[LiveTopics]:
    """Topics without records."""
    names = {name: topic(PARTITIONS) for name in TOPICS}
    made = LiveTopics(tmp_path, kafka_broker.address, server.url, names, extra=SNAPSHOTS)
    yield made
    server.faults.clear()
    made.close()


@pytest.fixture(scope="module")
def day(
    kafka_broker: Any, topic: Callable[..., str], server: ClickHouseHttp, market: Archive, tmp_path_factory: Any
) -> LiveTopics:
    """Topics with the whole market."""
    names = {name: topic(PARTITIONS) for name in TOPICS}
    made = LiveTopics(tmp_path_factory.mktemp("day"), kafka_broker.address, server.url, names, extra=SNAPSHOTS)
    publish(market, load_settings(made.configure()).kafka)  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def expected(day: LiveTopics) -> Any:
    return undisturbed(day)


@pytest.fixture
def runs(day: LiveTopics, server: ClickHouseHttp) -> Iterator[LiveTopics]:
    """The whole market, for runs that end with the test."""
    yield day
    server.faults.clear()
    day.close()
    day.runs.clear()
    day.configure()


def undisturbed(topics: LiveTopics) -> Any:
    """Return the tables of a replay of topics, which nothing disturbs."""
    settings = load_settings(topics.configure())
    with Store.open(topics.url) as store:
        run_topics(TopicRun(f"calm-{topics.folder.name}", settings, ReplayRange()), store)
    tables = topics.tables(f"calm-{topics.folder.name}")
    assert min(digest.rows for digest in tables[0].values()) > 0, tables
    return tables


@contextmanager
def publishing(topics: LiveTopics, archive: Archive, seconds: float) -> Iterator[None]:
    """Publish while the block runs, so that it takes some seconds in all; wait for the end of it."""
    config, stop, failures = load_settings(topics.configure()).kafka, threading.Event(), []

    def work() -> None:
        try:
            publish(archive, config, PublishOptions(speed=120 / seconds), stop=stop)  # type: ignore[arg-type]
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        raise
    finally:
        thread.join()
        assert not failures, failures


def finish(run: LiveRun, count: int = 1) -> None:
    """Start a run, let it read everything, and stop it."""
    run.start(count)
    run.await_caught_up(SOURCES)
    assert run.stop() == [0] * count, run.errors()


def signalbox(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataflows.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_the_same_command_goes_on(market: Archive, empty: LiveTopics, number: int):
    run = empty.run(f"stopped-{number}")
    run.start()
    until(lambda: [status.state for status in run.status()] == ["running"], "the start", run)
    # published from now on: however slow the machine, most comes after the signal
    with publishing(empty, market, 20):
        until(lambda: run.delivered > 300 and run.snapshot is not None, "records", run)
        assert run.stop(number) == [ExitCode.OK]
        first = run.result()
        assert (first["status"], first["resumed"]) == ("stopped", False)
        assert "stopped with everything stored; the same command goes on from here" in run.errors()
        assert run.snapshot is not None
    finish(run)
    second = run.result()
    assert second["resumed"]
    assert min(first["rows"], second["rows"]) > 0
    tables = undisturbed(empty)
    assert run_tables(empty, run) == tables
    # of two lives, each record was read in one: nothing was in work when the first ended
    assert first["rows"] + second["rows"] == sum(c.count for c in tables[1] if c.kind == "read")


def run_tables(topics: LiveTopics, run: LiveRun) -> Any:
    return topics.tables(run.run_id)


@pytest.mark.slow
def test_second_signal_ends_at_once(runs: LiveTopics, server: ClickHouseHttp, expected: Any):
    run = runs.run("impatient")
    run.start()
    run.await_caught_up(SOURCES)
    server.faults[:] = [Fault("late", seconds=8.0)] * 2
    run.processes[0].send_signal(signal.SIGTERM)
    until(lambda: run.status()[0].state == "draining", "draining", run)
    assert run.stop(signal.SIGTERM, patience=3) == [ExitCode.INTERRUPTED]
    assert "stopped at once by a second signal; the same command goes on from the last snapshot" in run.errors()
    server.faults.clear()
    finish(run)
    assert run_tables(runs, run) == expected


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1], ids=["rows", "end of the run"])
def test_drain_that_takes_too_long_ends_with_its_exit_code(
    runs: LiveTopics, server: ClickHouseHttp, expected: Any, step: int
):
    runs.configure(extra=SNAPSHOTS + 'drain = "1s"\n')
    run = runs.run(f"slow-drain-{step}")
    run.start()
    run.await_caught_up(SOURCES)
    # what is inserted now: the counters, then that the run was stopped
    server.faults[:] = [*[Fault("late")] * step, Fault("late", seconds=8.0)]
    assert run.stop(patience=5) == [ExitCode.DEADLINE]
    assert "not drained after 1 s; the same command goes on from the last snapshot" in run.errors()
    server.faults.clear()
    runs.configure(extra=SNAPSHOTS)  # a slow machine needs more than a second even so
    finish(run)
    assert run_tables(runs, run) == expected


@pytest.mark.slow
def test_embedded_database_and_status(runs: LiveTopics, expected: Any, tmp_path: Path):
    folder = tmp_path / "database"
    run = runs.run("folder", db=str(folder))
    where = ("--run-id", run.run_id, "--recovery", run.recovery)
    before = signalbox("status", "--check", *where)
    assert (before.returncode, "found none; was it started there?" in before.stdout) == (ExitCode.FINDINGS, True)
    run.start()
    run.await_caught_up(SOURCES)
    assert signalbox("status", "--check", *where).returncode == 0
    shown = json.loads(signalbox("status", "--json", *where).stdout)
    assert shown["processes"][0]["state"] == "running"
    assert len(shown["processes"][0]["sources"]) == SOURCES
    assert all(source["lag"] == 0 for source in shown["processes"][0]["sources"].values())
    assert "running" in signalbox("status", *where).stdout
    assert run.stop() == [0]
    (last,) = run.status()
    assert sum(stream.events for stream in last.drift.values()) == expected[0]["drift_events"].rows > 0
    assert "drift since the start" in signalbox("status", *where).stdout
    after = signalbox("status", "--check", *where)
    assert (after.returncode, "is stopped" in after.stdout) == (ExitCode.FINDINGS, True)
    assert [RunCount(**count) for count in run.result()["counts"] if count["kind"] != "written"] == expected[1]
    tables = [word for table in OUTPUT_TABLES for word in ("--table", table)]
    same = signalbox("compare", run.run_id, f"calm-{runs.folder.name}", "--db", folder, "--db-b", runs.url, *tables)
    assert same.returncode == 0, same.stdout


@pytest.mark.slow
def test_one_process_then_three_then_one(market: Archive, empty: LiveTopics):
    empty.extra += "partitions = 3\n"
    run = empty.run("rescaled")
    with publishing(empty, market, 14):
        for count in (1, 3):
            run.start(count)
            until(lambda: run.delivered > 200 and run.snapshot is not None, "records", run)
            assert run.stop() == [0] * count, run.errors()
    finish(run)
    assert run_tables(empty, run) == undisturbed(empty)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_process_of_three_killed_ends_the_others_and_all_go_on(market: Archive, empty: LiveTopics, victim: int):
    run = empty.run(f"orphans-{victim}")
    with publishing(empty, market, 8):
        run.start(3)
        until(lambda: run.delivered > 200 and run.snapshot is not None, "records", run)
        run.processes[victim].kill()
        codes = run.wait(30)
    assert codes[victim] == -signal.SIGKILL
    others = [code for number, code in enumerate(codes) if number != victim]
    assert others == [ExitCode.STORAGE] * 2, run.errors()
    message = "expected the 3 processes of the cluster to stay, found that one of them ended or could not be reached"
    assert run.errors().count(message) == 2
    finish(run, 3)
    assert run_tables(empty, run) == undisturbed(empty)


@pytest.fixture(scope="module")
def kept(day: LiveTopics) -> Iterator[LiveRun]:
    """A run that was stopped."""
    run = LiveRun("kept", day.url, day.configure(), day.folder / "recovery", day.folder / "logs")
    finish(run)
    yield run
    run.kill()


def assert_refused(run: LiveRun, code: int, message: str) -> None:
    run.start()
    assert run.wait(30) == [code], run.errors()
    assert message in run.errors()
    assert "Traceback" not in run.errors()


@pytest.mark.slow
def test_replay_of_which_one_process_is_stopped_is_not_complete(runs: LiveTopics, expected: Any):
    config = runs.configure(kafka="batch_records = 10", extra=SNAPSHOTS + 'drain = "2m"\n')
    brokers = load_settings(config).kafka.brokers  # type: ignore[union-attr]
    run = runs.run("half")
    run.command = ("replay", "--kafka", brokers)
    run.start(3)
    until(lambda: run.delivered > 0, "records", run)
    run.processes[2].send_signal(signal.SIGTERM)
    assert run.wait(120) == [ExitCode.INTERRUPTED] * 3, run.errors()
    assert run.result()["status"] == "stopped"
    run.start(3)
    assert run.wait(120) == [0] * 3, run.errors()
    assert run.result()["status"] == "complete"
    assert run_tables(runs, run) == expected


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"run_id": "other"}, ExitCode.CONFIG, "expected the snapshots of run_id `kept` in `"),
        ({"flow": "other"}, ExitCode.CONFIG, "expected the snapshots of flow `"),
        ({"format": 99}, ExitCode.VERSION, "expected a recovery folder of format "),
        ({"starts": {"trades/0": {"offset": "x"}}}, ExitCode.CONFIG, "expected the starts of partitions as they were"),
    ],
)
def test_folder_of_something_else_is_refused(kept: LiveRun, change: dict[str, Any], code: int, message: str):
    identity = kept.folder / "run.json"
    content = identity.read_text()
    identity.write_text(json.dumps(json.loads(content) | change))
    try:
        assert_refused(kept, code, message)
    finally:
        identity.write_text(content)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("entry_zscore = 1.0", "entry_zscore = 1.5", "run `kept` began with config_hash `"),
        ('clock = "record"', 'clock = "header"', "run `kept` began with source `topics test-"),
    ],
)
def test_change_that_alters_results_is_refused(kept: LiveRun, old: str, new: str, message: str):
    config = kept.config.read_text()
    kept.config.write_text(config.replace(old, new))
    try:
        assert_refused(kept, ExitCode.CONFIG, message)
    finally:
        kept.config.write_text(config)


def test_change_that_alters_no_result_is_taken_and_refusals_lost_nothing(kept: LiveRun, day: LiveTopics, expected: Any):
    day.configure(extra=SNAPSHOTS.replace("50ms", "80ms") + 'drain = "20s"\n')
    finish(kept)
    day.configure()
    assert kept.result()["resumed"]
    assert run_tables(day, kept) == expected


def test_run_without_a_folder_for_snapshots_is_refused(day: LiveTopics):
    done = signalbox("run", "--db", day.url, "--config", day.configure())
    assert done.returncode == ExitCode.CONFIG
    assert "expected a folder for the snapshots of a live run, found none; name one with `--recovery`" in done.stderr


def test_run_without_topics_is_refused(day: LiveTopics, tmp_path: Path):
    done = signalbox("run", "--db", tmp_path / "database")
    assert done.returncode == ExitCode.CONFIG
    assert "expected brokers and topics in section `[kafka]` of the configuration, found none; add them" in done.stderr
