"""Kill a live run at random moments, disturb its broker and its database, and compare its end with an undisturbed run.

`python -m scripts.live_crash_test --kills 50` simulates a market, publishes it to topics while a live run reads them,
and ends the run's processes with SIGKILL again and again: while they start, while they read and compute, while rows
are inserted, while a snapshot is stored. In between the broker is stopped and started, and the database refuses
inserts, answers late, loses its answer or dies after it has stored rows. At the end the tables must be those of a run
that was left alone, and the out-topics must hold every row of the tables, and nothing else, once repeats are dropped by
their id. The exit code is 0 if so, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from schemas.records import TOPICS
from schemas.tables import PUBLISHED
from scripts.live_run import LiveRun, write_config
from sinks.archive import Archive
from sinks.digests import TableDigest
from sinks.store import Store
from tests.services.clickhouse_http import Fault, inserts_seen, order_faults
from tests.services.live_topics import DatabaseProcess, published, published_key, stored_keys_sql

__all__ = ["Outcome", "Scene", "main", "run_scene"]

_REPOSITORY: Final = Path(__file__).resolve().parent.parent
_PARTITIONS: Final = 2
_FAULTS: Final = FaultConfig(duplicate_trades=20, late_trades=20, sequence_gaps=4, malformed=5, crossed_quotes=5)
_SHORT: Final = """
[compute.event_bars]
ticks = [20]
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
"""
"""Windows so short that a few minutes have rows of every table."""
_MOMENTS: Final = ("start", "work", "work", "insert", "insert", "snapshot", "snapshot")
_DISTURBANCES: Final = ("refuse", "late", "lost", "die", "broker")
_PATIENCE_S: Final = 240.0
_LIFE_S: Final = 30.0
"""Longest life of a process that is to be killed."""


@dataclass(slots=True)
class Broker:
    """A broker that can be stopped and started."""

    folder: Path
    address: str = ""

    def command(self, action: str) -> str:
        """Run an action of `scripts/kafka`."""
        command = [sys.executable, str(_REPOSITORY / "scripts" / "kafka"), action, "--dir", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.strip()

    def start(self) -> None:
        """Start it, or start it again with its data."""
        self.address = self.command("start")

    def stop(self) -> None:
        """Stop it."""
        self.command("stop")


@dataclass(slots=True)
class Outcome:
    """What came of the kills.

    Parameters
    ----------
    kills
        Moments of the kills.
    disturbances
        What was done to broker and database.
    faults
        What is wrong, in words.
    rows
        Rows of each table.
    """

    kills: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """Broker, database, topics with a market on its way to them, and the run.

    Parameters
    ----------
    folder
        Folder for all of it.
    broker
        A running broker.
    database
        A running database.
    seconds
        How long the market takes to be published.
    minutes
        Length of the market, minutes.
    """

    folder: Path
    broker: Broker
    database: DatabaseProcess
    seconds: float
    minutes: int = 10
    config: Path = field(init=False)
    outputs: dict[str, str] = field(init=False)
    publisher: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        market = SimulatorConfig(
            seed=7, instruments=8, duration=f"{self.minutes}m", snapshot_interval="30s", faults=_FAULTS
        )
        simulate(market, Archive.create(self.folder / "archive"))
        mark = f"crash-{time.time_ns():x}"
        names = {topic: f"{mark}-{topic}" for topic in TOPICS}
        self.outputs = {schema.name: f"{mark}-out-{schema.name}" for schema in PUBLISHED}
        admin = AdminClient({"bootstrap.servers": self.broker.address, "log_level": 0})
        wanted = [NewTopic(name, _PARTITIONS, 1) for name in [*names.values(), *self.outputs.values()]]
        for made in admin.create_topics(wanted).values():
            made.result(30)
        outputs = "".join(f'{table} = "{name}"\n' for table, name in self.outputs.items())
        extra = f'{_SHORT}[recovery]\nsnapshot_interval = "300ms"\n[sink]\nmax_age = "50ms"\n[outputs]\n{outputs}'
        self.config = write_config(self.folder / "signalbox.toml", self.broker.address, names, extra=extra)

    @property
    def sources(self) -> int:
        """Number of partitions that are read."""
        return _PARTITIONS * len(TOPICS)

    def publish(self) -> None:
        """Begin to publish the market."""
        speed = self.minutes * 60 / self.seconds
        command = [sys.executable, "-m", "dataflows.cli", "publish", "--archive", str(self.folder / "archive")]
        command += ["--config", str(self.config), "--speed", str(speed), "--json"]
        with (self.folder / "publish.log").open("wb") as log:
            self.publisher = subprocess.Popen(command, stdout=log, stderr=log, cwd=_REPOSITORY)

    def await_published(self) -> None:
        """Wait until the whole market is on the topics."""
        if self.publisher is not None and self.publisher.wait(_PATIENCE_S) != 0:
            raise RuntimeError(f"the market was not published: {(self.folder / 'publish.log').read_text()}")

    def run(self, name: str) -> LiveRun:
        """Return the run of a name."""
        return LiveRun(name, self.database.url, self.config, self.folder / "recovery", self.folder / "logs")


def run_scene(scene: Scene, kills: int, rng: random.Random, say: Callable[[str], None]) -> Outcome:
    """Kill a run so often while it works, let it end, and compare it with one that was left alone."""
    outcome = Outcome()
    victim = scene.run("victim")
    scene.publish()
    disturb = _plan(kills, rng)
    while outcome.kills.total() < kills:
        moment = rng.choice(_MOMENTS)
        scene.database.ensure()
        if outcome.kills.total() in disturb:
            _disturb(scene, disturb[outcome.kills.total()], rng, outcome)
        victim.start()
        _await(moment, victim, scene, rng)
        if not victim.running:
            # a database that died or a broker that was away too long ends a run with an error; that is a crash too
            outcome.disturbances["ended by itself"] += 1
        victim.kill()
        outcome.kills[moment] += 1
        say(f"{outcome.kills.total()} of {kills}: killed at `{moment}`, {victim.delivered:,} records in this life")
    _restore(scene)
    scene.await_published()
    _finish(victim, scene)
    peace = scene.run("peace")
    _finish(peace, scene)
    _compare(scene, victim.run_id, peace.run_id, outcome)
    return outcome


def _plan(kills: int, rng: random.Random) -> dict[int, str]:
    """Return which life begins with which disturbance: every kind, spread over the first lives and then at random."""
    kinds = list(_DISTURBANCES) if kills >= len(_DISTURBANCES) * 2 else rng.sample(_DISTURBANCES, k=max(kills // 2, 1))
    plan = {1 + 2 * number: kind for number, kind in enumerate(kinds)}
    for life in range(len(kinds) * 2 + 1, kills):
        if rng.random() < 0.3:
            plan[life] = rng.choice(_DISTURBANCES)
    return plan


def _disturb(scene: Scene, kind: str, rng: random.Random, outcome: Outcome) -> None:
    outcome.disturbances[kind] += 1
    if kind == "broker":
        scene.broker.stop()
        time.sleep(rng.uniform(0, 2))
        scene.broker.start()
        return
    faults = {
        "refuse": [Fault("refuse", 500, 252)] * rng.randint(1, 4),
        "late": [Fault("late", seconds=rng.uniform(0.2, 1.5))] * 3,
        "lost": [Fault("lost")] * 2,
        "die": [Fault("die")],
    }[kind]
    order_faults(scene.database.url, faults)


def _restore(scene: Scene) -> None:
    scene.database.ensure()
    order_faults(scene.database.url, [])


def _await(moment: str, victim: LiveRun, scene: Scene, rng: random.Random) -> None:
    """Return at the moment to kill at, or when the run has ended."""
    if moment == "start":
        time.sleep(rng.uniform(0.2, 2.5))
        return
    looks: dict[str, Callable[[], int | None]] = {
        "snapshot": lambda: victim.snapshot,
        "insert": lambda: _inserts(scene),
        "work": lambda: victim.delivered,
    }
    look, begin = looks[moment], time.monotonic()
    seen = look()
    wanted = rng.randint(2, 9)
    while victim.running and wanted and time.monotonic() - begin < _LIFE_S:
        now = look()
        if now != seen:
            seen, wanted = now, wanted - 1
        scene.database.ensure()
        time.sleep(0.001)
    if moment == "work":
        time.sleep(rng.uniform(0, 1))


def _inserts(scene: Scene) -> int:
    try:
        return inserts_seen(scene.database.url)
    except OSError:
        return -1


def _finish(run: LiveRun, scene: Scene) -> None:
    run.start()
    run.await_caught_up(scene.sources, _PATIENCE_S)
    codes = run.stop()
    if codes != [0]:
        raise RuntimeError(f"expected exit code 0 of `{run.run_id}`, found {codes}: {run.errors()}")


def _compare(scene: Scene, victim: str, peace: str, outcome: Outcome) -> None:
    with Store.open(scene.database.url) as store:
        tables: dict[str, dict[str, TableDigest]] = {run: store.digest(run) for run in (victim, peace)}
        counts = {run: store.counts(run) for run in (victim, peace)}
        keys = {table: set(store.connection.rows(stored_keys_sql(table, victim))) for table in scene.outputs}
    outcome.rows = {name: digest.rows for name, digest in tables[victim].items()}
    for name, digest in tables[victim].items():
        if digest != tables[peace][name]:
            outcome.faults.append(f"table `{name}`: {digest} beside {tables[peace][name]} of the run left alone")
        if not digest.rows:
            outcome.faults.append(f"table `{name}` has no rows: nothing was shown of it")
    if counts[victim] != counts[peace]:
        outcome.faults.append(f"counts differ: {counts}")
    for table, expected in keys.items():
        copies = Counter(
            (headers["id"], published_key(table, headers, value))
            for headers, value in published(scene.broker.address, scene.outputs[table], _PARTITIONS)
            if headers["run_id"] == victim.encode()
        )
        outcome.repeats[table] = sum(copies.values()) - len(copies)
        # what a consumer keeps that drops repeats by their id
        kept = Counter(row for _, row in copies)
        if set(kept) != expected:
            missing, strange = len(expected - set(kept)), len(set(kept) - expected)
            outcome.faults.append(f"topic of `{table}`: {missing} rows missing, {strange} that no table has")
        if max(kept.values(), default=0) > 1 or len({name for name, _ in copies}) != len(copies):
            outcome.faults.append(f"topic of `{table}`: an id names two rows, or a row has two ids")


@contextmanager
def _services(folder: Path) -> Iterator[tuple[Broker, DatabaseProcess]]:
    broker, database = Broker(folder / "kafka"), DatabaseProcess(folder / "database")
    broker.start()
    try:
        database.ensure()
        yield broker, database
    finally:
        database.kill()
        broker.stop()


def main() -> int:
    """Run the test of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="number of kills")
    parser.add_argument("--seed", type=int, default=None, help="seed of the moments; drawn if not given")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as name, _services(Path(name)) as (broker, database):
        scene = Scene(Path(name), broker, database, seconds=4.0 * options.kills)
        outcome = run_scene(scene, options.kills, random.Random(seed), print)
    print(json.dumps({"kills": outcome.kills, "disturbances": outcome.disturbances, "rows": outcome.rows}))
    print(json.dumps({"repeats": outcome.repeats, "faults": outcome.faults}))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
