"""What is published from an archive is read back from a real broker: every record once, in order, with its time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from dataflows import publishing_outbox
from dataflows.commands.publishing import run_publish
from dataflows.commands.topics import run_create, run_describe
from dataflows.publishing import FINAL_HEARTBEAT, PublishOptions, publish
from dataflows.publishing_messages import partition_of
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from dataflows.sources.archive_reader import TopicReader
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.topics import create_topics, describe_topics, plan_topics
from operators.decode import DecodeLimits, Validated, validate
from schemas.batches import concat_batches, make_batch, take, times
from schemas.enums import DeadLetterReason
from schemas.errors import InputError, TransientError
from schemas.records import TOPICS
from schemas.records import topic as topic_schema
from schemas.time import END_OF_TIME
from schemas.wire import peek_instrument
from sinks.archive import Archive, ArchiveWriter

SECOND = 10**9
PARTITIONS = 3
FAULTS = FaultConfig(malformed=6, missing_field=3, wrong_type=2, naive_time=2, out_of_range=4, duplicate_trades=5)
MARKET = SimulatorConfig(seed=5, instruments=5, duration="40s", snapshot_interval="10s", faults=FAULTS)
QUARANTINED = [b"line 17 of a file", b""]
ALL = {topic: {} for topic in TOPICS}
OUTPUTS = {"signals": "out.signals", "dead_letters": "out.letters"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Archive:
    """An archive with records that do not decode, and with some that its importer refused."""
    archive = Archive.create(tmp_path_factory.mktemp("publish") / "archive")
    simulate(MARKET, archive)
    first = int(times(rows_of(archive, "trades"), "ts_recv")[0])
    columns = {"ts_recv": [first + SECOND, first + 2 * SECOND], "raw": QUARANTINED, "error": ["no trade", "nothing"]}
    with ArchiveWriter(archive, "trades", "refused") as writer:
        writer.append(make_batch("trades", columns | {"partition": [0, 0], "offset": [0, 1]}, 2))
    return archive


def rows_of(archive: Archive, topic: str) -> pa.RecordBatch:
    reader = TopicReader(topic, archive.files(topic), -(2**62), END_OF_TIME)
    try:
        return reader.take_below(END_OF_TIME)
    finally:
        reader.close()


def partitions_of(batch: pa.RecordBatch) -> np.ndarray:
    names = batch.column("instrument_id").to_pylist()
    raw = batch.column("raw").to_pylist()
    found = [peek_instrument(bytes_) if name is None else name for name, bytes_ in zip(names, raw, strict=True)]
    return np.array([partition_of(name, PARTITIONS) for name in found])


@dataclass(frozen=True)
class Topics:
    """Topics made for a test."""

    config: KafkaConfig
    broker: Any

    def read(self, name: str) -> dict[int, list[Message]]:
        """Return the records of a topic by partition."""
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": "raw", "log_level": 0})
        try:
            found: dict[int, list[Message]] = {}
            (state,) = describe_topics(self.config, [name])
            for part in state.partitions:
                consumer.assign([TopicPartition(name, part.partition, 0)])
                records = found.setdefault(part.partition, [])
                while len(records) < part.end:
                    records += consumer.consume(part.end - len(records), 10)
            return found
        finally:
            consumer.close()


@pytest.fixture
def topics(kafka_broker, topic):
    """Return a function that makes topics with these entries."""

    def make(entries: dict[str, dict[str, Any]], *, partitions: int = PARTITIONS, **common: Any) -> Topics:
        content = {
            "brokers": kafka_broker.address,
            "topics": {name: common | entry | {"name": topic(partitions)} for name, entry in entries.items()},
            "follow": False,
        }
        return Topics(KafkaConfig.model_validate(content), kafka_broker)

    return make


def admitted(topic: str, batch: pa.RecordBatch) -> Validated:
    return validate(topic, batch, DecodeLimits())


def values(topic: str, batch: pa.RecordBatch) -> dict[str, list[Any]]:
    columns = {name: batch.column(name) for name in topic_schema(topic).names}
    return {
        name: (column.view("int64") if pa.types.is_timestamp(column.type) else column).to_pylist()
        for name, column in columns.items()
    }


def letters(rejected: pa.RecordBatch) -> list[tuple[int, bytes]]:
    """Return time and bytes of refused records; the bytes only where they cannot be decoded."""
    rows = zip(
        rejected.column("ts_recv").view("int64").to_pylist(), rejected.column("payload").to_pylist(),
        rejected.column("reason").to_pylist(), strict=True,
    )  # fmt: skip
    return [(ts, b"" if reason == DeadLetterReason.OUT_OF_RANGE else payload) for ts, payload, reason in rows]


@pytest.mark.parametrize("format_", ["json", "arrow"])
def test_archive_is_read_back_record_by_record(archive, topics, reading, format_):
    made = topics(ALL, clock="record", format=format_)
    result = publish(archive, made.config, PublishOptions(rows_per_record=100))
    read = reading(KafkaSource.connect(made.config))
    arrivals = read.to_end()
    assert sum(arrival.order_violations for arrival in arrivals) == 0
    assert result.complete
    for topic in archive.topics():
        expected = rows_of(archive, topic)
        assert result.rows[topic] == expected.num_rows
        where = partitions_of(expected)
        for partition in range(PARTITIONS):
            batches = [a.batch for a in arrivals if a.source == f"{topic}/{partition}" and a.batch is not None]
            found = admitted(topic, concat_batches(batches) if batches else expected.slice(0, 0))
            wanted = admitted(topic, take(expected, np.flatnonzero(where == partition)))
            assert values(topic, found.accepted) == values(topic, wanted.accepted)
            if format_ == "json":
                assert letters(found.rejected) == letters(wanted.rejected)
            else:  # rows whose values are refused have no bytes of their own
                assert found.rejected.column("ts_recv").equals(wanted.rejected.column("ts_recv"))
    assert result.raw_rows >= 2 + 13 * len(archive.topics())


def test_refused_values_keep_their_bytes_and_get_their_time(archive, topics, reading):
    made = topics({"trades": {}}, clock="record")
    publish(archive, made.config)
    read = reading(KafkaSource.connect(made.config))
    rejected = [admitted("trades", a.batch).rejected for a in read.to_end() if a.batch is not None]
    payloads = [p for batch in rejected for p in batch.column("payload").to_pylist() if b'"price":-1.0' in p]
    originals = [raw for raw in rows_of(archive, "trades").column("raw").to_pylist() if b'"price":-1.0' in (raw or b"")]
    assert payloads
    assert {p[: p.index(b',"ts_recv":')] + b"}" for p in payloads} == set(originals)


def test_heartbeats_reach_every_partition_and_close_it(archive, topics):
    made = topics({"news": {}, "quotes": {}}, partitions=7, clock="record")
    result = publish(archive, made.config)
    beats = 0
    for name in ("news", "quotes"):
        for records in made.read(made.config.topic_name(name)).values():
            marks = [(m, int(dict(m.headers())["heartbeat"])) for m in records if m.headers()]
            assert all(m.value() is None for m, _ in marks)
            ticks = [ts for _, ts in marks]
            assert ticks[-1] == FINAL_HEARTBEAT
            assert records[-1].offset() == marks[-1][0].offset()
            assert set(range(ticks[0], ticks[-2], SECOND)) <= set(ticks)
            assert len(ticks) >= 40
            assert ticks == sorted(ticks)
            stamps = [m.timestamp()[1] for m in records]
            assert stamps == sorted(stamps)
            beats += len(ticks)
    assert beats == result.heartbeats


def test_final_heartbeat_left_out_lets_a_later_archive_follow(archive, topics, tmp_path, reading):
    made = topics({"news": {}}, clock="record")
    result = publish(archive, made.config, PublishOptions(final_heartbeat=False))
    later = Archive.create(tmp_path / "later")
    news = rows_of(archive, "news")
    with ArchiveWriter(later, "news", "later") as writer:
        shifted = times(news, "ts_recv") + 60 * SECOND
        place = news.schema.get_field_index("ts_recv")
        field = news.schema.field(place)
        writer.append(news.set_column(place, field, pa.array(shifted).cast(field.type)))
    again = publish(later, made.config)
    assert "held" in again.remarks[0]
    read = reading(KafkaSource.connect(made.config))
    stamps = sorted(
        read_ts for a in read.to_end() if a.batch is not None for read_ts in times(a.batch, "ts_recv").tolist()
    )
    assert stamps == sorted([*times(news, "ts_recv").tolist(), *shifted.tolist()])
    assert result.remarks == ()


def test_archive_published_twice_is_refused_where_time_would_go_back(archive, topics):
    made = topics({"news": {}}, clock="record")
    publish(archive, made.config)
    with pytest.raises(InputError, match="time cannot go back: publish to new topics"):
        publish(archive, made.config)


def test_recorded_times_are_in_headers_and_a_parent_of_each_batch(archive, topics):
    made = topics({"social": {}}, partitions=1, clock="header")
    parents = iter(f"00-{number:032x}-{1:016x}-01" for number in range(1, 100))
    result = publish(archive, made.config, trace=lambda: next(parents))
    (records,) = made.read(made.config.topic_name("social")).values()
    headers = [dict(record.headers()) for record in records]
    assert [int(h["ts_recv"]) for h in headers] == times(rows_of(archive, "social"), "ts_recv").tolist()
    assert {h["traceparent"] for h in headers} == {f"00-{1:032x}-{1:016x}-01".encode()}
    assert result.heartbeats == 0


def test_speed_paces_records_and_gives_them_the_time_of_now(archive, topics):
    made = topics({"quotes": {}, "news": {}}, partitions=1, clock="header")
    began = time.time_ns()
    result = publish(archive, made.config, PublishOptions(speed=20.0))
    ended = time.time_ns()
    (records,) = made.read(made.config.topic_name("quotes")).values()
    sent = np.array([int(dict(record.headers())["ts_recv"]) for record in records])
    recorded = times(rows_of(archive, "quotes"), "ts_recv")
    assert 1.9 < result.seconds < 20
    assert (np.diff(sent) >= 0).all()
    assert began <= sent[0]
    assert sent[-1] <= ended
    lead = sent - sent[0] - (recorded - recorded[0]) / 20
    assert lead.min() > -0.2 * SECOND  # never early, but for how late the first was
    assert np.median(lead) < SECOND


def test_times_shifted_make_a_feed_of_now(archive, topics, reading):
    made = topics({"trades": {}, "news": {}}, clock="record")
    began = time.time_ns()
    publish(archive, made.config, PublishOptions(speed=40.0, shift_times=True))
    read = reading(KafkaSource.connect(made.config))
    batches = [a.batch for a in read.to_end() if a.batch is not None and a.topic == "trades"]
    accepted = admitted("trades", concat_batches(batches)).accepted
    latency = np.sort(times(accepted, "ts_recv") - times(accepted, "ts_event"))
    recorded = admitted("trades", rows_of(archive, "trades")).accepted
    assert (latency == np.sort(times(recorded, "ts_recv") - times(recorded, "ts_event"))).all()
    assert began <= times(accepted, "ts_recv").min()
    assert times(accepted, "ts_recv").max() < began + 10 * SECOND


def test_stop_leaves_what_was_sent_and_says_how_far_it_came(archive, topics):
    made = topics(ALL, clock="record")
    stop = Event()
    done: list[Any] = []
    thread = Thread(target=lambda: done.append(publish(archive, made.config, PublishOptions(speed=4.0), stop=stop)))
    thread.start()
    time.sleep(2)
    stop.set()
    thread.join(30)
    (result,) = done
    assert not result.complete
    assert 0 < result.published < result.total
    names = [made.config.topic_name(topic) for topic in made.config.topics]
    stored = sum(state.records for state in describe_topics(made.config, names))
    assert stored == result.messages + result.heartbeats


def test_brokers_that_go_away_are_told_with_how_far_it_came(
    archive, topics, stop_broker, restart_broker, monkeypatch, caplog
):
    monkeypatch.setattr(publishing_outbox, "_DELIVERY_MS", 1_500)
    made = topics({"quotes": {}}, clock="record")
    failed: list[Exception] = []

    def run() -> None:
        try:
            publish(archive, made.config, PublishOptions(speed=1.0))
        except TransientError as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    try:
        time.sleep(1)
        stop_broker()
        thread.join(30)
    finally:
        restart_broker()
    assert "rows had been sent, up to" in str(failed[0])
    assert "Kafka records confirmed: the topics hold a part of the archive" in str(failed[0])


def test_record_too_large_is_refused_by_its_size(topics, tmp_path):
    made = topics({"news": {}}, clock="record")
    archive = Archive.create(tmp_path / "large")
    columns = {"ts_recv": [5 * SECOND], "partition": [0], "offset": [0], "raw": [b"x" * 2_000_000]}
    with ArchiveWriter(archive, "news", "large") as writer:
        writer.append(make_batch("news", columns, 1))
    with pytest.raises(InputError, match=r"to take a record of 2000000 bytes, found: .*; 0 of 1 rows had been sent"):
        publish(archive, made.config)


def test_topic_missing_and_archive_without_the_topics_are_told(archive, kafka_broker, tmp_path):
    config = KafkaConfig(brokers=kafka_broker.address, topics={"news": {"name": "nowhere"}})
    with pytest.raises(InputError, match="found no nowhere; make them with `signalbox topics create`"):
        publish(archive, config)
    with pytest.raises(InputError, match="expected records of topics news in"):
        publish(Archive.create(tmp_path / "empty"), config)
    absent = config.model_copy(update={"brokers": "127.0.0.1:1", "timeout": config.timeout / 15})
    with pytest.raises(TransientError, match="are they running and reachable"):
        publish(archive, absent)


def test_topics_created_twice_are_left_as_they_are(kafka_broker):
    config = KafkaConfig(
        brokers=kafka_broker.address,
        topics={"trades": {"name": "create.trades", "clock": "record"}, "quotes": {"name": "create.quotes"}},
    )
    settings = Settings.model_validate({"kafka": config, "outputs": OUTPUTS})
    plans = plan_topics(settings, partitions=2, replication=1)
    names = [plan.name for plan in plans]
    assert names == ["create.trades", "create.quotes", "out.signals", "out.letters"]
    assert all(made.created for made in create_topics(config, plans, dry_run=True))
    assert not any(state.exists for state in describe_topics(config, names))
    assert all(made.created and not made.differences for made in create_topics(config, plans))
    again = create_topics(config, plan_topics(settings, partitions=3, replication=1))
    assert [(made.created, made.differences) for made in again] == [(False, ("partitions: expected 3, found 2",))] * 4
    states = describe_topics(config, names)
    assert [len(state.partitions) for state in states] == [2, 2, 2, 2]
    assert [state.config["message.timestamp.type"] for state in states] == [
        "CreateTime",
        "LogAppendTime",
        *["CreateTime"] * 2,
    ]
    assert [state.problems for state in states] == [()] * 4
    with pytest.raises(InputError, match=r"expected brokers .* to take new topic `create.more`, found"):
        create_topics(config, [plans[0].__class__("create.more", 1, 9, {})])


def test_description_has_offsets_and_times(archive, topics):
    made = topics({"news": {}}, clock="record")
    result = publish(archive, made.config)
    (state,) = describe_topics(made.config, [made.config.topic_name("news")])
    assert state.records == result.messages + result.heartbeats
    recorded = times(rows_of(archive, "news"), "ts_recv")
    assert state.newest == recorded[-1] // 10**6 * 10**6
    assert recorded[0] - SECOND <= state.oldest <= recorded[0]


def run_cli(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dataflows.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def settings_file(kafka_broker, tmp_path) -> Path:
    """Settings of two topics that do not exist yet."""
    path = tmp_path / "settings.toml"
    name = tmp_path.name
    path.write_text(
        f'[kafka]\nbrokers = "{kafka_broker.address}"\n'
        f'[kafka.topics.trades]\nname = "{name}.trades"\nclock = "record"\n'
        f'[kafka.topics.news]\nname = "{name}.news"\nclock = "record"\n'
    )
    return path


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_commands_create_publish_and_describe(archive, settings_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # cells in one line
    with pytest.raises(SystemExit) as ended:
        run_describe(settings_file, as_json=False)
    assert ended.value.code == 8
    assert capsys.readouterr().out.count("MISSING") == 2
    create = {"partitions": 2, "replication": None, "retention": None, "dry_run": False}
    run_create(settings_file, **create, as_json=True)
    assert [made["created"] for made in json.loads(capsys.readouterr().out)["topics"]] == [True, True]
    run_create(settings_file, **create, as_json=False)
    assert capsys.readouterr().out.count("exists, left as it is") == 2
    run_publish(archive.root, settings_file, PublishOptions(), as_json=False)
    shown = capsys.readouterr()
    assert "all are stored" in shown.out
    assert "left out `books`" in shown.err
    run_describe(settings_file, as_json=True)
    assert all(state["records"] > 0 for state in json.loads(capsys.readouterr().out)["topics"])
    run_describe(settings_file, as_json=False)
    assert capsys.readouterr().out.count("good") == 2


def test_retention_too_short_for_the_history_is_remarked(archive, topic, kafka_broker):
    entry = {"name": topic(1, retention_ms="3600000"), "clock": "record"}
    config = KafkaConfig.model_validate({"brokers": kafka_broker.address, "topics": {"news": entry}})
    (remark,) = publish(archive, config).remarks
    assert "keeps records for 1:00:00 and will soon delete these" in remark


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_publishing_with_code_130(archive, settings_file, kafka_broker, number):
    assert finish(run_cli("topics", "create", "--config", settings_file))[0] == 0
    process = run_cli("publish", "--archive", archive.root, "--config", settings_file, "--speed", 1, "--json")
    name = f"{settings_file.parent.name}.trades"
    config = KafkaConfig(brokers=kafka_broker.address, topics={"trades": {"name": name}})
    deadline = time.monotonic() + 30
    while not describe_topics(config, [name])[0].records:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 130, err
    assert json.loads(out)["complete"] is False
    assert "stopped after" in err
