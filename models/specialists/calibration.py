r"""Calibration of scores by their outcomes, and the measures of it: expected calibration error and Brier score."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.specialists.inputs import FloatArray

__all__ = ["PlattScaling", "Reliability", "effective_weight", "log_loss", "log_odds", "logistic"]

_BINS: Final = 20
_SCORE_BOUND: Final = 8.0
"""Log-odds beyond 3,000 to 1 are held: no market model knows that much, and one such score would lever the slope."""
_SLOPE_BOUND: Final = 5.0
_INTERCEPT_BOUND: Final = 5.0
_PROBABILITY_BOUND: Final = 1e-6


def logistic(score: FloatArray) -> FloatArray:
    r"""Return $1 / (1 + e^{-s})$ for log-odds, NaN where they are.

    Examples
    --------
    >>> logistic(np.array([0.0, -1e308, np.nan]))
    array([0.5, 0. , nan])
    """
    tail = np.exp(-np.abs(score))
    return np.asarray(np.where(score >= 0, 1.0, tail) / (1.0 + tail))


def log_odds(probability: FloatArray) -> FloatArray:
    r"""Return $\ln(p / (1 - p))$, of probabilities held between $10^{-6}$ and $1 - 10^{-6}$, NaN where they are.

    Examples
    --------
    >>> log_odds(np.array([0.5, 1.0, np.nan])).round(2)
    array([ 0.  , 13.82,   nan])
    """
    held = np.clip(probability, _PROBABILITY_BOUND, 1.0 - _PROBABILITY_BOUND)
    return np.asarray(np.log(held) - np.log1p(-held))


def log_loss(probability: FloatArray, label: FloatArray) -> FloatArray:
    r"""Return $-y \ln p - (1 - y) \ln(1 - p)$, of probabilities held as in `log_odds`, NaN where they are.

    Examples
    --------
    >>> log_loss(np.array([0.5, 0.9, np.nan]), np.array([1.0, 0.0, 1.0])).round(2)
    array([0.69, 2.3 ,  nan])
    """
    odds = log_odds(probability)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp(0.0, np.where(label > 0.5, -odds, odds)))


def effective_weight(n_rows: int, correlation: float, overlap: float) -> float:
    r"""Return the weight of each of $n$ outcomes that matured at one time.

    With a correlation $\rho$ within the time and horizons that $v$ consecutive decisions share,

    $$ w = \frac{1}{v \, (1 + (n - 1) \rho)} $$

    so that $n w$ is the number of independent outcomes with the same information: the design effect of a
    cluster sample, and the overlap of horizons.

    Parameters
    ----------
    n_rows
        Outcomes at the time, at least 1.
    correlation
        $\rho$, in [0, 1]. With 1, a whole market counts as a single outcome.
    overlap
        $v$: horizon over the time between decisions, at least 1.

    Examples
    --------
    >>> effective_weight(1, 0.2, 15.0) == 1 / 15
    True
    >>> round(500 * effective_weight(500, 0.2, 1.0), 1)
    5.0

    References
    ----------
    Kish, L. (1965). Survey Sampling. Wiley, section 5.4.
    """
    return 1.0 / (overlap * (1.0 + (n_rows - 1) * correlation))


class PlattScaling:
    r"""Probability of a score, $p = 1 / (1 + e^{-(a s + b)})$, with slope and intercept learnt from outcomes.

    Each call is one Newton step on the exponentially forgotten likelihood: with outcomes $y_i$, weight $w$, decay
    $\lambda$ and $x_i = (s_i, 1)$,

    $$ H \leftarrow \lambda H + w \sum_i p_i (1 - p_i) x_i x_i^\top, \qquad
    \theta \leftarrow \theta + (H + R)^{-1} \Big( w \sum_i (y_i - p_i) x_i + (1 - \lambda) R (\theta_0 - \theta)
    \Big) $$

    The prior $R = r I$ around $\theta_0 = (1, 0)$ leaves a score as it is until there is evidence.

    Parameters
    ----------
    decay
        $\lambda$, in (0, 1).
    prior
        $r$, above 0, in outcomes.

    Notes
    -----
    Scores are held within ±8, the slope within [0, 5] and the intercept within ±5: a slope below zero would bet
    on a model being wrong. Seven numbers of state; about 20 microseconds a call and 30 ns an outcome.

    Examples
    --------
    >>> scaling = PlattScaling(decay=0.999, prior=1.0)
    >>> rng = np.random.default_rng(1)
    >>> for _ in range(200):
    ...     score = rng.normal(size=50)
    ...     scaling.update(score, (rng.random(50) < logistic(0.5 * score)).astype(float), 1.0)
    >>> bool(abs(scaling.slope - 0.5) < 0.1)
    True

    References
    ----------
    Platt, J. (1999). Probabilistic outputs for support vector machines and comparisons to regularized likelihood
    methods. Advances in Large Margin Classifiers. MIT Press.
    Hazan, E., Agarwal, A. and Kale, S. (2007). Logarithmic regret algorithms for online convex optimization.
    Machine Learning 69: the online Newton step.
    """

    def __init__(self, *, decay: float, prior: float) -> None:
        self._decay = decay
        self._prior = prior
        self.slope = 1.0
        self.intercept = 0.0
        self._information = (0.0, 0.0, 0.0)

    def scaled(self, score: FloatArray) -> FloatArray:
        """Return calibrated log-odds, shape `(n,)`, NaN where the score is."""
        return np.asarray(self.slope * np.clip(score, -_SCORE_BOUND, _SCORE_BOUND) + self.intercept)

    def update(self, score: FloatArray, label: FloatArray, weight: float) -> None:
        """Take the outcomes of one time, each with this weight; scores are finite, labels 0 or 1."""
        if not len(score):
            return
        held = np.clip(score, -_SCORE_BOUND, _SCORE_BOUND)
        probability = logistic(self.slope * held + self.intercept)
        error = label - probability
        spread = probability * (1.0 - probability)
        fresh = (np.sum(spread * held * held), np.sum(spread * held), np.sum(spread))
        self._information = tuple(  # type: ignore[assignment]
            self._decay * old + weight * float(new) for old, new in zip(self._information, fresh, strict=True)
        )
        pull = (1.0 - self._decay) * self._prior
        gradient_slope = weight * float(np.sum(error * held)) + pull * (1.0 - self.slope)
        gradient_intercept = weight * float(np.sum(error)) - pull * self.intercept
        slope, both, intercept = self._information
        slope, intercept = slope + self._prior, intercept + self._prior
        determinant = slope * intercept - both * both
        self.slope += (intercept * gradient_slope - both * gradient_intercept) / determinant
        self.intercept += (slope * gradient_intercept - both * gradient_slope) / determinant
        self.slope = min(max(self.slope, 0.0), _SLOPE_BOUND)
        self.intercept = min(max(self.intercept, -_INTERCEPT_BOUND), _INTERCEPT_BOUND)

    def snapshot(self) -> list[float]:
        """Return the state as plain numbers."""
        return [self.slope, self.intercept, *self._information]

    def restore(self, snapshot: list[float]) -> None:
        """Take over a snapshot."""
        self.slope, self.intercept, *information = snapshot
        self._information = (information[0], information[1], information[2])


class Reliability:
    r"""How well probabilities have matched outcomes, exponentially forgotten.

    Over 20 equal bins $B$ of the probability, with weights summing to $W_B$ and $W$:

    $$ \mathrm{ECE} = \sum_B \frac{W_B}{W} \, |\bar p_B - \bar y_B|, \qquad
    \mathrm{Brier} = \frac{1}{W} \sum_i w_i (p_i - y_i)^2 $$

    Parameters
    ----------
    decay
        Factor on everything before at each call, in (0, 1).

    Notes
    -----
    Both are NaN before the first outcome. The calibration error of few outcomes is biased upwards by their noise.
    80 numbers of state; about 15 microseconds a call and 20 ns an outcome.

    Examples
    --------
    >>> record = Reliability(decay=0.99)
    >>> record.update(np.array([0.8, 0.8, 0.2, 0.2]), np.array([1.0, 1.0, 0.0, 1.0]), 1.0)
    >>> round(record.calibration_error, 3), round(record.brier_score, 3), record.n_effective
    (0.25, 0.19, 4.0)

    References
    ----------
    Naeini, M., Cooper, G. and Hauskrecht, M. (2015). Obtaining well calibrated probabilities using Bayesian
    binning. AAAI-15.
    Brier, G. (1950). Verification of forecasts expressed in terms of probability. Monthly Weather Review 78(1).
    """

    def __init__(self, *, decay: float) -> None:
        self._decay = decay
        self._sums = np.zeros((4, _BINS))

    def update(self, probability: FloatArray, label: FloatArray, weight: float) -> None:
        """Take the outcomes of one time, each with this weight; probabilities are finite, labels 0 or 1."""
        if not len(probability):
            return
        bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
        error = probability - label
        fresh = [
            np.bincount(bins, weights=values, minlength=_BINS)
            for values in (np.ones(len(bins)), probability, label, error * error)
        ]
        self._sums = self._decay * self._sums + weight * np.array(fresh)

    @property
    def n_effective(self) -> float:
        """Sum of the decayed weights."""
        return float(np.sum(self._sums[0]))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, in [0, 1]."""
        total = self.n_effective
        return float(np.sum(np.abs(self._sums[1] - self._sums[2]))) / total if total > 0 else float("nan")

    @property
    def brier_score(self) -> float:
        """Brier score, in [0, 1]; 0.25 for a coin."""
        total = self.n_effective
        return float(np.sum(self._sums[3])) / total if total > 0 else float("nan")

    @property
    def base_rate(self) -> float:
        """Share of outcomes with label 1."""
        total = self.n_effective
        return float(np.sum(self._sums[2])) / total if total > 0 else float("nan")

    def confidence(self, *, convincing: float, tolerated: float) -> float:
        r"""Return $\frac{W}{W + W_0} \max(0, 1 - \mathrm{ECE} / e_0)$; 0 before the first outcome.

        Parameters
        ----------
        convincing
            $W_0$: effective outcomes at which sample size alone gives one half.
        tolerated
            $e_0$: calibration error at which there is none.
        """
        total = self.n_effective
        if not total > 0:
            return 0.0
        return total / (total + convincing) * max(0.0, 1.0 - self.calibration_error / tolerated)

    def snapshot(self) -> list[list[float]]:
        """Return the state as plain numbers."""
        return [[float(value) for value in row] for row in self._sums]

    def restore(self, snapshot: list[list[float]]) -> None:
        """Take over a snapshot."""
        self._sums = np.array(snapshot, dtype=np.float64)
