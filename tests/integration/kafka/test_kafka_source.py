"""Records of a real broker arrive once, in order, with times that never go back, from wherever reading begins."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewPartitions

from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import ConfigError, InputError, TransientError, VersionError
from schemas.time import END_OF_TIME

SECOND = 10**9
START = 1_700_000_000 * SECOND


def trade(number: int, **changes) -> bytes:
    fields = {"instrument_id": "A", "ts_event": START + number, "price": 1.0 + number, "size": 1.0, "side": "buy"}
    return json.dumps(fields | changes).encode()


def header(ts: int) -> dict:
    return {"headers": [("ts_recv", str(ts).encode())]}


def config(broker, name: str, **changes) -> KafkaConfig:
    """Return a bounded reading of one topic of trades by its records' headers."""
    topic = {"name": name, "clock": changes.pop("clock", "header"), "format": changes.pop("format", "json")}
    return KafkaConfig.model_validate(
        {"brokers": broker.address, "topics": {"trades": topic}, "follow": False, "timeout": "20s"} | changes
    )


@pytest.mark.parametrize("bounds", [{}, {"batch_records": 7}, {"batch_bytes": 1024, "queue_bytes": 65_536}])
def test_records_of_several_partitions_arrive_once_and_in_order(kafka_broker, topic, reading, bounds):
    name = topic(3)
    kafka_broker.produce(
        name, [(trade(i), {"partition": i % 3 if i < 900 else 1} | header(START + i)) for i in range(3_000)]
    )
    read = reading(KafkaSource.connect(config(kafka_broker, name, **bounds)))
    read.to_end()
    for partition, count in ((0, 300), (1, 2400), (2, 300)):
        assert read.column("offset", f"trades/{partition}") == list(range(count))
        assert set(read.column("partition", f"trades/{partition}")) == {partition}
    assert sorted(read.column("ts_recv")) == [START + i for i in range(3_000)]
    assert sorted(read.column("price")) == [1.0 + i for i in range(3_000)]
    assert sum(arrival.order_violations for arrival in read.arrivals) == 0


def test_lead_small_keeps_partitions_in_step(kafka_broker, topic, reading):
    """A partition does not run ahead of the slowest by more than the bound and a batch, and nothing stalls."""
    name = topic(2)
    kafka_broker.produce(
        name, [(trade(i), {"partition": p} | header(START + i * SECOND)) for p in (0, 1) for i in range(5_000)]
    )
    read = reading(KafkaSource.connect(config(kafka_broker, name, batch_records=100, lead_bytes=20_000)))
    read.to_end()
    clocks, widest = {"trades/0": START, "trades/1": START}, 0
    for arrival in read.arrivals:
        if arrival.batch is not None:
            clocks[arrival.source] = arrival.clock
            widest = max(widest, abs(clocks["trades/0"] - clocks["trades/1"]) // SECOND)
    assert len(read.column("offset")) == 10_000
    assert 0 < widest < 1_000


def test_queue_full_is_fetched_again_when_it_is_empty(kafka_broker, topic, reading):
    """A quiet partition polls on while a busy one drains slowly: the busy one is paused, and resumed without a gap."""
    name = topic(2)
    body = trade(0, venue="X" * 100)
    records = [(body, {"partition": 0} | header(START + i)) for i in range(3_000)]
    kafka_broker.produce(name, records, **{"batch.size": 16_384})  # brokers send whole batches, however large
    bounds = {"queue_bytes": 65_536, "batch_bytes": 4_096, "idle_interval": "1ms"}
    read = reading(KafkaSource.connect(config(kafka_broker, name, follow=True, **bounds)))
    began, paused = time.time_ns(), 0
    lane = read.parts["trades/0"]._lane
    while len(read.column("offset")) < 3_000:
        was = lane.paused
        for _ in range(20):
            read.step()
            paused += lane.paused and not was
            was = lane.paused
        assert lane.queued <= 4 * 65_536
        assert time.time_ns() < began + 30 * SECOND
    assert read.column("offset") == list(range(3_000))
    assert paused > 1
    read.until(lambda: read.clock("trades/0") > began)


def test_empty_topic_ends_at_once(kafka_broker, topic, reading):
    read = reading(KafkaSource.connect(config(kafka_broker, topic(2))))
    assert [(a.source, a.clock, a.batch) for a in read.to_end()] == [
        ("trades/0", END_OF_TIME, None), ("trades/1", END_OF_TIME, None),
    ]  # fmt: skip


def test_bounded_input_ends_behind_markers_of_transactions(kafka_broker, topic, reading):
    """The last offset of a transaction is a marker, not a record: finishing on records would wait for ever."""
    name = topic()
    kafka_broker.produce(
        name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(5)], **{"transactional.id": name}
    )
    kafka_broker.await_end(name, 6)  # the marker is written after the commit has returned
    source = KafkaSource.connect(config(kafka_broker, name))
    read = reading(source)
    read.to_end()
    assert read.column("offset") == [0, 1, 2, 3, 4]
    assert read.snapshot()["trades/0"]["offset"] == 6
    assert source.lag() == {"trades/0": 0}
    assert source.exhausted
    assert source.delivered == 5


