"""Stops a run that refuses too much, before it turns its input into dead letters."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import pyarrow as pa

from schemas.errors import DeadLetterFloodError
from schemas.tables import DEAD_LETTERS
from schemas.time import duration_ns, format_duration
from sinks.tee import ClosableWriter

__all__ = ["DeadLetterLimit"]

_PARTS: Final = 60
"""Parts of the window in which rows are counted together: it slides by one of them, and memory is bounded."""


@dataclass(slots=True)
class _Part:
    since: float
    reasons: Counter[str] = field(default_factory=Counter)


class DeadLetterLimit:
    """Counts dead letters on their way to a writer, and raises before it hands on more than allowed.

    They are counted over the time in which they are written, not over the time of the records: a backlog that is
    refused at full speed has to be noticed too. After the error every `write` and `flush` raises it, so that no
    snapshot is taken; the run goes on from the last one before.

    Parameters
    ----------
    writer
        Takes all rows.
    most
        Dead letters within the window that are still written.
    window
        Time over which they are counted; it slides in steps of a sixtieth.
    clock
        Seconds that never go back.
    """

    def __init__(
        self, writer: ClosableWriter, *, most: int, window: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._writer = writer
        self._most = most
        self._window = window
        self._clock = clock
        self._parts: deque[_Part] = deque()
        self._count = 0
        self._examples: dict[str, str] = {}
        self._error: DeadLetterFloodError | None = None

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Hand rows on.

        Raises
        ------
        DeadLetterFloodError
            With these rows there would be too many.
        """
        self._check()
        if table == DEAD_LETTERS.name and rows.num_rows:
            self._admit(rows)
        self._writer.write(table, rows)

    def restore(self, table: str, rows: pa.Table) -> None:
        """Hand on rows that were looked at before a crash."""
        self._writer.restore(table, rows)

    def secure(self, table: str, most: int) -> pa.Table | None:
        """Return what the writer has not stored."""
        self._check()
        return self._writer.secure(table, most)

    def flush(self) -> None:
        """Flush the writer.

        Raises
        ------
        DeadLetterFloodError
            There were too many.
        """
        self._check()
        self._writer.flush()

    def close(self) -> None:
        """Close the writer."""
        self._writer.close()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _admit(self, rows: pa.RecordBatch) -> None:
        now, length = self._clock(), self._window.total_seconds()
        while self._parts and self._parts[0].since <= now - length:
            self._count -= self._parts.popleft().reasons.total()
        if not self._parts or self._parts[-1].since <= now - length / _PARTS:
            self._parts.append(_Part(now))
        reasons = rows.column("reason").to_pylist()
        self._parts[-1].reasons.update(reasons)
        self._examples |= dict(zip(reasons, rows.column("detail").to_pylist(), strict=True))
        self._count += rows.num_rows
        if self._count > self._most:
            self._error = self._flood()
            raise self._error

    def _flood(self) -> DeadLetterFloodError:
        total = sum((part.reasons for part in self._parts), Counter[str]())
        ((reason, count),) = total.most_common(1)
        window = format_duration(duration_ns(self._window))
        return DeadLetterFloodError(
            f"expected at most {self._most} dead letters within {window}, found {self._count}, of which {count} are "
            f"`{reason}`, such as: {self._examples[reason]}; correct the publisher or the configuration and start the "
            "same command again, which reads what came after the last snapshot once more. What was refused before it "
            "is in the dead letters (`signalbox dlq redrive`). To go on regardless, raise `outputs.max_dead_letters`"
        )
