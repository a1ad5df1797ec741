r"""Hurst exponent by rescaled range: $E[R/S]_n$ grows like $n^H$, measured against what independent returns give."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import Field

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.features.log_return import step_log_returns
from operators.features.return_window import next_window, return_state
from operators.state import ArrayState
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["Hurst", "HurstConfig", "expected_rescaled_range"]


class HurstConfig(ComponentConfig):
    """Hurst exponent of log returns over a window."""

    segment: Annotated[int, Field(ge=4, le=64)] = 8
    """returns in the shortest segments"""
    doublings: Annotated[int, Field(ge=1, le=6)] = 4
    """longer lengths of segments, each twice the one before; the longest, `segment` times two to this power, is the
    window: each of its returns costs 8 bytes an instrument"""
    floor: Annotated[float, Field(ge=1e-15, le=0.01)] = 1e-12
    """deviation of a segment's returns at or below it counts as none; returns are exact to about 1e-16"""

    @property
    def window(self) -> int:
        """Log returns in the window.

        Examples
        --------
        >>> HurstConfig(segment=8, doublings=4).window
        128
        """
        return self.segment << self.doublings


class Hurst(BarFeature):
    r"""Hurst exponent of the last `window` = `segment` $\cdot 2^{\mathrm{doublings}}$ log returns, by rescaled range.

    The window is cut into segments of $n$ returns, for $n$ = `segment`, twice, four times ... that, up to the whole.
    In each, with mean $m$ and population deviation $S$, the sums $Y_k = \sum_{i \le k} (r_i - m)$ have the range
    $R = \max_{0 \le k \le n} Y_k - \min_{0 \le k \le n} Y_k$, and $(R/S)_n$ is the mean of $R/S$ over the segments.
    Of independent normal returns its expectation is known (see `expected_rescaled_range`) and grows faster than
    $\sqrt n$ in short segments, so the exponent is

    $$ H = \tfrac12 + \text{slope of } \ln \frac{(R/S)_n}{E[R/S]_n} \text{ on } \ln n $$

    by least squares. 0.5 is a random walk, more is persistence, less is reversal.

    Notes
    -----
    In the standard window of 128, independent returns give 0.49 with a standard deviation of 0.08, and fractional
    Gaussian noise of exponent 0.3 and 0.7 gives 0.35 and 0.63: single values say little, and far ones are drawn
    towards 0.5. It is not clamped to 0 and 1.
    Warm-up is `window + 1` bars. While the window holds a return that does not exist there is no value:
    `NOT_FINITE` for a close that is not finite, else `DEGENERATE`. Segments with a deviation at or below `floor`
    have no rescaled range and are left out; where all of one length are, `DEGENERATE`.

    About 1000 ns a bar, 1040 bytes an instrument.

    Examples
    --------
    >>> Hurst.specs(HurstConfig())[0].warm_up
    129

    References
    ----------
    Hurst, H. E. (1951). Long-term storage capacity of reservoirs. Transactions of the American Society of Civil
    Engineers 116. Anis, A. and Lloyd, E. (1976). The expected value of the adjusted rescaled Hurst range of
    independent normal summands. Biometrika 63(1). Weron, R. (2002). Estimating long-range dependence: finite sample
    properties and confidence intervals. Physica A 312.
    """

    name: ClassVar[str] = "hurst"
    Config: ClassVar[type[ComponentConfig]] = HurstConfig
    config: HurstConfig

    def __init__(self, config: HurstConfig) -> None:
        super().__init__(config)
        sizes = np.array([config.segment << k for k in range(config.doublings + 1)], dtype=np.int64)
        logs = np.log(sizes.astype(np.float64))
        deviations = logs - logs.mean()
        self._sizes = frozen(sizes)
        self._expected = frozen(np.array([math.log(expected_rescaled_range(int(n))) for n in sizes]))
        self._weights = frozen(deviations / (deviations @ deviations))

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (
            FeatureSpec(
                "hurst",
                "1",
                "1/2 + slope of ln((R/S)_n / E[R/S]_n) on ln(n), n = segment, 2 segment .. window; R/S of log returns",
                "Hurst (1951), Anis and Lloyd (1976), Weron (2002)",
                ("bars.close",),
                {"segment": config.segment, "doublings": config.doublings, "floor": config.floor},
                config.window + 1,
            ),
        )

    def _make_state(self) -> ArrayState:
        return return_state(self.config.window)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        code = frozen(bars.code)
        returns = step_log_returns(self.state["previous"], code, bars.close)
        _regress(
            code, returns, self._sizes, self._expected, self._weights, self.config.floor,
            self.state["n_bars"], self.state["ring"], values, missing,
        )  # fmt: skip
        return values, missing


def expected_rescaled_range(n: int) -> float:
    r"""Return the expected rescaled range of `n` independent normal values.

    $E[R/S]_n = \frac{\Gamma((n-1)/2)}{\sqrt\pi\, \Gamma(n/2)} \sum_{i=1}^{n-1} \sqrt{(n - i) / i}$, exact for each $n$,
    with $S$ the population deviation.

    Parameters
    ----------
    n
        Values, two or more.

    Examples
    --------
    >>> round(expected_rescaled_range(8), 4)
    2.6246

    References
    ----------
    Anis, A. and Lloyd, E. (1976). Biometrika 63(1), 111.
    """
    scale = math.exp(math.lgamma((n - 1) / 2.0) - math.lgamma(n / 2.0)) / math.sqrt(math.pi)
    return scale * math.fsum(math.sqrt((n - i) / i) for i in range(1, n))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _regress(
    code: CodeArray, returns: FloatArray, sizes: IntArray, expected: FloatArray, weights: FloatArray, floor: float,
    n_bars: IntArray, ring: FloatArray, values: FloatArray, missing: MissingArray,
) -> None:  # fmt: skip
    window = np.empty(ring.shape[1])
    for i in range(len(code)):
        reason = next_window(code[i], returns[i], n_bars, ring, window)
        if reason != Missing.OK:
            missing[i, 0] = reason
            continue
        exponent = 0.5
        for j in range(len(sizes)):
            rescaled = _mean_rescaled_range(window, sizes[j], floor)
            if rescaled <= 0.0:
                missing[i, 0] = Missing.DEGENERATE
                break
            exponent += weights[j] * (np.log(rescaled) - expected[j])
        else:
            values[i, 0] = exponent


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mean_rescaled_range(window: FloatArray, size: int, floor: float) -> float:
    """Return the mean of R/S over the segments that have one, zero where none has."""
    total = 0.0
    n = 0
    for start in range(0, len(window), size):
        segment = window[start : start + size]
        value = 0.0
        for r in segment:
            value += r
        mean = value / size
        at = top = bottom = squares = 0.0
        for r in segment:
            deviation = r - mean
            at += deviation
            squares += deviation * deviation
            top = at if at > top else top
            bottom = at if at < bottom else bottom
        std = np.sqrt(squares / size)
        if std > floor:
            total += (top - bottom) / std
            n += 1
    return total / n if n else 0.0
