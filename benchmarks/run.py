"""`python -m benchmarks.run [--smoke] [--runs N] [--only NAME]`: this graph beside its peers on the same work.

Each run is a process of its own (`benchmarks.task`). The sides take turns, so that a noisy machine is noisy
for all, and the figures are medians. A full run writes `benchmarks/results/DATE.json`; `--smoke` uses small
workloads and writes nothing there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.cost import CostEntry, summary
from benchmarks.machine import describe

__all__ = ["WORKS", "Entry", "Work", "entry", "main"]

RESULTS: Final = Path(__file__).resolve().parent / "results"
Samples = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Work:
    """One comparison.

    Parameters
    ----------
    name
        Short name, for `--only`.
    title
        What is done.
    workload, smoke
        Names of the workloads in `benchmarks.workload`.
    ours
        Tasks of ours; the one with the best median counts.
    peers
        Tasks of the peers, each by the name it has in the results.
    verified
        Whether the rows of both sides are compared.
    profiled
        Whether a run of ours is broken down by stage.
    """

    name: str
    title: str
    workload: str
    smoke: str
    ours: tuple[str, ...]
    peers: dict[str, str]
    verified: bool = False
    profiled: bool = False


WORKS: Final = (
    Work(
        name="features",
        title="archive to features and signals in ClickHouse",
        workload="FULL",
        smoke="SMOKE",
        ours=("ours-1", "ours-2"),
        peers={"Polars, the same features in batch": "polars"},
        verified=True,
        profiled=True,
    ),
    Work(
        name="bars",
        title="bars, per event",
        workload="BARS_ONLY",
        smoke="BARS_SMOKE",
        ours=("ours-1",),
        peers={
            "Bytewax fold_window, one event at a time": "bytewax-windows",
            "Bytewax stateful_map, one event at a time": "bytewax-stateful-map",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the results; rates are medians over the runs."""

    work: str
    peer: str
    ours_rows_per_s: float
    peer_rows_per_s: float
    ratio: float
    ours_rows_per_s_per_core: float
    peer_rows_per_s_per_core: float
    ours_peak_mib: float
    peer_peak_mib: float
    rows: int
    runs: int
    date: str
    machine: dict[str, Any]
    details: dict[str, Any]


def entry(
    work: Work, peer: str, rows: int, samples: Samples, machine: dict[str, Any], details: dict[str, Any]
) -> Entry:
    """Return the line of one peer.

    Rows per second and core are rows per second of processor time, of all threads: what a core yields, whether
    or not the others were busy.
    """
    best = min(work.ours, key=lambda task: _median(samples[task], "seconds"))
    theirs = samples[work.peers[peer]]
    ours = samples[best]
    seconds, peer_seconds = _median(ours, "seconds"), _median(theirs, "seconds")
    return Entry(
        work=work.title,
        peer=peer,
        ours_rows_per_s=round(rows / seconds),
        peer_rows_per_s=round(rows / peer_seconds),
        ratio=round(peer_seconds / seconds, 3),
        ours_rows_per_s_per_core=round(rows / _median(ours, "cpu_seconds")),
        peer_rows_per_s_per_core=round(rows / _median(theirs, "cpu_seconds")),
        ours_peak_mib=round(max(run["peak_mib"] for run in ours), 1),
        peer_peak_mib=round(max(run["peak_mib"] for run in theirs), 1),
        rows=rows,
        runs=len(ours),
        date=datetime.now(UTC).date().isoformat(),
        machine=machine,
        details=details | {"ours": best, "samples": {task: samples[task] for task in (*work.ours, work.peers[peer])}},
    )


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(run[name] for run in runs))


