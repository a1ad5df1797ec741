"""How drift is looked for, and what a drift is reported with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pydantic import Field

from schemas.config import ComponentConfig, Duration
from schemas.enums import DriftDetector, DriftDirection
from schemas.time import parse_duration

__all__ = ["ADWIN_CLOCK", "DriftConfig", "DriftEvent"]

ADWIN_CLOCK: Final = 32
"""ADWIN looks for a cut at every 32nd value: at each it would cost 15 times as much and find drift 16 values sooner."""
_VARIANCE_MARGIN: Final = 1.5


class DriftConfig(ComponentConfig):
    """How drift is looked for; the same for each stream, because streams are standardised."""

    delta: float = Field(
        1e-4, gt=0, lt=1, description="ADWIN: probability of a false alarm at a check; there is one at every 32nd value"
    )
    cap: int = Field(
        4096, ge=64, le=1_000_000,
        description="ADWIN: its window has at least this many values, once there were so many, and at most twice as "
        "many, which are kept for a restart, 8 bytes each; a drift so slow that it does not show in them is not found",
    )  # fmt: skip
    allowance: float = Field(
        0.25, gt=0, le=10, description="Page-Hinkley: distance from the mean that is tolerated, in standard deviations"
    )
    threshold: float = Field(
        50.0, gt=0, le=1e6, description="Page-Hinkley: sum of deviations that raises an alarm, in standard deviations"
    )
    min_instances: int = Field(
        500, ge=30, le=100_000,
        description="first values, from which mean and standard deviation are taken for good; none is judged before",
    )  # fmt: skip
    clip: float = Field(
        4.0, ge=1, le=100,
        description="standard deviations from the mean at which a value is held; ADWIN's bound needs a range",
    )  # fmt: skip
    cooldown: Duration = Field(
        parse_duration("1h"), gt=timedelta(0),
        description="time after an event in which the same detector reports no other; it goes on detecting",
    )  # fmt: skip

    def false_alarm_bound(self, n_values: int) -> dict[DriftDetector, float]:
        r"""Return how many false alarms each detector raises at most on average in a stationary stream.

        ADWIN's is $\delta$ times the number of its checks. Page and Hinkley's follows from Siegmund's mean time
        $(e^{2 a h / s^2} - 1 - 2 a h / s^2) / (2 a^2 / s^2)$ to an alarm on one side, where the variance is up to
        $s^2 = 1.5$ times that of the first values.

        Parameters
        ----------
        n_values
            Length of the stream. Its values are independent; where they are not (overlapping outcomes, slow
            features) both bounds are too low.

        Examples
        --------
        >>> bound = DriftConfig().false_alarm_bound(1_000_000)
        >>> bound[DriftDetector.ADWIN], round(bound[DriftDetector.PAGE_HINKLEY], 3)
        (3.125, 0.01)
        """
        exponent = 2 * self.allowance * self.threshold / _VARIANCE_MARGIN
        time = (math.expm1(min(exponent, 700.0)) - exponent) / (2 * self.allowance**2 / _VARIANCE_MARGIN)
        return {
            DriftDetector.ADWIN: self.delta * n_values / ADWIN_CLOCK,
            DriftDetector.PAGE_HINKLEY: 2 * n_values / time,
        }


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """One drift, with the evidence for it.

    Parameters
    ----------
    detector
        Who found it.
    ts
        Time of the value at which it was found, ns.
    direction
        Whether values rose or fell.
    mean_before, mean_after
        Means of the values on both sides of where the change is taken to be, in the stream's own unit.
    n_before, n_after
        Number of values that each is the mean of.
    bound
        What `value` was above, in standard deviations of the first values.
    value
        ADWIN: distance of the two means of the standardised values. Page-Hinkley: the cumulative sum's distance
        from its extreme.
    """

    detector: DriftDetector
    ts: int
    direction: DriftDirection
    mean_before: float
    mean_after: float
    n_before: int
    n_after: int
    bound: float
    value: float