def test_bounded_input_leaves_out_what_came_later(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(10)])
    source = KafkaSource.connect(config(kafka_broker, name))
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(10, 20)])
    read = reading(source)
    read.to_end()
    assert read.column("offset") == list(range(10))


def test_bounded_input_resumed_keeps_its_end(kafka_broker, topic, reading):
    name = topic()
    settings = config(kafka_broker, name, batch_records=3)
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(10)])
    first = reading(KafkaSource.connect(settings))
    first.until(lambda: len(first.column("offset")) >= 6)
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(10, 20)])
    second = reading(KafkaSource.connect(settings), first.snapshot())
    second.to_end()
    assert first.column("offset") + second.column("offset") == list(range(10))
    third = reading(KafkaSource.connect(settings), second.snapshot())
    assert [(a.clock, a.batch) for a in third.to_end()] == [(END_OF_TIME, None)]


@pytest.mark.parametrize(("start", "first"), [("earliest", 0), ("latest", 10), ("time", 4), ("offset", 7)])
def test_start_begins_where_it_says(kafka_broker, topic, reading, start, first):
    name = topic()
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    base = int(moment.timestamp()) * 1000
    kafka_broker.produce(
        name, [(trade(i), {"partition": 0, "timestamp": base + (i - 4) * 1000}) for i in range(10)]
    )  # fmt: skip
    changes = {"time": {"start": moment}, "offset": {"start_offsets": {"trades/0": 7}}}.get(start, {"start": start})
    read = reading(KafkaSource.connect(config(kafka_broker, name, clock="broker", **changes)))
    read.to_end()
    assert read.column("offset") == list(range(first, 10))


def test_start_time_after_every_record_begins_at_the_end(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, [(trade(0), {"partition": 0, "timestamp": 1_700_000_000_000})])
    read = reading(KafkaSource.connect(config(kafka_broker, name, start=datetime(2026, 1, 1, tzinfo=UTC))))
    read.to_end()
    assert read.column("offset") == []


def test_clock_broker_takes_the_records_timestamp(kafka_broker, topic, reading):
    name = topic()
    stamps = [1_700_000_000_000, 1_700_000_000_005, 1_700_000_000_003]
    kafka_broker.produce(name, [(trade(i), {"partition": 0, "timestamp": ms}) for i, ms in enumerate(stamps)])
    read = reading(KafkaSource.connect(config(kafka_broker, name, clock="broker")))
    read.to_end()
    assert [ts - START for ts in read.column("ts_recv")] == [0, 5_000_000, 5_000_000]
    assert [arrival.order_violations for arrival in read.arrivals if arrival.batch is not None] == [1]


def test_clock_record_takes_the_messages_time_and_heartbeats(kafka_broker, topic, reading):
    name = topic()
    beat = (None, {"partition": 0, "headers": [("heartbeat", str(START + 9).encode())]})
    records = [(trade(0, ts_recv=START + 3), {"partition": 0}), (trade(1, ts_recv=START + 1), {"partition": 0}), beat]
    kafka_broker.produce(name, records)
    read = reading(KafkaSource.connect(config(kafka_broker, name, clock="record", follow=True)))
    read.until(lambda: read.clock("trades/0") == START + 9)
    time.sleep(0.5)
    read.step()
    assert [ts - START for ts in read.column("ts_recv")] == [3, 3]
    assert read.clock("trades/0") == START + 9
    assert sum(arrival.order_violations for arrival in read.arrivals) == 1
    assert read.snapshot()["trades/0"]["offset"] == 3


def test_idle_partitions_move_with_the_wall_clock(kafka_broker, topic, reading):
    """A live source at its end is never ahead of the wall clock less the margin, and never goes back."""
    name = topic(2, message_timestamp_type="LogAppendTime")
    kafka_broker.produce(name, [(trade(0), {"partition": 0})])
    walls: list[int] = []

    def wall() -> int:
        walls.append(time.time_ns())
        return walls[-1]

    settings = config(kafka_broker, name, clock="broker", follow=True, idle_margin="1s")
    read = reading(KafkaSource.connect(settings, wall_clock=wall))
    began = time.time_ns()
    read.until(lambda: min(map(read.clock, read.parts)) > began)
    assert max(map(read.clock, read.parts)) <= walls[-1] - SECOND
    kafka_broker.produce(name, [(trade(1), {"partition": 1})])
    read.until(lambda: len(read.column("offset")) == 2)
    for source in read.parts:
        clocks = [arrival.clock for arrival in read.arrivals if arrival.source == source]
        assert clocks == sorted(clocks)
    assert sum(arrival.order_violations for arrival in read.arrivals) == 0


def test_record_behind_an_idle_clock_is_raised_to_it_and_counted(kafka_broker, topic, reading):
    name = topic()
    read = reading(KafkaSource.connect(config(kafka_broker, name, follow=True)))
    began = time.time_ns()
    read.until(lambda: read.clock("trades/0") > began)
    kafka_broker.produce(name, [(trade(0), {"partition": 0} | header(began - 60 * SECOND))])
    read.until(lambda: read.column("offset") == [0])
    assert read.column("ts_recv")[0] > began
    assert sum(arrival.order_violations for arrival in read.arrivals) == 1


