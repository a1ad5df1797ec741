"""A broker of its own for a benchmark, topics filled from an archive, and the configuration that reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from dataflows.publishing import PublishOptions, publish
from dataflows.settings import load_settings
from scripts.live_crash_test import Broker
from scripts.live_run import write_config
from sinks.archive import Archive
from tests.services.live_topics import DatabaseProcess

__all__ = ["Scene", "Topics", "create", "in_process", "open_scene", "peak_mib"]

REPOSITORY: Final = Path(__file__).resolve().parent.parent
_SECONDS: Final = 60.0
_ARROW_HEARTBEAT: Final = timedelta(minutes=1)
"""An Arrow record does not reach over a heartbeat: with one a second, most would be half empty."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics with records, and how to read them.

    Parameters
    ----------
    brokers
        Address of the broker.
    names
        Our name of each topic to the one on the broker.
    form, clock
        Format of the records, and whose time orders them.
    partitions
        Partitions of each topic.
    rows
        Events in all topics.
    """

    brokers: str
    names: dict[str, str]
    form: str
    clock: str
    partitions: int
    rows: int

    def to_json(self) -> str:
        """Return text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Topics:
        """Return the topics that `to_json` told of."""
        return cls(**json.loads(text))

    def write_config(self, path: Path, extra: str = "") -> Path:
        """Write a configuration that reads them; `extra` is TOML of further sections."""
        return write_config(path, self.brokers, self.names, clock=self.clock, form=self.form, extra=extra)


def create(brokers: str, names: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
    """Make topics, each with so many partitions."""
    admin = AdminClient({"bootstrap.servers": brokers})
    wanted = [NewTopic(name, count, 1, config=dict(config or {})) for name, count in names.items()]
    for made in admin.create_topics(wanted).values():
        made.result(_SECONDS)


@dataclass(slots=True)
class Scene:
    """A running broker and what was published to it.

    Parameters
    ----------
    folder
        Folder for everything that is written.
    broker
        The broker.
    """

    folder: Path
    broker: Broker
    _filled: dict[str, Topics] = field(default_factory=dict)

    @property
    def brokers(self) -> str:
        """Address of the broker."""
        return self.broker.address

    def publish(self, archive: Path, *, form: str = "json", clock: str = "record", partitions: int = 2) -> Topics:
        """Return the topics with an archive's records; they are filled once."""
        mark = f"{archive.name}-{form}-{clock}-{partitions}"
        if mark in self._filled:
            return self._filled[mark]
        found = Archive.open(archive)
        names = {topic: f"{mark}-{topic}" for topic in found.topics()}
        create(self.brokers, dict.fromkeys(names.values(), partitions), {"retention.ms": "-1"})
        topics = Topics(self.brokers, names, form, clock, partitions, 0)
        settings = load_settings(topics.write_config(self.folder / f"{mark}.toml"))
        if settings.kafka is None:
            raise SystemExit("the configuration names no brokers")
        options = PublishOptions(heartbeat=_ARROW_HEARTBEAT) if form == "arrow" else PublishOptions()
        result = publish(found, settings.kafka, options)
        self._filled[mark] = Topics(self.brokers, names, form, clock, partitions, sum(result.rows.values()))
        return self._filled[mark]

    @contextmanager
    def database(self, name: str) -> Iterator[DatabaseProcess]:
        """Serve a new database from a process of its own."""
        database = DatabaseProcess(self.folder / name)
        database.ensure()
        try:
            yield database
        finally:
            database.kill()


@contextmanager
def open_scene(folder: Path) -> Iterator[Scene]:
    """Start a broker in a folder, and stop it at the end."""
    broker = Broker(folder / "kafka")
    broker.start()
    try:
        yield Scene(folder, broker)
    finally:
        broker.stop()


def peak_mib() -> float:
    """Return the largest resident size of this process, MiB. `ru_maxrss` would be its parent's, if that was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def in_process(*arguments: str, patience: float = 900.0) -> dict[str, Any]:
    """Run a module of ours in a process of its own and return the JSON of its last line."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience, cwd=REPOSITORY)
    if done.returncode:
        raise SystemExit(f"`{' '.join(arguments)}` failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