class Bench:
    """Runs tasks in processes of their own.

    Parameters
    ----------
    scratch
        Folder for what the tasks write.
    say
        Takes a line of progress.
    """

    def __init__(self, scratch: Path, say: Callable[[str], None]) -> None:
        self._scratch = scratch
        self._say = say
        self._workloads: dict[str, tuple[Path, int]] = {}

    def workload(self, name: str) -> tuple[Path, int]:
        """Return archive and rows of a workload; it is made in a process of its own, to keep this one small."""
        if name not in self._workloads:
            made = self._python("benchmarks.workload", name)
            self._workloads[name] = (Path(made["archive"]), made["rows"])
        return self._workloads[name]

    def task(self, name: str, archive: Path) -> dict[str, Any]:
        """Run one task on an archive and return its figures; its output stays in `out`."""
        out = self.out(name)
        shutil.rmtree(out, ignore_errors=True)
        warm_up = self.workload("SMOKE")[0]
        return self._python(
            "benchmarks.task", name, "--archive", str(archive), "--warm-up", str(warm_up), "--out", str(out)
        )

    def out(self, task: str) -> Path:
        """Return the folder of a task's last output."""
        return self._scratch / task

    def run(self, work: Work, workload: str, runs: int) -> list[Entry]:
        """Measure one work and return a line for each peer."""
        archive, rows = self.workload(workload)
        machine = describe()
        samples: Samples = {task: [] for task in (*work.ours, *work.peers.values())}
        for number in range(runs):
            for task, taken in samples.items():
                taken.append(self.task(task, archive))
                self._say(
                    f"{work.name} {number + 1}/{runs} {task:22s} {rows / taken[-1]['seconds']:>12,.0f} rows/s "
                    f"{taken[-1]['cpu_seconds']:8.2f} cpu s {taken[-1]['peak_mib']:8.0f} MiB"
                )
        if work.verified:
            self._verify(work)
        details: dict[str, Any] = {}
        if work.profiled:
            details = {"profile": self._profile(archive), "kernels_ns_per_row": self._kernels()}
        return [entry(work, peer, rows, samples, machine, details) for peer in work.peers]

    def cost(self, *, smoke: bool) -> list[CostEntry]:
        """Measure what a row costs with few and with many instruments."""
        measured = self._python("benchmarks.cost", "--json", *(["--smoke"] if smoke else []))
        lines = [CostEntry(**line) for line in measured["lines"]]
        for text in summary(lines):
            self._say(text)
        return lines

    def _verify(self, work: Work) -> None:
        for peer in work.peers.values():
            self._run("benchmarks.agreement", str(self.out(work.ours[-1]) / "database"), str(self.out(peer)))
            self._say(f"{work.name}: every row of ours and of {peer} agrees")

    def _kernels(self) -> dict[str, float]:
        figures = self._python("benchmarks.kernels", "--json")
        for name, ns in figures.items():
            self._say(f"  {name:38s} {ns:8.1f} ns/row")
        return figures

    def _profile(self, archive: Path) -> dict[str, Any]:
        measured = self.task("profile", archive)
        stages: dict[str, dict[str, float]] = measured["stages"]
        whole = measured["process_cpu_s"]
        ordered = dict(sorted(stages.items(), key=lambda item: -item[1]["cpu_s"]))
        for stage, cost in ordered.items():
            cost["share"] = round(cost["cpu_s"] / whole, 4)
            self._say(
                f"  {stage:38s} {cost['cpu_s']:8.3f} cpu s {cost['wall_s']:8.3f} wall s {cost['share']:7.1%} "
                f"{cost['calls']:8.0f} calls"
            )
        return {"process_cpu_s": round(whole, 3), "stages": ordered}

    def _python(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self._run(*arguments).splitlines()[-1]))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"`{' '.join(arguments)}` failed:\n{done.stderr[-4000:]}")
        return done.stdout


def write(entries: Sequence[Entry | CostEntry], results: Path = RESULTS) -> Path:
    """Write the lines to the file of their day and return it; works that were not run today keep theirs."""
    path = results / f"{entries[0].date}.json"
    before = json.loads(path.read_text()) if path.is_file() else []
    measured = {(line.work, line.peer) for line in entries}
    kept = [line for line in before if (line["work"], line["peer"]) not in measured]
    path.write_text(json.dumps([*kept, *map(asdict, entries)], indent=1) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="small workloads; the results folder is not written")
    parser.add_argument("--runs", type=int, default=0, help="runs of each side; 3 by default, 1 with --smoke")
    parser.add_argument("--only", choices=[*(work.name for work in WORKS), "cost"], help="one work")
    arguments = parser.parse_args()
    runs = arguments.runs or (1 if arguments.smoke else 3)
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as scratch:
        bench = Bench(Path(scratch), print)
        entries = [
            line
            for work in WORKS
            if arguments.only in (None, work.name)
            for line in bench.run(work, work.smoke if arguments.smoke else work.workload, runs)
        ]
        costs = bench.cost(smoke=arguments.smoke) if arguments.only in (None, "cost") else []
    for line in entries:
        print(
            f"{line.work} | {line.peer} | ours {line.ours_rows_per_s:,.0f} rows/s, peer {line.peer_rows_per_s:,.0f}: "
            f"{line.ratio:.2f} x | per core {line.ours_rows_per_s_per_core:,.0f} and "
            f"{line.peer_rows_per_s_per_core:,.0f} | peak {line.ours_peak_mib:,.0f} and {line.peer_peak_mib:,.0f} MiB"
        )
    if not arguments.smoke:
        print(f"written to {write([*entries, *costs])}")


if __name__ == "__main__":
    main()
