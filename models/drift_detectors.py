r"""Detectors of drift in a stream of numbers, each on values standardised by those that it saw first.

Both are River's, wrapped so that a snapshot is plain values. ADWIN compares the means of the two parts of a window,
for many places to cut it; with part sizes $n_0 + n_1 = n$, half their harmonic mean $m = 1 / (1 / n_0 + 1 / n_1)$ and
the window's variance $\sigma^2$, the means differ where

$$ |\mu_0 - \mu_1| > \epsilon = \sqrt{\frac{2}{m} \sigma^2 \ln\frac{2 \ln n}{\delta}}
   + \frac{2}{3 m} \ln\frac{2 \ln n}{\delta} $$

Page and Hinkley's test sums deviations from the running mean, less an allowance, and compares the sum with its extreme:

$$ S_t = \sum_{i \le t} (z_i - \bar z_i - a), \qquad S_t - \min_{i \le t} S_i > h $$

and the same downwards.

References
----------
Bifet, A. and Gavalda, R. (2007). Learning from time-changing data with adaptive windowing. SIAM International
Conference on Data Mining.
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41(1/2).
Siegmund, D. (1985). Sequential Analysis. Springer: the mean time to a false alarm of a cumulative sum.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import numpy as np
from river.drift import ADWIN, PageHinkley

from models.drift_config import ADWIN_CLOCK, DriftConfig, DriftEvent
from schemas.enums import DriftDetector, DriftDirection

__all__ = ["AdwinDetector", "Detector", "PageHinkleyDetector"]

_LEAST_PART: Final = 5
"""Least number of values on a side of a cut, as River has it."""
_FLAT: Final = 1e-9
"""A reference that deviates by less than this share of its mean is constant but for rounding."""


class Detector(ABC):
    """One detector: collects the values that it standardises by, then feeds them and all later ones.

    A detector begins anew after each drift, with the value after it.
    """

    kind: ClassVar[DriftDetector]

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._first: list[float] = []
        self._mean = math.nan
        self._deviation = math.nan

    def update(self, value: float, ts: int) -> DriftEvent | None:
        """Take the next value; return the drift that it shows, if any."""
        if math.isnan(self._mean):
            self._first.append(value)
            return self._freeze(ts) if len(self._first) == self._config.min_instances else None
        event = self._feed(value, ts)
        if event is not None:
            self._begin()
        return event

    def _begin(self) -> None:
        self._first = []
        self._mean = self._deviation = math.nan

    def _freeze(self, ts: int) -> DriftEvent | None:
        """Take mean and deviation from the first values, and feed these."""
        first = self._first
        self._mean = math.fsum(first) / len(first)
        self._deviation = math.sqrt(math.fsum((value - self._mean) ** 2 for value in first) / len(first))
        self._start()
        self._first = []
        for n, value in enumerate(first, start=1):
            event = self._feed(value, ts)
            if event is not None:
                self._begin()
                self._first = first[n:]
                return event
        return None

    def standardise(self, value: float) -> float:
        """Return how many standard deviations a value is from the mean, held within the clip."""
        clip, distance = self._config.clip, value - self._mean
        if self._deviation <= _FLAT * abs(self._mean):
            return 0.0 if abs(distance) <= _FLAT * abs(self._mean) else math.copysign(clip, distance)
        return max(-clip, min(clip, distance / self._deviation))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values."""
        first = np.array(self._first).tobytes()
        own = {} if math.isnan(self._mean) else self._own_state()
        return {"first": first, "mean": self._mean, "deviation": self._deviation, **own}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot."""
        self._first = np.frombuffer(snapshot["first"]).tolist()
        self._mean, self._deviation = snapshot["mean"], snapshot["deviation"]
        if not math.isnan(self._mean):
            self._restore_own(snapshot)

    @abstractmethod
    def _start(self) -> None:
        """Begin with no value; mean and deviation are known."""

    @abstractmethod
    def _feed(self, value: float, ts: int) -> DriftEvent | None:
        """Take a value; return the drift that it shows."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]: ...

    @abstractmethod
    def _restore_own(self, snapshot: dict[str, Any]) -> None: ...


