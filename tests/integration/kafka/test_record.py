"""A recording has what the topics have, whatever stops it, and a replay of it gives what the topics give."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bytewax.run import cli_main
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from dataflows.graph import build_graph
from dataflows.recording import RecordProgress, RecordResult, Rolling, record
from dataflows.settings import Settings
from dataflows.sources.archive import ArchiveSource
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from schemas.batches import make_batch
from schemas.enums import RunStatus
from schemas.errors import ConfigError, ExitCode, InputError, StorageError, StorageLockedError
from schemas.records import topic as topic_schema
from sinks.archive import Archive
from sinks.memory import MemoryWriter
from sinks.recording import Recording
from sinks.tables import TableSink
from tests.short_windows import ACROSS, STRATEGIES

SECOND = 10**9
START = 1_700_000_000 * SECOND
TABLES = ("bars", "features", "signals", "dead_letters", "late_events")
SOON = Rolling(age=timedelta(milliseconds=30))
EACH = Rolling(rows=1)


def trade(number: int, **changes: Any) -> bytes:
    fields = {
        "instrument_id": f"I{number % 3}", "ts_event": START + number, "price": 1.0 + number % 7, "size": 1.0,
        "side": "buy", "trade_id": number,
    }  # fmt: skip
    return json.dumps(fields | changes).encode()


def at(stamp: int, partition: int = 0) -> dict[str, Any]:
    return {"partition": partition, "headers": [("ts_recv", str(stamp).encode())]}


def quote(number: int) -> bytes:
    fields = {"instrument_id": f"I{number % 3}", "ts_event": START + number, "bid_price": 1.0, "bid_size": 2.0}
    return json.dumps(fields | {"ask_price": 1.5, "ask_size": 2.0}).encode()


def config(broker: Any, topics: dict[str, str], **changes: Any) -> KafkaConfig:
    clock = changes.pop("clock", "header")
    described = {ours: {"name": name, "clock": clock} for ours, name in topics.items()}
    return KafkaConfig.model_validate({"brokers": broker.address, "topics": described, "timeout": "20s"} | changes)


def recorded(root: Path) -> dict[str, pa.Table]:
    """Return each topic of an archive, file by file in the order of the rolls."""
    found = {}
    for topic, files in Archive.open(root).contents().items():
        paths = sorted(files, key=lambda path: (int(path.stem), path.parent.name))
        found[topic] = pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths]).unify_dictionaries()
    return found


def in_order(table: pa.Table) -> pa.Table:
    """Return rows in arrival order, symbols as text so that dictionaries compare."""
    ordered = table.sort_by([("ts_recv", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
    for index, field in enumerate(ordered.schema):
        if pa.types.is_dictionary(field.type):
            ordered = ordered.set_column(index, field.name, ordered[field.name].cast(pa.string()))
    return ordered.combine_chunks().replace_schema_metadata()


def delivered(reading: Callable[..., Any], settings: KafkaConfig) -> dict[str, pa.Table]:
    """Return what the source delivers of the topics up to their ends."""
    read = reading(KafkaSource.connect(settings.model_copy(update={"follow": False})))
    read.to_end()
    found: dict[str, list[pa.RecordBatch]] = {}
    for arrival in read.arrivals:
        if arrival.batch is not None:
            found.setdefault(arrival.topic, []).append(arrival.batch)
    return {topic: in_order(pa.Table.from_batches(batches).unify_dictionaries()) for topic, batches in found.items()}


def places(table: pa.Table) -> list[tuple[int, int, int]]:
    columns = (table[name].cast("int64").to_pylist() for name in ("ts_recv", "partition", "offset"))
    return list(zip(*columns, strict=True))


def assert_whole(root: Path, expected: dict[str, pa.Table]) -> None:
    """Check that an archive has these records, each once, and every roll in arrival order."""
    found = recorded(root)
    assert set(found) == set(expected)
    for topic, table in found.items():
        assert table.num_rows == expected[topic].num_rows
        assert in_order(table).equals(expected[topic]), topic
        for path in Archive.open(root).files(topic):
            rows = places(pq.read_table(path, partitioning=None))
            assert rows == sorted(rows)


def mixed(rng: random.Random, count: int) -> list[tuple[bytes | None, dict[str, Any]]]:
    """Return trades over three partitions with steps back, heartbeats and records that cannot be read."""
    records: list[tuple[bytes | None, dict[str, Any]]] = []
    for number in range(count):
        stamp = START + number * 10**6 + rng.choice([0, 0, 0, -5 * 10**6])
        place = at(stamp, number % 3)
        kind = rng.random()
        if kind < 0.05:
            place["headers"].append(("heartbeat", b""))
            records.append((None, place))
        else:
            records.append((b"{" if kind < 0.1 else trade(number), place))
    return records


@pytest.fixture
def published(kafka_broker: Any, topic: Callable[..., str]) -> dict[str, str]:
    """Two topics: three partitions of trades with faults, one of quotes over two days."""
    names = {"trades": topic(3), "quotes": topic(1)}
    kafka_broker.produce(names["trades"], mixed(random.Random(1), 3_000))
    kafka_broker.produce(names["quotes"], [(quote(i), at(START + i * 60 * SECOND)) for i in range(1_000)])
    return names


# --- the same records


@pytest.mark.parametrize("rolling", [None, Rolling(rows=200)])
def test_recording_has_what_the_source_delivers(kafka_broker, published, reading, tmp_path, rolling):
    settings = config(kafka_broker, published, batch_records=70)
    steps: list[RecordProgress] = []
    rolls: list[Any] = []
    result = record(
        settings, tmp_path / "a", until_end=True, rolling=rolling, progress=steps.append,
        rolled=lambda roll, lag: rolls.append((roll.number, sum(roll.rows.values()), lag)),
    )  # fmt: skip
    expected = delivered(reading, settings)
    assert_whole(tmp_path / "a", expected)
    assert (result.status, result.resumed) == (RunStatus.COMPLETE, False)
    assert result.rows == {topic: table.num_rows for topic, table in expected.items()}
    assert result.order_violations > 100
    assert result.positions == {"quotes/0": 1_000, "trades/0": 1_000, "trades/1": 1_000, "trades/2": 1_000}
    assert set(result.lag.values()) == {0}
    assert [number for number, _, _ in rolls] == list(range(result.rolls))
    assert sum(rows for _, rows, _ in rolls) == result.records == result.to_json()["records"]
    assert (result.rolls > 5) == (rolling is not None)
    assert steps
    assert Archive.open(tmp_path / "a").files("quotes")[0].parent.name == "2023-11-14"


def test_replay_of_a_recording_gives_the_rows_of_the_topics(kafka_broker, published, tmp_path):
    settings = config(kafka_broker, published, follow=False, batch_records=100)
    record(settings, tmp_path / "a", rolling=Rolling(rows=500))
    graph = Settings.model_validate({"compute": {"bars": {"intervals": ["1s"]}, "strategies": STRATEGIES}, **ACROSS})

    def run(source: Any) -> dict[str, Any]:
        writer = MemoryWriter()
        cli_main(
            build_graph(graph, source, source.sources, TableSink(lambda: writer)), epoch_interval=timedelta(seconds=10)
        )
        writer.flush()
        return {table: writer.rows(table) for table in TABLES}

    found = run(ArchiveSource(Archive.open(tmp_path / "a"), batch_rows=300))
    assert found == run(KafkaSource.connect(settings))
    assert len(found["bars"]) > 2
    assert len(found["dead_letters"]) > 50


def test_arrow_records_of_many_rows_are_recorded_and_resumed_within(kafka_broker, topic, reading, tmp_path):
    """A record is cut where another partition's clock stands; the rest of it comes after the restart, once."""
    name = topic(2)

    def rows(first: int, count: int, partition: int) -> tuple[bytes, dict[str, Any]]:
        recv = (START + (first + np.arange(count)) * 1_000).tolist()
        columns = {"instrument_id": ["A"] * count, "ts_event": recv, "ts_recv": recv, "price": [1.0] * count}
        batch = make_batch("trades", columns | {"size": [1.0] * count, "side": [1] * count}, count)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.select(topic_schema("trades").names).schema) as writer:
            writer.write_batch(batch.select(topic_schema("trades").names))
        return sink.getvalue().to_pybytes(), {"partition": partition}

    kafka_broker.produce(name, [rows(0, 1_000, 0), rows(0, 300, 1)])
    described = {"trades": {"name": name, "clock": "record", "format": "arrow"}}
    settings = KafkaConfig.model_validate({"brokers": kafka_broker.address, "topics": described})
    first = _record_until(settings, tmp_path / "a", lambda found: found >= 500)
    assert (first.status, first.records) == (RunStatus.STOPPED, 598)
    kafka_broker.produce(name, [rows(300, 200, 1)])
    second = record(settings, tmp_path / "a", until_end=True)
    assert second.records == 1_500 - 598
    assert_whole(tmp_path / "a", delivered(reading, settings))


