"""Run live for a long time under a steady load, and see that memory, lag and snapshots stay as they are.

`python -m scripts.soak --minutes 30` starts a broker, a database server, `signalbox run` with recovery, and a producer
that appends trades and quotes at a fixed rate, of instruments that come and go (`benchmarks.kafka_feed`). Every second
it notes the resident memory of the run, its lag and the size of its snapshots. At the end the producer stops, the
run reads what is left and gets SIGTERM. The exit code is 1 if

- memory grew: the whole confidence interval of its slope after the warm-up is above `--bound`,
- the lag grew by more than a hundredth of the rate, or was not worked off within a minute of the producer's end,
- the run logged a warning, or did not end with exit code 0,
- a record is not accounted for, or was refused.

The result is written to `benchmarks/results/soak-DATE.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.kafka_figures import Slope, slope
from benchmarks.kafka_scene import REPOSITORY, Scene, create, open_scene
from benchmarks.machine import describe
from benchmarks.run import RESULTS
from schemas.time import duration_ns, parse_duration
from scripts.live_run import LiveRun, write_config

__all__ = ["Sample", "Soak", "judge", "main"]

_SECOND: Final = 10**9
_TOPICS: Final = ("quotes", "trades")
_PATIENCE_S: Final = 120.0
_BEGIN_S: Final = 6
"""Time until the first record is due: by then the producer has started."""
_READ_S: Final = 60.0
"""How long the run has to read what is left when the producer has stopped."""
_SETTLE_S: Final = 2.0
_EXPIRY_S: Final = 75
"""Above the shortest that one-minute bars allow."""
_RETENTION: Final = {"retention.bytes": str(256 * 2**20), "segment.bytes": str(64 * 2**20)}
"""Of each partition: some minutes of the load, so that the disk does not fill."""
_WARNING: Final = re.compile(r"\b(WARNING|ERROR|CRITICAL|Traceback|panicked)\b")
_LAG_SHARE: Final = 0.01
_KEPT_EVERY: Final = 10
"""Of the samples, one in so many is written to the result."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What is run.

    Parameters
    ----------
    minutes
        How long the producer appends.
    rate
        Records per second.
    instruments
        Instruments alive at a time.
    life
        Seconds that each lives.
    partitions
        Partitions of each topic.
    warm_up
        Share of the time that is not judged.
    bound
        Growth of memory that is allowed, MiB per hour.
    embedded
        Whether the database is inside the run, and its memory with it.
    idle_margin
        Of the run: above the longest stall of a machine that does everything at once.
    """

    minutes: float = 30.0
    rate: float = 20_000.0
    instruments: int = 200
    life: float = 240.0
    partitions: int = 2
    warm_up: float = 0.3
    bound: float = 20.0
    embedded: bool = False
    idle_margin: str = "1s"

    @property
    def seconds(self) -> float:
        """How long the producer appends, seconds."""
        return self.minutes * 60

    @property
    def cap(self) -> int:
        """Instruments that a shard may keep: four times those that have not expired, so that a leak is noticed."""
        kept = self.instruments * (1 + 1.25 * _EXPIRY_S / self.life)
        return int(kept) + 1


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at a moment.

    Parameters
    ----------
    seconds
        Since the first record was due.
    rss_mib
        Resident memory of the run.
    server_mib
        Resident memory of the database server; 0 where it is embedded.
    lag
        Records that were appended and not read.
    behind_s
        Wall clock less the slowest clock of the run's sources.
    snapshots_mib
        Size of the recovery folder.
    delivered
        Records read.
    """

    seconds: float
    rss_mib: float
    server_mib: float
    lag: int
    behind_s: float
    snapshots_mib: float
    delivered: int


@dataclass(slots=True)
class _Setting:
    """The processes of a soak."""

    scene: Scene
    soak: Soak
    live: LiveRun
    names: dict[str, str]
    server: int | None
    begin: int = 0
    samples: list[Sample] = field(default_factory=list)

    def sample(self) -> None:
        """Note how things stand."""
        status = self.live.status()
        sources = [source for one in status for source in one.sources.values()]
        if not sources:
            return
        now = time.time_ns()
        files = [path.stat().st_size for path in self.live.folder.glob("*.sqlite3*") if path.exists()]
        self.samples.append(
            Sample(
                seconds=round((now - self.begin) / _SECOND, 2),
                rss_mib=_rss_mib(self.live.processes[0].pid),
                server_mib=_rss_mib(self.server) if self.server else 0.0,
                lag=sum(source.lag for source in sources),
                behind_s=round((now - min(source.clock for source in sources)) / _SECOND, 2),
                snapshots_mib=round(sum(files) / 2**20, 3),
                delivered=sum(one.delivered for one in status),
            )
        )


