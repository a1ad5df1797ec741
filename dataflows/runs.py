"""What a run is asked to do and what came of it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from schemas.enums import CountKind, RunStatus
from schemas.errors import ConfigError
from sinks.digests import TableDigest
from sinks.store import RunCount

__all__ = ["RunResult", "check_run_id"]

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_run_id(run_id: str) -> str:
    """Return a run id that is safe as a name of a folder.

    Raises
    ------
    ConfigError
        It is not: letters, digits, `.`, `_` and `-`, at most 100, the first a letter or digit.

    Examples
    --------
    >>> check_run_id("2024-08-08_btc")
    '2024-08-08_btc'
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(f"expected a run id of letters, digits, `.`, `_` and `-`, at most 100, was {run_id!r}")
    return run_id


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
