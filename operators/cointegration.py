r"""Engle and Granger's test of cointegration, for many pairs at once.

For logarithms or prices $y$ and $x$: regress $y_t = \alpha + \beta x_t + e_t$, then

$$\Delta e_t = \gamma e_{t-1} + \sum_{k=1}^{p} \phi_k \Delta e_{t-k} + u_t .$$

The statistic is $\hat\gamma$ over its standard error. Without cointegration it follows a law of its own, whose critical
values and probabilities MacKinnon has tabulated. The half-life of the spread comes from the same regression with
$p = 0$: $h = -\ln 2 / \ln(1 + \gamma_0)$ for $-1 < \gamma_0 < 0$, as in a sampled Ornstein-Uhlenbeck process.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt
from typing import Final, Literal

import numba
import numpy as np
import numpy.typing as npt

from operators.columns import FloatArray, IntArray, frozen
from schemas.errors import ConfigError

__all__ = ["Cointegration", "accepted", "critical_value", "engle_granger", "p_value"]

_OUTPUTS: Final = 6
_CRITICAL: Final = {
    0.01: (-3.89644, -10.9519, -33.527),
    0.05: (-3.33613, -6.1101, -6.823),
    0.10: (-3.04445, -4.2412, -2.720),
}
"""MacKinnon (2010), table 2, two variables, with constant: limit, and what one and two over the sample size add."""
_LEFT: Final = (2.92, 1.5012, 0.039796)
_RIGHT: Final = (2.1945, 0.64695, -0.29198, -0.042377)
"""MacKinnon (1994), tables 3 and 4, two variables, with constant: the normal quantile of p, a polynomial in tau."""
_LEAST, _BOUND, _GREATEST = -18.86, -2.62, 0.92


@dataclass(frozen=True, slots=True)
class Cointegration:
    """Results of the test, one for each pair, shape `(p,)` each; NaN where the pair cannot be tested.

    Parameters
    ----------
    statistic
        Of Engle and Granger: the more negative, the stronger the evidence of cointegration.
    p_value
        Probability of one as small without cointegration.
    intercept, hedge_ratio
        Of the regression of the first series on the second.
    deviation
        Standard deviation of its residual.
    half_life
        Of the residual, observations; NaN where it does not return, or returns within one.
    n_obs
        Observations that both series have.
    """

    statistic: FloatArray
    p_value: FloatArray
    intercept: FloatArray
    hedge_ratio: FloatArray
    deviation: FloatArray
    half_life: FloatArray
    n_obs: IntArray


def critical_value(level: float, n_obs: int) -> float:
    """Return MacKinnon's (2010) critical value of the test of two series with a constant.

    Parameters
    ----------
    level
        Level of significance: 0.01, 0.05 or 0.1.
    n_obs
        Observations of the second regression.

    Raises
    ------
    ConfigError
        There is no table for the level.

    Examples
    --------
    >>> round(critical_value(0.05, 250), 3)
    -3.361
    """
    if level not in _CRITICAL:
        raise ConfigError(f"expected a level of significance among {list(_CRITICAL)}, was {level}")
    limit, first, second = _CRITICAL[level]
    return limit + first / n_obs + second / n_obs**2


def p_value(statistic: float, n_obs: int) -> float:
    """Return the probability of a statistic as small without cointegration.

    MacKinnon's (1994) approximation holds for long series. A statistic from `n_obs` observations is first scaled by the
    ratio of the limit to the critical value for `n_obs`, both at 1 %: there the two tables agree, and in the tail,
    where many tests are compared, short series do not pass too often.

    Examples
    --------
    >>> round(p_value(critical_value(0.01, 100), 100), 3)
    0.01
    >>> p_value(float("nan"), 100)
    nan
    """
    if np.isnan(statistic):
        return float("nan")
    scaled = statistic * _CRITICAL[0.01][0] / critical_value(0.01, n_obs)
    if scaled > _GREATEST:
        return 1.0
    if scaled < _LEAST:
        return 0.0
    quantile = 0.0
    for coefficient in reversed(_LEFT if scaled <= _BOUND else _RIGHT):
        quantile = quantile * scaled + coefficient
    return 0.5 * erfc(-quantile / sqrt(2.0))


def accepted(
    p_values: FloatArray, level: float, correction: Literal["bonferroni", "benjamini_hochberg"]
) -> npt.NDArray[np.bool_]:
    """Return which of a family of tests are significant together.

    Parameters
    ----------
    p_values
        Of every test that was made, shape `(p,)`. One that gave no result (NaN) is never accepted and still counts.
    level
        With `bonferroni`, the probability of even one false acceptance; with `benjamini_hochberg`, the expected share
        of false ones among the accepted.
    correction
        How the number of tests is accounted for.

    Examples
    --------
    >>> p = np.array([0.03, 0.001, 0.02, 0.9])
    >>> accepted(p, 0.05, "bonferroni").tolist()
    [False, True, False, False]
    >>> accepted(p, 0.05, "benjamini_hochberg").tolist()
    [True, True, True, False]

    References
    ----------
    Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the Royal Statistical
    Society B 57(1).
    """
    n = len(p_values)
    if correction == "bonferroni":
        found: npt.NDArray[np.bool_] = p_values <= level / max(n, 1)
        return found
    ordered = np.sort(p_values)
    below = np.flatnonzero(ordered <= level * np.arange(1, n + 1) / max(n, 1))
    bound = ordered[below[-1]] if len(below) else -1.0
    return np.asarray(p_values <= bound)


def engle_granger(
    series: FloatArray, first: IntArray, second: IntArray, *, lags: int = 1, min_obs: int = 30
) -> Cointegration:
    """Test pairs of columns for cointegration.

    Parameters
    ----------
    series
        Shape `(t, m)`, oldest row first; NaN where a series has no value. Rows in which one of a pair is missing are
        left out, and its neighbours taken for consecutive.
    first, second
        Columns of the dependent and the explaining series of each pair, shape `(p,)`.
    lags
        Lagged differences in the second regression: enough to leave its residual without autocorrelation.
    min_obs
        Least rows that a pair has in common; at least `lags + 10`.

    Notes
    -----
    A series that is constant, or a spread that is, cannot be tested. The test of `y` on `x` is not that of `x` on `y`:
    choose one before looking. About 5 microseconds for a pair of 250 rows.

    Examples
    --------
    >>> x = np.cumsum(np.random.default_rng(1).normal(size=400))
    >>> spread = np.random.default_rng(2).normal(size=400)
    >>> found = engle_granger(np.column_stack((2.0 * x + spread, x)), np.array([0]), np.array([1]))
    >>> bool(found.p_value[0] < 0.001), round(float(found.hedge_ratio[0]), 1)
    (True, 2.0)

    References
    ----------
    Engle, R. and Granger, C. (1987). Co-integration and error correction. Econometrica 55(2). MacKinnon, J. (1994).
    Approximate asymptotic distribution functions for unit-root and cointegration tests. Journal of Business and
    Economic Statistics 12(2). MacKinnon, J. (2010). Critical values for cointegration tests. Queen's University,
    working paper 1227.
    """
    n = len(first)
    out = np.full((n, _OUTPUTS), np.nan)
    least = max(min_obs, lags + 10)
    _test_pairs(frozen(series), frozen(first.astype(np.int64)), frozen(second.astype(np.int64)), lags, least, out)
    statistic, intercept, hedge_ratio, deviation, return_speed, count = out.T
    with np.errstate(invalid="ignore", divide="ignore"):
        half_life = np.where(
            (return_speed > -1.0) & (return_speed < 0.0), -np.log(2.0) / np.log1p(return_speed), np.nan
        )
    n_obs = np.nan_to_num(count).astype(np.int64)
    regressed = (n_obs - lags - 1).tolist()
    p = np.array([p_value(tau, used) for tau, used in zip(statistic.tolist(), regressed, strict=True)])
    return Cointegration(statistic, p, intercept, hedge_ratio, deviation, half_life, n_obs)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _test_pairs(
    series: FloatArray, first: IntArray, second: IntArray, lags: int, min_obs: int, out: FloatArray
) -> None:  # fmt: skip
    rows = len(series)
    y = np.empty(rows)
    x = np.empty(rows)
    for pair in range(len(first)):
        n = 0
        for k in range(rows):
            if np.isfinite(series[k, first[pair]]) and np.isfinite(series[k, second[pair]]):
                y[n] = series[k, first[pair]]
                x[n] = series[k, second[pair]]
                n += 1
        out[pair, 5] = n
        if n < min_obs:
            continue
        intercept, slope, deviation = _regress(y[:n], x[:n])
        # a spread of rounding errors alone is constant
        if not deviation > 1e-12 * np.max(np.abs(y[:n])):
            continue
        residual = y[:n] - intercept - slope * x[:n]
        out[pair, 1] = intercept
        out[pair, 2] = slope
        out[pair, 3] = deviation
        out[pair, 0] = _dickey_fuller(residual, lags)[0]
        out[pair, 4] = _dickey_fuller(residual, 0)[1]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _regress(y: FloatArray, x: FloatArray) -> tuple[float, float, float]:
    """Return intercept, slope and deviation of the residual; NaN where `x` is constant."""
    mean_y = float(np.mean(y))
    mean_x = float(np.mean(x))
    xx = 0.0
    xy = 0.0
    for k in range(len(y)):
        xx += (x[k] - mean_x) * (x[k] - mean_x)
        xy += (x[k] - mean_x) * (y[k] - mean_y)
    # what rounding alone leaves of a constant series is no variance
    if not xx > len(x) * (1e-12 * mean_x) * (1e-12 * mean_x):
        return np.nan, np.nan, np.nan
    slope = xy / xx
    squares = 0.0
    for k in range(len(y)):
        rest = (y[k] - mean_y) - slope * (x[k] - mean_x)
        squares += rest * rest
    return mean_y - slope * mean_x, slope, (squares / len(y)) ** 0.5


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _dickey_fuller(e: FloatArray, lags: int) -> tuple[float, float]:
    """Return the augmented Dickey-Fuller statistic of a series without constant, and its coefficient.

    The level stands last among the regressors: its coefficient and variance come out of the last pivot.
    """
    width = lags + 1
    moments = np.zeros((width, width))
    target = np.zeros(width)
    row = np.empty(width)
    total = 0.0
    for t in range(width, len(e)):
        change = e[t] - e[t - 1]
        for k in range(lags):
            row[k] = e[t - k - 1] - e[t - k - 2]
        row[lags] = e[t - 1]
        for i in range(width):
            target[i] += row[i] * change
            for j in range(i + 1):
                moments[i, j] += row[i] * row[j]
        total += change * change
    if not _solve_half(moments, target):
        return np.nan, np.nan
    explained = 0.0
    for k in range(width):
        explained += target[k] * target[k]
    rest = (total - explained) / (len(e) - 2 * width)
    if not rest > 0.0:
        return np.nan, np.nan
    return target[lags] / rest**0.5, target[lags] / moments[lags, lags]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _solve_half(moments: FloatArray, target: FloatArray) -> bool:
    """Make `moments` its lower Cholesky factor L and `target` the solution of L h = target; False where singular."""
    for i in range(len(target)):
        diagonal = moments[i, i]
        for j in range(i + 1):
            value = moments[i, j]
            for k in range(j):
                value -= moments[i, k] * moments[j, k]
            if i > j:
                moments[i, j] = value / moments[j, j]
            elif value > 1e-14 * diagonal:
                moments[i, i] = value**0.5
            else:
                return False
        value = target[i]
        for k in range(i):
            value -= moments[i, k] * target[k]
        target[i] = value / moments[i, i]
    return True
