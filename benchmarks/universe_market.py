"""Frames of a universe from tables of prices, and markets in which the truth is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from operators.cross_section import CrossSectionConfig, CrossSectionState
from operators.strategies.universe_base import UniverseDecision, UniverseStrategy
from operators.universe import UniverseFrame
from schemas.enums import Intent

Floats = npt.NDArray[np.float64]
MINUTE = 60 * 10**9


def names(n: int) -> tuple[str, ...]:
    """Return names in alphabetical order."""
    return tuple(f"S{number:03}" for number in range(n))


def frames_of(closes: Floats, instruments: tuple[str, ...], *, incomplete: Iterable[int] = ()) -> list[UniverseFrame]:
    """Return one frame a row; an instrument without a close (NaN) is absent."""
    found = []
    skipped = set(incomplete)
    for number, row in enumerate(closes):
        here = np.flatnonzero(~np.isnan(row))
        close = row[here]
        volume = np.full(len(here), 100.0)
        for array in (close, volume):
            array.flags.writeable = False
        found.append(
            UniverseFrame(
                (number + 1) * MINUTE, MINUTE, tuple(instruments[at] for at in here.tolist()), close, volume, (),
                np.empty((len(here), 0)), np.empty((len(here), 0), np.uint8), live=len(instruments),
                complete=number not in skipped,
            )
        )  # fmt: skip
    return found


def run(
    strategy: UniverseStrategy, frames: list[UniverseFrame], config: CrossSectionConfig | None
) -> list[tuple[int, UniverseDecision]]:
    """Return every decision with the number of its frame; without features where there is no configuration."""
    cross = CrossSectionState(config or CrossSectionConfig(), 1_000, 10**18)
    nothing = cross.update(replace(frames[0], complete=False))
    return [
        (number, decision)
        for number, frame in enumerate(frames)
        for decision in strategy.on_frame(frame, nothing if config is None else cross.update(frame))
    ]


def trades(decisions: list[tuple[int, UniverseDecision]]) -> list[tuple[str, int, int, int, float]]:
    """Return pair or instrument, leg, first and last frame, and log return in its direction, of each ended position."""
    held: dict[tuple[str, str], tuple[int, UniverseDecision]] = {}
    found = []
    for number, decision in decisions:
        key = (decision.pair or decision.instrument, decision.instrument)
        if decision.intent is Intent.ENTER:
            assert key not in held
            held[key] = (number, decision)
        else:
            since, entry = held.pop(key)
            assert entry.direction == decision.direction
            gain = int(entry.direction) * np.log(decision.price / entry.price)
            found.append((key[0], decision.leg, since, number, float(gain)))
    return found


def ornstein_uhlenbeck(rng: np.random.Generator, n: int, half_life: float, deviation: float) -> Floats:
    """Return a stationary AR(1) series with a known half-life and deviation."""
    phi = 0.5 ** (1 / half_life)
    shocks = rng.normal(0, deviation * np.sqrt(1 - phi**2), n)
    found = np.empty(n)
    found[0] = rng.normal(0, deviation)
    for t in range(1, n):
        found[t] = phi * found[t - 1] + shocks[t]
    return found


def walks(seed: int, n: int, m: int, common: float = 0.5) -> Floats:
    """Return closes of random walks whose returns share a factor, and no two of which are cointegrated."""
    rng = np.random.default_rng(seed)
    moves = np.sqrt(common) * rng.normal(0, 0.01, (n, 1)) + np.sqrt(1 - common) * rng.normal(0, 0.01, (n, m))
    return np.asarray(50 * np.exp(np.cumsum(moves, axis=0)))


def with_pair(closes: Floats, seed: int, *, hedge_ratio: float = 0.8, half_life: float = 3.0) -> Floats:
    """Return the market with its second instrument made cointegrated with the first."""
    rng = np.random.default_rng(seed + 1_000)
    found = closes.copy()
    spread = ornstein_uhlenbeck(rng, len(closes), half_life, 0.02)
    found[:, 0] = np.exp(0.3 + hedge_ratio * np.log(found[:, 1]) + spread)
    return found


def with_lags(seed: int, n: int, m: int, *, reverts: bool) -> Floats:
    """Return a market in which now and then one instrument departs from the others, and comes back where it reverts."""
    rng = np.random.default_rng(seed)
    closes = walks(seed, n, m, common=0.8)
    extra = np.zeros((n, m))
    for start in range(150, n - 20, 25):
        who, sign = int(rng.integers(m)), float(rng.choice([-1.0, 1.0]))
        path = 0.04 * 0.7 ** np.arange(20) if reverts else np.full(n - start, 0.04)
        extra[start : start + len(path), who] += sign * path
    return np.asarray(closes * np.exp(extra))
