"""Batch twins of the bar features: the same numbers from whole columns at once, by numpy and pandas alone.

A twin takes all bars of one instrument in order, as a table with the columns of `BarColumns`, and the configuration
of the feature, and returns its outputs as an array of shape `(n, k)`, NaN where there is no value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tests.twins import indicators, statistics

__all__ = ["TWINS", "Twin"]

Twin = Callable[[pd.DataFrame, Any], npt.NDArray[np.float64]]

TWINS: dict[str, Twin] = {**indicators.TWINS, **statistics.TWINS}
"""twin of each bar feature, by the name of the feature"""
