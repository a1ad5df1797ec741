"""One writer over several: every row goes to each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pyarrow as pa

from schemas.errors import StorageError
from sinks.tables import RowWriter

__all__ = ["ClosableWriter", "Tee"]


class ClosableWriter(RowWriter, Protocol):
    """A writer that holds something until it is closed."""

    def close(self) -> None:
        """Let go of it without writing what waits."""


class Tee:
    """Hands every row to each writer, and is done when all are.

    A writer that fails does not keep the others from being called, so that the error tells what became of each. One
    error is raised as it is; several become one `StorageError` that names all, caused by a group of them.

    Parameters
    ----------
    writers
        The writers, in the order in which they are called.
    """

    def __init__(self, writers: Sequence[ClosableWriter]) -> None:
        self._writers = tuple(writers)

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Hand rows to each writer."""
        self._each(lambda writer: writer.write(table, rows))

    def restore(self, table: str, rows: pa.Table) -> None:
        """Hand rows of before a crash to each writer."""
        self._each(lambda writer: writer.restore(table, rows))

    def secure(self, table: str, most: int) -> pa.Table | None:
        """Return what one of the writers has not stored; where several have such rows all are stored first."""
        found: list[pa.Table] = []

        def ask(writer: ClosableWriter) -> None:
            if (rows := writer.secure(table, most)) is not None:
                found.append(rows)

        self._each(ask)
        if len(found) > 1:
            self.flush()
            return None
        return found[0] if found else None

    def flush(self) -> None:
        """Return when each writer has stored what it was given."""
        self._each(lambda writer: writer.flush())

    def close(self) -> None:
        """Close each writer."""
        self._each(lambda writer: writer.close())

    def _each(self, call: Callable[[ClosableWriter], None]) -> None:
        errors: list[Exception] = []
        for writer in self._writers:
            try:
                call(writer)
            except Exception as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            found = "; ".join(str(error) for error in errors)
            raise StorageError(f"{len(errors)} of {len(self._writers)} outputs failed: {found}") from ExceptionGroup(
                "outputs failed", errors
            )