def _record_until(settings: KafkaConfig, root: Path, done: Callable[[int], bool], **options: Any) -> RecordResult:
    """Record until so many records are archived or wait for their roll."""
    stop = Event()
    deadline = time.monotonic() + 30

    def watch(step: RecordProgress) -> None:
        if done(step.rows) or time.monotonic() > deadline:
            stop.set()

    return record(settings, root, stop=stop, progress=watch, **options)


# --- stopped, killed and resumed


@pytest.mark.parametrize("seed", range(3))
def test_stopped_after_any_record_goes_on_without_gap_or_double(
    kafka_broker, published, reading, tmp_path, monkeypatch, seed
):
    rng = random.Random(seed)
    monkeypatch.setattr("dataflows.recording._REPORT_SECONDS", 0.0)
    bounds = {"batch_records": rng.choice([20, 90]), "lead_bytes": rng.choice([2_000, 10**6])}
    settings = config(kafka_broker, published, **bounds)
    total = stopped = 0
    for _ in range(4):
        wanted = rng.randint(1, 700)
        result = _record_until(settings, tmp_path / "a", lambda rows, wanted=wanted: rows >= wanted, rolling=SOON)
        total += result.records
        stopped += result.status is RunStatus.STOPPED
    assert stopped == 4
    result = record(settings, tmp_path / "a", until_end=True)
    assert result.resumed
    expected = delivered(reading, settings)
    assert total + result.records == sum(table.num_rows for table in expected.values())
    assert_whole(tmp_path / "a", expected)


