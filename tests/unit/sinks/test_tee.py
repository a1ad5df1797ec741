"""One writer over several."""

from __future__ import annotations

import pyarrow as pa
import pytest

from schemas.errors import StorageError, TransientError
from sinks.memory import MemoryWriter
from sinks.tee import Tee

ROWS = pa.RecordBatch.from_pylist([{"kind": "read", "subject": "trades", "reason": "", "count": 3}])


class Writer(MemoryWriter):
    """In memory; raises what it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.closed = False

    def flush(self) -> None:
        if self.error is not None:
            raise self.error
        super().flush()

    def close(self) -> None:
        self.closed = True


def test_rows_are_in_every_writer_after_flush():
    writers = [Writer(), Writer()]
    tee = Tee(writers)
    tee.write("run_counts", ROWS)
    tee.flush()
    tee.close()
    assert [len(writer.rows("run_counts")) for writer in writers] == [1, 1]
    assert all(writer.closed for writer in writers)


def test_rows_that_one_writer_has_not_stored_are_kept_and_restored():
    now, later = Writer(), Writer()
    tee = Tee([now, later])
    tee.write("run_counts", ROWS)
    now.flush()
    kept = tee.secure("run_counts", 10)
    assert kept is not None
    assert kept.num_rows == 1
    fresh = Writer()
    Tee([fresh]).restore("run_counts", kept)
    fresh.flush()
    assert len(fresh.rows("run_counts")) == 1


def test_rows_that_several_writers_have_not_stored_are_stored():
    writers = [Writer(), Writer()]
    tee = Tee(writers)
    tee.write("run_counts", ROWS)
    assert tee.secure("run_counts", 10) is None
    assert [len(writer.rows("run_counts")) for writer in writers] == [1, 1]


@pytest.mark.parametrize("failing", [0, 1])
def test_error_of_one_is_raised_as_it_is_and_the_others_are_flushed(failing):
    writers = [Writer(), Writer()]
    writers[failing].error = TransientError("no brokers")
    tee = Tee(writers)
    tee.write("run_counts", ROWS)
    with pytest.raises(TransientError, match="no brokers"):
        tee.flush()
    assert len(writers[1 - failing].rows("run_counts")) == 1


def test_errors_of_several_are_all_named():
    tee = Tee([Writer(TransientError("no brokers")), Writer(), Writer(StorageError("disk full"))])
    with pytest.raises(StorageError, match="2 of 3 outputs failed: no brokers; disk full") as found:
        tee.flush()
    assert isinstance(found.value.__cause__, ExceptionGroup)
    assert len(found.value.__cause__.exceptions) == 2
