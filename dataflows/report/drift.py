r"""How far the distribution of each feature moved between the first and the last third of a run.

The measure is the two-sample Kolmogorov-Smirnov statistic

$$ D = \sup_x \left| F_1(x) - F_3(x) \right| $$

of the empirical distributions in the two thirds: 0 for equal samples, 1 for samples that do not
overlap. It is taken for each instrument by itself, because pooling instruments of different price
levels hides a shift of each. No p-value goes with it: consecutive feature values are not independent.

References
----------
Smirnov, N. (1948). Table for estimating the goodness of fit of empirical distributions. Annals of
Mathematical Statistics 19(2), 279-281.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dataflows.report.queries import Queries

__all__ = ["MIN_VALUES", "FeatureDrift", "feature_drifts", "ks_statistic"]

MIN_VALUES: Final = 20
"""Values that each third needs. With fewer, equal distributions often differ by 0.4 and more."""
SAMPLE_ROWS: Final = 15_000
"""Rows of an instrument that are compared. A larger sample moves `D` by about 1 %."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """Shift of one feature.

    Parameters
    ----------
    feature
        Name of the feature.
    statistic
        Median of `D` over the instruments that have enough values, or None where none has.
    largest
        Greatest `D` of an instrument.
    instrument
        The instrument with the greatest `D`.
    median_first
        Median of its values in the first third.
    median_last
        Median of its values in the last third.
    instruments
        Instruments compared.
    """

    feature: str
    statistic: float | None = None
    largest: float | None = None
    instrument: str = ""
    median_first: float | None = None
    median_last: float | None = None
    instruments: int = 0


def ks_statistic(first: FloatArray, last: FloatArray) -> float:
    """Return the largest distance between two empirical distribution functions.

    Parameters
    ----------
    first
        Finite values, shape `(n,)`, not empty.
    last
        Finite values, shape `(m,)`, not empty.

    Examples
    --------
    >>> ks_statistic(np.array([1.0, 2.0]), np.array([1.0, 2.0])), ks_statistic(np.array([1.0]), np.array([2.0]))
    (0.0, 1.0)
    """
    if not len(first) or not len(last):
        raise ValueError(f"expected two samples with values, was {len(first)} and {len(last)} values")
    points = np.concatenate((first, last))
    below_first = np.searchsorted(np.sort(first), points, side="right") / len(first)
    below_last = np.searchsorted(np.sort(last), points, side="right") / len(last)
    return float(np.max(np.abs(below_first - below_last)))


def feature_drifts(
    queries: Queries, features: Sequence[str], interval_ns: int, instruments: Sequence[str]
) -> list[FeatureDrift]:
    """Return the shift of each feature, in the set's order.

    Parameters
    ----------
    queries
        The run.
    features
        Names of the features.
    interval_ns
        Bar length of the rows that are compared, ns.
    instruments
        Instruments that are compared, each by itself.
    """
    span = queries.feature_span(interval_ns)
    if span is None or not features:
        return [FeatureDrift(feature) for feature in features]
    third = (span[1] - span[0]) // 3
    found: list[list[tuple[float, str, float, float]]] = [[] for _ in features]
    for instrument in instruments:
        sample = queries.feature_sample(features, interval_ns, instrument, SAMPLE_ROWS)
        ts = sample.column("t").to_numpy()
        is_first, is_last = ts <= span[0] + third, ts >= span[1] - third
        for position, shifts in enumerate(found):
            values = sample.column(f"c{position}").to_numpy()
            known = np.isfinite(values)
            first, last = values[is_first & known], values[is_last & known]
            if min(len(first), len(last)) >= MIN_VALUES:
                shift = ks_statistic(first, last)
                shifts.append((shift, instrument, float(np.median(first)), float(np.median(last))))
    return [_summary(feature, shifts) for feature, shifts in zip(features, found, strict=True)]


def _summary(feature: str, shifts: list[tuple[float, str, float, float]]) -> FeatureDrift:
    if not shifts:
        return FeatureDrift(feature)
    largest = max(shifts, key=lambda shift: shift[0])
    return FeatureDrift(feature, float(np.median([shift[0] for shift in shifts])), *largest, len(shifts))
