"""Write a synthetic market to an archive, and say what must be found in it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from dataflows.simulator.config import SimulatorConfig
from dataflows.simulator.market import Fault, Market
from schemas.enums import LateReason
from schemas.records import TOPICS
from sinks.archive import Archive, ArchiveWriter

__all__ = ["REPORT_NAME", "SOURCE", "Progress", "SimulationReport", "simulate"]

SOURCE: Final = "simulator"
"""Name of the archive's source in every topic."""
REPORT_NAME: Final = "simulation.json"

Progress = Callable[[int, float], None]
"""Called after every slice with the records written so far and the share of the market that is done."""


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What was written.

    Parameters
    ----------
    rows
        Records by topic.
    expected_dead_letters
        Records that must become dead letters, by topic and reason.
    expected_late
        Records that must become late events, by reason; each once for every bar interval that it misses.
    faults
        The faulty records one by one, by topic and offset.
    truth
        What was planted: pairs, regimes, strengths, and the sequences that gaps lost.
    config
        Content of the configuration.
    """

    rows: dict[str, int]
    expected_dead_letters: dict[str, dict[str, int]]
    expected_late: dict[str, int]
    faults: tuple[Fault, ...]
    truth: dict[str, Any]
    config: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


def simulate(config: SimulatorConfig, archive: Archive, *, progress: Progress | None = None) -> SimulationReport:
    """Write the market to the archive, with its report beside it in `simulation.json`.

    Parameters
    ----------
    config
        The market.
    archive
        Where to write; a market written there before is replaced.
    progress
        Called after every slice.

    Raises
    ------
    ConfigError
        The market had no room for a fault; nothing is published.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = simulate(SimulatorConfig(instruments=2, duration="2s"), Archive.create(Path(folder)))
    >>> sorted(report.rows) == sorted(TOPICS), report.expected_dead_letters
    (True, {})
    """
    market = Market(config)
    done = 0
    with ExitStack() as stack:
        writers = {topic: stack.enter_context(ArchiveWriter(archive, topic, SOURCE)) for topic in TOPICS}
        for number, batches in enumerate(market.slices(), start=1):
            for topic, batch in batches.items():
                writers[topic].append(batch)
                done += batch.num_rows
            if progress is not None:
                progress(done, min(number * config.slice_steps / config.n_steps, 1.0))
    report = _report(market, archive, {topic: writer.rows for topic, writer in writers.items()})
    _write(report, archive)
    return report


def _report(market: Market, archive: Archive, rows: dict[str, int]) -> SimulationReport:
    partitions = {topic: int((archive.source(topic, SOURCE) or {"partition": 0})["partition"]) for topic in TOPICS}
    faults = tuple(replace(fault, partition=partitions[fault.topic]) for fault in market.faults)
    late = {reason.value for reason in LateReason}
    dead: dict[str, Counter[str]] = {}
    for fault in faults:
        if fault.reason not in late:
            dead.setdefault(fault.topic, Counter())[fault.reason] += 1
    return SimulationReport(
        rows=rows,
        expected_dead_letters={topic: dict(sorted(counts.items())) for topic, counts in dead.items()},
        expected_late=dict(Counter(fault.reason for fault in faults if fault.reason in late)),
        faults=faults,
        truth=market.truth(),
        config=market.config.content(),
    )


def _write(report: SimulationReport, archive: Archive) -> None:
    temporary = archive.root / f".{REPORT_NAME}.tmp"
    temporary.write_text(json.dumps(report.content(), indent=1, sort_keys=True, allow_nan=False) + "\n")
    os.replace(temporary, archive.root / REPORT_NAME)