def test_recorded_in_sessions_to_the_end_is_as_if_at_once(kafka_broker, topic, reading, tmp_path):
    """The end of a session is a place, not a time: what is published later keeps its own time."""
    name = topic(2)
    settings = config(kafka_broker, {"trades": name})
    kafka_broker.produce(name, [(trade(i), at(START + i * (1 + i % 2), i % 2)) for i in range(100)])
    assert record(settings, tmp_path / "a", until_end=True).records == 100
    kafka_broker.produce(name, [(trade(i), at(START + i * (1 + i % 2), i % 2)) for i in range(100, 200)])
    assert record(settings, tmp_path / "a", until_end=True).records == 100
    nothing = record(settings, tmp_path / "a", until_end=True)
    assert (nothing.records, nothing.rolls, nothing.status) == (0, 0, RunStatus.COMPLETE)
    assert_whole(tmp_path / "a", delivered(reading, settings))


def test_record_behind_an_idle_clock_is_raised_after_a_restart_too(kafka_broker, topic, tmp_path):
    """What was archived stands: an older record that comes while nobody reads is put behind it."""
    names = {"trades": topic(2), "quotes": topic(1)}
    settings = config(kafka_broker, names, idle_margin="100ms")
    began = time.time_ns()
    kafka_broker.produce(names["trades"], [(trade(0), at(began, 0))])
    assert _record_until(settings, tmp_path / "a", lambda rows: rows >= 1, rolling=EACH).records == 1
    late = [(trade(1), at(began - 60 * SECOND, 1)), (trade(2), at(began - 60 * SECOND, 0))]
    kafka_broker.produce(names["trades"], late)
    result = _record_until(settings, tmp_path / "a", lambda rows: rows >= 2, rolling=EACH)
    assert (result.records, result.order_violations) == (2, 2)
    rows = places(recorded(tmp_path / "a")["trades"])
    assert rows == sorted(rows)
    assert rows[0][0] == began


