"""The fuse against turning a topic into dead letters."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DeadLetterFloodError, ExitCode
from sinks.dead_letter_limit import DeadLetterLimit


class Writer:
    """Counts rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.flushed = 0
        self.closed = False

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        self.rows += rows.num_rows

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True


def letters(*reasons: str) -> pa.RecordBatch:
    details = [f"expected none, found {reason}" for reason in reasons]
    return pa.RecordBatch.from_pydict({"reason": list(reasons), "detail": details})


def limit(most: int, clock=lambda: 0.0) -> tuple[DeadLetterLimit, Writer]:
    writer = Writer()
    return DeadLetterLimit(writer, most=most, window=timedelta(minutes=1), clock=clock), writer


def test_flood_raises_before_it_is_written_and_names_the_reason():
    fuse, writer = limit(3)
    fuse.write("dead_letters", letters("malformed", "duplicate"))
    with pytest.raises(DeadLetterFloodError) as found:
        fuse.write("dead_letters", letters("malformed", "malformed"))
    assert writer.rows == 2
    assert "expected at most 3 dead letters within 1m, found 4, of which 3 are `malformed`" in str(found.value)
    assert "such as: expected none, found malformed; correct the publisher" in str(found.value)
    assert "raise `outputs.max_dead_letters`" in str(found.value)
    assert found.value.exit_code == ExitCode.FLOOD == 9


def test_after_a_flood_nothing_is_written_or_claimed():
    fuse, writer = limit(1)
    with pytest.raises(DeadLetterFloodError):
        fuse.write("dead_letters", letters("malformed", "malformed"))
    for call in (lambda: fuse.write("bars", letters("x")), fuse.flush):
        with pytest.raises(DeadLetterFloodError):
            call()
    fuse.close()
    assert (writer.rows, writer.flushed, writer.closed) == (0, 0, True)


def test_other_tables_do_not_count():
    fuse, writer = limit(1)
    fuse.write("bars", letters(*["x"] * 100))
    fuse.write("dead_letters", letters("malformed"))
    fuse.flush()
    assert (writer.rows, writer.flushed) == (101, 1)


def test_old_ones_leave_the_window():
    now = [0.0]
    fuse, _ = limit(10, lambda: now[0])
    for minute in range(20):
        now[0] = minute * 61.0
        fuse.write("dead_letters", letters(*["malformed"] * 10))
    with pytest.raises(DeadLetterFloodError):
        fuse.write("dead_letters", letters("malformed"))


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 4)), max_size=80))
def test_agrees_with_counting_each_row_up_to_one_step(steps):
    """A row counts for the window at most, and for no less than the window without one step."""
    now = [0.0]
    fuse, writer = limit(20, lambda: now[0])
    times: deque[float] = deque()
    for pause, count in steps:
        now[0] += pause
        longest = sum(time > now[0] - 60 for time in times) + count
        shortest = sum(time > now[0] - 59 for time in times) + count
        before = writer.rows
        try:
            fuse.write("dead_letters", letters(*["malformed"] * count))
        except DeadLetterFloodError:
            assert longest > 20
            return
        assert shortest <= 20
        assert writer.rows == before + count
        times.extend([now[0]] * count)
