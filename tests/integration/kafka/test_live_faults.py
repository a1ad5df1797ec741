"""What a live run does when something around it fails: each fault with its end, and nothing lost or doubled.

The faults are in docs/operations.md, "Faults". A disk that is full while topics are recorded is in `test_record.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from dataflows.live import TopicRun, run_topics
from dataflows.publishing import PublishOptions, publish
from dataflows.settings import load_settings
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from dataflows.sources.replay_range import ReplayRange
from schemas.errors import ExitCode
from schemas.records import TOPICS
from schemas.tables import PUBLISHED
from sinks.archive import Archive
from sinks.store import Store
from tests.services.clickhouse_http import ClickHouseHttp, Fault, serve_clickhouse
from tests.services.live_topics import (
    FAST,
    SECOND,
    DatabaseProcess,
    LiveTopics,
    heartbeat,
    published,
    published_key,
    stored_keys_sql,
    trade,
    until,
)

PARTITIONS = 2
FAULTS = FaultConfig(duplicate_trades=4, late_trades=4, late_by="30s", sequence_gaps=2, malformed=3, crossed_quotes=2)
MARKET = SimulatorConfig(seed=11, instruments=6, duration="2m", snapshot_interval="20s", faults=FAULTS)
SNAPSHOTS = f'{FAST}[recovery]\nsnapshot_interval = "200ms"\n'
HOUR = 3600 * SECOND


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHttp]:
    with serve_clickhouse(tmp_path_factory.mktemp("server") / "data") as served:
        yield served


@pytest.fixture
def trades(
    kafka_broker: Any, topic: Callable[..., str], server: ClickHouseHttp, tmp_path: Path
) -> Iterator[LiveTopics]:
    """One topic of trades without records; its partitions are asked for every second."""
    kafka = 'partitions_interval = "1s"'
    name = topic()
    made = LiveTopics(tmp_path, kafka_broker.address, server.url, {"trades": name}, kafka=kafka, extra=SNAPSHOTS)
    yield made
    server.faults.clear()
    made.close()


@pytest.fixture
def name(trades: LiveTopics) -> str:
    """Name of the topic on the brokers."""
    return trades.names["trades"]


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """Name for the run of a test."""
    return re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:80].strip("-")


def messages(first: int, last: int, partition: int = 0, **fields: Any) -> list[Any]:
    return [(trade(number, **fields), {"partition": partition}) for number in range(first, last)]


def closed(run: Any, sources: int = 1) -> None:
    """Wait for the end of all partitions, and stop the run."""
    run.await_caught_up(sources)
    assert run.stop() == [0] * len(run.processes), run.errors()


def volume(topics: LiveTopics, run_id: str) -> float:
    """Return what was traded in all bars of a run."""
    ((found,),) = topics.rows(f"SELECT sum(volume) FROM bars WHERE run_id = '{run_id}'")
    return float(found)


# --- the broker


@pytest.mark.slow
def test_broker_stopped_for_some_seconds_is_waited_for(
    kafka_broker, topic, server, stop_broker, restart_broker, tmp_path
):
    names = {name: topic(PARTITIONS) for name in TOPICS}
    out = {schema.name: topic(PARTITIONS) for schema in PUBLISHED}
    outputs = "".join(f'{table} = "{name}"\n' for table, name in out.items())
    live = LiveTopics(tmp_path, kafka_broker.address, server.url, names, extra=f"{SNAPSHOTS}[outputs]\n{outputs}")
    simulate(MARKET, Archive.create(tmp_path / "archive"))
    settings = load_settings(live.configure())
    run = live.run("broker")
    options = PublishOptions(speed=12)
    publisher = threading.Thread(target=publish, args=(Archive.open(tmp_path / "archive"), settings.kafka, options))
    publisher.start()
    try:
        run.start()
        until(lambda: run.delivered > 300, "records", run)
        stop_broker()
        time.sleep(3)
    finally:
        restart_broker()
        publisher.join(60)
    run.await_caught_up(PARTITIONS * len(names))
    assert len(run.processes) == run.starts == 1
    assert run.stop() == [0], run.errors()
    with Store.open(live.url) as store:
        run_topics(TopicRun("broker-calm", settings, ReplayRange()), store)
    assert live.tables("broker") == live.tables("broker-calm")
    for table in out:
        rows = live.rows(stored_keys_sql(table, "broker"))
        found = published(kafka_broker.address, out[table], PARTITIONS)
        by_id = {headers["id"]: published_key(table, headers, value) for headers, value in found}
        assert rows, table
        assert Counter(by_id.values()) == Counter(rows), "one id for each row, repeats dropped"
    live.close()


# --- topics


def make_anew(broker: Any, name: str) -> None:
    for done in broker.admin.delete_topics([name]).values():
        done.result(20)
    until(lambda: name not in broker.admin.list_topics(timeout=20).topics, f"`{name}` deleted")
    for done in broker.admin.create_topics([NewTopic(name, 1, 1)]).values():
        done.result(20)
    until(lambda: name in broker.admin.list_topics(timeout=20).topics, f"`{name}` made")


@pytest.mark.slow
@pytest.mark.parametrize("running", [False, True])
def test_topic_made_anew_ends_the_run_and_a_new_run_reads_it(kafka_broker, trades, name, unique, running):
    kafka_broker.produce(name, messages(0, 100))
    run = trades.run(unique)
    run.start()
    until(lambda: run.delivered == 100, "records", run)
    if running:
        until(lambda: volume(trades, unique) > 0, "bars", run)
    else:
        assert run.stop() == [0]
    before = trades.rows(f"SELECT * FROM bars WHERE run_id = '{unique}' ORDER BY ALL")
    make_anew(kafka_broker, name)
    kafka_broker.produce(name, [*messages(0, 200, instrument="B"), heartbeat()])
    if not running:
        run.start()
    assert run.wait(30) == [ExitCode.INPUT], run.errors()
    # whichever is noticed first: its id, that it is not there, or that it has fewer records
    assert re.search(r"made anew.* start a new run|was the topic deleted\?", run.errors())
    assert "Traceback" not in run.errors()
    after = trades.rows(f"SELECT * FROM bars WHERE run_id = '{unique}' AND instrument_id = 'A' ORDER BY ALL")
    assert (bool(before), after) == (True, before)
    run.start()
    assert run.wait(30) == [ExitCode.INPUT]
    assert "it was deleted and made anew" in run.errors()
    fresh = trades.run(f"{unique}-new")
    fresh.start()
    closed(fresh)
    assert volume(trades, fresh.run_id) == 200


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_partition_added_ends_the_run_and_the_next_start_reads_it(kafka_broker, trades, name, unique, count):
    kafka_broker.produce(name, messages(0, 100))
    run = trades.run(unique)
    run.start(count)
    until(lambda: run.delivered == 100, "records", run)
    for done in kafka_broker.admin.create_partitions([NewPartitions(name, 2)]).values():
        done.result(20)
    codes = run.wait(40)
    # a process that reads none of the partitions ends because the others do
    assert codes == [ExitCode.INPUT] + [ExitCode.STORAGE] * (count - 1), run.errors()
    message = "found the new trades/1; everything up to now is stored: run it again to read the new partitions"
    assert message in run.errors()
    assert "Traceback" not in run.errors()
    kafka_broker.produce(name, [*messages(100, 200), heartbeat(0), *messages(200, 250, 1, instrument="B")])
    kafka_broker.produce(name, [heartbeat(1)])
    run.start(count)
    closed(run, 2)
    assert volume(trades, unique) == 250
    found = trades.rows(
        f"SELECT subject, kind, count FROM run_counts WHERE run_id = '{unique}' AND subject = 'trades' ORDER BY ALL"
    )
    assert found == [("trades", "decoded", 250), ("trades", "read", 250)]


@pytest.mark.slow
def test_partition_added_to_a_killed_run_is_read_once_it_has_caught_up(kafka_broker, trades, name, unique):
    kafka_broker.produce(name, messages(0, 100))
    run = trades.run(unique)
    run.start()
    until(lambda: run.delivered == 100 and run.snapshot is not None, "records", run)
    run.kill()
    for done in kafka_broker.admin.create_partitions([NewPartitions(name, 2)]).values():
        done.result(20)
    kafka_broker.produce(name, [*messages(100, 200), *messages(200, 250, 1, instrument="B")])
    run.start()
    assert run.wait(40) == [ExitCode.INPUT], run.errors()
    assert "run it again to read the new partitions" in run.errors()
    kafka_broker.produce(name, [heartbeat(0), heartbeat(1)])
    run.start()
    closed(run, 2)
    total = trades.rows(f"SELECT kind, count FROM run_counts WHERE run_id = '{unique}' AND kind IN ('read', 'decoded')")
    assert sorted(total) == [("decoded", 250), ("read", 250)]
    late = trades.rows(f"SELECT count() FROM late_events WHERE run_id = '{unique}'")[0][0]
    assert volume(trades, unique) + late == 250


@pytest.mark.slow
def test_expired_offset_ends_the_run(kafka_broker, trades, name, unique):
    kafka_broker.produce(name, messages(0, 100))
    run = trades.run(unique)
    run.start()
    until(lambda: run.delivered == 100, "records", run)
    assert run.stop() == [0]
    before = trades.tables(unique)
    kafka_broker.produce(name, messages(100, 200))
    for done in kafka_broker.admin.delete_records([TopicPartition(name, 0, 150)]).values():
        done.result(20)
    run.start()
    assert run.wait(30) == [ExitCode.INPUT], run.errors()
    message = (
        "expected offset 100 of `trades/0`, found records from 150 up to 200; what was before expired by retention"
    )
    assert message in run.errors()
    assert "or start a new run" in run.errors()
    assert "Traceback" not in run.errors()
    assert trades.tables(unique) == before


# --- bad records


POISON = {
    "not JSON": b"trade of A at 100",
    "not UTF-8": b"\xff\xfe\x00\x80",
    "empty": b"",
    "large": bytes(range(256)) * 3600,
    "no value": None,
    "not an object": b"[1, 2]",
    "nested": b"[" * 100_000,
}


def test_poison_is_in_the_dead_letters_with_its_bytes(kafka_broker, topic, trades, name, unique):
    letters = topic()
    trades.extra += f'[outputs]\ndead_letters = "{letters}"\n'
    poison = [(value, {"partition": 0}) for value in POISON.values()]
    kafka_broker.produce(name, [*messages(0, 50), *poison, *messages(50, 100), heartbeat()])
    run = trades.run(unique)
    run.start()
    closed(run)
    assert volume(trades, unique) == 100
    sql = "SELECT offset, detail, hex(payload) FROM dead_letters WHERE run_id = '{}' ORDER BY offset"
    stored = trades.rows(sql.format(unique))
    assert [row[0] for row in stored] == list(range(50, 50 + len(POISON)))
    assert all(0 < len(row[1]) < 500 for row in stored)
    assert [row[2] for row in stored] == [(value or b"").hex().upper() for value in POISON.values()]
    found = published(kafka_broker.address, letters)
    assert [value or b"" for _, value in found] == [value or b"" for value in POISON.values()]


@pytest.mark.slow
def test_flood_of_poison_stops_the_run_before_it_is_published(kafka_broker, topic, trades, name, unique):
    letters = topic()
    outputs = f'[outputs]\ndead_letters = "{letters}"\nmax_dead_letters = '
    trades.configure(extra=f"{SNAPSHOTS}{outputs}100\n", kafka="batch_records = 64")
    flood = [(b"poison %d" % number, {"partition": 0}) for number in range(2_000)]
    kafka_broker.produce(name, [*messages(0, 50), *flood, *messages(50, 100), heartbeat()])
    run = trades.run(unique)
    for _ in range(2):  # unchanged, it has the same end
        run.start()
        assert run.wait(30) == [ExitCode.FLOOD], run.errors()
        assert "expected at most 100 dead letters within 1m, found" in run.errors()
        assert "To go on regardless, raise `outputs.max_dead_letters`" in run.errors()
        assert "Traceback" not in run.errors()
    assert len(published(kafka_broker.address, letters)) <= 200
    trades.configure(extra=f"{SNAPSHOTS}{outputs}10000\n", kafka="batch_records = 64")
    run.start()
    closed(run)
    assert volume(trades, unique) == 100
    stored = trades.rows(f"SELECT offset FROM dead_letters WHERE run_id = '{unique}' ORDER BY offset")
    assert [row[0] for row in stored] == list(range(50, 2_050))
    by_id = {headers["id"]: value for headers, value in published(kafka_broker.address, letters)}
    assert sorted(by_id.values()) == sorted(value for value, _ in flood)


# --- the database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[DatabaseProcess]:
    served = DatabaseProcess(tmp_path / "database")
    served.start()
    yield served
    served.kill()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["down", "refusing"])
def test_database_away_is_ridden_out(kafka_broker, trades, name, unique, database, server, kind):
    if kind == "down":
        trades.url = database.url
    run = trades.run(unique)
    kafka_broker.produce(name, messages(0, 100))
    run.start()
    until(lambda: run.delivered == 100 and volume(trades, unique) > 0, "bars", run)
    if kind == "down":
        database.kill()
    else:
        server.faults[:] = [Fault(status=500, code=252)] * 8
    for first in range(100, 2_100, 100):
        kafka_broker.produce(name, messages(first, first + 100))
        time.sleep(0.5)
    assert run.running
    assert "trying again for 121 s" in run.errors()
    if kind == "down":
        database.start()
    kafka_broker.produce(name, [heartbeat()])
    closed(run)
    assert re.search(r"attempt \d+ succeeded", run.errors())
    assert volume(trades, unique) == 2_100
    calm = trades.run(f"{unique}-calm")
    calm.start()
    closed(calm)
    assert trades.tables(unique) == trades.tables(calm.run_id)


@pytest.mark.slow
def test_database_away_for_longer_ends_the_run_and_the_same_command_goes_on(
    kafka_broker, trades, name, unique, database
):
    trades.url = database.url
    trades.configure(extra=SNAPSHOTS.replace("[sink]", '[sink]\npatience = "2s"'))
    run = trades.run(unique)
    kafka_broker.produce(name, messages(0, 100))
    run.start()
    until(lambda: run.delivered == 100 and volume(trades, unique) > 0, "bars", run)
    database.kill()
    kafka_broker.produce(name, messages(100, 1_000))
    assert run.wait(30) == [ExitCode.STORAGE], run.errors()
    message = r"an insert failed, nothing more is written: .*Connection refused \(gave up after \d+ attempts\)"
    assert re.search(message, run.errors())
    assert "s3cret" not in run.errors()
    assert "Traceback" not in run.errors()
    run.start()
    assert run.wait(30) == [ExitCode.STORAGE], run.errors()
    assert "start the server, or correct the URL" in run.errors()
    database.start()
    kafka_broker.produce(name, [heartbeat()])
    run.start()
    closed(run)
    assert volume(trades, unique) == 1_000
    calm = trades.run(f"{unique}-calm")
    calm.start()
    closed(calm)
    assert trades.tables(unique) == trades.tables(calm.run_id)


# --- clocks: a record with the time of an hour ago looks as to a machine that is an hour ahead


def stamped(first: int, last: int, offset: int, partition: int = 0, instrument: str = "A") -> list[Any]:
    """Return trades of now by a clock that differs from ours, ns."""
    now = time.time_ns() + offset
    times = [now + number * SECOND // 10 for number in range(first, last)]
    return [
        (trade(number, ts=ts, instrument=instrument), {"partition": partition, "timestamp": ts // 10**6})
        for number, ts in zip(range(first, last), times, strict=True)
    ]


@pytest.fixture
def skewed(trades: LiveTopics, topic: Callable[..., str]) -> LiveTopics:
    trades.names = {"trades": topic(2, message_timestamp_after_max_ms=str(2 * HOUR // 10**6))}
    trades.clock = "broker"
    return trades


@pytest.mark.slow
def test_clock_an_hour_behind_delays_rows_and_loses_none(kafka_broker, skewed, unique):
    name = skewed.names["trades"]
    kafka_broker.produce(name, stamped(0, 100, HOUR))
    run = skewed.run(unique)
    run.start()
    until(lambda: run.delivered == 100, "records", run)
    time.sleep(1)
    # the quiet partition holds up the other, since the clock that it follows is behind
    assert skewed.rows(f"SELECT count() FROM bars WHERE run_id = '{unique}'") == [(0,)]
    clocks = {source: status.clock for one in run.status() for source, status in one.sources.items()}
    assert clocks["trades/0"] - clocks["trades/1"] > HOUR // 2
    assert run.stop() == [0], run.errors()
    later = HOUR + 60 * SECOND
    kafka_broker.produce(name, stamped(100, 101, later, 0) + stamped(101, 102, later, 1))
    run.start()
    until(lambda: volume(skewed, unique) == 100, "bars", run)
    assert run.stop() == [0], run.errors()
    # the last ones wait for clocks beyond their own
    found = skewed.rows(
        f"SELECT kind, count FROM run_counts WHERE run_id = '{unique}' AND subject = 'trades' ORDER BY ALL"
    )
    assert found == [("decoded", 100), ("read", 102)]
    skewed.clock = "header"  # of a topic with `broker`, doctor finds fault with times that producers set
    doctor = look(skewed)
    assert re.search(r"newest record is 3[67]\d\d\.\d+ s ahead of this machine's clock", doctor)
    assert "set the clocks of brokers and this machine by one time server" in doctor


@pytest.mark.slow
def test_clock_an_hour_ahead_raises_and_counts_and_warns(kafka_broker, skewed, unique):
    name = skewed.names["trades"]
    run = skewed.run(unique)
    run.start()
    until(lambda: min([c.clock for one in run.status() for c in one.sources.values()], default=-1) > 0, "clocks", run)
    kafka_broker.produce(name, stamped(0, 100, -HOUR))
    until(lambda: run.delivered == 100, "records", run)
    total = 100
    while "expected records no older than the clock" not in run.errors():  # counters are given every five seconds
        assert total < 200, run.errors()
        kafka_broker.produce(name, stamped(total, total + 1, -HOUR))
        total += 1
        time.sleep(0.2)
    until(lambda: run.delivered == total, "records", run)
    assert run.stop() == [0], run.errors()
    found = skewed.rows(f"SELECT kind, reason, count FROM run_counts WHERE run_id = '{unique}' ORDER BY ALL")
    assert found == [(kind, why, total) for kind, why in COUNTERS]
    late = skewed.rows(f"SELECT count() FROM late_events WHERE run_id = '{unique}'")
    assert (volume(skewed, unique), late) == (0, [(total,)])
    assert "synchronise the clocks of this machine and of the brokers" in run.errors()


COUNTERS = (("decoded", ""), ("late", "bar_closed"), ("order_violation", ""), ("read", ""))


def look(topics: LiveTopics) -> str:
    command = [sys.executable, "-m", "dataflows.cli", "doctor", "--json", "--config", str(topics.configure())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == ExitCode.FINDINGS
    return done.stdout
