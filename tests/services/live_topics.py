"""Topics with a market or hand-made trades in them, and live runs over them. For tests only."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from schemas.tables import DEAD_LETTERS, TABLES
from schemas.time import END_OF_TIME
from scripts.live_run import LiveRun, free_ports
from sinks.store import RunCount, Store

__all__ = [
    "FAST",
    "SECOND",
    "START",
    "DatabaseProcess",
    "LiveTopics",
    "heartbeat",
    "published",
    "published_key",
    "stored_keys_sql",
    "trade",
    "until",
]

SECOND: Final = 10**9
START: Final = 1_700_000_000 * SECOND
FAST: Final = """
[compute.bars]
intervals = ["1s"]
[compute.strategies]
enabled = ["mean_reversion", "breakout", "microstructure_alpha"]
[compute.strategies.mean_reversion]
interval = "1s"
entry_zscore = 1.0
[compute.strategies.breakout]
interval = "1s"
min_relative_volume = 0.5
[compute.event_bars]
ticks = [3]
[universe.members]
interval = "1s"
live_within = "5s"
min_coverage = 0.3
[specialists]
horizon = "2s"
tolerance = "2s"
cost_band_bps = 0.1
learning = { min_outcomes = 2.0, min_coverage = 0.2 }
ensemble = { quorum = 1 }
[drift]
min_instances = 30
threshold = 2.0
allowance = 0.1
cooldown = "1s"
[sink]
max_age = "50ms"
"""
_ROOT: Final = Path(__file__).resolve().parents[2]


def trade(number: int, *, instrument: str = "A", ts: int | None = None) -> bytes:
    """Return the message of a trade, one tenth of a second after the other."""
    ts = START + number * SECOND // 10 if ts is None else ts
    fields = {
        "instrument_id": instrument, "ts_event": ts, "ts_recv": ts, "price": 100.0 + number % 7, "size": 1.0,
        "side": "buy", "trade_id": number,
    }  # fmt: skip
    return json.dumps(fields).encode()


def heartbeat(partition: int = 0, ts: int = END_OF_TIME - 1) -> tuple[None, dict[str, Any]]:
    """Return a record that moves the clock of a partition, by default so far that nothing can follow."""
    return None, {"partition": partition, "headers": [("heartbeat", str(ts).encode())]}


def until(done: Callable[[], bool], what: str, run: LiveRun | None = None, seconds: float = 60.0) -> None:
    """Wait for something; fail if it takes too long or a process ends first."""
    deadline = time.monotonic() + seconds
    while not done():
        if run is not None and not run.running:
            raise RuntimeError(f"a process ended before {what}: {run.errors()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}; {run.errors() if run is not None else ''}")
        time.sleep(0.02)


def published(brokers: str, topic: str, partitions: int = 1) -> list[tuple[dict[str, bytes], bytes | None]]:
    """Return headers and values of all records that a topic holds."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "test", "enable.partition.eof": True, "log_level": 0}
    )
    found: list[tuple[dict[str, bytes], bytes | None]] = []
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        ended = 0
        deadline = time.monotonic() + 60
        while ended < partitions:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no end of `{topic}` within a minute")
            for message in consumer.consume(10_000, 0.5):
                if message.error() is not None:
                    ended += 1
                else:
                    found.append((dict(message.headers() or []), message.value()))  # type: ignore[arg-type]
    finally:
        consumer.close()
    return found


def stored_keys_sql(table: str, run_id: str) -> str:
    """Return the query for the natural keys, without the run, of a run's rows."""
    schema = TABLES[table]
    columns = []
    for name in schema.key[1:]:
        entry = schema.field(name)
        function = "toUnixTimestamp64Nano" if entry.kind == "time" else "toString" if entry.enum is not None else ""
        columns.append(f"{function}({name})")
    return f"SELECT {', '.join(columns)} FROM {table} WHERE run_id = '{run_id}'"


def published_key(table: str, headers: Mapping[str, bytes], value: bytes | None) -> tuple[Any, ...]:
    """Return the natural key, without the run, of a published row."""
    if table == DEAD_LETTERS.name:
        return headers["topic"].decode(), int(headers["partition"]), int(headers["offset"])
    row = json.loads(value or b"{}")
    return tuple(row[name] for name in TABLES[table].key[1:])


@dataclass(slots=True)
class DatabaseProcess:
    """A served database in a process of its own, which can be away for a while."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        """Start it; it listens once this returns."""
        command = [sys.executable, "-m", "tests.services.clickhouse_http", str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        self.url = (self.process.stdout.readline() if self.process.stdout else "").strip()

    def ensure(self) -> None:
        """Start it, or start it again where it has died."""
        if self.process is not None and self.process.poll() is None:
            return
        self.kill()
        self.start()

    def kill(self) -> None:
        """End it at once; it keeps what it has stored."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()


@dataclass(slots=True)
class LiveTopics:
    """Input topics, a database, and runs from one into the other.

    Parameters
    ----------
    folder
        Folder for configuration, snapshots and logs.
    brokers
        Addresses of the brokers.
    url
        The database.
    names
        Topics by our names for them.
    clock
        Their clock.
    kafka
        More keys of section `[kafka]`.
    extra
        TOML of other sections.
    """

    folder: Path
    brokers: str
    url: str
    names: Mapping[str, str]
    clock: str = "record"
    kafka: str = ""
    extra: str = FAST
    runs: list[LiveRun] = field(default_factory=list)

    def configure(self, *, kafka: str | None = None, extra: str | None = None) -> Path:
        """Write the configuration, with other keys than the given ones where they are named."""
        topics = "".join(
            f'[kafka.topics.{topic}]\nname = "{name}"\nclock = "{self.clock}"\n' for topic, name in self.names.items()
        )
        kafka, extra = self.kafka if kafka is None else kafka, self.extra if extra is None else extra
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "signalbox.toml"
        path.write_text(f'{extra}\n[kafka]\nbrokers = "{self.brokers}"\n{kafka}\n{topics}')
        return path

    def run(self, name: str, *, db: str | None = None) -> LiveRun:
        """Return the run of a name, not started."""
        config = self.folder / "signalbox.toml"
        if not config.exists():
            self.configure()
        run = LiveRun(name, db or self.url, config, self.folder / "recovery", self.folder / "logs")
        self.runs.append(run)
        return run

    def tables(self, run_id: str) -> tuple[dict[str, Any], list[RunCount]]:
        """Return digests of all tables of a run, and its counters."""
        with Store.open(self.url, read_only=True) as store:
            counts = [count for count in store.counts(run_id) if count.kind != "written"]
            return store.digest(run_id), counts

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with Store.open(self.url, read_only=True) as store:
            return store.connection.rows(sql)

    def close(self) -> None:
        """End every process that still runs."""
        for run in self.runs:
            run.kill()
