r"""What a trade cost, and how that splits into what the market maker kept and what the market moved.

With price $p$, mid $m_t$ at the trade, mid $m_{t+\tau}$ a horizon later and sign $q$, in basis points of $m_t$:

- effective spread $2 |p - m_t| / m_t$,
- realised spread $2 q (p - m_{t+\tau}) / m_t$,
- price impact $2 q (m_{t+\tau} - m_t) / m_t$,

each a mean over trades, weighted by their size and $2^{-a/h}$ at age $a$. Where a trade's sign is that of the quote
rule, the effective spread is the sum of the other two.

So that the trades that wait stay bounded, those of one step (the horizon over a number) are looked at together, at the
end of their step plus the horizon: the delay is between $\tau$ and $\tau$ plus one step.

Cost: about 75 ns a trade, its maturity included, and 70 ns a decision.

References
----------
Huang, R. and Stoll, H. (1996). Dealer versus auction markets: a paired comparison of execution costs on NASDAQ and the
NYSE. Journal of Financial Economics 41(3), 313-357.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from operators.columns import FloatArray, IntArray, MissingArray
from operators.flow.config import FlowConfig
from operators.flow.layout import (
    DUE_TS,
    EFFECTIVE,
    EFFECTIVE_TS,
    EFFECTIVE_VOLUME,
    FIRST_SLOT,
    IMPACT,
    LAST_SLOT,
    MATURED_TS,
    MATURED_VOLUME,
    MID,
    NEVER,
    NO_INPUT,
    QUOTE_TS,
    REALIZED,
    STALE,
    WARMING_UP,
    Parameters,
    decay,
    put,
    skip,
)
from schemas.features import FeatureSpec

__all__ = ["add_priced_trade", "mature", "maturity", "sample_spreads", "specs"]


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def maturity(slot: int, p: Parameters) -> int:
    """Return when the trades of a slot are looked at: the end of its step plus the horizon."""
    return (slot + 1 + p.steps) * p.step


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def _slot(slot: int, p: Parameters) -> int:
    """Return where a slot begins: size, signed size, that over the mid, signed size times `(price - mid) / mid`."""
    return p.slots + 4 * (slot % (p.steps + 2))


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_priced_trade(
    c: int,
    ts: int,
    price: float,
    size: float,
    sign: int,
    mid: float,
    numbers: FloatArray,
    marks: IntArray,
    p: Parameters,
) -> None:
    """Take a trade whose mid is known."""
    left = decay(marks[c, EFFECTIVE_TS], ts, p.spread_half_life)
    marks[c, EFFECTIVE_TS] = ts
    numbers[c, EFFECTIVE] = numbers[c, EFFECTIVE] * left + size * 2e4 * abs(price - mid) / mid
    numbers[c, EFFECTIVE_VOLUME] = numbers[c, EFFECTIVE_VOLUME] * left + size
    if sign == 0:
        return
    slot = ts // p.step
    if marks[c, FIRST_SLOT] == NEVER:
        marks[c, FIRST_SLOT] = slot
        marks[c, DUE_TS] = min(marks[c, DUE_TS], maturity(slot, p))
    marks[c, LAST_SLOT] = slot
    at = _slot(slot, p)
    numbers[c, at] += size
    numbers[c, at + 1] += size * sign
    numbers[c, at + 2] += size * sign / mid
    numbers[c, at + 3] += size * sign * ((price - mid) / mid)


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def mature(c: int, now: int, numbers: FloatArray, marks: IntArray, p: Parameters) -> None:
    """Look at the slots that mature before `now`; the mid is still the one of their moment."""
    while marks[c, FIRST_SLOT] != NEVER and maturity(marks[c, FIRST_SLOT], p) < now:
        slot = marks[c, FIRST_SLOT]
        moment, at = maturity(slot, p), _slot(slot, p)
        size = numbers[c, at]
        mid = numbers[c, MID]
        if size > 0.0 and moment - marks[c, QUOTE_TS] <= p.max_quote_age and not np.isnan(mid):
            left = decay(marks[c, MATURED_TS], moment, p.spread_half_life)
            marks[c, MATURED_TS] = moment
            impact = mid * numbers[c, at + 2] - numbers[c, at + 1]
            numbers[c, IMPACT] = numbers[c, IMPACT] * left + 2e4 * impact
            numbers[c, REALIZED] = numbers[c, REALIZED] * left + 2e4 * (numbers[c, at + 3] - impact)
            numbers[c, MATURED_VOLUME] = numbers[c, MATURED_VOLUME] * left + size
        for k in range(at, at + 4):
            numbers[c, k] = 0.0
        marks[c, FIRST_SLOT] = slot + 1 if slot < marks[c, LAST_SLOT] else NEVER


@njit(cache=True, nogil=True, forceinline=True)  # type: ignore[untyped-decorator, unused-ignore]
def sample_spreads(
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
    """Write the three outputs at decision `d`."""
    if numbers[c, EFFECTIVE_VOLUME] == 0.0:
        skip(NO_INPUT, d, k, 1, values, missing)
    elif ts - marks[c, EFFECTIVE_TS] > p.max_trade_age:
        skip(STALE, d, k, 1, values, missing)
    else:
        put(numbers[c, EFFECTIVE] / numbers[c, EFFECTIVE_VOLUME], d, k, values, missing)
    volume = numbers[c, MATURED_VOLUME]
    if volume == 0.0:
        skip(NO_INPUT if marks[c, FIRST_SLOT] == NEVER else WARMING_UP, d, k + 1, 2, values, missing)
    elif ts - marks[c, MATURED_TS] > p.max_trade_age:
        skip(STALE, d, k + 1, 2, values, missing)
    else:
        put(numbers[c, REALIZED] / volume, d, k + 1, values, missing)
        put(numbers[c, IMPACT] / volume, d, k + 2, values, missing)


def specs(config: FlowConfig) -> tuple[FeatureSpec, ...]:
    """Return what the outputs are, in order."""
    inputs = ("trades", "books", "quotes")
    content = config.content()
    shared = {name: content[name] for name in ("max_quote_age", "max_trade_age")}
    reference = "Huang and Stoll (1996), Dealer versus auction markets"
    mean = "over trades, weighted by v 2^(-a / half_life)"
    later = "M the mid at the end of the trade's step plus horizon, matured before the decision"
    return (
        FeatureSpec(
            "effective_spread_bps", "basis points", f"mean of 2e4 |p - m| / m {mean}", reference, inputs,
            shared | {"half_life": content["spread"]["half_life"]},
        ),
        FeatureSpec(
            "realized_spread_bps", "basis points", f"mean of 2e4 q (p - M) / m {mean}; {later}", reference, inputs,
            shared | content["spread"],
        ),
        FeatureSpec(
            "price_impact_bps", "basis points", f"mean of 2e4 q (M - m) / m {mean}; {later}", reference, inputs,
            shared | content["spread"],
        ),
    )  # fmt: skip
