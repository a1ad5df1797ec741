"""Book features as they stood when a decision was taken."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from operators.book_features import NAMES, BookFeatureColumns
from operators.columns import CodeArray, FloatArray, IntArray, MissingArray, frozen
from operators.state import Column, InstrumentState
from schemas.enums import Missing
from schemas.errors import InvariantError

__all__ = ["BookSampler"]

_FLOW: Final = NAMES.index("order_flow_imbalance")
_NEVER: Final = -(2**63)
_OK: Final = int(Missing.OK)
_NO_INPUT: Final = int(Missing.NO_INPUT)
_STALE: Final = int(Missing.STALE)
_NOT_FINITE: Final = int(Missing.NOT_FINITE)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _absorb(i: int, updates: Any, state: Any) -> None:
    code, ts, values, missing = updates
    last_ts, last, last_missing, flow, n_flows = state
    c = code[i]
    last_ts[c] = ts[i]
    for k in range(_FLOW):
        last[c, k] = values[i, k]
        last_missing[c, k] = missing[i, k]
    if missing[i, _FLOW] == _OK:
        for j in range(flow.shape[1]):
            flow[c, j] += values[i, _FLOW]
            n_flows[c, j] += 1


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _decide(c: int, interval: int, age: int, max_age: int, state: Any, values: Any, missing: Any) -> None:
    _, last, last_missing, flow, n_flows = state
    for k in range(_FLOW):
        missing[k] = last_missing[c, k]
        values[k] = last[c, k]
        if age > max_age and missing[k] == _OK:
            missing[k] = _STALE
            values[k] = np.nan
    total = flow[c, interval]
    if n_flows[c, interval] == 0:
        missing[_FLOW] = _NO_INPUT
        values[_FLOW] = np.nan
    elif np.isfinite(total):
        missing[_FLOW] = _OK
        values[_FLOW] = total
    else:
        missing[_FLOW] = _NOT_FINITE
        values[_FLOW] = np.nan
    flow[c, interval] = 0.0
    n_flows[c, interval] = 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _sample(updates: Any, decisions: Any, state: Any, max_age: int, values: Any, missing: Any) -> int:
    """Fill the features at each decision. Return the first decision that is behind an update taken before, or -1."""
    code, interval, ts = decisions
    last_ts = state[0]
    n = len(updates[0])
    i = 0
    for d in range(len(code)):
        while i < n and updates[1][i] < ts[d]:
            _absorb(i, updates, state)
            i += 1
        c = code[d]
        if last_ts[c] >= ts[d]:
            return d
        if last_ts[c] == _NEVER:
            values[d, :] = np.nan
            missing[d, :] = _NO_INPUT
        else:
            _decide(c, interval[d], ts[d] - last_ts[c], max_age, state, values[d], missing[d])
    while i < n:
        _absorb(i, updates, state)
        i += 1
    return -1


class BookSampler(InstrumentState):
    """Book features as of decision times.

    A decision at time $T$ sees the updates with `ts` strictly below $T$. Prices, sizes and ratios are those of the
    instrument's last update. Order flow imbalance is the sum over its updates since its decision before, of the
    same interval.

    Parameters
    ----------
    n_intervals
        Number of decision grids ("intervals") that each have their own sum of order flow.
    max_age_ns
        Age of the last update, ns, above which its values are `STALE`. A sum of order flow does not go stale.

    Raises
    ------
    ValueError
        A parameter is below 1.

    Notes
    -----
    No value: `NO_INPUT` for an instrument without update, and for an order flow without update since the decision
    before; else what the update says. Cost is about 10 ns an update and 15 ns a decision.

    Examples
    --------
    >>> values, missing = np.ones((2, len(NAMES))), np.zeros((2, len(NAMES)), dtype=np.uint8)
    >>> code = np.zeros(2, dtype=np.int32)
    >>> sampler = BookSampler(n_intervals=1, max_age_ns=1_000)
    >>> sampler.ensure(1)
    >>> updates = BookFeatureColumns(code, np.array([10, 20]), values, missing)
    >>> sampled, missing = sampler.sample(updates, code, code, np.array([20, 30]))
    >>> sampled[:, NAMES.index("order_flow_imbalance")]
    array([1., 1.])
    """

    def __init__(self, n_intervals: int, max_age_ns: int) -> None:
        for name, value in (("n_intervals", n_intervals), ("max_age_ns", max_age_ns)):
            if value < 1:
                raise ValueError(f"expected `{name}` of at least 1, was {value}")
        self._max_age = max_age_ns
        columns = {
            "last_ts": Column("i8", fill=_NEVER),
            "last": Column("f8", fill=float("nan"), shape=(_FLOW,)),
            "last_missing": Column("u1", fill=_NO_INPUT, shape=(_FLOW,)),
            "flow": Column("f8", shape=(n_intervals,)),
            "n_flows": Column("i8", shape=(n_intervals,)),
        }
        super().__init__(columns, version=1)

    def sample(
        self, features: BookFeatureColumns, code: CodeArray, interval_index: npt.NDArray[Any], ts: IntArray
    ) -> tuple[FloatArray, MissingArray]:
        """Take the next updates and decisions, both in time order; every code must have its row.

        Parameters
        ----------
        features
            Updates.
        code, interval_index, ts
            Instrument, interval and time of each decision, shape `(m,)`. A decision comes with the updates before
            its time or later, never after updates at or past its time.

        Returns
        -------
        values
            Shape `(m, 10)`, columns as in `NAMES`; NaN where there is no value.
        missing
            Shape `(m, 10)`, a `Missing` code: `OK` exactly where the value is finite.

        Raises
        ------
        InvariantError
            A decision comes after an update of its instrument that is not before it: it would look ahead.
        """
        values = np.empty((len(code), len(NAMES)))
        missing = np.empty((len(code), len(NAMES)), dtype=np.uint8)
        updates = (frozen(features.code), frozen(features.ts), frozen(features.values), frozen(features.missing))
        decisions = (frozen(code), frozen(np.asarray(interval_index, dtype=np.int32)), frozen(ts))
        state = tuple(self._state[name] for name in ("last_ts", "last", "last_missing", "flow", "n_flows"))
        ahead = _sample(updates, decisions, state, self._max_age, values, missing)
        if ahead >= 0:
            raise InvariantError(
                f"expected the decision of instrument code {int(code[ahead])} at {int(ts[ahead])} before its updates "
                "at or past that time, found one taken before; pass decisions no later than such updates"
            )
        return values, missing
