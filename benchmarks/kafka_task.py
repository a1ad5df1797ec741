"""One measured run over topics in a process of its own: `python -m benchmarks.kafka_task NAME --topics T --warm-up W`.

The process runs the task once on small topics, so that compiled kernels are loaded and thread pools exist; then it runs
it on the topics to measure and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from benchmarks.kafka_scene import Topics, peak_mib

__all__ = ["TASKS", "main"]

_TIMEOUT_S: Final = 60.0
Task = Callable[[Topics, Path, str], dict[str, Any]]


def bare(topics: Topics, out: Path, extra: str) -> dict[str, Any]:
    """Count the records of all topics with `consume(10_000, 0.1)`, with the settings of our own consumer."""
    from dataflows.settings import load_settings
    from dataflows.sources.kafka_client import open_consumer

    out.mkdir(parents=True, exist_ok=True)
    config = load_settings(topics.write_config(out / "bare.toml", extra)).kafka
    if config is None:
        raise SystemExit("the configuration names no brokers")
    return _count(open_consumer(config, lambda error: None), topics, ends_told=True)


def defaults(topics: Topics, out: Path, extra: str) -> dict[str, Any]:
    """Do the same with the settings that the library has."""
    consumer = Consumer(
        {"bootstrap.servers": topics.brokers, "group.id": "benchmark", "enable.auto.commit": False}
        | {"auto.offset.reset": "earliest"}
    )
    return _count(consumer, topics, ends_told=False)


def _count(consumer: Consumer, topics: Topics, *, ends_told: bool) -> dict[str, Any]:
    places = [TopicPartition(name, part, 0) for name in topics.names.values() for part in range(topics.partitions)]
    records = sum(consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)[1] for place in places)
    wanted = records + (len(places) if ends_told else 0)
    consumer.assign(places)
    started, n = time.perf_counter(), 0
    while n < wanted:
        n += len(consumer.consume(min(10_000, wanted - n), 0.1))
        if time.perf_counter() - started > 10 * _TIMEOUT_S:
            raise SystemExit(f"expected {wanted} records, found {n}")
    seconds = time.perf_counter() - started
    consumer.close()
    return {"seconds": seconds, "records": records}


def source(topics: Topics, out: Path, extra: str, *, admit: bool = False) -> dict[str, Any]:
    """Read with the source of the product: decoded and in order, and checked where `admit` says so."""
    from dataflows.collector import sparing_collector
    from dataflows.settings import load_settings
    from dataflows.sources.kafka import KafkaSource
    from dataflows.sources.replay_range import ReplayRange
    from operators.decode import DecodeLimits, validate

    out.mkdir(parents=True, exist_ok=True)
    config = load_settings(topics.write_config(out / "source.toml", extra)).kafka
    if config is None:
        raise SystemExit("the configuration names no brokers")
    opened = KafkaSource.connect(config, replay=ReplayRange())
    parts = {name: opened.build_part("source", name, None) for name in opened.list_parts()}
    started, refused, limits = time.perf_counter(), 0, DecodeLimits()
    reading = dict(parts)
    with sparing_collector():
        while reading:
            for name in list(reading):
                try:
                    arrivals = reading[name].next_batch()
                except StopIteration:
                    del reading[name]
                    continue
                batches = [(one.topic, one.batch) for one in arrivals if admit and one.batch is not None]
                refused += sum(validate(topic, batch, limits).rejected.num_rows for topic, batch in batches)
    seconds = time.perf_counter() - started
    for part in parts.values():
        part.close()
    if opened.delivered != topics.rows or refused:
        raise SystemExit(f"expected {topics.rows} good rows, found {opened.delivered} and {refused} refused")
    return {"seconds": seconds}


def ours(topics: Topics, out: Path, extra: str, *, workers: int) -> dict[str, Any]:
    """Run the graph over the topics to their ends: embedded ClickHouse, recovery on, nothing lost."""
    from dataflows.live import TopicRun, run_topics
    from dataflows.settings import load_settings
    from dataflows.sources.replay_range import ReplayRange
    from schemas.enums import RunStatus
    from sinks.store import Store

    out.mkdir(parents=True)
    settings = load_settings(topics.write_config(out / "signalbox.toml", extra))
    job = TopicRun("benchmark", settings, part=ReplayRange(), workers=workers, recovery=out / "recovery")
    with Store.open(str(out / "database")) as store:
        started = time.perf_counter()
        result = run_topics(job, store)
        seconds = time.perf_counter() - started
    if result.status is not RunStatus.COMPLETE or result.unaccounted() or result.rows != topics.rows:
        raise SystemExit(
            f"expected a complete run that accounts for {topics.rows} rows, found {result.status.name} with "
            f"{result.rows} rows and {result.unaccounted()}"
        )
    written = {name: digest.rows for name, digest in result.digests.items()}
    return {"seconds": seconds, "graph_s": result.seconds, "written": written}


TASKS: Final[dict[str, Task]] = {
    "bare": bare,
    "defaults": defaults,
    "source": source,
    "admitted": partial(source, admit=True),
    "ours-1": partial(ours, workers=1),
    "ours-2": partial(ours, workers=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(TASKS))
    parser.add_argument("--topics", type=Topics.from_json, required=True, help="what to measure on")
    parser.add_argument("--warm-up", type=Topics.from_json, required=True, help="small topics")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written; replaced")
    parser.add_argument("--extra", default="", help="TOML of further sections of the configuration")
    chosen = parser.parse_args()
    task = TASKS[chosen.name]
    shutil.rmtree(chosen.out, ignore_errors=True)
    task(chosen.warm_up, chosen.out / "warm-up", chosen.extra)
    cpu = time.process_time()
    found = task(chosen.topics, chosen.out / "measured", chosen.extra)
    cpu = time.process_time() - cpu
    print(json.dumps({"cpu_seconds": cpu, "peak_mib": peak_mib()} | found))


if __name__ == "__main__":
    main()
