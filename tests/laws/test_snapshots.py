"""A snapshot counts once its epoch is complete: what a killed process left behind is not read."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.run import cli_main

from dataflows.recovery import prepare_recovery
from dataflows.snapshots import forget_unfinished, resume_epoch
from operators.count import count
from schemas.errors import ConfigError

RECORDS = 20
COUNTER = ("read", "trades", "")


class _Records(StatefulSourcePartition):
    """Delivers one increment at each step of `steps` that is true; the last step crashes or ends."""

    def __init__(self, steps, crashes, resume):
        self._steps = list(steps)
        self._crashes = crashes
        self._delivered = resume or 0

    def next_batch(self):
        if self._delivered == RECORDS or not self._steps:
            if self._crashes:
                raise RuntimeError("killed")
            raise StopIteration
        if not self._steps.pop(0):
            return []
        self._delivered += 1
        return [("totals", {COUNTER: 1})]

    def snapshot(self):
        return self._delivered


class _Source(FixedPartitionedSource):
    def __init__(self, steps, crashes=False):
        self._arguments = steps, crashes

    def list_parts(self):
        return ["trades"]

    def build_part(self, step_id, for_part, resume_state):
        return _Records(*self._arguments, resume_state)


class _Rows(StatefulSinkPartition):
    def __init__(self, rows, flushes):
        self._rows = rows
        self._flushes = flushes

    def write_batch(self, items):
        self._rows.extend(items)

    def snapshot(self):
        self._flushes -= 1
        if self._flushes < 0:
            raise RuntimeError("killed")


class _Sink(FixedPartitionedSink):
    def __init__(self, flushes=10**9):
        self._flushes = flushes
        self.rows = []

    def list_parts(self):
        return ["rows"]

    def part_fn(self, item_key):
        return 0

    def build_part(self, step_id, for_part, resume_state):
        return _Rows(self.rows, self._flushes)


def _run(folder, source, sink=None):
    flow = Dataflow("flow")
    increments = op.input("in", flow, source)
    # the sink's first step takes every increment, so that it has something to flush in each epoch
    sink = sink or _Sink()
    op.output("flushed", increments, _Sink(sink._flushes))
    op.output("out", count("count", increments), sink)
    config, _ = prepare_recovery(folder)
    cli_main(flow, epoch_interval=timedelta(0), recovery_config=config)
    return [rows.batch.to_pylist() for rows in sink.rows]


@pytest.mark.parametrize("flushes", [1, 2, 5])
@pytest.mark.parametrize("idle", [1, 2, 3])
def test_count_after_two_kills_around_idle_epochs_is_exact(tmp_path, flushes, idle):
    folder = tmp_path / "recovery"
    with pytest.raises(BytewaxRuntimeError):  # the epoch's counts are stored, its end is not
        _run(folder, _Source([True] * RECORDS), _Sink(flushes))
    with pytest.raises(BytewaxRuntimeError):  # nothing arrives in that epoch this time
        _run(folder, _Source([False] * idle, crashes=True))
    # a slow run gives its totals more than once
    *earlier, last = [row["count"] for (row,) in _run(folder, _Source([True] * RECORDS))]
    assert last == RECORDS
    assert all(count <= last for count in earlier)


def _snapshots(folder):
    (part,) = folder.glob("*.sqlite3")
    with sqlite3.connect(part) as connection:
        return connection.execute("SELECT step_id, snap_epoch FROM snaps ORDER BY 1, 2").fetchall()


def test_forget_unfinished_removes_what_lies_behind_the_epoch_to_resume_at(tmp_path):
    folder = tmp_path / "recovery"
    with pytest.raises(BytewaxRuntimeError):
        _run(folder, _Source([True] * RECORDS), _Sink(3))
    epoch = resume_epoch(folder)
    assert epoch == 4
    before = _snapshots(folder)
    unfinished = [snapshot for snapshot in before if snapshot[1] >= epoch]
    assert ("flow.count.totals", epoch) in unfinished
    assert forget_unfinished(folder) == len(unfinished)
    assert _snapshots(folder) == [snapshot for snapshot in before if snapshot not in unfinished]
    assert forget_unfinished(folder) == 0


def test_forget_unfinished_of_a_new_folder_removes_nothing(tmp_path):
    prepare_recovery(tmp_path / "recovery")
    assert resume_epoch(tmp_path / "recovery") == 1
    assert forget_unfinished(tmp_path / "recovery") == 0


def test_forget_unfinished_file_that_is_no_partition_is_refused(tmp_path):
    (tmp_path / "part-0.sqlite3").write_text("not a database, but long enough to be read as the header of one" * 9)
    with pytest.raises(ConfigError, match=r"expected a recovery partition in .* remove its folder"):
        forget_unfinished(tmp_path)
