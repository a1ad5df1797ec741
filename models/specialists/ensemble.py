r"""Many answers to one: a calibrated opinion pool, weighted by what each member's estimates have been worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.specialists.base import NoAnswer
from models.specialists.calibration import PlattScaling, Reliability, effective_weight, log_loss, log_odds, logistic
from models.specialists.config import EnsembleConfig
from models.specialists.inputs import FloatArray, row_sums
from schemas.errors import VersionError
from schemas.features import content_hash

__all__ = ["Ensemble", "EnsembleOutcomes", "EnsemblePredictions", "simplex_weights"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class EnsemblePredictions:
    """What the members say together about each of `n` instruments; NaN where there is no answer.

    Parameters
    ----------
    score
        Weighted mean of the members' log-odds, shape `(n,)`.
    estimate
        Calibrated probability, shape `(n,)`.
    confidence
        In [0, 1], shape `(n,)`.
    reason
        A `NoAnswer` code, shape `(n,)`.
    log_odds
        Calibrated log-odds, shape `(n,)`.
    weights
        Weight of each member in each row, shape `(n, k)`: 0 where it has no answer, else summing to 1.
    contributions
        What each member adds to the calibrated log-odds, shape `(n, k)`.
    intercept
        Calibrated log-odds without any contribution.
    disagreement
        Weighted standard deviation of the members' probabilities, in [0, 0.5], shape `(n,)`.
    """

    score: FloatArray
    estimate: FloatArray
    confidence: FloatArray
    reason: npt.NDArray[np.uint8]
    log_odds: FloatArray
    weights: FloatArray
    contributions: FloatArray
    intercept: float
    disagreement: FloatArray

    @property
    def probability(self) -> FloatArray:
        """Probabilities that are answers, as each estimate of an ensemble is; NaN elsewhere, shape `(n,)`."""
        return self.estimate


@dataclass(frozen=True, slots=True)
class EnsembleOutcomes:
    """Matured outcomes with what the members and the ensemble had said.

    Parameters
    ----------
    members
        Estimates of the members, shape `(m, k)`; NaN where one had none.
    score, estimate
        Of the ensemble, shape `(m,)`; NaN where it had no answer.
    label
        1.0 or 0.0, shape `(m,)`.
    interval_ns
        Time from one decision to the next, ns.
    """

    members: FloatArray
    score: FloatArray
    estimate: FloatArray
    label: FloatArray
    interval_ns: int


def simplex_weights(skill: FloatArray, floor: float) -> FloatArray:
    r"""Return weights above 0 that sum to 1, in proportion to the skills above 0.

    $$ w_k = (1 - \epsilon) \frac{\max(g_k, 0)}{\sum_j \max(g_j, 0)} + \frac{\epsilon}{K} $$

    A skill that is not finite counts as none. Where no member has any, the weights are equal.

    Parameters
    ----------
    skill
        $g$, shape `(k,)`, `k` at least 1.
    floor
        $\epsilon$, in (0, 1): share that is spread equally, so that a member can win its weight back.

    Examples
    --------
    >>> simplex_weights(np.array([0.02, -0.01, np.nan, 0.02]), 0.2).round(3)
    array([0.45, 0.05, 0.05, 0.45])
    >>> simplex_weights(np.array([-1.0, 0.0]), 0.2)
    array([0.5, 0.5])
    """
    n = len(skill)
    useful = np.where(np.isfinite(skill), np.maximum(skill, 0.0), 0.0)
    largest = float(useful.max())
    if largest <= 0.0:
        return np.full(n, 1.0 / n)
    relative = useful / largest
    return np.asarray((1.0 - floor) * relative / np.sum(relative) + floor / n)


class Ensemble:
    r"""Logarithmic opinion pool with a quorum, weights from realised skill, and a calibration of its own.

    With the members' probabilities $p_k$ and weights $w_k$ that are rescaled to sum to 1 over those that answer,

    $$ s = \sum_k w_k \ln \frac{p_k}{1 - p_k}, \qquad p = \frac{1}{1 + e^{-(a s + b)}} $$

    where $a$ and $b$ are learnt as in `PlattScaling`: independent members together know more than their mean says,
    and then $a$ rises above 1. The skill of a member is how much less its estimates cost than the base rate
    $\bar y$ that was known before, by exponentially forgotten log-loss over the outcomes that it had an estimate for:

    $$ g_k = \frac{\sum_i w_i \big( \ell(\bar y, y_i) - \ell(p_{ki}, y_i) \big)}{W_k + W_0}, \qquad
    \ell(p, y) = -y \ln p - (1 - y) \ln(1 - p) $$

    Members count in proportion to skills above zero (`simplex_weights`).

    Parameters
    ----------
    names
        Names of the members, in order.
    config
        How they are combined.
    horizon_ns
        Time from a prediction to its outcome, ns.

    Notes
    -----
    Below the quorum of answering members there is no answer. Confidence is the ensemble's own record, as a
    specialist's is, times $1 - 2 \sigma$ with the disagreement $\sigma$; it is 0 before the first outcome. About 0.2
    ms a call.

    Examples
    --------
    >>> ensemble = Ensemble(("a", "b"), EnsembleConfig(quorum=2), horizon_ns=60)
    >>> together = ensemble.predict(np.array([[0.6, 0.6], [0.6, np.nan]]))
    >>> together.probability.round(3).tolist(), together.reason.tolist()
    ([0.6, nan], [0, 3])

    References
    ----------
    Genest, C. and Zidek, J. (1986). Combining probability distributions: a critique and an annotated bibliography.
    Statistical Science 1(1).
    Ranjan, R. and Gneiting, T. (2010). Combining probability forecasts. Journal of the Royal Statistical Society B
    72(1): why a linear or logarithmic pool needs calibrating.
    """

    def __init__(self, names: tuple[str, ...], config: EnsembleConfig, *, horizon_ns: int) -> None:
        if not names or horizon_ns < 1:
            raise ValueError(f"expected members and `horizon_ns` of at least 1, was {list(names)} and {horizon_ns}")
        self.names = names
        self.config = config
        self._horizon = horizon_ns
        self._decay = 0.5 ** (1.0 / config.half_life)
        self.calibration = PlattScaling(decay=self._decay, prior=config.prior_outcomes)
        self.reliability = Reliability(decay=self._decay)
        self._gain = np.zeros(len(names))
        self._judged = np.zeros(len(names))
        self._ones = 0.0
        self._outcomes = 0.0

    @property
    def version(self) -> str:
        """Content hash of members, parameters and horizon."""
        return content_hash([_VERSION, list(self.names), self.config.content(), self._horizon])

    @property
    def skill(self) -> FloatArray:
        """Improvement of each member's log-loss on the base rate, shrunk towards 0, shape `(k,)`."""
        return self._gain / (self._judged + self.config.skill_outcomes)

    @property
    def weights(self) -> FloatArray:
        """Weight of each member where all answer: above 0, summing to 1, shape `(k,)`."""
        return simplex_weights(self.skill, self.config.weight_floor)

    @property
    def weighs_equally(self) -> bool:
        """Whether no member has shown skill, so that all count the same."""
        return not bool((self.skill > 0).any())

    def predict(self, probability: FloatArray) -> EnsemblePredictions:
        """Combine answers. Changes nothing.

        Parameters
        ----------
        probability
            Answer of each member, shape `(n, k)`, NaN where it has none.
        """
        answers = np.isfinite(probability)
        quorate = answers.sum(axis=1) >= self.config.quorum
        used = np.where(answers & quorate[:, None], self.weights, 0.0)
        total = row_sums(used)
        weights = used / np.where(quorate, total, 1.0)[:, None]
        each = np.where(weights > 0, log_odds(probability), 0.0)
        score = np.where(quorate, row_sums(weights * each), np.nan)
        known = np.where(weights > 0, probability, 0.0)
        centre = row_sums(weights * known)
        spread = np.sqrt(row_sums(weights * (known - centre[:, None]) ** 2))
        record = self.reliability.confidence(
            convincing=self.config.convincing_outcomes, tolerated=self.config.tolerated_error
        )
        calibrated = self.calibration.scaled(score)
        return EnsemblePredictions(
            score=score,
            estimate=logistic(calibrated),
            confidence=np.where(quorate, record * np.clip(1.0 - 2.0 * spread, 0.0, 1.0), np.nan),
            reason=np.where(quorate, np.uint8(NoAnswer.ANSWERED), np.uint8(NoAnswer.NO_QUORUM)),
            log_odds=calibrated,
            weights=weights,
            contributions=self.calibration.slope * weights * each,
            intercept=self.calibration.intercept,
            disagreement=np.where(quorate, spread, np.nan),
        )

    def learn(self, outcomes: EnsembleOutcomes) -> None:
        """Take the outcomes that matured at one decision time."""
        if not len(outcomes.label):
            return
        overlap = max(1.0, self._horizon / outcomes.interval_ns)
        self._judge(outcomes, overlap)
        answered = np.isfinite(outcomes.estimate)
        if answered.any():
            weight = effective_weight(int(answered.sum()), self.config.label_correlation, overlap)
            label = outcomes.label[answered]
            self.reliability.update(outcomes.estimate[answered], label, weight)
            self.calibration.update(outcomes.score[answered], label, weight)

    def _judge(self, outcomes: EnsembleOutcomes, overlap: float) -> None:
        """Compare each member with the base rate as it was known before these outcomes."""
        label = outcomes.label
        base = (self._ones + 0.5) / (self._outcomes + 1.0)
        cost_of_base = log_loss(np.full(len(label), base), label)
        for member in range(len(self.names)):
            estimate = outcomes.members[:, member]
            known = np.isfinite(estimate)
            if known.any():
                weight = effective_weight(int(known.sum()), self.config.label_correlation, overlap)
                gain = cost_of_base[known] - log_loss(estimate[known], label[known])
                self._gain[member] = self._decay * self._gain[member] + weight * float(np.sum(gain))
                self._judged[member] = self._decay * self._judged[member] + weight * len(gain)
        weight = effective_weight(len(label), self.config.label_correlation, overlap)
        self._ones = self._decay * self._ones + weight * float(np.sum(label))
        self._outcomes = self._decay * self._outcomes + weight * len(label)

    def snapshot(self) -> dict[str, Any]:
        """Return what was learnt as plain values, copied."""
        return {
            "version": self.version,
            "calibration": self.calibration.snapshot(),
            "reliability": self.reliability.snapshot(),
            "gain": self._gain.tolist(),
            "judged": self._judged.tolist(),
            "base": [self._ones, self._outcomes],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            It is of other members or other parameters.
        """
        if snapshot["version"] != self.version:
            raise VersionError(
                f"ensemble: expected a snapshot of version {self.version}, found {snapshot['version']}; resume with "
                "the configuration that wrote it, or start a new run"
            )
        self.calibration.restore(snapshot["calibration"])
        self.reliability.restore(snapshot["reliability"])
        self._gain = np.array(snapshot["gain"], dtype=np.float64)
        self._judged = np.array(snapshot["judged"], dtype=np.float64)
        self._ones, self._outcomes = snapshot["base"]
