r"""Covariance shrunk towards a simple matrix by the intensity of Ledoit and Wolf.

$\hat\Sigma = \delta F + (1 - \delta) S$ with the sample covariance $S$ and a target $F$: the identity scaled by the
mean variance, or constant correlation, $f_{ij} = \bar r \sqrt{s_{ii} s_{jj}}$. The intensity $\delta$ in [0, 1]
minimises the expected squared error. It is the sum over elements of the variance of $s_{ij}$, less its covariance with
$f_{ij}$, over the squared distance of $F$ and $S$.

Returns may be missing. Each instrument is taken from its own mean, and each element from the frames that both have:
$s_{ij} = \frac{1}{n_{ij}} \sum_k d_{ki} d_{kj}$; its variance counts as $\pi_{ij} / n_{ij}$. With nothing missing this
is the published estimator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

from operators.columns import FloatArray, IntArray, frozen

__all__ = ["ShrunkCovariance", "shrunk_covariance"]

_Squares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShrunkCovariance:
    """A covariance matrix of `m` instruments.

    Parameters
    ----------
    covariance
        Shape `(m, m)`; NaN for a pair with too little overlap, and for an instrument without variance.
    overlap
        Frames that both of a pair have, shape `(m, m)`.
    intensity
        Share of the target in the estimate, in [0, 1]; NaN where no instrument can be estimated.
    """

    covariance: FloatArray
    overlap: IntArray
    intensity: float

    @property
    def correlation(self) -> FloatArray:
        """Shape `(m, m)`, ones on the diagonal; NaN where the covariance is."""
        deviation = np.sqrt(np.diag(self.covariance))
        found: FloatArray = np.clip(self.covariance / np.outer(deviation, deviation), -1.0, 1.0)
        return found


def shrunk_covariance(
    returns: FloatArray,
    *,
    target: Literal["constant_correlation", "identity"],
    min_overlap: int,
    min_deviation: float = 0.0,
) -> ShrunkCovariance:
    """Estimate a covariance matrix.

    Parameters
    ----------
    returns
        Shape `(t, m)`, one row a frame; NaN where an instrument has no return.
    target
        What it is shrunk towards.
    min_overlap
        Least frames that a pair has in common.
    min_deviation
        An instrument whose standard deviation is at or below it counts as constant.

    Notes
    -----
    With missing returns the matrix need not be positive definite. Its cost grows with `t` and the square of `m`: about
    1 ms for 250 and 100. Sums are made in the order of the frames, without a matrix library, so the result does not
    depend on threads.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3)) * 0.01
    >>> found = shrunk_covariance(x, target="identity", min_overlap=10)
    >>> from sklearn.covariance import ledoit_wolf
    >>> np.allclose(found.covariance, ledoit_wolf(x)[0], rtol=1e-12)
    True

    References
    ----------
    Ledoit, O. and Wolf, M. (2004). A well-conditioned estimator for large-dimensional covariance matrices. Journal of
    Multivariate Analysis 88(2); and: Honey, I shrunk the sample covariance matrix. Journal of Portfolio Management
    30(4), for constant correlation.
    """
    m = returns.shape[1]
    counts = np.zeros((m, m), dtype=np.int64)
    products, squares, cubes = (np.zeros((m, m)) for _ in range(3))
    _sums(frozen(returns), counts, products, squares, cubes)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = counts.astype(np.float64)
        sample, squares, cubes = products / n, squares / n, cubes / n
    varies = (np.diag(counts) >= min_overlap) & (np.diag(sample) > min_deviation * min_deviation)
    valid = (counts >= min_overlap) & varies[:, None] & varies
    own = np.flatnonzero(varies)
    covariance = np.full((m, m), np.nan)
    if not len(own):
        return ShrunkCovariance(covariance, counts, float("nan"))
    block = np.ix_(own, own)
    aim = _towards_identity if target == "identity" else _towards_constant_correlation
    goal, intensity = aim(sample[block], squares[block], cubes[block], n[block], valid[block])
    covariance[block] = np.where(valid[block], intensity * goal + (1.0 - intensity) * sample[block], np.nan)
    return ShrunkCovariance(covariance, counts, intensity)


def _towards_identity(
    sample: _Squares, squares: _Squares, cubes: _Squares, n: _Squares, valid: npt.NDArray[np.bool_]
) -> tuple[_Squares, float]:
    goal = np.eye(len(sample)) * np.mean(np.diag(sample))
    variance = float(np.sum((squares - sample**2) / n, where=valid))
    distance = float(np.sum((sample - goal) ** 2, where=valid))
    return goal, _share(variance, distance)


def _towards_constant_correlation(
    sample: _Squares, squares: _Squares, cubes: _Squares, n: _Squares, valid: npt.NDArray[np.bool_]
) -> tuple[_Squares, float]:
    deviation = np.sqrt(np.diag(sample))
    scale = np.outer(deviation, deviation)
    pairs = valid & ~np.eye(len(sample), dtype=np.bool_)
    mean_correlation = float(np.mean(sample / scale, where=pairs)) if pairs.any() else 0.0
    goal = mean_correlation * scale
    np.fill_diagonal(goal, np.diag(sample))
    variance = squares - sample**2
    # covariance of s_ii with s_ij, and of s_jj with s_ij
    with_row = cubes - np.diag(sample)[:, None] * sample
    with_column = cubes.T - np.diag(sample) * sample
    ratio = deviation / deviation[:, None]
    shared = 0.5 * mean_correlation * (ratio * with_row + with_column / ratio)
    np.fill_diagonal(shared, np.diag(variance))
    excess = float(np.sum((variance - shared) / n, where=valid))
    distance = float(np.sum((goal - sample) ** 2, where=valid))
    return goal, _share(excess, distance)


def _share(excess: float, distance: float) -> float:
    """Return the intensity. A target that is the sample itself changes nothing, so its share is zero."""
    if distance <= 0.0:
        return 0.0
    return min(max(excess / distance, 0.0), 1.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sums(returns: FloatArray, counts: IntArray, products: _Squares, squares: _Squares, cubes: _Squares) -> None:
    """Add up, for each pair, the frames that both have and the products of their deviations, oldest frame first."""
    rows, m = returns.shape
    mean = np.zeros(m)
    size = np.zeros(m)
    for k in range(rows):
        for i in range(m):
            if np.isfinite(returns[k, i]):
                mean[i] += returns[k, i]
                size[i] += 1.0
    for i in range(m):
        mean[i] = mean[i] / size[i] if size[i] > 0.0 else 0.0
    here = np.zeros(m, dtype=np.int64)
    deviation = np.zeros(m)
    for k in range(rows):
        for i in range(m):
            here[i] = 1 if np.isfinite(returns[k, i]) else 0
            deviation[i] = returns[k, i] - mean[i] if here[i] == 1 else 0.0
        for i in range(m):
            if here[i] == 0:
                continue
            d = deviation[i]
            for j in range(m):
                product = d * deviation[j]
                counts[i, j] += here[j]
                products[i, j] += product
                squares[i, j] += product * product
                cubes[i, j] += d * d * product