class AdwinDetector(Detector):
    """ADWIN over a bounded number of values, which can be replayed.

    What River's ADWIN holds cannot be read, only be made again from its values. So a new one begins every `cap`
    values, and takes over when it is `cap` old: the one that speaks has seen `cap` to `2 cap` values (less in the
    beginning), and these are the state.
    """

    kind: ClassVar[DriftDetector] = DriftDetector.ADWIN

    def _make(self) -> Any:
        return ADWIN(delta=self._config.delta, clock=ADWIN_CLOCK)  # type: ignore[no-untyped-call, unused-ignore]

    def _start(self) -> None:
        self._values: list[float] = []
        self._since = 0
        """values since the last one began"""
        self._older = self._make()
        self._younger: Any = None
        self._younger_from = 0

    def _feed(self, value: float, ts: int) -> DriftEvent | None:
        if self._since == self._config.cap:
            self._hand_over()
        self._since += 1
        self._values.append(value)
        scaled = self._scaled(value)
        self._older.update(scaled)
        if self._older.drift_detected:
            return self._event(ts)
        if self._younger is not None:
            self._younger.update(scaled)
            if self._younger.drift_detected:  # it does not speak yet; River begins it anew at its next value
                self._younger_from = len(self._values)
        return None

    def _hand_over(self) -> None:
        if self._younger is not None:
            self._older = self._younger
            self._values = self._values[self._younger_from :]
        self._younger, self._younger_from, self._since = self._make(), len(self._values), 0

    def _scaled(self, value: float) -> float:
        """Return the value in [0, 1], the range that the bound is for."""
        return 0.5 + self.standardise(value) / (2 * self._config.clip)

    def _event(self, ts: int) -> DriftEvent:
        """Return the drift at the cut of the window whose means differ most, measured by their bound.

        ADWIN tells that there is a cut, and looks at some only; its own is one of these.
        """
        scaled, values = np.array([self._scaled(value) for value in self._values]), np.array(self._values)
        n, sums = len(scaled), np.cumsum(scaled)
        before = np.arange(_LEAST_PART, n - _LEAST_PART + 1)
        after = n - before
        differences = (sums[-1] - sums[before - 1]) / after - sums[before - 1] / before
        inverse, logarithm = 1 / before + 1 / after, math.log(2 * math.log(n) / self._config.delta)
        bounds = np.sqrt(2 * inverse * scaled.var() * logarithm) + 2 / 3 * inverse * logarithm
        cut = int(np.argmax(np.abs(differences) / bounds))
        n_before, unit = int(before[cut]), 2 * self._config.clip
        return DriftEvent(
            self.kind, ts, DriftDirection.UP if differences[cut] > 0 else DriftDirection.DOWN,
            float(values[:n_before].mean()), float(values[n_before:].mean()), n_before, n - n_before,
            bound=float(bounds[cut]) * unit, value=float(abs(differences[cut])) * unit,
        )  # fmt: skip

    def _own_state(self) -> dict[str, Any]:
        return {
            "values": np.array(self._values).tobytes(),
            "since": self._since,
            "younger_from": -1 if self._younger is None else self._younger_from,
        }

    def _restore_own(self, snapshot: dict[str, Any]) -> None:
        self._start()
        self._values = np.frombuffer(snapshot["values"]).tolist()
        self._since = snapshot["since"]
        scaled = [self._scaled(value) for value in self._values]
        for value in scaled:
            self._older.update(value)
        if snapshot["younger_from"] >= 0:
            self._younger, self._younger_from = self._make(), snapshot["younger_from"]
            for value in scaled[self._younger_from :]:
                self._younger.update(value)


class PageHinkleyDetector(Detector):
    """Page and Hinkley's test, both ways, without forgetting; where the sum's extremes were tells the means."""

    kind: ClassVar[DriftDetector] = DriftDetector.PAGE_HINKLEY
    _SUMS: Final = ("_sum_increase", "_min_increase", "_sum_decrease", "_max_decrease")

    def _start(self) -> None:
        c = self._config
        # with forgetting (`alpha` below 1) the sum wanders by 1 / sqrt(2 (1 - alpha)), more than any useful threshold
        self._test: Any = PageHinkley(  # type: ignore[no-untyped-call, unused-ignore]
            min_instances=c.min_instances, delta=c.allowance, threshold=c.threshold, alpha=1.0
        )
        self._n, self._total = 0, 0.0
        self._lowest, self._highest = (0, 0.0), (0, 0.0)
        """number and total of the values up to the extremes of the sums"""

    def _feed(self, value: float, ts: int) -> DriftEvent | None:
        test = self._test
        test.update(self.standardise(value))
        self._n += 1
        self._total += value
        if test._sum_increase <= test._min_increase:
            self._lowest = self._n, self._total
        if test._sum_decrease >= test._max_decrease:
            self._highest = self._n, self._total
        return self._event(ts) if test.drift_detected else None

    def _event(self, ts: int) -> DriftEvent:
        test, bound = self._test, self._config.threshold
        rise, fall = test._sum_increase - test._min_increase, test._max_decrease - test._sum_decrease
        is_rise = rise > bound
        n_before, total = self._lowest if is_rise else self._highest
        n_after = self._n - n_before
        return DriftEvent(
            self.kind, ts, DriftDirection.UP if is_rise else DriftDirection.DOWN, total / n_before,
            (self._total - total) / n_after, n_before, n_after, bound, rise if is_rise else fall,
        )  # fmt: skip

    def _own_state(self) -> dict[str, Any]:
        return {
            "sums": [float(getattr(self._test, name)) for name in self._SUMS],
            "running": [float(self._test._x_mean.n), float(self._test._x_mean.get())],
            "totals": [self._n, self._total, *self._lowest, *self._highest],
        }

    def _restore_own(self, snapshot: dict[str, Any]) -> None:
        self._start()
        for name, value in zip(self._SUMS, snapshot["sums"], strict=True):
            setattr(self._test, name, value)
        self._test._x_mean.n, self._test._x_mean._mean = snapshot["running"]
        self._n, self._total, *extremes = snapshot["totals"]
        self._lowest, self._highest = (extremes[0], extremes[1]), (extremes[2], extremes[3])