def test_latest_is_where_the_recording_began_not_where_it_goes_on(kafka_broker, topic, tmp_path):
    name = topic()
    kafka_broker.produce(name, [(trade(i), at(START + i)) for i in range(5)])
    settings = config(kafka_broker, {"trades": name}, start="latest")
    assert record(settings, tmp_path / "a", until_end=True).records == 0
    kafka_broker.produce(name, [(trade(i), at(START + i)) for i in range(5, 9)])
    record(settings, tmp_path / "a", until_end=True)
    assert recorded(tmp_path / "a")["trades"]["offset"].to_pylist() == [5, 6, 7, 8]


def test_from_a_time_begins_there(kafka_broker, topic, tmp_path):
    name = topic()
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    base = int(moment.timestamp()) * 1000
    kafka_broker.produce(name, [(trade(i), {"partition": 0, "timestamp": base + i - 4}) for i in range(10)])
    settings = config(kafka_broker, {"trades": name}, clock="broker")
    record(settings, tmp_path / "a", until_end=True, start=moment)
    assert recorded(tmp_path / "a")["trades"]["offset"].to_pylist() == [4, 5, 6, 7, 8, 9]


def test_new_partition_is_read_whole_by_the_next_recorder(kafka_broker, topic, tmp_path):
    name = topic()
    settings = config(kafka_broker, {"trades": name}, start="latest")
    kafka_broker.produce(name, [(trade(0), at(START))])
    record(settings, tmp_path / "a", until_end=True)
    for done in kafka_broker.admin.create_partitions([NewPartitions(name, 2)]).values():
        done.result(20)
    deadline = time.monotonic() + 20
    while len(kafka_broker.admin.list_topics(name, timeout=20).topics[name].partitions) < 2:
        assert time.monotonic() < deadline
    kafka_broker.produce(name, [(trade(i), at(START + i, i % 2)) for i in range(1, 5)])
    result = record(settings, tmp_path / "a", until_end=True)
    assert result.records == 4
    assert [row[1:] for row in places(recorded(tmp_path / "a")["trades"])] == [(1, 0), (0, 1), (1, 1), (0, 2)]


# --- what stops it


def test_expired_records_stop_it_with_everything_before_archived(kafka_broker, topic, tmp_path):
    name = topic()
    settings = config(kafka_broker, {"trades": name})
    kafka_broker.produce(name, [(trade(i), at(START + i)) for i in range(10)])
    record(settings, tmp_path / "a", until_end=True)
    kafka_broker.produce(name, [(trade(i), at(START + i)) for i in range(10, 30)])
    for done in kafka_broker.admin.delete_records([TopicPartition(name, 0, 15)]).values():
        done.result(20)
    for until_end in (True, False):
        with pytest.raises(InputError, match="expected offset 10 of `trades/0`, found records from 15 up to 30"):
            record(settings, tmp_path / "a", until_end=until_end)
    assert recorded(tmp_path / "a")["trades"]["offset"].to_pylist() == list(range(10))


def test_topic_made_anew_is_refused(kafka_broker, topic, tmp_path):
    first, second = topic(), topic()
    kafka_broker.produce(first, [(trade(i), at(START + i)) for i in range(10)])
    kafka_broker.produce(second, [(trade(i), at(START + i)) for i in range(20)])
    record(config(kafka_broker, {"trades": first}), tmp_path / "a", until_end=True)
    # as if the second had the name of the first
    path = tmp_path / "a" / "archive.json"
    path.write_text(path.read_text().replace(first, second))
    for until_end in (True, False):
        with pytest.raises(InputError, match="made anew"):
            record(config(kafka_broker, {"trades": second}), tmp_path / "a", until_end=until_end)


