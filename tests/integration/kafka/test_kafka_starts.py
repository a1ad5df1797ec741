"""A run that goes on begins where it began, notices topics that were made anew, and takes new partitions in order."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from bytewax.run import cli_main
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from dataflows.graph import build_graph
from dataflows.recovery import prepare_recovery
from dataflows.settings import Settings
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.kafka_topics import TopicWatch, describe
from dataflows.sources.replay_range import ReplayRange
from operators.align import AlignState
from schemas.batches import times
from schemas.errors import ConfigError, InputError
from schemas.time import END_OF_TIME
from sinks.memory import MemoryWriter
from sinks.tables import TableSink

SECOND = 10**9
START = 1_700_000_000 * SECOND
SETTINGS = Settings.model_validate(
    {
        "compute": {
            "bars": {"intervals": ["1s"]},
            "strategies": {"enabled": ["mean_reversion"], "mean_reversion": {"interval": "1s"}},
        },
        "universe": {"members": {"interval": "1s"}},
    }
)


def trade(number: int) -> bytes:
    fields = {"instrument_id": "A", "ts_event": START + number, "price": 1.0 + number, "size": 1.0, "side": "buy"}
    return json.dumps(fields).encode()


def records(first: int, last: int, partition: int = 0, clock: int = START) -> list[Any]:
    place = {"partition": partition}
    return [(trade(i), place | {"headers": [("ts_recv", str(clock + i).encode())]}) for i in range(first, last)]


def config(broker, name: str, **changes) -> KafkaConfig:
    base = {"brokers": broker.address, "topics": {"trades": {"name": name, "clock": "header"}}, "timeout": "20s"}
    return KafkaConfig.model_validate(base | {"partitions_interval": "1s"} | changes)


def kept(source: KafkaSource) -> dict[str, Any]:
    """Return the starts as a run finds them that was killed."""
    return json.loads(json.dumps(source.starts()))


def grow(broker, name: str, partitions: int) -> None:
    for done in broker.admin.create_partitions([NewPartitions(name, partitions)]).values():
        done.result(20)


def make_anew(broker, name: str, partitions: int = 1) -> None:
    for done in broker.admin.delete_topics([name]).values():
        done.result(20)
    deadline = time.monotonic() + 20
    while name in broker.admin.list_topics(timeout=20).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for done in broker.admin.create_topics([NewTopic(name, partitions, 1)]).values():
        done.result(20)
    deadline = time.monotonic() + 20
    while len(broker.admin.list_topics(name, timeout=20).topics[name].partitions) < partitions:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_start_latest_is_the_same_after_a_crash_without_snapshot(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, records(0, 5))
    settings = config(kafka_broker, name, start="latest")
    starts = kept(KafkaSource.connect(settings))
    kafka_broker.produce(name, records(5, 9))
    read = reading(KafkaSource.connect(settings, starts=starts))
    read.until(lambda: len(read.column("offset")) == 4)
    assert read.column("offset") == [5, 6, 7, 8]


def test_end_is_the_same_after_a_crash_without_snapshot(kafka_broker, topic, reading):
    name = topic(2)
    kafka_broker.produce(name, records(0, 5))
    settings = config(kafka_broker, name, follow=False)
    starts = kept(KafkaSource.connect(settings))
    kafka_broker.produce(name, records(5, 9))
    grow(kafka_broker, name, 3)
    source = KafkaSource.connect(settings, starts=starts)
    read = reading(source)
    read.to_end()
    assert read.column("offset") == [0, 1, 2, 3, 4]
    assert source.sources == ("trades/0", "trades/1")
    assert source.added == ()


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ({"trades/0": {"offset": "x"}}, "expected the starts of partitions as they were kept, found: .*offset"),
        ({"news/0": {"offset": 0, "end": None, "topic_id": ""}}, "expected starts of topics trades, found news/0"),
        ({"trades/0": {"offset": 0, "end": 4, "topic_id": ""}}, "expected `follow = false`, with which the run began"),
    ],
)
def test_starts_of_something_else_are_refused(kafka_broker, topic, starts, message):
    with pytest.raises(ConfigError, match=message):
        KafkaSource.connect(config(kafka_broker, topic()), starts=starts)


def test_partition_that_is_gone_is_named(kafka_broker, topic):
    start = {"offset": 0, "end": None, "topic_id": ""}
    with pytest.raises(InputError, match="expected partitions trades/1, found them gone"):
        KafkaSource.connect(config(kafka_broker, topic()), starts={"trades/0": start, "trades/1": start})


def test_topic_made_anew_is_noticed_though_the_offset_is_in_range(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, records(0, 5))
    settings = config(kafka_broker, name)
    first = KafkaSource.connect(settings)
    read = reading(first)
    read.until(lambda: len(read.column("offset")) == 5)
    snapshot = read.snapshot()
    read.close()
    make_anew(kafka_broker, name)
    kafka_broker.produce(name, records(100, 120))
    message = r"topic of `trades/0` to have id \S+, found \S+: it was deleted and made anew, .*; start a new run"
    with pytest.raises(InputError, match=message):
        KafkaSource.connect(settings, starts=kept(first))
    with pytest.raises(InputError, match=message):
        reading(KafkaSource.connect(settings), snapshot)


def test_topic_made_anew_while_it_is_read_stops_the_input(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, records(0, 5))
    read = reading(KafkaSource.connect(config(kafka_broker, name)))
    read.until(lambda: len(read.column("offset")) == 5)
    make_anew(kafka_broker, name)
    kafka_broker.produce(name, records(100, 120))
    # whoever notices first: the fetch of an offset that is not there yet, the topic's absence, or its new id
    with pytest.raises(InputError, match=r"made anew|was the topic deleted"):
        read.until(lambda: False, seconds=15)


def test_watch_tells_a_topic_made_anew_by_its_id(kafka_broker, topic):
    name = topic()
    settings = config(kafka_broker, name)
    admin = AdminClient({"bootstrap.servers": kafka_broker.address})
    consumer = Consumer({"bootstrap.servers": kafka_broker.address, "group.id": "watch"})
    try:
        before = describe(consumer, admin, settings)
    finally:
        consumer.close()
    watch = TopicWatch(settings, before, before)
    deadline = time.monotonic() + 2.5
    _look_until(watch, deadline)
    make_anew(kafka_broker, name)
    with pytest.raises(InputError, match=rf"topic `{name}` to have id {re.escape(before['trades'].topic_id)}, found"):
        _look_until(watch, deadline + 20)
    with pytest.raises(InputError, match="made anew while it was read; start a new run"):
        watch.look()


def _look_until(watch: TopicWatch, deadline: float) -> None:
    while time.monotonic() < deadline:
        watch.look()
        time.sleep(0.02)


def test_partition_added_while_running_is_read_by_the_run_that_goes_on(kafka_broker, topic, reading):
    """It begins with the clock at which the run ended, whatever its records say, and alignment admits it."""
    name = topic()
    kafka_broker.produce(name, records(0, 5))
    settings = config(kafka_broker, name, start="latest", start_offsets={"trades/0": 0})
    source = KafkaSource.connect(settings)
    first = reading(source)
    began = time.time_ns()
    first.until(lambda: len(first.column("offset")) == 5 and first.clock("trades/0") > began)
    align = AlignState(source.sources)
    align.update(first.arrivals)
    assert source.added == ()
    grow(kafka_broker, name, 2)
    kafka_broker.produce(name, records(0, 3, partition=1))
    kafka_broker.produce(name, records(0, 2, partition=1, clock=time.time_ns() + 20 * SECOND))
    seen = len(first.arrivals)
    first.to_stop()
    align.update(first.arrivals[seen:])
    snapshot, frontier = first.snapshot(), first.clock("trades/0")
    first.close()
    assert source.added == ("trades/1",)
    with pytest.raises(InputError, match=r"found the new trades/1; .* run it again to read the new partitions"):
        source.check_partitions()

    again = KafkaSource.connect(settings, starts=kept(source))
    assert again.sources == ("trades/0", "trades/1")
    second = reading(again, {"trades/0": snapshot["trades/0"]})
    second.until(lambda: len(second.column("offset", "trades/1")) == 5)
    assert second.column("offset", "trades/1") == [0, 1, 2, 3, 4]
    assert second.column("ts_recv", "trades/1")[:3] == [frontier] * 3
    assert second.column("ts_recv", "trades/1")[3] > frontier
    assert sum(arrival.order_violations for arrival in second.arrivals if arrival.source == "trades/1") == 3
    grown = AlignState(again.sources)
    grown.restore(align.snapshot())
    frame = grown.update([*second.arrivals])
    assert frame is None or all(times(batch, "ts_recv")[0] >= frontier for batch in frame.batches.values())


def test_partition_added_to_a_run_that_was_killed_waits_until_it_has_caught_up(kafka_broker, topic, reading):
    """What the killed run had computed since its snapshot is computed again without the new partition."""
    name = topic()
    kafka_broker.produce(name, records(0, 50))
    settings = config(kafka_broker, name, batch_records=10)
    source = KafkaSource.connect(settings)
    killed = reading(source)
    killed.until(lambda: len(killed.column("offset")) >= 10)
    snapshot, starts = killed.snapshot(), kept(source)
    killed.until(lambda: len(killed.column("offset")) == 50)
    reached = killed.clock("trades/0")
    killed.close()
    grow(kafka_broker, name, 2)
    again = KafkaSource.connect(settings, starts=starts)
    assert again.sources == ("trades/0",)
    read = reading(again, snapshot)
    read.to_stop()
    read.close()
    assert read.column("offset") == list(range(10, 50))
    assert again.stop.is_set()
    assert again.added == ("trades/1",)
    assert again.starts()["trades/1"]["clock"] > reached
    assert again.starts()["trades/1"]["offset"] == 0


def run_graph(source: KafkaSource, writer: MemoryWriter, recovery: Any, after: Callable[[], None]) -> None:
    """Run the graph, and do something once there is an arrival at the present."""
    began = time.time_ns()

    def wait() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and min(source.clocks().values(), default=0) < began:
            time.sleep(0.01)
        after()

    watcher = Thread(target=wait)
    watcher.start()
    flow = build_graph(SETTINGS, source, source.sources, TableSink(lambda: writer))
    cli_main(flow, epoch_interval=timedelta(milliseconds=50), recovery_config=recovery)
    watcher.join()
    writer.flush()


def test_graph_goes_on_with_a_partition_that_was_added_and_keeps_its_rows(kafka_broker, topic, tmp_path):
    name, writer = topic(), MemoryWriter()
    kafka_broker.produce(name, records(0, 5))
    recovery, _ = prepare_recovery(tmp_path / "recovery")
    source = KafkaSource.connect(config(kafka_broker, name))
    run_graph(source, writer, recovery, lambda: grow(kafka_broker, name, 2))
    assert source.added == ("trades/1",)
    before = writer.rows("bars")
    assert [row["trade_count"] for row in before] == [5]

    kafka_broker.produce(name, records(5, 8, partition=1))
    kafka_broker.produce(name, records(5, 9))
    again = KafkaSource.connect(config(kafka_broker, name), starts=kept(source))
    run_graph(again, writer, recovery, again.stop.set)
    assert again.added == ()
    assert writer.rows("bars") == before
    assert len(writer.rows("late_events")) == 7
    counts = {row["kind"]: row["count"] for row in writer.rows("run_counts") if not row["reason"]}
    assert (counts["read"], counts["order_violation"]) == (12, 7)


def test_run_stopped_before_it_has_caught_up_adds_no_partition(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, records(0, 50))
    settings = config(kafka_broker, name, batch_records=10)
    starts = kept(KafkaSource.connect(settings))
    grow(kafka_broker, name, 2)
    source = KafkaSource.connect(settings, starts=starts)
    deadline = time.monotonic() + 20
    while not source.is_growing:
        source.watch.look()
        assert time.monotonic() < deadline
    read = reading(source)
    read.until(lambda: len(read.column("offset")) >= 10)
    source.stop.set()
    read.to_stop()
    read.close()
    assert source.added == ()
    source.check_partitions()
    assert source.starts() == starts


def stamped(kind: str, number: int, ts: int, partition: int) -> tuple[bytes, dict[str, Any]]:
    """Return a record that has its time where the clock looks for it; every 17th header cannot be read."""
    place = {"partition": partition, "timestamp": ts // 10**6}
    if kind == "header":
        text = b"?" if number % 17 == 0 else str(ts).encode()
        return trade(number), place | {"headers": [("ts_recv", text)]}
    if kind == "record":
        return trade(number)[:-1] + f',"ts_recv":{ts}}}'.encode(), place
    return trade(number), place


@pytest.mark.parametrize("kind", ["broker", "header", "record"])
def test_range_selects_the_rows_that_are_in_it_however_disordered(kafka_broker, topic, reading, kind):
    """Records jump back and forth by seconds; the rows of a range are those of the whole that lie in it."""
    name = topic(2)
    base = START + 123
    moves = [((i * 7919) % 23 - 9) * SECOND // 3 for i in range(400)]
    kafka_broker.produce(
        name,
        [stamped(kind, i, base + i * SECOND // 4 + moves[i], i % 2) for i in range(400)],
        **{"batch.size": 1024},
    )
    topics = {"trades": {"name": name, "clock": kind}}
    settings = config(kafka_broker, name, topics=topics, batch_records=37, start="latest")
    whole = reading(KafkaSource.connect(settings, replay=ReplayRange()))
    whole.to_end()
    every = list(zip(whole.column("partition"), whole.column("offset"), whole.column("ts_recv"), strict=True))
    assert len(every) == 400
    inner = sorted(ts for *_, ts in every)
    edges = [inner[0], inner[90] + 1, inner[200], inner[201], inner[-1], inner[-1] + 1, START + 50 * SECOND]
    for start, stop in [(a, b) for a in edges for b in edges if a < b]:
        source = KafkaSource.connect(settings, replay=ReplayRange(start, stop))
        read = reading(source)
        read.to_end()
        found = list(zip(read.column("partition"), read.column("offset"), read.column("ts_recv"), strict=True))
        assert sorted(found) == sorted(row for row in every if start <= row[2] < stop)
        assert source.delivered == len(found)
        assert set(source.lag().values()) == {0}
        read.close()


def test_range_counts_raised_rows_of_its_own_only(kafka_broker, topic, reading):
    name = topic()
    ms = START // 10**6
    kafka_broker.produce(
        name, [(trade(i), {"partition": 0, "timestamp": ms + d}) for i, d in enumerate([0, 9, 1, 20, 10, 40, 30])]
    )
    settings = config(kafka_broker, name, topics={"trades": {"name": name}})
    read = reading(KafkaSource.connect(settings, replay=ReplayRange(START + 20 * 10**6, START + 40 * 10**6)))
    read.to_end()
    assert read.column("offset") == [3, 4]
    assert sum(arrival.order_violations for arrival in read.arrivals) == 1


def test_range_resumed_gives_the_rest(kafka_broker, topic, reading):
    name = topic()
    kafka_broker.produce(name, records(0, 60))
    settings = config(kafka_broker, name, batch_records=7)
    part = ReplayRange(START + 11, START + 45)
    source = KafkaSource.connect(settings, replay=part)
    first = reading(source)
    first.until(lambda: len(first.column("offset")) >= 10)
    kafka_broker.produce(name, records(60, 70))
    second = reading(KafkaSource.connect(settings, starts=kept(source), replay=part), first.snapshot())
    second.to_end()
    assert first.column("offset") + second.column("offset") == list(range(11, 45))
    snapshot = second.snapshot()
    for done in kafka_broker.admin.delete_records([TopicPartition(name, 0, 70)]).values():
        done.result(20)
    third = reading(KafkaSource.connect(settings, starts=kept(source), replay=part), snapshot)
    assert [(arrival.clock, arrival.batch) for arrival in third.to_end()] == [(END_OF_TIME, None)]