def _rss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((round(int(line.split()[1]) / 1024, 2) for line in lines if line.startswith("VmRSS:")), 0.0)


@contextmanager
def _started(scene: Scene, soak: Soak) -> Iterator[_Setting]:
    """Start database and run, and end them."""
    names = {topic: f"soak-{topic}" for topic in _TOPICS}
    create(scene.brokers, dict.fromkeys(names.values(), soak.partitions), _RETENTION)
    create(scene.brokers, {"soak-signals": 1}, _RETENTION)
    extra = (
        f'[compute]\nidle_expiry = "{_EXPIRY_S}s"\nmax_instruments = {soak.cap}\n[outputs]\nsignals = "soak-signals"\n'
    )
    config = write_config(scene.folder / "soak.toml", scene.brokers, names, clock="header", extra=extra)
    config.write_text(config.read_text().replace("[kafka]\n", f'[kafka]\nidle_margin = "{soak.idle_margin}"\n'))
    with scene.database("served") as database:
        if soak.embedded:
            database.kill()
        url = str(scene.folder / "embedded") if soak.embedded else database.url
        live = LiveRun("soak", url, config, scene.folder / "recovery", scene.folder / "logs")
        live.start()
        server = None if soak.embedded or database.process is None else database.process.pid
        try:
            setting = _Setting(scene, soak, live, names, server)
            _await(lambda: any(status.sources for status in live.status()), live, _PATIENCE_S, "the run to begin")
            yield setting
        finally:
            live.kill()


def _await(reached: Any, live: LiveRun, patience: float, what: str) -> float:
    """Wait until something is so, and return how long that took, seconds."""
    began = time.monotonic()
    while not reached():
        if not live.running:
            raise SystemExit(f"expected {what}, found that the run ended: {live.errors()}")
        if time.monotonic() - began > patience:
            raise SystemExit(f"expected {what} within {patience:.0f} s: {live.errors()}")
        time.sleep(0.2)
    return time.monotonic() - began


