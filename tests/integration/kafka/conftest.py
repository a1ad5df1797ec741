"""A real broker, topics in it, producers that know what was stored, and the source run by hand or in the graph."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from dataflows.sources.kafka import KafkaSource
from operators.arrival import Arrival
from schemas.time import END_OF_TIME

_SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "kafka"
_SECONDS = 30.0
Record = tuple[bytes | None, dict[str, Any]]
"""Value of a record, and what else `Producer.produce` takes: `partition`, `headers`, `timestamp`."""


@dataclass(frozen=True)
class Broker:
    """A running broker that the tests own."""

    folder: Path
    address: str
    admin: AdminClient

    def produce(self, topic: str, records: Iterable[Record], **settings: Any) -> None:
        """Store records in order, and fail if one was not stored."""
        failures: list[Any] = []
        producer = Producer(
            {"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
            | {"queue.buffering.max.messages": 1_000_000} | settings
        )  # fmt: skip
        if "transactional.id" in settings:
            producer.init_transactions(_SECONDS)
            producer.begin_transaction()
        for value, place in records:
            producer.produce(topic, value, on_delivery=lambda error, _: error and failures.append(error), **place)
            producer.poll(0)
        if "transactional.id" in settings:
            producer.commit_transaction(_SECONDS)
        assert producer.flush(_SECONDS) == 0
        assert not failures, failures[:3]

    def await_end(self, topic: str, end: int) -> None:
        """Wait until a consumer of committed records may read the first partition up to an offset."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "ends", "log_level": 0})
        try:
            deadline = time.monotonic() + _SECONDS
            while consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=_SECONDS)[1] < end:
                assert time.monotonic() < deadline, f"`{topic}` does not reach {end}"
                time.sleep(0.02)
        finally:
            consumer.close()


def kafka_command(action: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(_SCRIPT), action, "--dir", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker; the test skips where the machine cannot run one, and fails where all is required."""
    folder = tmp_path_factory.mktemp("kafka")
    started = kafka_command("start", folder)
    if started.returncode == 3:
        message = f"needs a Kafka broker: {started.stderr.strip()}"
        if os.environ.get("SIGNALBOX_REQUIRE_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    assert started.returncode == 0, started.stderr
    try:
        address = started.stdout.strip()
        yield Broker(folder, address, AdminClient({"bootstrap.servers": address, "log_level": 0}))
    finally:
        stopped = kafka_command("stop", folder)
        assert stopped.returncode == 0, stopped.stderr


@pytest.fixture
def stop_broker(kafka_broker: Broker) -> Callable[[], None]:
    """Return a function that stops the broker; whoever uses it starts it again."""

    def stop() -> None:
        done = kafka_command("stop", kafka_broker.folder)
        assert done.returncode == 0, done.stderr

    return stop


@pytest.fixture
def restart_broker(kafka_broker: Broker, stop_broker: Callable[[], None]) -> Callable[[], None]:
    """Return a function that stops the broker, if it runs, and starts it again with its data."""

    def restart() -> None:
        stop_broker()
        done = kafka_command("start", kafka_broker.folder)
        assert done.returncode == 0, done.stderr

    return restart


@pytest.fixture(scope="session")
def topic(kafka_broker: Broker) -> Callable[..., str]:
    """Return a function that makes a topic with a name of its own."""

    def make(partitions: int = 1, **config: str) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
        for made in kafka_broker.admin.create_topics([new]).values():
            made.result(_SECONDS)
        deadline = time.monotonic() + _SECONDS
        while len(_leaders(kafka_broker, name)) < partitions:
            assert time.monotonic() < deadline, f"no leader for {name}"
            time.sleep(0.02)
        return name

    return make


def _leaders(broker: Broker, name: str) -> list[int]:
    found = broker.admin.list_topics(name, timeout=_SECONDS).topics[name]
    return [part.leader for part in found.partitions.values() if part.leader >= 0]


class Reading:
    """The partitions of a source, polled by hand in turn as a worker does."""

    def __init__(self, source: KafkaSource, resume: dict[str, Any] | None = None) -> None:
        states = resume or {}
        self.arrivals: list[Arrival] = []
        self.parts = {name: source.build_part("source", name, states.get(name)) for name in source.list_parts()}
        self._open = set(self.parts)

    def step(self) -> None:
        for name in sorted(self._open):
            try:
                self.arrivals.extend(self.parts[name].next_batch())
            except StopIteration:
                self._open.discard(name)

    def until(self, done: Callable[[], bool], seconds: float = _SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not within {seconds} s: {[a.clock for a in self.arrivals[-5:]]}"
            self.step()
            time.sleep(0.0005)

    def to_end(self) -> list[Arrival]:
        self.until(lambda: not self._open)
        assert all(self.clock(name) == END_OF_TIME for name in self.parts)
        return self.arrivals

    def to_stop(self) -> None:
        """Go on until every partition has ended, wherever it is."""
        self.until(lambda: not self._open)

    def clock(self, name: str) -> int:
        return max((arrival.clock for arrival in self.arrivals if arrival.source == name), default=-(2**63))

    def column(self, name: str, source: str | None = None) -> list[Any]:
        batches = [a.batch for a in self.arrivals if a.batch is not None and source in (None, a.source)]
        values = [batch.column(name) for batch in batches]
        return [
            value for column in values for value in (column.view("int64") if name == "ts_recv" else column).to_pylist()
        ]

    def snapshot(self) -> dict[str, Any]:
        return {name: part.snapshot() for name, part in self.parts.items()}

    def close(self) -> None:
        for part in self.parts.values():
            part.close()


@pytest.fixture
def reading() -> Iterator[Callable[..., Reading]]:
    """Return a function that opens the partitions of a source; they are closed when the test ends."""
    opened: list[Reading] = []

    def make(source: KafkaSource, resume: dict[str, Any] | None = None) -> Reading:
        opened.append(Reading(source, resume))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