def test_expired_offset_stops_with_the_way_out(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(20)])
    settings = config(kafka_broker, name, batch_records=5)
    read = reading(KafkaSource.connect(settings))
    read.until(lambda: len(read.column("offset")) >= 5)
    snapshot = read.snapshot()
    for done in kafka_broker.admin.delete_records([TopicPartition(name, 0, 12)]).values():
        done.result(20)
    with pytest.raises(
        InputError, match=r"expected offset 5 of `trades/0`, found records from 12 up to 20; .* new run"
    ):
        reading(KafkaSource.connect(settings), snapshot)


def test_offset_that_expires_while_reading_stops(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(20)])
    read = reading(KafkaSource.connect(config(kafka_broker, name)))
    for done in kafka_broker.admin.delete_records([TopicPartition(name, 0, 12)]).values():
        done.result(20)
    with pytest.raises(InputError, match="expected offset 0 of `trades/0`, found that the brokers no longer have it"):
        read.to_end()


def test_new_partition_is_noticed(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, [(trade(0), {"partition": 0} | header(START))])
    source = KafkaSource.connect(config(kafka_broker, name, follow=True, partitions_interval="1s"))
    read = reading(source)
    read.until(lambda: read.column("offset") == [0])
    for done in kafka_broker.admin.create_partitions([NewPartitions(name, 3)]).values():
        done.result(20)
    read.to_stop()
    read.close()
    assert source.added == ("trades/1", "trades/2")
    with pytest.raises(InputError, match=r"found the new trades/1, trades/2; .* run it again to read the new part"):
        source.check_partitions()


def test_broker_restart_in_the_middle_loses_and_doubles_nothing(
    kafka_broker, topic, reading, stop_broker, restart_broker
):
    """While the broker is away an idle clock stands still: silence then says nothing about what it has been sent."""
    name = topic(2)

    def records(first: int, last: int) -> list:
        return [(trade(i), {"partition": 0} | header(START + i)) for i in range(first, last)]

    kafka_broker.produce(name, records(0, 1_000))
    read = reading(KafkaSource.connect(config(kafka_broker, name, follow=True, batch_records=50)))
    began = time.time_ns()
    read.until(lambda: len(read.column("offset")) >= 300 and read.clock("trades/1") > began)
    stop_broker()
    try:
        stopped = time.monotonic()
        while time.monotonic() < stopped + 1.8:
            read.step()
        before = read.clock("trades/1")
        while time.monotonic() < stopped + 2.3:
            read.step()
        assert read.clock("trades/1") == before
    finally:
        restart_broker()
    kafka_broker.produce(name, records(1_000, 1_500))
    read.until(lambda: len(read.column("offset")) >= 1_500 and read.clock("trades/1") > before)
    assert read.column("offset") == list(range(1_500))


def test_positions_are_committed_for_lag_tools(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, [(trade(i), {"partition": 0} | header(START + i)) for i in range(10)])
    source = KafkaSource.connect(config(kafka_broker, name, group=name, batch_records=4))
    read = reading(source)
    read.until(lambda: len(read.column("offset")) >= 4)
    assert source.lag() == {"trades/0": 6}
    read.snapshot()
    read.close()
    watcher = Consumer({"bootstrap.servers": kafka_broker.address, "group.id": name})
    try:
        (committed,) = watcher.committed([TopicPartition(name, 0)], timeout=20)
    finally:
        watcher.close()
    assert committed.offset == 4


def test_missing_topic_is_named(kafka_broker):
    with pytest.raises(InputError, match=r"expected topic `nowhere` at .*, found none; create it first"):
        KafkaSource.connect(config(kafka_broker, "nowhere"))


def test_start_offset_of_missing_partition_is_named(kafka_broker, topic):
    with pytest.raises(InputError, match="`start_offsets`: expected partitions that exist, found trades/3"):
        KafkaSource.connect(config(kafka_broker, topic(), start_offsets={"trades/3": 0}))


def test_brokers_that_do_not_answer_are_named():
    settings = KafkaConfig.model_validate({"brokers": "127.0.0.1:1", "topics": {"trades": {}}, "timeout": "1s"})
    with pytest.raises(TransientError, match=r"from brokers `127.0.0.1:1`, found: .*; are they running and reachable"):
        KafkaSource.connect(settings)


def test_snapshot_of_another_kind_of_run_is_refused(kafka_broker, topic, reading):
    name = topic()
    read = reading(KafkaSource.connect(config(kafka_broker, name)))
    live = KafkaSource.connect(config(kafka_broker, name, follow=True))
    with pytest.raises(ConfigError, match="expected `follow = false`, with which the run began, was true"):
        reading(live, read.snapshot())
    with pytest.raises(VersionError, match="expected a snapshot of `trades/0` of version 2, found 99"):
        reading(live, {"trades/0": {"version": 99}})
