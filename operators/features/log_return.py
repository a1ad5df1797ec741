"""Log return of the close: $r_t = ln(C_t / C_{t-1})$."""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np

from operators.columns import BarColumns, CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.features.base import BarFeature
from operators.state import ArrayState, Column
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.features import FeatureSpec

__all__ = ["LogReturn", "LogReturnConfig", "step_log_returns"]


class LogReturnConfig(ComponentConfig):
    """Log return of the close: it has no parameters."""


class LogReturn(BarFeature):
    """Log return from the close of the bar before.

    Bars without trades do not exist, so the return spans the time since the last bar that has one.

    Notes
    -----
    The first bar is warming up. A close that is not finite, or a return that overflows, gives `NOT_FINITE`;
    a close that is not positive gives `DEGENERATE`; each affects its own return and the next.

    Examples
    --------
    >>> [spec.name for spec in LogReturn.specs(LogReturnConfig())]
    ['log_return']
    """

    name: ClassVar[str] = "log_return"
    Config: ClassVar[type[ComponentConfig]] = LogReturnConfig

    @classmethod
    def specs(cls, config: Any) -> tuple[FeatureSpec, ...]:
        """Return what the output column is."""
        return (FeatureSpec("log_return", "1", "ln(close_t / close_{t-1})", "definition", ("bars.close",), warm_up=2),)

    def _make_state(self) -> ArrayState:
        return ArrayState({"previous": Column("f8", fill=np.nan), "n_obs": Column("i8")}, version=1)

    def update(self, bars: BarColumns) -> tuple[FloatArray, MissingArray]:
        """Take the next bars and return the feature at each, shape `(n, 1)`."""
        values, missing = self.empty(len(bars), 1)
        code = frozen(bars.code)
        returns = step_log_returns(self.state["previous"], code, bars.close)
        _report(code, returns, self.state["n_obs"], values, missing)
        return values, missing


def step_log_returns(previous: FloatArray, code: CodeArray, close: FloatArray) -> FloatArray:
    """Return the log return at each bar and remember its close.

    Called from Python by every feature that starts from returns, and not from another kernel: a compiled
    kernel's cache does not notice a change in another file.

    Parameters
    ----------
    previous
        Last close of each instrument, NaN before the first; overwritten.
    code, close
        Codes and closes of the bars, shape `(n,)`.

    Returns
    -------
    FloatArray
        Shape `(n,)`; NaN where a close is not positive, infinite where one is not finite or the ratio overflows.

    Examples
    --------
    >>> previous = np.full(1, np.nan)
    >>> step_log_returns(previous, np.zeros(4, np.int32), np.array([1.0, 1.0, 0.0, np.nan])).tolist()
    [inf, 0.0, nan, inf]
    """
    returns = np.empty(len(close))
    if len(close):
        _step(previous, frozen(code), frozen(close), returns)
    returns.flags.writeable = False
    return returns


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _step(previous: FloatArray, code: CodeArray, close: FloatArray, returns: FloatArray) -> None:
    for i in range(len(code)):
        before, now = previous[code[i]], close[i]
        previous[code[i]] = now
        if not (np.isfinite(before) and np.isfinite(now)):
            returns[i] = np.inf
        elif before <= 0.0 or now <= 0.0:
            returns[i] = np.nan
        else:
            returns[i] = np.log(now / before)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _report(code: CodeArray, returns: FloatArray, n_obs: IntArray, values: FloatArray, missing: MissingArray) -> None:
    for i in range(len(code)):
        n_obs[code[i]] += 1
        if n_obs[code[i]] < 2:
            missing[i, 0] = Missing.WARMING_UP
        elif np.isnan(returns[i]):
            missing[i, 0] = Missing.DEGENERATE
        elif np.isinf(returns[i]):
            missing[i, 0] = Missing.NOT_FINITE
        else:
            values[i, 0] = returns[i]
