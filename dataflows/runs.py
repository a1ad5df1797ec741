"""What a run is asked to do and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from schemas.enums import CountKind, RunStatus
from sinks.digests import TableDigest
from sinks.store import RunCount

__all__ = ["RunResult"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Parameters
    ----------
    run_id
        The run.
    status
        Complete, or stopped and to be resumed.
    resumed
        Whether it went on from a snapshot.
    rows
        Records read by this process.
    seconds
        Wall time of this process.
    counts
        The run's counters.
    digests
        Rows and order-independent hash of each output table.
    """

    run_id: str
    status: RunStatus
    resumed: bool
    rows: int
    seconds: float
    counts: tuple[RunCount, ...]
    digests: dict[str, TableDigest]

    @property
    def rows_per_second(self) -> float:
        """Records read per second of wall time."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    def unaccounted(self) -> dict[str, int]:
        """Return, for each topic where they differ, records read less those decoded and dead-lettered."""
        balance: dict[str, int] = {}
        signs = {CountKind.READ.value: 1, CountKind.DECODED.value: -1, CountKind.DEAD_LETTERED.value: -1}
        for item in self.counts:
            if item.kind in signs:
                balance[item.subject] = balance.get(item.subject, 0) + signs[item.kind] * item.count
        return {topic: difference for topic, difference in balance.items() if difference}

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "run_id": self.run_id,
            "status": self.status.name.lower(),
            "resumed": self.resumed,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "counts": [asdict(item) for item in self.counts],
            "digests": {name: asdict(digest) for name, digest in self.digests.items()},
        }
