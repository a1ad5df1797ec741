"""From a record's scheduled time until the signal that it caused can be read: `python -m benchmarks.kafka_latency`.

An open-loop producer (`benchmarks.kafka_feed`) appends trades and quotes; a live run with recovery on publishes its
signals; this process reads them. A signal of `microstructure_alpha` is a decision on one quote and carries its
arrival time, which is the scheduled time of that quote (header `ts_recv`): the difference to the moment at which the
signal is in our hands is the latency. It contains the producer's own gathering and sending.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.kafka_figures import latencies, percentiles
from benchmarks.kafka_scene import REPOSITORY, Scene, create, open_scene
from dataflows.status import ProcessStatus
from schemas.enums import CountKind
from scripts.live_run import LiveRun, write_config

__all__ = ["Load", "main", "measure"]

_SECOND: Final = 10**9
_BEGIN_S: Final = 5.0
"""Time until the first record is due: by then the producer has started."""
_PATIENCE_S: Final = 120.0
_STRATEGY: Final = "microstructure_alpha"
_STRATEGIES: Final = """
[compute.strategies.microstructure_alpha]
entry_zscore = 2.0
cooldown = "0s"
"""
"""Signals on about one quote in forty, so that the far quantiles stand on thousands of them."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured under which load.

    Parameters
    ----------
    rate
        Records per second.
    seconds
        Time that is measured.
    warm_up
        Time before that, seconds; the state is warm by then, and a few snapshots were taken.
    instruments
        Number of instruments.
    partitions
        Partitions of each topic.
    shards
        Of the run. What is computed at once costs about as much for one row as for a hundred, so that more parts, of
        instruments or of topics, take longer.
    snapshot_interval
        Of the run.
    quiet
        Topics that are configured and have no records: their clocks stand `idle_margin` behind the wall clock.
    extra
        TOML of further sections of the configuration.
    kafka
        TOML of further keys of section `kafka`. No topic is quiet, so that a long margin costs nothing; it keeps a
        stall from moving the times of records, which would hide it.
    """

    rate: float = 20_000
    seconds: float = 60
    warm_up: float = 15
    instruments: int = 100
    partitions: int = 1
    shards: int = 1
    snapshot_interval: str = "5s"
    quiet: tuple[str, ...] = ()
    extra: str = ""
    kafka: str = 'idle_margin = "1s"'

    @property
    def interval(self) -> float:
        """Time between two records, ns."""
        return _SECOND / self.rate


@dataclass(slots=True)
class _Signals:
    """What came out, and when it was seen."""

    seen: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)


class _Signal(msgspec.Struct):
    ts: int
    strategy: str


def measure(scene: Scene, name: str, load: Load) -> dict[str, Any]:
    """Run a live run under a load and return its latencies, and what else tells whether they can be believed.

    Parameters
    ----------
    scene
        A running broker.
    name
        Name of the measurement, for its topics and folders.
    load
        The load.
    """
    folder = scene.folder / name
    folder.mkdir()
    inputs = {topic: f"{name}-{topic}" for topic in ("quotes", "trades", *load.quiet)}
    signals = f"{name}-signals"
    create(scene.brokers, dict.fromkeys(inputs.values(), load.partitions) | {signals: 1})
    live = LiveRun(name, str(folder / "database"), _config(scene, folder, inputs, signals, load), folder, folder)
    live.start()
    try:
        _await_running(live)
        begin = time.time_ns() + int(_BEGIN_S * _SECOND)
        feed = _start_feed(scene, inputs, load, begin)
        try:
            found = _read(scene.brokers, signals, begin + int((load.warm_up + load.seconds + 1) * _SECOND))
            fed = _fed(feed)
        finally:
            feed.kill()
            feed.wait()
        status = live.status()
        codes = live.stop()
    finally:
        live.kill()
    if codes != [0]:
        raise SystemExit(f"expected the run to end with exit code 0, found {codes}: {live.errors()}")
    return _figures(found, begin, load) | _account(live, status, fed)


def _config(scene: Scene, folder: Path, inputs: dict[str, str], signals: str, load: Load) -> Path:
    extra = f'[recovery]\nsnapshot_interval = "{load.snapshot_interval}"\n[outputs]\nsignals = "{signals}"\n'
    path = folder / "signalbox.toml"
    write_config(
        path, scene.brokers, inputs, clock="header", extra=f"shards = {load.shards}\n{load.extra}\n{extra}{_STRATEGIES}"
    )
    if load.kafka:
        path.write_text(path.read_text().replace("[kafka]\n", f"[kafka]\n{load.kafka}\n"))
    return path


def _await_running(live: LiveRun) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not any(status.sources for status in live.status()):
        if not live.running or time.monotonic() > deadline:
            raise SystemExit(f"expected the run to begin within {_PATIENCE_S:.0f} s: {live.errors()}")
        time.sleep(0.1)


def _start_feed(scene: Scene, inputs: dict[str, str], load: Load, begin: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.kafka_feed", "--brokers", scene.brokers, "--begin", str(begin)]
    command += ["--quotes", inputs["quotes"], "--trades", inputs["trades"], "--partitions", str(load.partitions)]
    command += ["--rate", str(load.rate), "--seconds", str(load.warm_up + load.seconds)]
    command += ["--instruments", str(load.instruments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


def _fed(feed: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = feed.communicate(timeout=_PATIENCE_S)
    if feed.returncode:
        raise SystemExit(f"the producer failed: {errors[-4000:]}")
    return dict(json.loads(output.splitlines()[-1]))


def _read(brokers: str, topic: str, until: int) -> _Signals:
    """Read signals one by one as they come, until a time."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "reader", "enable.auto.commit": False}
        | {"fetch.queue.backoff.ms": 1, "auto.offset.reset": "earliest"}
    )
    found = _Signals()
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while time.time_ns() < until:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                found.seen.append(time.time_ns())
                found.values.append(message.value() or b"{}")
    finally:
        consumer.close()
    return found


