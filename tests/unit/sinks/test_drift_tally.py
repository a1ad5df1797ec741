"""Drifts are counted by stream on their way, and everything is handed on."""

from __future__ import annotations

import pyarrow as pa
import pytest

from models.drift_config import DriftEvent
from operators.drift import drift_rows
from schemas.enums import DriftDetector, DriftDirection
from sinks.drift_tally import DriftTally, StreamDrift
from sinks.memory import MemoryWriter

ADWIN, PAGE_HINKLEY = DriftDetector.ADWIN, DriftDetector.PAGE_HINKLEY
COUNT = {"kind": "read", "subject": "trades", "reason": "", "count": 1}


class Writer(MemoryWriter):
    def close(self) -> None:
        self.closed = True


def drifts(stream: str, *found: tuple[DriftDetector, int], model: str = "news") -> pa.RecordBatch:
    """Return rows as the graph makes them."""
    evidence = {"mean_before": 0.0, "mean_after": 1.0, "n_before": 40, "n_after": 30, "bound": 0.5, "value": 0.9}
    events = [DriftEvent(detector=by, ts=ts, direction=DriftDirection.UP, **evidence) for by, ts in found]
    return drift_rows(model, stream, events).batch


def test_drifts_are_counted_by_model_and_stream_with_the_latest():
    tally = DriftTally(Writer())
    assert tally.found == {}
    tally.write("drift_events", drifts("score", (ADWIN, 5), (PAGE_HINKLEY, 9)))
    tally.write("drift_events", drifts("score", (ADWIN, 7)))
    tally.write("drift_events", drifts("score", (ADWIN, 1), model="technical"))
    tally.write("drift_events", drifts("input:rsi", (PAGE_HINKLEY, 3)))
    assert tally.found == {
        "news/score": StreamDrift(3, 9, "page_hinkley"),
        "technical/score": StreamDrift(1, 1, "adwin"),
        "news/input:rsi": StreamDrift(1, 3, "page_hinkley"),
    }


def test_what_was_told_is_a_copy():
    tally = DriftTally(Writer())
    tally.write("drift_events", drifts("score", (ADWIN, 5)))
    before = tally.found
    tally.write("drift_events", drifts("score", (ADWIN, 6)))
    assert before == {"news/score": StreamDrift(1, 5, "adwin")}


def test_every_row_is_handed_on_and_restored_ones_are_not_counted():
    writer = Writer()
    tally = DriftTally(writer)
    tally.write("run_counts", pa.RecordBatch.from_pylist([COUNT]))
    tally.write("drift_events", drifts("score", (ADWIN, 5)))
    tally.restore("drift_events", pa.Table.from_batches([drifts("score", (ADWIN, 2))]))
    kept = tally.secure("drift_events", 10)
    tally.flush()
    tally.close()
    assert kept is not None
    assert kept.num_rows == 2
    assert (len(writer.rows("run_counts")), len(writer.rows("drift_events")), writer.closed) == (1, 2, True)
    assert tally.found == {"news/score": StreamDrift(1, 5, "adwin")}


def test_row_that_the_writer_refuses_is_not_counted():
    class Refusing(Writer):
        def write(self, table: str, rows: pa.RecordBatch) -> None:
            raise OSError("away")

    tally = DriftTally(Refusing())
    with pytest.raises(OSError, match="away"):
        tally.write("drift_events", drifts("score", (ADWIN, 5)))
    assert tally.found == {}
