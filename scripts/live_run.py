"""Processes of a live run, started and stopped by a script: for tests, the crash test, the soak and benchmarks."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflows.status import ProcessStatus, last_snapshot, read_status
from schemas.errors import InputError
from schemas.records import TOPICS
from schemas.time import END_OF_TIME

__all__ = ["LiveRun", "free_ports", "write_config"]

_REPOSITORY = Path(__file__).resolve().parent.parent
CAUGHT_UP = END_OF_TIME - 1
"""Clock of a partition whose publisher has said that nothing more will come."""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def write_config(
    path: Path, brokers: str, names: Mapping[str, str], *, clock: str = "record", form: str = "json", extra: str = ""
) -> Path:
    """Write a configuration that reads topics; `extra` is TOML of further sections."""
    topics = "".join(
        f'[kafka.topics.{topic}]\nname = "{name}"\nclock = "{clock}"\nformat = "{form}"\n'
        for topic, name in names.items()
        if topic in TOPICS
    )
    path.write_text(f'{extra}\n[kafka]\nbrokers = "{brokers}"\n{topics}')
    return path


@dataclass(slots=True)
class LiveRun:
    """A live run under one name, of one process or several.

    Parameters
    ----------
    run_id
        Name of the run.
    db
        Folder or URL of the database.
    config
        Configuration file.
    recovery
        Folder of snapshots of all runs.
    logs
        Folder for what the processes print.
    command
        `run`, or `replay` with options.
    """

    run_id: str
    db: str
    config: Path
    recovery: Path
    logs: Path
    command: Sequence[str] = ("run",)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    starts: int = 0

    def start(self, count: int = 1) -> None:
        """Start the processes; the run goes on from its snapshot where there is one."""
        self.logs.mkdir(parents=True, exist_ok=True)
        addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(count))
        self.starts += 1
        self.processes = []
        for number in range(count):
            command = [sys.executable, "-m", "dataflows.cli", *self.command, "--run-id", self.run_id, "--db", self.db]
            command += ["--config", str(self.config), "--recovery", str(self.recovery), "--json"]
            if count > 1:
                command += ["--processes", str(count), "--addresses", addresses, "--process-id", str(number)]
            with self._output(number).open("wb") as out, self._errors(number).open("wb") as errors:
                self.processes.append(subprocess.Popen(command, stdout=out, stderr=errors, cwd=_REPOSITORY))

    def _output(self, number: int) -> Path:
        return self.logs / f"{self.run_id}-{self.starts}-{number}.out"

    def _errors(self, number: int) -> Path:
        return self.logs / f"{self.run_id}-{self.starts}-{number}.err"

    @property
    def folder(self) -> Path:
        """Folder of the run's snapshots."""
        return self.recovery / self.run_id

    @property
    def running(self) -> bool:
        """Whether every process lives."""
        return bool(self.processes) and all(process.poll() is None for process in self.processes)

    def status(self) -> tuple[ProcessStatus, ...]:
        """Return what the processes that were started last have told so far."""
        pids = {process.pid for process in self.processes}
        try:
            return tuple(status for status in read_status(self.folder) if status.pid in pids)
        except InputError:
            return ()

    @property
    def delivered(self) -> int:
        """Records that the processes have read."""
        return sum(status.delivered for status in self.status())

    @property
    def snapshot(self) -> int | None:
        """When a snapshot was last stored, UTC ns."""
        return last_snapshot(self.folder)

    def is_caught_up(self, sources: int) -> bool:
        """Whether each of so many sources has been read to its publisher's last word."""
        clocks = [source.clock for status in self.status() for source in status.sources.values()]
        return len(clocks) == sources and min(clocks) >= CAUGHT_UP

    def await_caught_up(self, sources: int, patience: float = 120.0) -> None:
        """Wait until it is; fail if a process ends or it takes too long."""
        deadline = time.monotonic() + patience
        while not self.is_caught_up(sources):
            if not self.running:
                raise RuntimeError(f"a process ended: {self.errors()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not caught up after {patience} s: {self.status()} {self.errors()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End every process at once."""
        for process in self.processes:
            process.kill()
        self.wait()

    def stop(self, number: int = signal.SIGTERM, patience: float = 60.0) -> list[int]:
        """Send every process a signal and return their exit codes."""
        for process in self.processes:
            process.send_signal(number)
        return self.wait(patience)

    def wait(self, patience: float = 60.0) -> list[int]:
        """Wait for every process to end and return their exit codes."""
        deadline = time.monotonic() + patience
        try:
            return [process.wait(max(deadline - time.monotonic(), 0.1)) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            for process in self.processes:
                process.kill()
                process.wait()
            raise RuntimeError(f"not ended after {patience} s: {self.errors()}") from error

    def result(self) -> dict[str, Any]:
        """Return what the leading process printed at its end."""
        content: dict[str, Any] = json.loads(self._output(0).read_text().splitlines()[-1])
        return content

    def errors(self) -> str:
        """Return what the processes that were started last have printed on standard error."""
        return "\n".join(self._errors(number).read_text()[-4000:] for number in range(len(self.processes)))
