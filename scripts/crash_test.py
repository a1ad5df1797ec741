"""Kill a replay at random moments, resume it as often, and compare its end with a replay that was left alone.

`python -m scripts.crash_test --kills 25` simulates a market, replays it once in peace, and once more with SIGKILL
after SIGKILL: some while the command starts, most after a random time of work. Digests of every table and all
counts must be equal. The exit code is 0 if they are, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflows.simulator import SimulatorConfig, simulate
from dataflows.snapshots import resume_epoch
from schemas.errors import ConfigError
from sinks.archive import Archive

__all__ = ["Life", "Replays", "main"]

_REPOSITORY = Path(__file__).resolve().parent.parent
_PATIENCE = 300.0
"""Seconds that one process may take, in all."""
_SHARE_AT_START = 0.2
"""Share of the kills that come while the command starts."""
_START = 1.5
"""Seconds that a start takes, about: bound of the moment of such a kill."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a replay.

    Parameters
    ----------
    epochs
        Snapshots that it completed; none are left of a replay that is complete.
    seconds
        How long it lived.
    code
        Its exit code; -9 if it was killed.
    result
        What it printed at its end, or None.
    errors
        Its standard error.
    """

    epochs: int
    seconds: float
    code: int
    result: dict[str, Any] | None
    errors: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


@dataclass(slots=True)
class Replays:
    """Replays of an archive into databases, each process with a snapshot every few batches.

    Parameters
    ----------
    archive
        Archive to replay.
    folder
        Folder for the configuration and the databases.
    options
        Further options of `signalbox replay`.
    """

    archive: Path
    folder: Path
    options: Sequence[str] = field(default=("--batch-rows", "400"))

    def start(self, name: str) -> subprocess.Popen[str]:
        """Start or resume the replay `name`."""
        config = self.folder / "crash_test.toml"
        if not config.exists():
            config.write_text('[recovery]\nsnapshot_interval = "200ms"\n')
        command = [sys.executable, "-m", "dataflows.cli", "replay", "--archive", str(self.archive)]
        command += ["--db", str(self.folder / name), "--run-id", name, "--config", str(config), "--json", *self.options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_REPOSITORY)

    def epoch(self, name: str) -> int:
        """Return the epoch that the replay would resume at; 1 where there is no snapshot."""
        try:
            return resume_epoch(self.folder / name / "recovery" / name)
        except ConfigError:  # the partition is being made
            return 1

    def live(self, name: str, *, kill_after: float | None = None, at_start: bool = False) -> Life:
        """Let one process run, to its end or until it is killed.

        Parameters
        ----------
        name
            Name of the replay: folder of its database and run.
        kill_after
            Seconds after which SIGKILL is sent; None lets it live.
        at_start
            Whether the seconds count from the start of the process, not from its first snapshot.
        """
        before, born = self.epoch(name), time.monotonic()
        process = self.start(name)
        try:
            if kill_after is not None:
                if not at_start:
                    self.await_snapshot(name, process, before)
                _sleep(kill_after, process)
                process.kill()
            output, errors = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
        seconds = time.monotonic() - born
        result = json.loads(output.splitlines()[-1]) if process.returncode == 0 else None
        return Life(max(self.epoch(name) - before, 0), seconds, process.returncode, result, errors)

    def await_snapshot(self, name: str, process: subprocess.Popen[str], before: int) -> None:
        """Wait until the process has completed a snapshot of its own, or has ended."""
        deadline = time.monotonic() + _PATIENCE
        while self.epoch(name) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def live_through(self, name: str, kills: int, rng: random.Random, *, stretch: float) -> list[Life]:
        """Kill and resume a replay until it was killed so often, then let it end.

        Parameters
        ----------
        name
            Name of the replay.
        kills
            Number of kills; fewer if it ends before.
        rng
            Source of the moments.
        stretch
            Longest time between a snapshot and the kill, seconds.

        Returns
        -------
        Every process; the last one was not killed.
        """
        lives: list[Life] = []
        while len(lives) < kills:
            at_start = rng.random() < _SHARE_AT_START
            after = rng.uniform(0.0, _START if at_start else stretch)
            lives.append(self.live(name, kill_after=after, at_start=at_start))
            if not lives[-1].killed:
                return lives
        return [*lives, self.live(name)]


def _sleep(seconds: float, process: subprocess.Popen[str]) -> None:
    """Sleep, but not past the end of the process."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what one result has and the other has not."""
    lines = []
    for name, digest in expected["digests"].items():
        if found["digests"].get(name) != digest:
            lines.append(f"table `{name}`: expected {digest}, found {found['digests'].get(name)}")
    lines += [f"expected {count}" for count in expected["counts"] if count not in found["counts"]]
    lines += [f"found {count}" for count in found["counts"] if count not in expected["counts"]]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="how often to kill (default 25)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the market and of the moments (default 1)")
    parser.add_argument("--minutes", type=int, default=25, help="length of the simulated market (default 25)")
    parser.add_argument("--workers", type=int, default=1, help="worker threads of the killed replay (default 1)")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        return _run(options, options.keep or Path(temporary))


def _run(options: argparse.Namespace, folder: Path) -> int:
    archive = folder / "archive"
    config = SimulatorConfig(
        seed=options.seed, instruments=8, duration=f"{options.minutes}m", snapshot_interval="30s", news_rate=30.0
    )
    simulate(config, Archive.create(archive))
    replays = Replays(archive, folder)
    replays.live("warm-up")  # compiles the kernels
    peace = replays.live("peace")
    if peace.result is None:
        print(f"expected the replay that was left alone to end well, found exit code {peace.code}:\n{peace.errors}")
        return 1
    expected = peace.result
    work = expected["seconds"]
    print(f"left alone: {expected['rows']} records in {work:.1f} s", flush=True)
    restless = Replays(archive, folder, ("--batch-rows", "400", "--workers", str(options.workers)))
    rng = random.Random(options.seed)
    lives = restless.live_through("restless", options.kills, rng, stretch=1.5 * work / options.kills)
    for number, life in enumerate(lives):
        print(f"{number:4} lived {life.seconds:5.1f} s, {life.epochs:4} snapshots, exit code {life.code}")
    return _verdict(lives, expected, options.kills)


def _verdict(lives: Sequence[Life], expected: dict[str, Any], kills: int) -> int:
    last = lives[-1]
    killed = sum(life.killed for life in lives)
    if last.result is None:
        print(f"expected the last process to end well, found exit code {last.code}:\n{last.errors}")
        return 1
    differences = _differences(last.result, expected)
    for difference in differences:
        print(difference)
    idle = sum(life.killed and not life.epochs for life in lives)
    print(f"{killed} of {kills} kills, {idle} of them before a snapshot: {'different' if differences else 'equal'}")
    return 1 if differences or killed < kills else 0


if __name__ == "__main__":
    sys.exit(main())
