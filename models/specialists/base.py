"""The contract of a specialist: features of one moment in, probabilities out; outcomes in, once they are known.

A specialist looks at one kind of evidence and says how likely each instrument is to rise beyond the cost of
trading within the horizon, given that it moves beyond it at all. It says nothing where its evidence is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from models.specialists.config import LearningConfig
from models.specialists.inputs import FloatArray

__all__ = ["CrossSection", "NoAnswer", "Outcomes", "Predictions", "Specialist"]


class NoAnswer(IntEnum):
    """Why there is no probability. `ANSWERED` means that there is one."""

    ANSWERED = 0
    NO_INPUT = 1
    """a required input or too many of the others are missing"""
    WARMING_UP = 2
    """too few outcomes have matured"""
    NO_QUORUM = 3
    """of an ensemble: too few of its members answer"""
    NO_PRICE = 4
    """the instrument has no usable close, so that no outcome could follow"""


@dataclass(frozen=True, slots=True)
class CrossSection:
    """All instruments at one decision time.

    Parameters
    ----------
    n_rows
        Number of instruments.
    interval_ns
        Time from one decision to the next, ns.
    columns
        Feature name to its values, shape `(n_rows,)`, NaN where there is none. A name may be absent.
    """

    n_rows: int
    interval_ns: int
    columns: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a specialist says at one decision time about each of `n` instruments.

    Parameters
    ----------
    inputs
        What it read, shape `(n, k)`, NaN where missing.
    score
        Log-odds before calibration, shape `(n,)`; NaN where inputs are missing.
    estimate
        Calibrated probability, shape `(n,)`, finite where `score` is. While the specialist warms up it has
        estimates, by whose outcomes it is judged, and no answers.
    confidence
        How far the probability can be relied on, in [0, 1], shape `(n,)`: by sample size, calibration error and
        coverage of the inputs, not by its distance from one half. NaN where `score` is.
    reason
        A `NoAnswer` code, shape `(n,)`.
    log_odds
        Calibrated log-odds, shape `(n,)`: those of `estimate`, before rounding.
    contributions
        What each input adds to the calibrated log-odds, shape `(n, k)`; 0 where missing.
    intercept
        Calibrated log-odds without any contribution.
    """

    inputs: FloatArray
    score: FloatArray
    estimate: FloatArray
    confidence: FloatArray
    reason: npt.NDArray[np.uint8]
    log_odds: FloatArray
    contributions: FloatArray
    intercept: float

    @property
    def probability(self) -> FloatArray:
        """Probabilities that are answers; NaN elsewhere, shape `(n,)`."""
        return np.where(self.reason == NoAnswer.ANSWERED, self.estimate, np.nan)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Matured outcomes with what was predicted at the time, shape `(m,)` each.

    Parameters
    ----------
    inputs
        Inputs at the time of the prediction, shape `(m, k)`.
    score, estimate
        Of the prediction, finite.
    label
        1.0 where the price rose beyond the cost band, 0.0 where it fell beyond it.
    interval_ns
        Time from one decision to the next, ns.
    """

    inputs: FloatArray
    score: FloatArray
    estimate: FloatArray
    label: FloatArray
    interval_ns: int

    def __len__(self) -> int:
        return len(self.label)


class Specialist(ABC):
    """One specialist, trained online or before.

    A call of `predict` or `learn` does not read a clock, a file or the network, so a decision never waits. One that
    was trained in batches answers in `predict` and does nothing in `learn`.

    Parameters
    ----------
    config
        How it learns.
    horizon_ns
        Time from a prediction to its outcome, ns.

    Raises
    ------
    ValueError
        `horizon_ns` is below 1.
    """

    name: ClassVar[str]
    """registered name"""
    needs: ClassVar[tuple[str, ...]]
    """features that it reads; one that the input does not carry is missing in every row"""

    def __init__(self, config: LearningConfig, *, horizon_ns: int) -> None:
        if horizon_ns < 1:
            raise ValueError(f"expected `horizon_ns` of at least 1, was {horizon_ns}")
        self.config = config
        self.horizon_ns = horizon_ns

    @property
    @abstractmethod
    def version(self) -> str:
        """Content hash of everything that decides its answers, but for what it has learnt since."""

    @property
    @abstractmethod
    def input_names(self) -> tuple[str, ...]:
        """Names of its inputs, in order."""

    @property
    @abstractmethod
    def input_set(self) -> str:
        """Content hash of its inputs: features, transforms and order."""

    @abstractmethod
    def predict(self, section: CrossSection) -> Predictions:
        """Answer for each instrument. Changes nothing."""

    @abstractmethod
    def learn(self, outcomes: Outcomes) -> None:
        """Take the outcomes that matured at one decision time; called once for each such time, in order."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Return what was learnt as plain values: text, numbers, lists and maps, copied."""

    @abstractmethod
    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; `VersionError` where it is of another version."""
