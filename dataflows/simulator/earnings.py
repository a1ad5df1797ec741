"""Earnings: an estimate early on, perhaps an update of it, and the report, whose surprise moves the price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dataflows.simulator.config import STEP_NS, SimulatorConfig
from dataflows.simulator.latent import Drift
from dataflows.simulator.streams import random_stream

__all__ = ["Earnings", "plan_earnings"]

_MOVE_STEPS: Final = 10
_SURPRISE_DEVIATION: Final = 0.1
"""Standard deviation of a surprise, as a share of the estimate."""


@dataclass(frozen=True, slots=True)
class Earnings:
    """One record of the topic.

    Parameters
    ----------
    ts
        Time of the record, UTC ns.
    instrument
        Number of the instrument.
    ts_report
        When the report is due, UTC ns.
    estimate
        Consensus, currency units a share.
    actual
        Reported, or None before the report.
    surprise
        Standard deviations by which the report is above the estimate; 0 before it.
    """

    ts: int
    instrument: int
    ts_report: int
    estimate: float
    actual: float | None
    surprise: float

    def drift(self, config: SimulatorConfig) -> Drift | None:
        """Return the move that the report causes, if it is one."""
        if self.actual is None or not config.earnings_bps:
            return None
        first = -(-(self.ts - config.start_ns) // STEP_NS)
        return Drift(self.instrument, first, first + _MOVE_STEPS, self.surprise * config.earnings_bps / 1e4)


def plan_earnings(config: SimulatorConfig) -> list[Earnings]:
    """Return every earnings record in the order of time."""
    draw = random_stream(config.seed, "earnings")
    length = config.n_steps * STEP_NS
    records: list[Earnings] = []
    for instrument in sorted(draw.choice(config.instruments, config.n_earnings, replace=False).tolist()):
        early, later, report = (config.start_ns + int(share * length) for share in draw.uniform(0, [0.1, 0.2, 0.4]))
        later, report = later + length // 10, report + 4 * length // 10
        estimate = round(float(draw.uniform(0.5, 5)), 2)
        revised = round(estimate * float(1 + 0.02 * draw.standard_normal()), 2)
        actual = round(revised * float(1 + _SURPRISE_DEVIATION * draw.standard_normal()), 2)
        surprise = (actual / revised - 1) / _SURPRISE_DEVIATION
        records += [
            Earnings(early, instrument, report, estimate, None, 0.0),
            Earnings(later, instrument, report, revised, None, 0.0),
            Earnings(report, instrument, report, revised, actual, surprise),
        ]
    return sorted(records, key=lambda record: (record.ts, record.instrument))
