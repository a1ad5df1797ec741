"""`python -m benchmarks.kafka_source --brokers HOST:PORT`: the Kafka source beside a bare `consume()` loop.

Topics are filled once, with the trades and quotes of the seeded workload. Then the sides take turns, each run in a
process of its own:

| task | does |
|---|---|
| `bare` | counts what `consume(10_000, 0.1)` returns, with the settings of the source's own consumer |
| `defaults` | the same with the settings that the library has, which waits a second whenever its queue is full |
| `source` | `KafkaSource`: reads, decodes, puts times in order, keeps what admission will refuse |
| `admitted` | the same, and `operators.decode.validate` on every batch |

Figures are medians. Seconds of processor time are those of all threads, the library's own among them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.workload import Workload, generate
from dataflows.collector import sparing_collector
from dataflows.sources.kafka import KafkaSource
from dataflows.sources.kafka_client import open_consumer
from dataflows.sources.kafka_config import KafkaConfig
from operators.decode import DecodeLimits, validate
from schemas.batches import make_batch
from schemas.wire import encode

__all__ = ["TASKS", "Input", "fill", "main", "measure"]

_SECONDS: Final = 60.0
_ARROW_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Input:
    """A topic to read.

    Parameters
    ----------
    topic
        Our name of the topic, `trades` or `quotes`.
    format
        `json` or `arrow`.
    events
        Rows in it; of Arrow, a thousand in each record.
    partitions
        Number of its partitions.
    """

    topic: str
    format: str
    events: int
    partitions: int

    @property
    def name(self) -> str:
        """Its name on the brokers."""
        return f"benchmark-{self.topic}-{self.format}-{self.events}-{self.partitions}"

    @property
    def records(self) -> int:
        """Records that hold the rows."""
        return self.events if self.format == "json" else -(-self.events // _ARROW_ROWS)


def fill(brokers: str, source: Input) -> None:
    """Make the topic and store its records, in turn on its partitions; nothing happens where it exists."""
    admin = AdminClient({"bootstrap.servers": brokers})
    if source.name in admin.list_topics(timeout=_SECONDS).topics:
        return
    made = admin.create_topics([NewTopic(source.name, num_partitions=source.partitions, replication_factor=1)])
    made[source.name].result(_SECONDS)
    failures: list[Any] = []
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 20, "batch.size": 2**19, "compression.type": "lz4"}
        | {"queue.buffering.max.messages": 200_000, "queue.buffering.max.kbytes": 2**18}
    )  # fmt: skip
    for number, value in enumerate(_values(source)):
        while True:
            try:
                producer.produce(
                    source.name,
                    value,
                    partition=number % source.partitions,
                    on_delivery=lambda error, _: failures.append(error) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    if producer.flush(_SECONDS) or failures:
        raise SystemExit(f"`{source.name}` could not be filled: {failures[:3]}")


def _values(source: Input) -> list[bytes]:
    n = source.events
    rows = {"trades": 0, "quotes": 0} | {source.topic: n}
    workload = Workload(instruments=100, news=0, posts=0, seconds=max(n // 2800, 60), **rows)
    columns = generate(workload)[source.topic]
    where = {"partition": np.zeros(n, dtype=np.int32), "offset": np.arange(n)}
    batch = make_batch(source.topic, columns | where, n)
    if source.format == "json":
        return encode(source.topic, batch, clock="record")
    return [_stream(batch.slice(start, _ARROW_ROWS)) for start in range(0, n, _ARROW_ROWS)]


def _stream(rows: pa.RecordBatch) -> bytes:
    sent = rows.drop_columns(["partition", "offset", "raw", "error"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, sent.schema) as writer:
        writer.write_batch(sent)
    return bytes(sink.getvalue())


def bare(brokers: str, read: Input, clock: str) -> float:
    """Return the seconds of a loop that counts the records; the ends of partitions are told as records too."""
    consumer = open_consumer(_config(brokers, read, clock), lambda error: None)
    return _count(consumer, read, read.records + read.partitions)


def defaults(brokers: str, read: Input, _clock: str) -> float:
    """Return the seconds of the loop with the settings that the library has."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "benchmark", "enable.auto.commit": False})
    return _count(consumer, read, read.records)


def _count(consumer: Consumer, read: Input, wanted: int) -> float:
    consumer.assign([TopicPartition(read.name, number, 0) for number in range(read.partitions)])
    started, n = time.perf_counter(), 0
    while n < wanted:
        messages = consumer.consume(min(10_000, wanted - n), 0.1)
        n += len(messages)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def _config(brokers: str, read: Input, clock: str) -> KafkaConfig:
    topics = {read.topic: {"name": read.name, "clock": clock, "format": read.format}}
    return KafkaConfig.model_validate({"brokers": brokers, "topics": topics, "follow": False, "group": "benchmark"})