def _figures(found: _Signals, begin: int, load: Load) -> dict[str, Any]:
    """Return the latencies of signals on records that were due while it was measured."""
    decode = msgspec.json.Decoder(_Signal).decode
    signals = [decode(value) for value in found.values]
    ts = np.array([signal.ts for signal in signals], dtype=np.int64)
    of_quotes = np.array([signal.strategy == _STRATEGY for signal in signals], dtype=bool)
    first = begin + int(load.warm_up * _SECOND)
    kept = of_quotes & (ts >= first) & (ts < first + int(load.seconds * _SECOND))
    seen = np.array(found.seen, dtype=np.int64)
    latency, moved = latencies(ts[kept], seen[kept], begin, load.interval)
    second = ((ts[kept] - first) // _SECOND)[: len(latency)] if not moved else np.zeros(0, dtype=np.int64)
    worst = [round(float(latency[second == one].max()) / 1e6, 1) for one in np.unique(second).tolist()]
    return percentiles(latency) | {"times_moved": moved, "worst_of_each_second_ms": worst}


def _account(live: LiveRun, status: tuple[ProcessStatus, ...], fed: dict[str, Any]) -> dict[str, Any]:
    counted = live.result()["counts"]
    totals = {
        kind.value: sum(one["count"] for one in counted if one["kind"] == kind.value)
        for kind in (CountKind.READ, CountKind.DEAD_LETTERED, CountKind.ORDER_VIOLATION)
    }
    if totals[CountKind.READ.value] != fed["records"]:
        raise SystemExit(f"expected {fed['records']} records read, found {totals}")
    lag = sum(source.lag for one in status for source in one.sources.values())
    return {"counts": totals, "lag_at_end": lag, "producer": fed}


def main() -> None:
    load = Load()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=load.rate, help="records per second")
    parser.add_argument("--seconds", type=float, default=load.seconds, help="time that is measured")
    parser.add_argument("--warm-up", type=float, default=load.warm_up, help="time before that, seconds")
    parser.add_argument("--instruments", type=int, default=load.instruments)
    parser.add_argument("--partitions", type=int, default=load.partitions, help="of each topic")
    parser.add_argument("--shards", type=int, default=load.shards)
    parser.add_argument("--snapshot-interval", default=load.snapshot_interval)
    parser.add_argument("--quiet", nargs="*", default=[], help="topics without records that the run waits for")
    parser.add_argument("--extra", default="", help="TOML in front of the configuration")
    parser.add_argument("--kafka", default=load.kafka, help="TOML of further keys of section `kafka`")
    chosen = vars(parser.parse_args())
    load = Load(**chosen | {"quiet": tuple(chosen["quiet"])})
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder, open_scene(Path(folder)) as scene:
        print(json.dumps(measure(scene, "latency", load), indent=1))


if __name__ == "__main__":
    main()