def test_records_lost_by_the_brokers_are_noticed(kafka_broker, topic, tmp_path):
    """The topic ends before the recording does: an unclean election of a leader, say."""
    settings = config(kafka_broker, {"trades": topic()})
    kafka_broker.produce(settings.topic_name("trades"), [(trade(i), at(START + i)) for i in range(10)])
    record(settings, tmp_path / "a", until_end=True)
    path = tmp_path / "a" / "archive.json"
    path.write_text(path.read_text().replace('"offset": 10', '"offset": 12'))
    for until_end in (True, False):
        with pytest.raises(InputError, match=r"expected offset 12 of `trades/0`, found records .*up to 10"):
            record(settings, tmp_path / "a", until_end=until_end)


def test_error_of_the_source_leaves_what_was_aligned_archived(kafka_broker, topic, tmp_path):
    """Records that are read may be gone from the brokers when they are to be read again."""
    name = topic()
    settings = config(kafka_broker, {"trades": name}, partitions_interval="1s")
    kafka_broker.produce(name, [(trade(i), at(START + i)) for i in range(20)])
    deleted = Event()

    def delete(step: RecordProgress) -> None:
        if step.rows == 20 and not deleted.is_set():
            deleted.set()
            for done in kafka_broker.admin.delete_topics([name]).values():
                done.result(20)

    with pytest.raises(InputError, match=name):
        record(settings, tmp_path / "a", progress=delete)
    assert recorded(tmp_path / "a")["trades"].num_rows == 20


def test_new_partition_ends_a_recorder_and_is_read_behind_what_is_archived(kafka_broker, topic, tmp_path):
    name = topic()
    settings = config(kafka_broker, {"trades": name}, partitions_interval="1s")
    kafka_broker.produce(name, [(trade(i), at(START + i)) for i in range(20)])
    grown = Event()

    def grow(step: RecordProgress) -> None:
        if step.rows == 20 and not grown.is_set():
            grown.set()
            for done in kafka_broker.admin.create_partitions([NewPartitions(name, 2)]).values():
                done.result(20)

    with pytest.raises(InputError, match="to keep their partitions, found the new trades/1; everything up to now is"):
        record(settings, tmp_path / "a", progress=grow)
    assert recorded(tmp_path / "a")["trades"].num_rows == 20
    kafka_broker.produce(name, [(trade(i), at(START + i, 1)) for i in range(3)])
    assert _record_until(settings, tmp_path / "a", lambda rows: rows >= 3).records == 3
    rows = places(recorded(tmp_path / "a")["trades"])
    assert rows == sorted(rows)
    assert [row[1:] for row in rows[-3:]] == [(1, 0), (1, 1), (1, 2)]


