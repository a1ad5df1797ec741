"""The graph over Kafka gives the rows that it gives over the archive, crash or not."""

from __future__ import annotations

import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bytewax.errors import BytewaxRuntimeError
from bytewax.run import cli_main
from confluent_kafka import Consumer, TopicPartition

from dataflows.graph import build_graph
from dataflows.recovery import prepare_recovery
from dataflows.settings import Settings
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from dataflows.sources.archive import ArchiveSource
from dataflows.sources.archive_reader import group_spans
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.sources.replay_range import ReplayRange
from schemas.batches import concat_batches, times
from schemas.wire import encode
from sinks.archive import Archive
from sinks.memory import MemoryWriter
from sinks.tables import TableSink
from tests.short_windows import ACROSS, EVENT_BARS, STRATEGIES

TABLES = (
    "bars", "event_bars", "features", "cross_section", "signals", "predictions", "outcomes", "drift_events",
    "dead_letters", "late_events", "run_counts",
)  # fmt: skip
SETTINGS = Settings.model_validate({
    "compute": {"bars": {"intervals": ["1s", "10s"]}, "event_bars": EVENT_BARS, "strategies": STRATEGIES}, **ACROSS
})  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A market in an archive, and the same records in topics of one partition."""

    archive: Archive
    names: dict[str, str]
    expected: dict[str, list[dict[str, Any]]]


def run(source: Any, writer: MemoryWriter | None = None, **arguments: Any) -> dict[str, list[dict[str, Any]]]:
    writer = writer or MemoryWriter()
    flow = build_graph(SETTINGS, source, source.sources, TableSink(lambda: writer))
    cli_main(flow, **{"epoch_interval": timedelta(seconds=10)} | arguments)
    writer.flush()
    return {table: writer.rows(table) for table in TABLES}


def _payloads(topic: str, batch: pa.RecordBatch) -> list[bytes]:
    kept = batch.column("raw").to_pylist()
    return [raw if raw is not None else made for raw, made in zip(kept, encode(topic, batch), strict=True)]


@pytest.fixture(scope="module")
def published(kafka_broker, topic, tmp_path_factory) -> Published:
    """Two minutes of four instruments with every fault; each record carries its time in a header."""
    market = SimulatorConfig(
        seed=5, instruments=4, duration="2m", trade_rate=1.0, book_rate=1.5, snapshot_interval="20s", news_rate=60.0,
        faults=FaultConfig(
            duplicate_trades=3, duplicate_news=1, late_trades=3, late_by="30s", sequence_gaps=2, crossed_quotes=2,
            malformed=2, missing_field=1, wrong_type=1, naive_time=1, out_of_range=1,
        ),
    )  # fmt: skip
    archive = Archive.create(tmp_path_factory.mktemp("published") / "archive")
    simulate(market, archive)
    names = {}
    for subject in archive.topics():
        names[subject] = topic(1)
        batch = concat_batches([b for path in archive.files(subject) for b in pq.read_table(path).to_batches()])
        stamped = zip(_payloads(subject, batch), times(batch, "ts_recv").tolist(), strict=True)
        kafka_broker.produce(
            names[subject],
            [(value, {"partition": 0, "headers": [("ts_recv", str(ts).encode())]}) for value, ts in stamped],
        )
    return Published(archive, names, run(ArchiveSource(archive, batch_rows=10_000)))


def settings(broker, published: Published, **changes: Any) -> KafkaConfig:
    topics = {topic: {"name": name, "clock": "header"} for topic, name in published.names.items()}
    return KafkaConfig.model_validate({"brokers": broker.address, "topics": topics, "follow": False} | changes)


def test_market_exercises_every_table(published):
    assert all(len(rows) > 2 for rows in published.expected.values())


@pytest.mark.parametrize(("workers", "changes"), [(1, {}), (2, {"batch_records": 300, "lead_bytes": 50_000})])
def test_graph_over_kafka_gives_the_rows_of_the_archive(kafka_broker, published, workers, changes):
    source = KafkaSource.connect(settings(kafka_broker, published, **changes))
    assert run(source, workers_per_process=workers) == published.expected
    assert source.exhausted
    assert set(source.lag().values()) == {0}


@pytest.mark.parametrize(("first", "last"), [(0.25, 0.75), (0.0, 0.4), (0.6, 1.0)])
def test_graph_over_a_range_of_kafka_gives_the_rows_of_that_range_of_the_archive(kafka_broker, published, first, last):
    spans = [span for topic in published.names for span in group_spans(topic, published.archive.files(topic))]
    begin, end = min(span.first for span in spans), max(span.last for span in spans)
    part = ReplayRange(begin + int((end - begin) * first), begin + int((end - begin) * last))
    expected = run(ArchiveSource(published.archive, batch_rows=10_000, replay=part))
    assert 0 < len(expected["bars"]) < len(published.expected["bars"])
    source = KafkaSource.connect(settings(kafka_broker, published, batch_records=500, follow=True), replay=part)
    assert run(source) == expected
    assert source.exhausted


@dataclass
class Crash:
    """Makes the source fail after some deliveries."""

    after: int
    deliveries: int = field(default=0)

    def delivered(self) -> None:
        self.deliveries += 1
        if self.deliveries > self.after:
            raise RuntimeError("power cut")


class CrashingSource(KafkaSource):
    """A Kafka source that fails at a chosen delivery."""

    crash: Crash

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> Any:
        part = super().build_part(step_id, for_part, resume_state)
        deliver = part.next_batch

        def next_batch() -> Any:
            arrivals = deliver()
            for _ in arrivals:
                self.crash.delivered()
            return arrivals

        part.next_batch = next_batch  # type: ignore[method-assign]
        return part


@pytest.mark.parametrize("seed", range(3))
def test_graph_after_crash_and_resume_gives_the_same_rows(kafka_broker, published, tmp_path, seed):
    rng = random.Random(seed)
    writer = MemoryWriter()
    recovery, _ = prepare_recovery(tmp_path / "recovery")
    workers = 1 + seed % 2
    resume = {"epoch_interval": timedelta(0), "recovery_config": recovery, "workers_per_process": workers}
    for _ in range(3):
        source = CrashingSource.connect(settings(kafka_broker, published, batch_records=rng.randint(20, 60)))
        source.crash = Crash(after=rng.randint(4, 10))
        with pytest.raises(BytewaxRuntimeError):
            run(source, writer, **resume)
    source = KafkaSource.connect(settings(kafka_broker, published, batch_records=500))
    assert run(source, writer, **resume) == published.expected
    assert 0 < source.delivered < sum(
        row["count"] for row in published.expected["run_counts"] if row["kind"] == "read"
    )  # fmt: skip


def test_graph_stopped_and_resumed_gives_the_same_rows(kafka_broker, published, tmp_path):
    writer = MemoryWriter()
    recovery, _ = prepare_recovery(tmp_path / "recovery")
    resume = {"epoch_interval": timedelta(0), "recovery_config": recovery}
    stop = Event()
    source = KafkaSource.connect(settings(kafka_broker, published, batch_records=100), stop=stop)
    watcher = Thread(target=_stop_after, args=(source, 500, stop))
    watcher.start()
    run(source, writer, **resume)
    watcher.join()
    assert not source.exhausted
    assert run(KafkaSource.connect(settings(kafka_broker, published)), writer, **resume) == published.expected


def _stop_after(source: KafkaSource, rows: int, stop: Event) -> None:
    deadline = time.monotonic() + 20
    while source.delivered < rows and time.monotonic() < deadline:
        time.sleep(0.0002)
    stop.set()


def test_throughput_keeps_up_with_a_bare_consume_loop(kafka_broker, topic, capsys):
    """One JSON record per event to columns, beside a loop that only takes the messages.

    About half as fast on an idle machine; the bound only catches a cost per record of another order.
    """
    count, name = 100_000, topic(4)
    body = b'{"instrument_id":"SIM%03d","ts_event":%d,"price":101.25,"size":3.0,"side":"buy","trade_id":%d}'
    base = 1_700_000_000 * 10**9
    kafka_broker.produce(
        name,
        [(body % (i % 50, base + i, i), {"partition": i % 4, "timestamp": 1_700_000_000_000}) for i in range(count)],
    )
    bare = max(_bare_rate(kafka_broker, name, count) for _ in range(2))
    ours = max(_our_rate(kafka_broker, name, count) for _ in range(2))
    with capsys.disabled():
        sys.stdout.write(f" [bare consume() {bare:,.0f}/s, source {ours:,.0f}/s] ")
    assert ours > bare / 25


def _bare_rate(broker, name: str, count: int) -> float:
    settings = {"group.id": "bare", "enable.auto.commit": False, "fetch.queue.backoff.ms": 5}
    consumer = Consumer({"bootstrap.servers": broker.address} | settings)
    try:
        consumer.assign([TopicPartition(name, number, 0) for number in range(4)])
        seen = len(consumer.consume(1, 20))
        began = time.perf_counter()
        while seen < count:
            seen += len(consumer.consume(10_000, 0.05))
        return count / (time.perf_counter() - began)
    finally:
        consumer.close()


def _our_rate(broker, name: str, count: int) -> float:
    topics = {"trades": {"name": name}}
    config = KafkaConfig.model_validate({"brokers": broker.address, "topics": topics, "follow": False})
    source = KafkaSource.connect(config)
    parts = [source.build_part("source", part, None) for part in source.list_parts()]
    try:
        while not source.delivered:
            for part in parts:
                part.next_batch()
        began, before = time.perf_counter(), source.delivered
        while source.delivered < count:
            for part in parts:
                with suppress(StopIteration):
                    part.next_batch()
        return (count - before) / (time.perf_counter() - began)
    finally:
        for part in parts:
            part.close()
