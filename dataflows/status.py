"""What a running process tells others: a small file beside its snapshots, written anew every second."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from schemas.errors import InputError
from sinks.drift_tally import StreamDrift

__all__ = ["Observed", "ProcessStatus", "SourceStatus", "StatusWriter", "last_snapshot", "read_status"]

_INTERVAL_S: Final = 1.0
_RATE_SAMPLES: Final = 10
"""Intervals over which the rate is taken."""
_NAME: Final = "status-{}.json"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How far one source is.

    Parameters
    ----------
    clock
        Its arrival clock, UTC ns.
    lag
        Records that it is behind the end of its partition.
    """

    clock: int
    lag: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of a run.

    Parameters
    ----------
    run_id
        The run.
    process_id, processes
        Position in the cluster, and its size.
    pid, host
        The process.
    state
        `running`, `draining`, `stopped` or `failed`.
    started, updated
        When it began and when this was written, UTC ns.
    delivered
        Records read since it began.
    rate
        Records read per second, lately.
    sources
        Its sources.
    written
        Rows stored since it began, by table.
    drift
        Drifts found since it began, by `model/stream`.
    """

    run_id: str
    process_id: int
    processes: int
    pid: int
    host: str
    state: str
    started: int
    updated: int
    delivered: int
    rate: float
    sources: dict[str, SourceStatus] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    drift: dict[str, StreamDrift] = field(default_factory=dict)

    def age(self, now: int) -> float:
        """Return the seconds since this was written."""
        return (now - self.updated) / 1e9


@dataclass(frozen=True, slots=True)
class Observed:
    """How a process is now: what `ProcessStatus` has under these names."""

    state: str
    delivered: int
    sources: dict[str, SourceStatus] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    drift: dict[str, StreamDrift] = field(default_factory=dict)


class StatusWriter:
    """Writes the status of this process once a second, and at the end how it ended.

    Parameters
    ----------
    folder
        Folder of the run's snapshots; nothing is written until it is there.
    run_id
        The run.
    process_id, processes
        Position in the cluster, and its size.
    collect
        Returns how the process is; called on the writer's thread.
    """

    def __init__(
        self, folder: Path, run_id: str, process_id: int, processes: int, collect: Callable[[], Observed]
    ) -> None:
        self._path = folder / _NAME.format(process_id)
        self._fixed: dict[str, Any] = {
            "run_id": run_id,
            "process_id": process_id,
            "processes": processes,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.time_ns(),
        }
        self._collect = collect
        self._seen: deque[tuple[int, int]] = deque([(self._fixed["started"], 0)], maxlen=_RATE_SAMPLES)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="signalbox-status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._write("stopped" if kind is None else "failed")

    def status(self, state: str | None = None) -> ProcessStatus:
        """Return the status of now."""
        found = self._collect()
        now = time.time_ns()
        before, count = self._seen[0]
        self._seen.append((now, found.delivered))
        rate = (found.delivered - count) * 1e9 / max(now - before, 1)
        return ProcessStatus(
            **self._fixed,
            state=state or found.state,
            updated=now,
            delivered=found.delivered,
            rate=rate,
            sources=found.sources,
            written=found.written,
            drift=found.drift,
        )

    def _work(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            self._write(None)

    def _write(self, state: str | None) -> None:
        unfinished = self._path.with_suffix(".unfinished")
        # the folder is made by the process that leads, and removed with a run that is complete
        with suppress(FileNotFoundError):
            unfinished.touch(mode=0o600)
            unfinished.write_text(json.dumps(asdict(self.status(state))))
            unfinished.replace(self._path)


def read_status(folder: Path) -> tuple[ProcessStatus, ...]:
    """Return what the processes of a run wrote, in order.

    Raises
    ------
    InputError
        There is nothing, or it cannot be read.
    """
    found = []
    for path in sorted(folder.glob(_NAME.format("*"))):
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            content["sources"] = {name: SourceStatus(**source) for name, source in content["sources"].items()}
            content["drift"] = {name: StreamDrift(**drift) for name, drift in content.get("drift", {}).items()}
            found.append(ProcessStatus(**content))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"expected the status of a process in `{path}`, found {error}; is its run newer?"
            ) from error
    if not found:
        raise InputError(f"expected the status of a live run in `{folder}`, found none; was it started there?")
    # of a run that had more processes before, files of the others are left over
    processes = max(found, key=lambda status: status.updated).processes
    return tuple(sorted((s for s in found if s.process_id < processes), key=lambda status: status.process_id))


def last_snapshot(folder: Path) -> int | None:
    """Return when a snapshot was last stored, UTC ns, or None before the first."""
    times = [path.stat().st_mtime_ns for path in folder.glob("*.sqlite3*")]
    return max(times, default=None)