def source(brokers: str, read: Input, clock: str, *, admit: bool = False) -> float:
    """Return the seconds in which the partitions of the source deliver every row, as they are polled by a worker."""
    with sparing_collector():
        return _drain(KafkaSource.connect(_config(brokers, read, clock)), read, admit=admit)


def _drain(opened: KafkaSource, read: Input, *, admit: bool) -> float:
    parts = {name: opened.build_part("source", name, None) for name in opened.list_parts()}
    started, refused, limits = time.perf_counter(), 0, DecodeLimits()
    reading = dict(parts)
    while reading:
        for name in list(reading):
            try:
                arrivals = reading[name].next_batch()
            except StopIteration:
                del reading[name]
                continue
            for arrival in arrivals:
                if admit and arrival.batch is not None:
                    refused += validate(arrival.topic, arrival.batch, limits).rejected.num_rows
    seconds = time.perf_counter() - started
    for part in parts.values():
        part.close()
    if opened.delivered != read.events or refused:
        raise SystemExit(f"expected {read.events} good rows, found {opened.delivered} and {refused} refused")
    return seconds


def admitted(brokers: str, read: Input, clock: str) -> float:
    """Return the seconds in which every row is delivered and admitted."""
    return source(brokers, read, clock, admit=True)


TASKS: Final[dict[str, Callable[[str, Input, str], float]]] = {
    "bare": bare,
    "defaults": defaults,
    "source": source,
    "admitted": admitted,
}


def measure(brokers: str, read: Input, *, clock: str = "record", runs: int = 5) -> dict[str, dict[str, float]]:
    """Return wall seconds, processor seconds and events per second of each task, medians over the runs.

    Parameters
    ----------
    brokers
        Addresses of the brokers.
    read
        The topic, which is filled if it is not there.
    clock
        Whose time orders the records, as in `KafkaTopic`.
    runs
        Runs of each task; they take turns.
    """
    _in_process("fill", brokers, read, clock)
    samples: dict[str, list[dict[str, float]]] = {task: [] for task in TASKS}
    for _ in range(runs):
        for task, taken in samples.items():
            taken.append(_in_process(task, brokers, read, clock))
    figures = {}
    for task, taken in samples.items():
        median = {name: statistics.median(run[name] for run in taken) for name in taken[0]}
        figures[task] = median | {"events_per_s": read.events / median["seconds"]}
    for task in TASKS:
        figures[task]["of_bare"] = figures["bare"]["seconds"] / figures[task]["seconds"]
        figures[task]["of_bare_cpu"] = figures["bare"]["cpu_seconds"] / figures[task]["cpu_seconds"]
    return figures


def _in_process(task: str, brokers: str, read: Input, clock: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.kafka_source", "--brokers", brokers, "--clock", clock, "--task", task]
    command += ["--input", json.dumps(asdict(read))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _task(task: str, brokers: str, read: Input, clock: str) -> dict[str, float]:
    """Run a task once on a small topic, so that everything is loaded, and then measure it."""
    small = Input(read.topic, read.format, 2_000, 1)
    if task == "fill":
        fill(brokers, small)
        fill(brokers, read)
        return {}
    TASKS[task](brokers, small, clock)
    cpu = time.process_time()
    seconds = TASKS[task](brokers, read, clock)
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True, help="addresses, host:port")
    parser.add_argument("--topics", nargs="+", default=["trades", "quotes"], choices=["trades", "quotes"])
    parser.add_argument("--formats", nargs="+", default=["json", "arrow"], choices=["json", "arrow"])
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--events", type=int, default=1_000_000, help="events of each JSON topic; ten times for Arrow")
    parser.add_argument("--clock", default="record", choices=["broker", "header", "record"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--task", choices=["fill", *TASKS], help=argparse.SUPPRESS)
    parser.add_argument("--input", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task:
        print(json.dumps(_task(chosen.task, chosen.brokers, Input(**json.loads(chosen.input)), chosen.clock)))
        return
    for topic in chosen.topics:
        for format_ in chosen.formats:
            for partitions in chosen.partitions:
                events = chosen.events * (10 if format_ == "arrow" else 1)
                read = Input(topic, format_, events, partitions)
                for task, figure in measure(chosen.brokers, read, clock=chosen.clock, runs=chosen.runs).items():
                    print(
                        f"{topic} {format_:5s} {partitions} partitions {task:9s} {figure['events_per_s']:>12,.0f} "
                        f"events/s, {figure['of_bare']:.2f} of bare, cpu {figure['cpu_seconds']:6.2f} s "
                        f"({figure['of_bare_cpu']:.2f}), {figure['peak_mib']:6.0f} MiB",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