def _feed(setting: _Setting) -> subprocess.Popen[str]:
    soak = setting.soak
    setting.begin = time.time_ns() + _BEGIN_S * _SECOND
    command = [sys.executable, "-m", "benchmarks.kafka_feed", "--brokers", setting.scene.brokers]
    command += ["--quotes", setting.names["quotes"], "--trades", setting.names["trades"]]
    command += ["--partitions", str(soak.partitions), "--begin", str(setting.begin), "--rate", str(soak.rate)]
    command += ["--seconds", str(soak.seconds), "--instruments", str(soak.instruments), "--life", str(soak.life)]
    command += ["--linger-ms", "5"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


def _soak(setting: _Setting) -> dict[str, Any]:
    """Sample until the producer has ended and everything is read, stop the run, and return what is known of it."""
    feed = _feed(setting)
    live, soak = setting.live, setting.soak
    try:
        deadline = time.monotonic() + soak.seconds + _PATIENCE_S
        while feed.poll() is None and live.running and time.monotonic() < deadline:
            setting.sample()
            _tell(setting)
            time.sleep(1.0)
        if not live.running:
            raise SystemExit(f"expected the run to stay, found that it ended: {live.errors()}")
        output, errors = feed.communicate(timeout=_PATIENCE_S)
        if feed.returncode:
            raise SystemExit(f"the producer failed: {errors[-4000:]}")
    finally:
        feed.kill()
        feed.wait()
    fed = json.loads(output.splitlines()[-1])
    caught_up: float | None
    try:
        caught_up = _await(lambda: live.delivered >= fed["records"], live, _READ_S, "everything to be read")
    except SystemExit as error:
        sys.stdout.write(f"{error}\n")
        caught_up = None
    # the last records are computed once the clocks have passed them
    time.sleep(duration_ns(parse_duration(soak.idle_margin)) / _SECOND + _SETTLE_S)
    codes = live.stop()
    return {
        "producer": fed,
        "caught_up_s": caught_up,
        "exit_code": codes[0],
        "counts": live.result()["counts"] if codes == [0] else [],
        "warnings": [line for line in live.errors().splitlines() if _WARNING.search(line)],
    }


def _tell(setting: _Setting) -> None:
    samples = setting.samples
    if samples and len(samples) % 60 == 1:
        last = samples[-1]
        sys.stdout.write(
            f"{last.seconds:7.0f} s  {last.delivered:>12,} records  lag {last.lag:>8,}  "
            f"memory {last.rss_mib:7.1f} MiB  snapshots {last.snapshots_mib:7.2f} MiB\n"
        )
        sys.stdout.flush()


def judge(soak: Soak, samples: list[Sample], ended: dict[str, Any]) -> dict[str, Any]:
    """Return slopes, extremes, and what is wrong, in words.

    Parameters
    ----------
    soak
        What was run.
    samples
        How things stood, in order of time.
    ended
        What the producer appended, how long the run then took to read it, its exit code, counters and warnings.
    """
    kept = [one for one in samples if one.seconds >= soak.warm_up * soak.seconds]
    seconds = [one.seconds for one in kept]
    slopes = {
        name: slope(seconds, [float(getattr(one, name)) for one in kept])
        for name in ("rss_mib", "server_mib", "snapshots_mib", "lag")
    }
    counts: Counter[str] = Counter()
    for one in ended["counts"]:
        counts[one["kind"]] += one["count"]
    faults = [*_memory(soak, slopes["rss_mib"]), *_lag(soak, slopes["lag"], ended), *_account(counts, ended)]
    return {
        "slopes_per_hour": {name: found.to_json() if found else None for name, found in slopes.items()},
        "rss_mib": {"after_warm_up": kept[0].rss_mib if kept else None, "largest": max(one.rss_mib for one in samples)},
        "lag": {"largest": max((one.lag for one in kept), default=None), "at_end": samples[-1].lag},
        "behind_s": {"largest": max((one.behind_s for one in kept), default=None), "at_end": samples[-1].behind_s},
        "counts": dict(counts),
        "faults": faults,
    }


def _memory(soak: Soak, found: Slope | None) -> Iterator[str]:
    if found is None:
        yield "too few samples to tell whether memory grows"
    elif found.exceeds(soak.bound):
        yield f"memory grows by {found.per_hour:.1f} MiB per hour ({found.low:.1f} to {found.high:.1f})"


def _lag(soak: Soak, found: Slope | None, ended: dict[str, Any]) -> Iterator[str]:
    if found is not None and found.exceeds(soak.rate * 3600 * _LAG_SHARE):
        yield f"the lag grows by {found.per_hour / 3600:.0f} records per second"
    if ended["caught_up_s"] is None:
        yield f"not everything was read within {_READ_S:.0f} s of the producer's end"


def _account(counts: Counter[str], ended: dict[str, Any]) -> Iterator[str]:
    if ended["exit_code"] != 0:
        yield f"the run ended with exit code {ended['exit_code']}"
    if ended["warnings"]:
        yield f"{len(ended['warnings'])} warnings, the first: {ended['warnings'][0]}"
    sent = ended["producer"]["records"]
    if not counts["read"] == counts["decoded"] == sent or counts["dead_lettered"]:
        yield f"{sent:,} records were appended, found {dict(counts)}"


def main() -> int:
    soak = Soak()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=soak.minutes, help="how long the producer appends")
    parser.add_argument("--rate", type=float, default=soak.rate, help="records per second")
    parser.add_argument("--instruments", type=int, default=soak.instruments, help="instruments alive at a time")
    parser.add_argument(
        "--life", type=float, default=None, help="seconds that each lives; an eighth of the time, 240 at most"
    )
    parser.add_argument("--partitions", type=int, default=soak.partitions, help="partitions of each topic")
    parser.add_argument("--warm-up", type=float, default=soak.warm_up, help="share of the time that is not judged")
    parser.add_argument(
        "--bound", type=float, default=soak.bound, help="growth of memory that is allowed, MiB per hour"
    )
    parser.add_argument("--embedded", action="store_true", help="the database inside the run, not a server")
    parser.add_argument("--idle-margin", default=soak.idle_margin, help="of the run")
    parser.add_argument("--out", type=Path, default=None, help="file of the result")
    chosen = vars(parser.parse_args())
    out = chosen.pop("out")
    chosen["life"] = chosen["life"] or min(soak.life, chosen["minutes"] * 60 / 8)
    soak = Soak(**chosen)
    date, machine = datetime.now(UTC).date().isoformat(), describe()
    with tempfile.TemporaryDirectory(prefix="signalbox-soak-") as folder, open_scene(Path(folder)) as scene:
        with _started(scene, soak) as setting:
            ended = _soak(setting)
        samples = setting.samples
    judged = judge(soak, samples, ended)
    facts = {"date": date, "machine": machine, "soak": asdict(soak)} | judged
    facts |= {name: ended[name] for name in ("producer", "caught_up_s", "exit_code", "warnings")}
    print(json.dumps(judged | {"producer": ended["producer"], "caught_up_s": ended["caught_up_s"]}, indent=1))
    out = out or RESULTS / f"soak-{date}.json"
    out.write_text(json.dumps(facts | {"samples": [asdict(one) for one in samples[::_KEPT_EVERY]]}, indent=1) + "\n")
    print(f"written to {out}; {'; '.join(judged['faults']) or 'nothing is wrong'}")
    return 1 if judged["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
