from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import workload
from benchmarks.run import WORKS, Samples, entry, write
from benchmarks.task import TASKS

_WORK = replace(WORKS[0], ours=("a", "b"), peers={"peer": "p"})


def _runs(*seconds: float, peak: float = 10.0) -> list[dict[str, Any]]:
    return [{"seconds": value, "cpu_seconds": 2 * value, "peak_mib": peak + value} for value in seconds]


def test_entry_takes_medians_and_the_better_of_our_tasks() -> None:
    samples: Samples = {"a": _runs(4.0, 5.0, 90.0), "b": _runs(1.0, 2.0, 3.0), "p": _runs(4.0, 1.0, 9.0, peak=100.0)}
    line = entry(_WORK, "peer", 1_000, samples, {"cores": 2}, {"profile": {}})
    assert (line.ours_rows_per_s, line.peer_rows_per_s, line.ratio) == (500, 250, 2.0)
    assert (line.ours_rows_per_s_per_core, line.peer_rows_per_s_per_core) == (250, 125)
    assert (line.ours_peak_mib, line.peer_peak_mib) == (13.0, 109.0)
    assert (line.rows, line.runs, line.details["ours"]) == (1_000, 3, "b")
    assert set(line.details["samples"]) == {"a", "b", "p"}


def test_write_keeps_other_works_of_the_day_and_replaces_its_own(tmp_path: Path) -> None:
    samples: Samples = {"a": _runs(1.0), "b": _runs(2.0), "p": _runs(2.0)}
    first = entry(_WORK, "peer", 100, samples, {}, {})
    other = replace(first, work="another")
    write([first, other], tmp_path)
    path = write([replace(first, rows=200)], tmp_path)
    lines = json.loads(path.read_text())
    assert [(line["work"], line["rows"]) for line in lines] == [("another", 100), (first.work, 200)]
    assert [file.name for file in tmp_path.iterdir()] == [f"{first.date}.json"]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_work_names_known_tasks_and_workloads(work: Any) -> None:
    assert {*work.ours, *work.peers.values()} <= set(TASKS)
    assert work.workload in workload.__all__
    assert work.smoke in workload.__all__
