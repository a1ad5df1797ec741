r"""The spread of one pair with decayed moments: hedge ratio and deviation follow the pair as it goes on.

With weights $\lambda^k$, $\lambda = 2^{-1/h}$, $k$ the number of later observations, $\beta = S_{xy} / S_{xx}$,
$\alpha = \bar y - \beta \bar x$, and the spread $y - \alpha - \beta x$ has mean zero and variance
$(S_{yy} - \beta S_{xy}) / W$.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

from operators.columns import FloatArray

__all__ = ["DecayedSpread"]

_CONSTANT: Final = 1e-12
"""A leg whose deviation is at or below this share of its mean is constant."""


@dataclass(slots=True)
class DecayedSpread:
    """Decayed moments of the legs of one pair.

    Parameters
    ----------
    weight
        Sum of the weights.
    mean_y, mean_x
        Decayed means.
    yy, xx, xy
        Decayed sums of products of deviations.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 4.0, 3.0])
    >>> spread = DecayedSpread.over(1.0 + 2.0 * x + np.array([0.1, -0.1, 0.1, -0.1]), x, half_life=50)
    >>> [round(number, 1) for number in spread.coefficients()]
    [1.0, 2.0, 0.1]
    """

    weight: float = 0.0
    mean_y: float = 0.0
    mean_x: float = 0.0
    yy: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    @classmethod
    def over(cls, y: FloatArray, x: FloatArray, half_life: int) -> DecayedSpread:
        """Return the moments of observations, oldest first, shape `(n,)` each."""
        weights = np.exp2(-np.arange(len(y) - 1, -1, -1) / half_life)
        total = float(weights.sum())
        mean_y, mean_x = (float((weights * values).sum()) / total for values in (y, x))
        dy, dx = y - mean_y, x - mean_x
        products = (float((weights * a * b).sum()) for a, b in ((dy, dy), (dx, dx), (dx, dy)))
        return cls(total, mean_y, mean_x, *products)

    def update(self, y: float, x: float, half_life: int) -> None:
        """Take one observation."""
        decay: float = 2.0 ** (-1.0 / half_life)
        before = decay * self.weight
        self.weight = before + 1.0
        dy, dx = y - self.mean_y, x - self.mean_x
        self.mean_y += dy / self.weight
        self.mean_x += dx / self.weight
        share = before / self.weight
        self.yy = decay * self.yy + share * dy * dy
        self.xx = decay * self.xx + share * dx * dx
        self.xy = decay * self.xy + share * dx * dy

    def coefficients(self) -> tuple[float, float, float]:
        """Return intercept, hedge ratio and deviation of the spread; NaN where it is degenerate."""
        nothing = (float("nan"),) * 3
        # what rounding alone leaves of a constant leg is no variance
        if not self.xx > self.weight * (_CONSTANT * self.mean_x) ** 2:
            return nothing
        beta = self.xy / self.xx
        variance = (self.yy - beta * self.xy) / self.weight
        # what is left of the first leg's variance by rounding alone is no spread
        if not variance > 1e-12 * self.yy / self.weight:
            return nothing
        return self.mean_y - beta * self.mean_x, beta, variance**0.5

    def plain(self) -> list[float]:
        """Return the moments as plain values, in the order of the parameters."""
        return list(astuple(self))
