"""`python -m benchmarks.kafka [--smoke] [--runs N] [--only NAME ...]`: the live path on a real broker.

A broker of its own is started in a temporary folder, topics are filled once, and each run is a process of its own
(`benchmarks.kafka_task`). The sides take turns; figures are medians. A full run writes
`benchmarks/results/DATE-kafka.json`; works that were not run today keep their entry of the day. `--smoke` uses small
workloads and writes nothing there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks import kafka_quix
from benchmarks.kafka_figures import rates
from benchmarks.kafka_latency import Load, measure
from benchmarks.kafka_scene import REPOSITORY, Scene, Topics, in_process, open_scene
from benchmarks.machine import describe
from benchmarks.run import RESULTS
from benchmarks.workload import BARS_ONLY, BARS_SMOKE, FULL, SMOKE, Workload, archive_of
from scripts.live_run import LiveRun

__all__ = ["FULL_SIZE", "SMOKE_SIZE", "WORKS", "Bench", "Size", "main", "write"]

_PATIENCE_S: Final = 600.0
Runs = dict[str, list[dict[str, Any]]]
Side = Callable[[int], dict[str, Any]]
"""Runs one side once, given the number of the round, and returns its figures."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    Parameters
    ----------
    json, arrow
        Markets that are published as JSON, one record an event, and as Arrow records of a thousand rows.
    trades
        Trades for the Quix Streams peer.
    load
        Load under which latency is measured.
    runs
        Runs of each side.
    thorough
        Whether the sides are run too that only explain the others. Without them the targets mean nothing, and are not
        told.
    """

    json: Workload
    arrow: Workload
    trades: Workload
    load: Load
    runs: int
    thorough: bool = True


FULL_SIZE: Final = Size(
    json=replace(FULL, quotes=900_000, trades=594_000, news=3_000, posts=3_000, seconds=540),
    arrow=FULL,
    trades=replace(BARS_ONLY, trades=500_000, seconds=450),
    load=Load(),
    runs=3,
)
"""Markets at one density; the peer takes half a minute for its part."""
SMOKE_SIZE: Final = Size(
    json=replace(SMOKE, quotes=30_000, trades=19_800, news=100, posts=100, seconds=450),
    arrow=SMOKE,
    trades=BARS_SMOKE,
    load=Load(seconds=4, warm_up=3, snapshot_interval="1s"),
    runs=1,
    thorough=False,
)


class Bench:
    """Runs the works against one broker.

    Parameters
    ----------
    scene
        The broker.
    size
        How much of everything.
    runs
        Runs of each side.
    say
        Takes a line of progress.
    """

    def __init__(self, scene: Scene, size: Size, runs: int, say: Callable[[str], None]) -> None:
        self.scene = scene
        self.size = size
        self.runs = runs
        self._say = say

    def take_turns(self, work: str, sides: dict[str, Side]) -> Runs:
        """Run each side so often, in turn."""
        samples: Runs = {side: [] for side in sides}
        for number in range(self.runs):
            for side, run in sides.items():
                samples[side].append(run(number))
                took = samples[side][-1]
                self._say(
                    f"{work} {number + 1}/{self.runs} {side:12s} {took['seconds']:8.2f} s"
                    + (f" {took['cpu_seconds']:8.2f} cpu s" if "cpu_seconds" in took else "")
                )
        return samples

    def task(self, name: str, topics: Topics, warm_up: Topics, *, extra: str = "") -> Side:
        """Return the side that runs a task of `benchmarks.kafka_task`."""
        given = ["--topics", topics.to_json(), "--warm-up", warm_up.to_json(), "--out", str(self.out(name))]
        return lambda number: in_process("benchmarks.kafka_task", name, *given, "--extra", extra)

    def out(self, name: str) -> Path:
        """Return the folder of what a side wrote last."""
        return self.scene.folder / f"out-{name}"

    def say(self, line: str) -> None:
        """Tell progress."""
        self._say(line)


def _entry(bench: Bench, work: str, events: int, samples: Runs, **facts: Any) -> dict[str, Any]:
    sides = {side: asdict(rates(events, runs)) for side, runs in samples.items()}
    return {
        "work": work,
        "title": WORKS[work][0],
        "events": events,
        "runs": bench.runs,
        "sides": sides,
        "samples": samples,
    } | facts


def _faster(sides: dict[str, Any], *names: str) -> str:
    return max(names, key=lambda name: float(sides[name]["events_per_s"]))


def _ratio(entry: dict[str, Any], peer: str, target: float, *, ours: Sequence[str]) -> dict[str, Any]:
    """Add what the better of our sides is to a peer, in events per second."""
    sides = entry["sides"]
    best = _faster(sides, *ours)
    ratio = round(sides[best]["events_per_s"] / sides[peer]["events_per_s"], 3)
    core = round(sides[best]["events_per_s_per_core"] / sides[peer]["events_per_s_per_core"], 3)
    found = {"ours": best, "peer": peer, "ratio": ratio, "ratio_per_core": core}
    return entry | found | {"target": f"at least {target:g} x", "met": ratio >= target}


def json_records(bench: Bench) -> dict[str, Any]:
    """Take JSON, one record an event, to all tables, beside a loop that only consumes them."""
    topics = bench.scene.publish(archive_of(bench.size.json))
    warm_up = bench.scene.publish(archive_of(SMOKE_SIZE.json))
    names = ("bare", "defaults", "ours-1", "ours-2") if bench.size.thorough else ("bare", "ours-1", "ours-2")
    samples = bench.take_turns("json", {name: bench.task(name, topics, warm_up) for name in names})
    return _ratio(_entry(bench, "json", topics.rows, samples), "bare", 0.5, ours=("ours-1", "ours-2"))


def arrow_records(bench: Bench) -> dict[str, Any]:
    """Take Arrow records of a thousand rows to all tables; beside it the source alone."""
    topics = bench.scene.publish(archive_of(bench.size.arrow), form="arrow")
    warm_up = bench.scene.publish(archive_of(SMOKE), form="arrow")
    names = ("source", "admitted", "ours-1", "ours-2") if bench.size.thorough else ("ours-1", "ours-2")
    samples = bench.take_turns("arrow", {name: bench.task(name, topics, warm_up) for name in names})
    found = _entry(bench, "arrow", topics.rows, samples)
    best = _faster(found["sides"], "ours-1", "ours-2")
    met = found["sides"][best]["events_per_s"] >= 3e6
    return found | {"ours": best, "target": "at least 3,000,000 events/s", "met": met}


def quix(bench: Bench) -> dict[str, Any]:
    """Compute all that we make of trades, beside bars and a z-score in Quix Streams."""
    archive = archive_of(bench.size.trades)
    # with this clock there are no heartbeats between the trades, which the peer could not read
    topics = bench.scene.publish(archive, clock="header")
    warm_up = bench.scene.publish(archive_of(BARS_SMOKE), clock="header")
    peer = bench.scene.folder / "quix"
    kafka_quix.environment()
    sides = {
        "ours-1": bench.task("ours-1", topics, warm_up),
        "quix": lambda number: kafka_quix.run(topics, peer, number),
    }
    samples = bench.take_turns("quix", sides)
    database = bench.out("ours-1") / "measured" / "database"
    agreed = in_process("benchmarks.kafka_quix", str(database), str(peer / "rows.jsonl"), "--archive", str(archive))
    bench.say(f"quix: {agreed['bars']} bars and their z-scores agree")
    found = _entry(bench, "quix", topics.rows, samples, bars_that_agree=agreed["bars"])
    return _ratio(found, "quix", 10.0, ours=("ours-1",))


def latency(bench: Bench) -> dict[str, Any]:
    """Measure from the scheduled time of a quote until the signal that it caused can be read."""
    measured = []
    for number in range(bench.runs):
        measured.append(measure(bench.scene, f"latency-{number}", bench.size.load))
        told = {name: measured[-1].get(name) for name in ("p50_ms", "p99_ms", "p99_9_ms", "max_ms", "count")}
        bench.say(f"latency {number + 1}/{bench.runs} {told}")
    names = [name for name in measured[0] if name.endswith("_ms") and not name.startswith("worst")]
    median = {name: statistics.median(run[name] for run in measured) for name in names}
    return {
        "work": "latency",
        "title": WORKS["latency"][0],
        "runs": bench.runs,
        "load": asdict(bench.size.load),
        "latency": median,
        "target": "p50 under 5 ms, p99 under 20 ms",
        "met": median["p50_ms"] < 5 and median["p99_ms"] < 20,
        "samples": measured,
    }


def processes(bench: Bench) -> dict[str, Any]:
    """Read the same backlog with one process and with two, into a database server."""
    topics = bench.scene.publish(archive_of(bench.size.json))
    config = topics.write_config(bench.scene.folder / "processes.toml")
    folder = bench.scene.folder / "processes"
    with bench.scene.database("served") as database:

        def run(count: int) -> Side:
            def once(number: int) -> dict[str, Any]:
                command = ("replay", "--kafka", topics.brokers)
                live = LiveRun(f"p{count}-{number}", database.url, config, folder / "recovery", folder, command)
                live.start(count)
                codes = live.wait(_PATIENCE_S)
                if any(codes):
                    raise SystemExit(
                        f"expected {count} processes to end with exit code 0, found {codes}: {live.errors()}"
                    )
                return {"seconds": live.result()["seconds"]}

            return once

        samples = bench.take_turns("processes", {"1 process": run(1), "2 processes": run(2)})
    seconds = {side: statistics.median(run["seconds"] for run in runs) for side, runs in samples.items()}
    return {
        "work": "processes",
        "title": WORKS["processes"][0],
        "events": topics.rows,
        "runs": bench.runs,
        "events_per_s": {side: round(topics.rows / value, 1) for side, value in seconds.items()},
        "ratio": round(seconds["1 process"] / seconds["2 processes"], 3),
        "note": "broker and database server share the cores with the processes",
        "samples": samples,
    }


def telemetry(bench: Bench) -> dict[str, Any]:
    """Measure what metrics and traces of everything cost at full speed."""
    topics = bench.scene.publish(archive_of(bench.size.json))
    warm_up = bench.scene.publish(archive_of(SMOKE_SIZE.json))
    with _endpoint() as url:
        on = bench.task("ours-1", topics, warm_up, extra=f'[telemetry]\nendpoint = "{url}"\n')
        samples = bench.take_turns("telemetry", {"off": bench.task("ours-1", topics, warm_up), "on": on})
    more = {
        unit: round(
            100
            * (statistics.median(a[unit] / b[unit] for a, b in zip(samples["on"], samples["off"], strict=True)) - 1),
            2,
        )
        for unit in ("seconds", "cpu_seconds")
    }
    found = _entry(bench, "telemetry", topics.rows, samples, percent_more=more)
    return found | {"target": "less than 3 % more processor time", "met": more["cpu_seconds"] < 3}


@contextmanager
def _endpoint() -> Iterator[str]:
    """Serve an OTLP endpoint that throws everything away, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.telemetry", "--serve"], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        port = process.stdout.readline() if process.stdout is not None else ""
        yield f"http://127.0.0.1:{int(port)}"
    finally:
        process.terminate()
        process.wait(10)


