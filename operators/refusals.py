"""Records that an operator refuses after decoding, and the counters of a shard."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.arrival import Counts, Rows
from operators.columns import CodeArray
from operators.decode import dead_letters
from schemas.batches import take
from schemas.enums import CountKind, DeadLetterReason

__all__ = ["Refusals"]


class Refusals:
    """Collects refused records as rows of `dead_letters`, and counts what became of every record."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.rows: list[Rows] = []

    @property
    def counts(self) -> Counts:
        """Increments so far."""
        return dict(self._counts)

    def count(self, kind: CountKind, subject: str, reason: str, n: int) -> None:
        """Count `n` of something."""
        if n:
            self._counts[kind.value, subject, reason] += n

    def accept(self, topic: str, n: int) -> None:
        """Count records that were taken into the computation."""
        self.count(CountKind.DECODED, topic, "", n)

    def refuse(
        self,
        batch: pa.RecordBatch,
        code: CodeArray,
        bad: npt.NDArray[np.bool_],
        reason: DeadLetterReason,
        detail: str,
    ) -> tuple[pa.RecordBatch, CodeArray]:
        """Refuse the rows that a mask selects; return the others and their codes."""
        if not bad.any():
            return batch, code
        rows = np.flatnonzero(bad)
        self.refuse_rows(batch, rows, [reason] * len(rows), [detail] * len(rows))
        keep = np.flatnonzero(~bad)
        return take(batch, keep), code[keep]

    def refuse_rows(
        self, batch: pa.RecordBatch, rows: npt.NDArray[np.int64], reasons: list[DeadLetterReason], details: list[str]
    ) -> None:
        """Refuse rows of a batch, each for its own reason."""
        topic = batch.schema.metadata[b"signalbox.schema"].decode()
        self.rows.append(Rows("dead_letters", dead_letters(topic, batch, rows, reasons, details)))
        for reason, n in Counter(reasons).items():
            self.count(CountKind.DEAD_LETTERED, topic, reason.value, n)
