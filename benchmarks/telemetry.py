"""What telemetry costs a replay: `python -m benchmarks.telemetry [--size full] [--batch-rows N]`.

The same archive is replayed with telemetry off, on (metrics and every trace), and on with an endpoint that is not
there, in turn, each time in a process of its own. The endpoint is another process that throws everything away. CPU
seconds are those of the whole process and bear other load on the machine better than wall seconds do; the figure is
the median of the quotients of neighbouring runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from benchmarks.workload import FULL, SMOKE, Workload, archive_of

__all__ = ["main"]

_MODES: Final = ("off", "on", "absent")
_ABSENT: Final = "http://127.0.0.1:9"
_QUARTER: Final = Workload(
    instruments=100, quotes=1_500_000, trades=990_000, news=5_000, posts=5_000, seconds=FULL.seconds // 4
)
"""A quarter of the full workload at its density: a second or two a run."""
_SIZES: Final = {"smoke": SMOKE, "quarter": _QUARTER, "full": FULL}


def measure(archive: Path, endpoint: str, batch_rows: int) -> dict[str, float]:
    """Replay once and return the seconds of the graph, after a first replay that loads what there is to load."""
    from dataflows.replay import Replay, replay
    from dataflows.telemetry import TelemetryConfig, start_telemetry
    from sinks.archive import Archive
    from sinks.store import Store

    found = {"wall_s": 0.0, "cpu_s": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate((archive_of(SMOKE), archive)):
            with Store.open(f"{folder}/{number}") as store:
                wall, cpu = time.perf_counter(), time.process_time()
                with start_telemetry(TelemetryConfig(endpoint=endpoint), "benchmark"):
                    replay(Replay(Archive.open(source), "benchmark", batch_rows=batch_rows), store)
                    found["wall_s"] = time.perf_counter() - wall
                found["cpu_s"] = time.process_time() - cpu
    return found


def serve() -> None:
    """Take and forget whatever is posted, until the process is ended; print the port first."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def _endpoint() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.telemetry", "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        yield f"http://127.0.0.1:{int(line)}"
    finally:
        process.terminate()
        process.wait(10)


def _run(archive: Path, endpoint: str, batch_rows: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.telemetry", "--archive", str(archive), "--batch-rows", str(batch_rows)]
    done = subprocess.run([*command, "--endpoint", endpoint], capture_output=True, text=True, check=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(archive: Path, batch_rows: int, repeat: int) -> dict[str, Any]:
    """Return the seconds of every run, and by how much telemetry makes a run longer, in percent."""
    runs: dict[str, list[dict[str, Any]]] = {mode: [] for mode in _MODES}
    with _endpoint() as url:
        places = {"off": "", "on": url, "absent": _ABSENT}
        for number in range(repeat):
            for mode in _MODES if number % 2 else reversed(_MODES):
                runs[mode].append(_run(archive, places[mode], batch_rows))
    more = {
        f"{mode}_{unit}_percent": round(100 * (_quotient(runs, mode, f"{unit}_s") - 1), 2)
        for mode in ("on", "absent")
        for unit in ("cpu", "wall")
    }
    return {"batch_rows": batch_rows, "more": more, "runs": runs}


def _quotient(runs: dict[str, list[dict[str, Any]]], mode: str, unit: str) -> float:
    return statistics.median(float(run[unit] / off[unit]) for run, off in zip(runs[mode], runs["off"], strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or do one of the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch-rows", type=int, default=262_144, help="records of all topics together in a batch")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each kind")
    parser.add_argument("--size", choices=_SIZES, default="quarter", help="workload")
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", default="", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve()
    elif options.archive is not None:
        print(json.dumps(measure(options.archive, options.endpoint, options.batch_rows)))
    else:
        archive = archive_of(_SIZES[options.size])
        archive_of(SMOKE)
        print(json.dumps(compare(archive, options.batch_rows, options.repeat), indent=2))


if __name__ == "__main__":
    main()
