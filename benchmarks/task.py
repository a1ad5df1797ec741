"""One measured run in a process of its own: `python -m benchmarks.task NAME --archive A --warm-up W --out O`.

The process imports what the task needs and runs it once on a small archive, so that compiled kernels are
loaded and thread pools exist; then it runs the task on the archive and prints one line of JSON: wall and CPU
seconds of that run, seconds of everything before it, and the peak resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["TASKS", "main"]

Task = Callable[[Path, Path], dict[str, Any]]


def _ours(archive: Path, out: Path, *, workers: int) -> dict[str, Any]:
    from benchmarks import ours

    measured = ours.run(archive, out, workers=workers)
    rows = {name: digest.rows for name, digest in measured.result.digests.items()}
    return {"written": rows, "open_s": measured.open_seconds, "graph_s": measured.result.seconds}


def _profile(archive: Path, out: Path) -> dict[str, Any]:
    from benchmarks import ours
    from benchmarks.stages import Stages

    stages = Stages()
    process, main = time.process_time(), time.thread_time()
    with stages.installed():
        measured = ours.run(archive, out, workers=1)
    process, main = time.process_time() - process, time.thread_time() - main
    totals = stages.totals()
    elsewhere = sum(stage["cpu_s"] for stage in totals.values()) - stages.main_cpu
    rest = {
        "Bytewax and the rest of its thread": main - stages.main_cpu,
        "threads of the database": process - main - elsewhere,
    }
    totals |= {stage: {"cpu_s": round(cpu, 4), "wall_s": 0.0, "calls": 0} for stage, cpu in rest.items()}
    return {"graph_s": measured.result.seconds, "process_cpu_s": process, "stages": totals}


def _polars(archive: Path, out: Path) -> dict[str, Any]:
    from benchmarks import peer_polars

    result = peer_polars.run(archive, out)
    return {"written": peer_polars.counts(result), "stages": result.stages}


def _bytewax(archive: Path, out: Path, *, program: Any) -> dict[str, Any]:
    from benchmarks import peer_bytewax

    return {"written": {"bars": peer_bytewax.run(archive, out, program=program)}}


TASKS: dict[str, Task] = {
    "ours-1": partial(_ours, workers=1),
    "ours-2": partial(_ours, workers=2),
    "profile": _profile,
    "polars": _polars,
    "bytewax-windows": partial(_bytewax, program="windows"),
    "bytewax-stateful-map": partial(_bytewax, program="stateful_map"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(TASKS))
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--warm-up", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    task = TASKS[arguments.name]
    begun = time.perf_counter()
    task(arguments.warm_up, arguments.out / "warm-up")
    shutil.rmtree(arguments.out)
    wall, cpu = time.perf_counter(), time.process_time()
    detail = task(arguments.archive, arguments.out)
    figures = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "startup_seconds": wall - begun,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures | detail))


if __name__ == "__main__":
    main()
