"""Numbers from measurements: latencies by scheduled time, slopes with their uncertainty, and what several runs say."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["QUANTILES", "Rates", "Slope", "latencies", "percentiles", "rates", "slope"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
_MS: Final = 1e6
_HOUR_S: Final = 3600.0
_FEWEST_BINS: Final = 4


def latencies(scheduled: IntArray, seen: IntArray, begin: int, interval: float) -> tuple[IntArray, int]:
    """Return how long after its scheduled time each event was seen, ns, and how many times are of no schedule.

    An open-loop producer has a time for each record whether or not it keeps to it. Counted from that time, a
    producer or a system that stalls makes every record late that was due meanwhile; counted from the time of sending,
    those records would be missing from the figures.

    Parameters
    ----------
    scheduled
        Scheduled time that each event carries, UTC ns, shape `(n,)`.
    seen
        When it was seen, UTC ns, shape `(n,)`.
    begin, interval
        Record `i` is scheduled at `begin + int(i * interval)`, ns. What carries another time was moved by the system,
        so that its latency is not known: it is left out, and counted.

    Examples
    --------
    >>> found, moved = latencies(np.array([100, 150, 171]), np.array([105, 190, 180]), begin=100, interval=50.0)
    >>> found.tolist(), moved
    ([5, 40], 1)
    """
    number = np.rint((scheduled - begin) / interval)
    kept = scheduled == begin + (number * interval).astype(np.int64)
    return (seen - scheduled)[kept], int(len(scheduled) - kept.sum())


def percentiles(latency: IntArray) -> dict[str, float]:
    """Return quantiles, mean and maximum of latencies in ms; a quantile is one of the values, not between two.

    Examples
    --------
    >>> found = percentiles(np.arange(1, 1001) * 10**6)
    >>> found["p50_ms"], found["p99_ms"], found["p99_9_ms"], found["max_ms"]
    (500.0, 990.0, 999.0, 1000.0)
    """
    if not len(latency):
        return {"count": 0}
    found = np.quantile(latency, QUANTILES, method="inverted_cdf")
    names = [f"p{f'{100 * q:g}'.replace('.', '_')}_ms" for q in QUANTILES]
    return (
        {"count": len(latency), "mean_ms": round(float(latency.mean()) / _MS, 3)}
        | {name: round(float(value) / _MS, 3) for name, value in zip(names, found, strict=True)}
        | {"max_ms": round(float(latency.max()) / _MS, 3)}
    )


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through measurements over time.

    Parameters
    ----------
    per_hour
        Change in an hour.
    low, high
        95 % confidence interval of it.
    bins
        Means that the line was put through.
    """

    per_hour: float
    low: float
    high: float
    bins: int

    def exceeds(self, bound: float) -> bool:
        """Return whether the slope is above a bound for certain: the whole interval is."""
        return self.low > bound

    def to_json(self) -> dict[str, float]:
        """Return plain values."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def slope(seconds: Sequence[float], values: Sequence[float], bins: int = 30) -> Slope | None:
    r"""Return the slope of values over time by least squares, or None of fewer than four bins.

    Neighbouring samples of a process's memory are nearly equal, and taken each for itself they would promise far too
    narrow an interval. The time is therefore cut into bins of equal length, whose means are independent enough, and
    the line $y = a + b t$ is put through those. The interval is $b \pm t_{0.975, n - 2} s_b$.

    Parameters
    ----------
    seconds, values
        When each value was measured, and the values.
    bins
        Number of bins.

    Examples
    --------
    >>> found = slope(range(600), [100 + second / 60 for second in range(600)])
    >>> round(found.per_hour, 6), found.bins, found.exceeds(59), found.exceeds(61)
    (60.0, 30, True, False)
    """
    when, value = np.asarray(seconds, dtype=float), np.asarray(values, dtype=float)
    if len(when) < _FEWEST_BINS or when[-1] <= when[0]:
        return None
    place = np.minimum(((when - when[0]) / (when[-1] - when[0]) * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    if used.sum() < _FEWEST_BINS:
        return None
    mean_time = np.bincount(place, when, bins)[used] / count[used]
    mean_value = np.bincount(place, value, bins)[used] / count[used]
    line = stats.linregress(mean_time, mean_value)
    middle = float(line.slope) * _HOUR_S
    reach = float(stats.t.ppf(0.975, used.sum() - 2) * line.stderr) * _HOUR_S
    return Slope(middle, middle - reach, middle + reach, int(used.sum()))


@dataclass(frozen=True, slots=True)
class Rates:
    """What several runs of one side say; medians.

    Parameters
    ----------
    events_per_s
        Events per second of wall time.
    events_per_s_per_core
        Events per second of processor time of all threads.
    seconds, cpu_seconds
        Of a run.
    peak_mib
        Largest resident size of any run.
    """

    events_per_s: float
    events_per_s_per_core: float
    seconds: float
    cpu_seconds: float
    peak_mib: float


def rates(events: int, runs: Sequence[Mapping[str, Any]]) -> Rates:
    """Return the medians of runs that each have `seconds`, `cpu_seconds` and `peak_mib`.

    Examples
    --------
    >>> runs = [{"seconds": s, "cpu_seconds": 2 * s, "peak_mib": 10 * s} for s in (2.0, 1.0, 9.0)]
    >>> rates(100, runs)
    Rates(events_per_s=50.0, events_per_s_per_core=25.0, seconds=2.0, cpu_seconds=4.0, peak_mib=90.0)
    """
    seconds = statistics.median(run["seconds"] for run in runs)
    cpu = statistics.median(run["cpu_seconds"] for run in runs)
    return Rates(
        events_per_s=round(events / seconds, 1),
        events_per_s_per_core=round(events / cpu, 1),
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu, 3),
        peak_mib=round(max(run["peak_mib"] for run in runs), 1),
    )
