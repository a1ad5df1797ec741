"""A small market as a universe has it, and every row that is computed across its instruments."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.universe_market import MINUTE, Floats, names, ornstein_uhlenbeck, walks, with_lags, with_pair
from dataflows.settings import Settings
from models.drift import DriftMonitor
from operators.arrival import Rows
from operators.drift import drift_rows, stream_key
from operators.specialist_frame import Monitored
from operators.specialists import SpecialistState
from operators.universe import UniverseFrame, UniverseSlice, UniverseState
from operators.universe_engine import UniverseEngine
from schemas.enums import Missing
from schemas.time import duration_ns

INSTRUMENTS = names(14)
N_FRAMES = 240
_N_ANSWERED = 70
_FEATURES = 64


@cache
def _closes() -> Floats:
    """Return closes of each minute: two cointegrated pairs, departures that revert, a split; NaN where no bar."""
    rng = np.random.default_rng(8)
    closes = with_pair(with_lags(3, N_FRAMES, len(INSTRUMENTS), reverts=True), 3, half_life=1.0)
    closes[:, 3] = np.exp(0.2 + 1.3 * np.log(closes[:, 2]) + ornstein_uhlenbeck(rng, N_FRAMES, 2.0, 0.012))
    closes[:, 12] = walks(4, N_FRAMES, 1)[:, 0]
    closes[:, 13] = 40 * np.exp(1e-6 * rng.normal(size=N_FRAMES))
    closes[170:, 4] *= 1.35
    closes[rng.random(closes.shape) < 0.02] = np.nan
    closes[140:143, 2:12] = np.nan
    closes[205:220, 1] = np.nan
    closes[:60, 11] = np.nan
    return closes


@cache
def _volumes() -> Floats:
    rng = np.random.default_rng(9)
    return np.asarray(rng.lognormal(3, 0.5, (N_FRAMES, len(INSTRUMENTS))) * np.linspace(2, 1, len(INSTRUMENTS)))


@cache
def _features() -> Floats:
    """Return what stands in for features: noise, a third of them with a part of the next return; NaN where none."""
    rng = np.random.default_rng(10)
    found = rng.normal(size=(N_FRAMES, len(INSTRUMENTS), _FEATURES))
    with np.errstate(invalid="ignore"):
        ahead = np.diff(np.log(_closes()), axis=0, append=np.nan)
    found[:, :, ::3] += np.nan_to_num(ahead)[:, :, None] * 100
    found[rng.random(found.shape) < 0.15] = np.nan
    return found


def slices_of(settings: Settings) -> list[UniverseSlice]:
    """Return what two shards tell of the market, of bars of the universe's interval."""
    every = max(1, duration_ns(settings.universe.members.interval) // MINUTE)
    carried = tuple(sorted({*settings.universe.needs, *settings.specialists.needs}))
    found = []
    for row in range(every - 1, N_FRAMES, every):
        ts = (row + 1) * MINUTE
        here = np.flatnonzero(np.isfinite(_closes()[row]))
        for shard in range(2):
            own = here[here % 2 == shard]
            values = _features()[row][own][:, [sum(map(ord, name)) % _FEATURES for name in carried]]
            missing = np.where(np.isfinite(values), Missing.OK, Missing.NO_INPUT).astype(np.uint8)
            instruments = tuple([INSTRUMENTS[at] for at in own.tolist()])
            found.append(
                UniverseSlice(
                    str(shard), ts, every * MINUTE, np.full(len(own), ts), instruments, _closes()[row][own],
                    _volumes()[row][own], values, missing,
                )
            )  # fmt: skip
    return found


def frames_of(settings: Settings) -> list[UniverseFrame]:
    """Return the frames of the market."""
    carried = tuple(sorted({*settings.universe.needs, *settings.specialists.needs}))
    state = UniverseState(settings.universe.members, ("0", "1"), carried)
    return [frame for piece in slices_of(settings) for frame in state.update(piece)]


def universe_rows(settings: Settings) -> list[Rows]:
    """Return features across instruments, and signals."""
    engine = UniverseEngine(settings.universe)
    return [rows for frame in frames_of(settings) for rows in engine.update(frame)]


def specialist_rows(settings: Settings) -> list[Rows]:
    """Return predictions and outcomes of the first part of the market."""
    state = SpecialistState(settings.specialists)
    return [rows for frame in frames_of(settings)[:_N_ANSWERED] for rows in state.update(frame).rows]


@cache
def _streams() -> tuple[Monitored, ...]:
    """Return streams that drift at once, slowly, a little, twice, and with values far off."""
    rng = np.random.default_rng(11)
    steady = rng.normal(size=(5, 700))
    steady[0, 400:] += 1.5
    steady[1, 200:] += np.linspace(0, 1, 500)
    steady[2, 300:] += 0.4
    steady[3, 300:350] += 3
    steady[3, 390:] -= 3
    steady[4, ::40] += 30
    steady[4, 500:] += 0.7
    return tuple(
        Monitored("news", "1f", f"input:{number}", at * MINUTE, values[at : at + 1])
        for number, values in enumerate(steady)
        for at in range(len(values))
    )


def drifts(settings: Settings) -> list[Rows]:
    """Return the drifts of planted streams, each of which has a monitor of its own."""
    monitors: dict[str, DriftMonitor] = {}
    found = []
    for item in _streams():
        monitor = monitors.setdefault(stream_key(item), DriftMonitor(settings.drift))
        if events := monitor.update(item.values, np.array([item.ts])):
            found.append(drift_rows(item.model, item.stream, events))
    return found