WORKS: Final[dict[str, tuple[str, Callable[[Bench], dict[str, Any]]]]] = {
    "json": ("Kafka, one JSON record an event, to all tables in ClickHouse", json_records),
    "arrow": ("Kafka, Arrow records of 1,000 rows, to all tables in ClickHouse", arrow_records),
    "quix": ("Kafka to bars and a z-score, beside Quix Streams", quix),
    "latency": ("scheduled time of a quote to its signal readable on the out-topic", latency),
    "processes": ("the same backlog by one process and by two", processes),
    "telemetry": ("telemetry on beside off, at full speed", telemetry),
}


def write(entries: Sequence[dict[str, Any]], date: str, results: Path = RESULTS) -> Path:
    """Write entries to the file of a day and return it; works that were not run keep theirs."""
    path = results / f"{date}-kafka.json"
    before = json.loads(path.read_text()) if path.is_file() else []
    measured = {entry["work"] for entry in entries}
    kept = [entry for entry in before if entry["work"] not in measured]
    path.write_text(json.dumps([*kept, *entries], indent=1) + "\n")
    return path


def _summary(entry: dict[str, Any], *, judged: bool) -> str:
    told = [f"{side} {value['events_per_s']:,.0f}/s" for side, value in entry.get("sides", {}).items()]
    told += [f"{name} {entry[name]}" for name in ("events_per_s", "latency", "percent_more", "ratio") if name in entry]
    if judged and "target" in entry:
        told.append(f"target {entry['target']}: {'met' if entry['met'] else 'missed'}")
    return f"{entry['title']} | {', '.join(told)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small workloads; the results folder is not written")
    parser.add_argument("--runs", type=int, default=0, help="runs of each side; 3 by default, 1 with --smoke")
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS), help="these works alone")
    chosen = parser.parse_args()
    size = SMOKE_SIZE if chosen.smoke else FULL_SIZE
    date, machine = datetime.now(UTC).date().isoformat(), describe()
    machine["versions"] |= {"confluent-kafka": version("confluent-kafka")}
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder, open_scene(Path(folder)) as scene:
        bench = Bench(scene, size, chosen.runs or size.runs, lambda line: print(line, flush=True))
        for work in chosen.only:
            entry = WORKS[work][1](bench) | {"date": date, "machine": machine}
            print(_summary(entry, judged=size.thorough), flush=True)
            if not chosen.smoke:
                print(f"written to {write([entry], date)}", flush=True)


if __name__ == "__main__":
    main()
