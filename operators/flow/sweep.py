r"""Sweeps: orders that go through several price levels at once.

A run is made of neighbouring trades of one known sign that happened, by the venue's clock, at or after the first of
them and within `window` of it. The run has gone through one level with its first trade and one more with each trade
beyond every price of the run before it (above for buys, below for sells). With the trade that makes it `levels` it is
a sweep. The trades of the run that follow belong to it: its size is that of all trades of the run so far.

Cost: about 30 ns a trade and 30 ns a decision.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from operators.columns import FloatArray, IntArray, MissingArray
from operators.flow.config import FlowConfig
from operators.flow.layout import (
    BASELINE_VOLUME,
    DEGENERATE,
    N_BASELINE,
    N_SWEEPS,
    NEVER,
    NO_INPUT,
    RUN_LEVELS,
    RUN_PRICE,
    RUN_SIGN,
    RUN_TS,
    RUN_TYPICAL,
    RUN_VOLUME,
    SECOND_NS,
    STALE,
    SWEEP_SIGN,
    SWEEP_TS,
    SWEEP_TYPICAL,
    SWEEP_VOLUME,
    TRADE_TS,
    Parameters,
    decay,
    put,
    skip,
)
from schemas.features import FeatureSpec

__all__ = ["add_run_trade", "sample_sweep", "specs"]

_FADED: Final = 1e-60
"""Decayed number of trades, some 200 half-lives after the last, at which no size is typical any more."""


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _continues(c: int, ts_event: int, sign: int, numbers: FloatArray, marks: IntArray, p: Parameters) -> bool:
    if sign == 0 or marks[c, RUN_SIGN] != sign:
        return False
    begin = marks[c, RUN_TS]
    return bool(ts_event >= begin and ts_event - begin <= p.sweep_window)


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_run_trade(
    c: int,
    ts: int,
    ts_event: int,
    price: float,
    size: float,
    sign: int,
    numbers: FloatArray,
    marks: IntArray,
    p: Parameters,
) -> None:
    """Take a trade; the baseline does not have it yet."""
    if not _continues(c, ts_event, sign, numbers, marks, p):
        marks[c, RUN_SIGN] = sign
        marks[c, RUN_LEVELS] = 1
        marks[c, RUN_TS] = ts_event
        numbers[c, RUN_PRICE] = price
        numbers[c, RUN_VOLUME] = size
        typical = numbers[c, N_BASELINE] > _FADED
        numbers[c, RUN_TYPICAL] = numbers[c, BASELINE_VOLUME] / numbers[c, N_BASELINE] if typical else np.nan
        return
    numbers[c, RUN_VOLUME] += size
    if (price - numbers[c, RUN_PRICE]) * sign > 0.0:
        numbers[c, RUN_PRICE] = price
        marks[c, RUN_LEVELS] += 1
        if marks[c, RUN_LEVELS] == p.sweep_levels:
            numbers[c, N_SWEEPS] = numbers[c, N_SWEEPS] * decay(marks[c, SWEEP_TS], ts, p.sweep_half_life) + 1.0
            marks[c, SWEEP_TS] = ts
    if marks[c, RUN_LEVELS] >= p.sweep_levels:
        marks[c, SWEEP_SIGN] = sign
        numbers[c, SWEEP_VOLUME] = numbers[c, RUN_VOLUME]
        numbers[c, SWEEP_TYPICAL] = numbers[c, RUN_TYPICAL]


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def sample_sweep(
    c: int,
    ts: int,
    numbers: FloatArray,
    marks: IntArray,
    p: Parameters,
    d: int,
    k: int,
    values: FloatArray,
    missing: MissingArray,
) -> None:
    """Write the four outputs at decision `d`."""
    if marks[c, TRADE_TS] == NEVER:
        skip(NO_INPUT, d, k, 4, values, missing)
        return
    at = marks[c, SWEEP_TS]
    put(numbers[c, N_SWEEPS] * decay(at, ts, p.sweep_half_life), d, k, values, missing)
    if at == NEVER:
        skip(NO_INPUT, d, k + 1, 3, values, missing)
        return
    put((ts - at) / SECOND_NS, d, k + 3, values, missing)
    if ts - at > p.max_trade_age:
        skip(STALE, d, k + 1, 2, values, missing)
        return
    put(float(marks[c, SWEEP_SIGN]), d, k + 1, values, missing)
    typical = numbers[c, SWEEP_TYPICAL]
    if np.isnan(typical):
        skip(DEGENERATE, d, k + 2, 1, values, missing)
    else:
        put(numbers[c, SWEEP_VOLUME] / typical, d, k + 2, values, missing)


def specs(config: FlowConfig) -> tuple[FeatureSpec, ...]:
    """Return what the outputs are, in order."""
    content = config.content()
    own = content["sweep"] | {"max_quote_age": content["max_quote_age"]}
    fresh = own | {"max_trade_age": content["max_trade_age"]}
    typical = fresh | {"baseline_half_life": content["intensity"]["baseline_half_life"]}
    reference, inputs = "definition", ("trades", "books", "quotes")
    return (
        FeatureSpec(
            "sweep_count_decayed", "sweeps", "sum over sweeps of 2^(-age / half_life)", reference, inputs, own
        ),
        FeatureSpec("sweep_direction", "1", "1 if the last sweep bought, -1 if it sold", reference, inputs, fresh),
        FeatureSpec(
            "sweep_size", "1",
            "volume of the last sweep / decayed mean size of a trade as the sweep began (baseline_half_life)",
            reference, inputs, typical,
        ),
        FeatureSpec(
            "sweep_age", "s", "time since the trade that made the last sweep one arrived", reference, inputs, own
        ),
    )  # fmt: skip