def test_second_recorder_and_other_topics_are_refused(kafka_broker, topic, tmp_path):
    name = topic()
    settings = config(kafka_broker, {"trades": name})
    record(settings, tmp_path / "a", until_end=True)
    with pytest.raises(ConfigError, match="other settings of `trades`"):
        record(config(kafka_broker, {"trades": name}, clock="broker"), tmp_path / "a", until_end=True)
    described = {"trades": {"name": name, "clock": "header", "format": "json"}}
    with (
        Recording.open(tmp_path / "a", described),
        pytest.raises(StorageLockedError, match=r"expected the archive .* to have no recorder"),
    ):
        record(settings, tmp_path / "a", until_end=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; the test skips where this account may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs, as root: {mounted.stderr.strip() if mounted else 'no `mount`'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_loses_nothing_and_goes_on_when_there_is_room(kafka_broker, published, reading, small_disk):
    settings = config(kafka_broker, published, batch_records=100)
    (small_disk / "ballast").write_bytes(bytes(2**21 - 96 * 1024))
    with pytest.raises(StorageError, match=r"found: no space left on device; what was committed is whole: free"):
        record(settings, small_disk / "a", until_end=True, rolling=Rolling(rows=100))
    before = recorded(small_disk / "a")
    (small_disk / "ballast").unlink()
    expected = delivered(reading, settings)
    assert 0 < sum(table.num_rows for table in before.values()) < sum(table.num_rows for table in expected.values())
    record(settings, small_disk / "a", until_end=True)
    assert_whole(small_disk / "a", expected)


# --- the command


def command(tmp_path: Path, settings: KafkaConfig, *arguments: str) -> list[str]:
    topics = "\n".join(
        f'[kafka.topics.{name}]\nname = "{one.name}"\nclock = "{one.clock}"' for name, one in settings.topics.items()
    )
    text = f'[kafka]\nbrokers = "{settings.brokers}"\nbatch_records = {settings.batch_records}\n{topics}\n'
    (tmp_path / "signalbox.toml").write_text(text)
    called = [sys.executable, "-m", "dataflows.cli", "record", "--config", str(tmp_path / "signalbox.toml")]
    return [*called, "--archive", str(tmp_path / "a"), *arguments]


@contextmanager
def started(call: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test; whatever comes of the test, it does not outlive it."""
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_command_killed_at_any_moment_leaves_no_gap_and_no_double(kafka_broker, topic, reading, tmp_path):
    """SIGKILL while records are published; between the kills the archive is a prefix of every partition."""
    rng = random.Random(11)
    names = {"trades": topic(3), "quotes": topic(1)}
    settings = config(kafka_broker, names, batch_records=50)
    call = command(tmp_path, settings, "--roll", "1s", "--roll-records", "100")
    done = Event()

    def publish() -> None:
        for number in range(200):
            if done.wait(0.05):
                return
            now = time.time_ns()
            kafka_broker.produce(names["trades"], [(trade(i), at(now + i, i % 3)) for i in range(60)])
            kafka_broker.produce(names["quotes"], [(quote(number), at(now))])

    publisher = Thread(target=publish)
    publisher.start()
    counts = []
    try:
        for _ in range(5):
            with started(call) as process:
                assert process.stderr.readline().startswith("signalbox: roll")
                time.sleep(rng.uniform(0.0, 0.7))
            counts.append(sum(table.num_rows for table in recorded(tmp_path / "a").values()))
    finally:
        done.set()
        publisher.join()
    assert counts == sorted(counts)
    assert counts[0] > 0
    ended = subprocess.run([*call, "--until-end", "--json"], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == ExitCode.OK, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["status"], summary["resumed"]) == ("complete", True)
    expected = {name: table.num_rows for name, table in delivered(reading, settings).items()}
    found = recorded(tmp_path / "a")
    assert {name: table.num_rows for name, table in found.items()} == expected
    assert counts[-1] + summary["records"] == sum(expected.values())
    for table in found.values():
        rows = [row[1:] for row in places(table)]
        assert len(set(rows)) == len(rows)
        assert places(table) == sorted(places(table)), "a later roll has nothing older"


def test_command_stopped_by_a_signal_archives_what_it_read_and_says_so(kafka_broker, topic, tmp_path):
    name = topic()
    now = time.time_ns()
    kafka_broker.produce(name, [(trade(i), at(now + i)) for i in range(500)])
    call = command(tmp_path, config(kafka_broker, {"trades": name}), "--roll-records", "400", "--json")
    with started(call) as process:
        # the last record waits until the clock has passed it
        assert re.fullmatch(r"signalbox: roll 0: (499|500) records in 1 files, lag 0\n", process.stderr.readline())
        other = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
        assert other.returncode == ExitCode.LOCKED
        assert f"found process {process.pid} recording into it" in other.stderr
        kafka_broker.produce(name, [(trade(i), at(now + i)) for i in range(500, 510)])
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    assert errors.splitlines()[-1].startswith("signalbox: stopped with everything up to here archived")
    summary = json.loads(output)
    assert (summary["status"], summary["rows"], summary["rolls"]) == ("stopped", {"trades": 510}, 2)
    assert recorded(tmp_path / "a")["trades"]["offset"].to_pylist() == list(range(510))


def test_command_without_topics_or_with_a_wrong_option_starts_nothing(tmp_path):
    (tmp_path / "empty.toml").write_text("shards = 2\n")
    call = [sys.executable, "-m", "dataflows.cli", "record", "--archive", str(tmp_path / "a")]
    environment = {name: value for name, value in os.environ.items() if name != "SIGNALBOX_CONFIG"}
    ended = subprocess.run(
        [*call, "--config", str(tmp_path / "empty.toml")], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == ExitCode.CONFIG
    assert "expected a section `[kafka]`" in ended.stderr
    assert not (tmp_path / "a").exists()
