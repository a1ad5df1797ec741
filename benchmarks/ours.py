"""The graph on an archive, exactly as the product's replay runs it: embedded ClickHouse, recovery on."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peer_polars_features import PEER_FEATURES
from dataflows.replay import Replay, replay
from dataflows.runs import RunResult
from dataflows.settings import Settings
from schemas.enums import RunStatus
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["COMMON", "RUN_ID", "Measured", "run"]

RUN_ID = "benchmark"
_PLAIN_STORY: Final = {"repeat_factor": 1.0}
COMMON: Final = Settings.model_validate(
    {
        "compute": {
            "features": {"enabled": list(PEER_FEATURES), "groups": ["book", "news", "social"]},
            "strategies": {"enabled": ["mean_reversion", "breakout", "microstructure_alpha"]},
            "news": {"story": _PLAIN_STORY},
            "social": {
                "story": _PLAIN_STORY,
                "damping": {
                    "copies": 64, "author_share": 1.0, "author_rate": 64.0, "instrument_rate": 1e6,
                    "retweet_factor": 1.0, "max_cashtags": 100, "ambiguous": [], "ambiguous_factor": 1.0,
                },
            },
        },
        "universe": {"enabled": False},
    }
)  # fmt: skip
"""What the peers compute too: the features and strategies that they have, and texts that all count in full; and what
cannot be left out of a group, which they do without."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the graph.

    Parameters
    ----------
    result
        What the replay accounted for.
    seconds
        From the call to its return: source, graph, inserts, last flush and the accounting queries.
    open_seconds
        Opening the database before it.
    """

    result: RunResult
    seconds: float
    open_seconds: float


def run(archive: Path, out: Path, *, workers: int, settings: Settings = COMMON) -> Measured:
    """Replay the archive into a new database in `out` and check that no record is unaccounted for.

    Raises
    ------
    RuntimeError
        The replay did not complete, or lost or doubled a record.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    before = time.perf_counter()
    with Store.open(str(out / "database")) as store:
        job = Replay(Archive.open(archive), RUN_ID, settings=settings, workers=workers, recovery=out / "recovery")
        started = time.perf_counter()
        result = replay(job, store)
        seconds = time.perf_counter() - started
    if result.status is not RunStatus.COMPLETE or result.unaccounted():
        raise RuntimeError(
            f"expected a complete run that accounts for every record, found {result.status.name} with "
            f"{result.unaccounted()}; the figures of such a run mean nothing"
        )
    return Measured(result, seconds, started - before)
