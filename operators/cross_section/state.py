r"""Features across instruments: beta, correlation, ranks, dispersion and breadth, one call for each frame.

With the log return $r_i$ from one complete frame to the next and weights $w_i$, the market's return is
$r_m = \sum w_i r_i / \sum w_i$ over the instruments that have one, and a sector's the same over its instruments. The
return of an instrument that closed no bar at the frame before does not exist: it would span another time than the
market's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operators.columns import FloatArray, IntArray, MissingArray
from operators.cross_section.config import CrossSectionConfig
from operators.cross_section.correlation import CorrelationMatrix, CorrelationState
from operators.cross_section.moments import DecayedMoments
from operators.cross_section.ranks import percentiles
from operators.slots import Slots
from operators.state import ArrayState, Column
from operators.universe import UniverseFrame
from schemas.enums import Missing
from schemas.errors import InvariantError, VersionError
from schemas.features import FeatureSet, FeatureSpec

__all__ = ["CrossSection", "CrossSectionState", "cross_section_set"]

_VERSION: Final = 1
_NEVER: Final = -(2**62)
_COLUMNS: Final = (
    "bar_return",
    "market_return",
    "market_beta",
    "market_correlation",
    "sector_beta",
    "sector_correlation",
    "mean_correlation",
    "dispersion",
    "advancing",
    "above_average",
)
_NO_SECTOR: Final = -1


@dataclass(frozen=True, slots=True)
class CrossSection:
    """Features of one frame.

    Parameters
    ----------
    names
        Features in the order of `cross_section_set`.
    values
        Shape `(n, len(names))`, a row for each instrument of the frame; NaN where there is none.
    missing
        A `Missing` code for each, same shape.
    matrix
        Correlations as of the frame; on a frame that is not complete, as of the last one that was.
    """

    names: tuple[str, ...]
    values: FloatArray
    missing: MissingArray
    matrix: CorrelationMatrix


def cross_section_set(config: CrossSectionConfig) -> FeatureSet:
    """Return what each feature is, in order.

    Examples
    --------
    >>> cross_section_set(CrossSectionConfig()).names[-2:]
    ('above_average', 'rank_bar_return')
    """
    market: dict[str, Any] = {
        "weighting": config.weighting,
        "notional_half_life": config.notional_half_life,
        "min_instruments": config.min_instruments,
        "max_abs_return": config.max_abs_return,
    }
    moments = market | {
        "half_life": config.half_life,
        "min_overlap": config.min_overlap,
        "min_deviation": config.min_deviation,
    }
    sector = moments | {"sectors": dict(config.sectors), "min_sector_instruments": config.min_sector_instruments}
    matrix = {
        "max_correlated": config.max_correlated,
        "window": config.window,
        "min_overlap": config.min_overlap,
        "correlate_every": config.correlate_every,
        "select_every": config.select_every,
        "shrinkage": config.shrinkage,
        "notional_half_life": config.notional_half_life,
        "max_abs_return": config.max_abs_return,
        "min_deviation": config.min_deviation,
    }
    least = {"min_instruments": config.min_instruments, "max_abs_return": config.max_abs_return}
    average = {"average_span": config.average_span, "min_instruments": config.min_instruments}
    beta = "cov(r_i, {0}) / var({0}), moments decayed by 2^(-1/half_life) at each return of the instrument"
    correlation = "cov(r_i, {0}) / sqrt(var(r_i) var({0})), moments decayed by 2^(-1/half_life) at each return"
    overlap = config.min_overlap + 1
    specs = [
        ("bar_return", "1", "r_i = ln(close / close at the complete frame before)", "definition",
         {"max_abs_return": config.max_abs_return}, 2),
        ("market_return", "1", "r_m = sum(w_i r_i) / sum(w_i)", "definition", market, 2),
        ("market_beta", "1", beta.format("r_m"), "Sharpe (1964); West (1979)", moments, overlap),
        ("market_correlation", "1", correlation.format("r_m"), "West (1979)", moments, overlap),
        ("sector_beta", "1", beta.format("r_s"), "Sharpe (1964); West (1979)", sector, overlap),
        ("sector_correlation", "1", correlation.format("r_s"), "West (1979)", sector, overlap),
        ("mean_correlation", "1", "mean of the shrunk correlations with the other instruments of the matrix",
         "Ledoit and Wolf (2004)", matrix, overlap),
        ("dispersion", "1", "sqrt(sum(w_i (r_i - r_m)^2) / sum(w_i))", "definition", market, 2),
        ("advancing", "1", "share of the instruments with a return whose return is above zero", "definition", least, 2),
        ("above_average", "1", "share of the instruments whose ln(close) is above its exponential average, weight "
         "2 / (average_span + 1)", "definition", average, config.average_span),
    ]  # fmt: skip
    found = [
        FeatureSpec(name, unit, formula, reference, ("bars.close", "bars.volume"), parameters, warm_up)
        for name, unit, formula, reference, parameters, warm_up in specs
    ]
    rank = "(r - 1) / (n - 1), r the mean rank among the instruments that have {0}"
    found += [
        FeatureSpec(f"rank_{name}", "1", rank.format(name), "definition", (name,),
                    {"min_instruments": config.min_instruments})
        for name in config.ranked
    ]  # fmt: skip
    return FeatureSet(tuple(found))


class CrossSectionState:
    """What is remembered of the instruments of a universe.

    Parameters
    ----------
    config
        Parameters.
    capacity
        Most instruments to remember; those that were seen longest ago make room for new ones.
    idle_expiry_ns
        An instrument that was in no complete frame for longer than this starts anew, ns.

    Notes
    -----
    A frame that is not complete changes nothing and has no features (`NO_INPUT`). A close that is not finite and
    positive gives no return (`NOT_FINITE`) and leaves the state as it was. A return beyond `max_abs_return` is
    `DEGENERATE` and enters nothing. An instrument without a bar at the frame before is `STALE` in its return. Averages
    are of logarithms, so that one absurd close is forgotten within some spans.

    Costs about 0.4 microseconds for each instrument of a frame, and the matrix; see `shrunk_covariance`.

    Examples
    --------
    >>> state = CrossSectionState(CrossSectionConfig(min_instruments=2, ranked=()), capacity=4, idle_expiry_ns=100)
    >>> def frame(ts, *closes):
    ...     n = len(closes)
    ...     return UniverseFrame(ts, 1, ("A", "B")[:n], np.array(closes), np.ones(n), (), np.empty((n, 0)),
    ...                          np.empty((n, 0), np.uint8), live=n)
    >>> _ = state.update(frame(1, 100.0, 200.0))
    >>> found = state.update(frame(2, 100.0 * np.exp(0.02), 200.0))
    >>> dict(zip(found.names, found.values[1].round(9).tolist()))["market_return"]
    0.01
    """

    def __init__(self, config: CrossSectionConfig, capacity: int, idle_expiry_ns: int) -> None:
        self._config = config
        self.features = cross_section_set(config)
        self._slots = Slots(capacity, idle_expiry_ns, evicts=True)
        self._sectors = {name: number for number, name in enumerate(sorted(set(config.sectors.values())))}
        self._sector_of: IntArray = np.full(capacity, _NO_SECTOR, dtype=np.int64)
        self._state = ArrayState(
            {
                "frame": Column("i8", fill=_NEVER),
                "log_close": Column("f8", fill=np.nan),
                "n_closes": Column("i8"),
                "average": Column("f8"),
                "notional": Column("f8"),
            },
            version=1,
        )
        moments = (config.half_life, config.min_overlap, config.min_deviation)
        self._market, self._sector = DecayedMoments(*moments), DecayedMoments(*moments)
        for state in (self._state, self._market, self._sector):
            state.ensure(capacity)
        self._correlation = CorrelationState(config)
        self._n_frames = 0

    def update(self, frame: UniverseFrame) -> CrossSection:
        """Take the next frame and return its features.

        Raises
        ------
        InvariantError
            The frame has more instruments than there is room for, or lacks a feature that is ranked.
        """
        absent = [name for name in self._config.needs if name not in frame.names]
        if absent or len(frame.instruments) > self._slots.capacity:
            raise InvariantError(
                f"expected frames with features {list(self._config.needs)} and up to {self._slots.capacity} "
                f"instruments, found {list(frame.names)} and {len(frame.instruments)}"
            )
        if not frame.complete:
            return self._blank(frame)
        slots, fresh = self._slots.assign(frame.instruments, frame.ts)
        self._begin(fresh)
        self._n_frames += 1
        # what overflows is found by its value
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._features(frame, slots)

    def _begin(self, fresh: IntArray) -> None:
        if not len(fresh):
            return
        self._state.reset(fresh.astype(np.int32))
        self._market.reset(fresh)
        self._sector.reset(fresh)
        self._correlation.forget(fresh)
        self._name_sectors(fresh)

    def _name_sectors(self, slots: IntArray) -> None:
        for slot in slots.tolist():
            sector = self._config.sectors.get(self._slots.names[slot])
            self._sector_of[slot] = _NO_SECTOR if sector is None else self._sectors[sector]

    def _blank(self, frame: UniverseFrame) -> CrossSection:
        shape = (len(frame.instruments), len(self.features.names))
        slots = np.array([self._slots.slot(name) for name in frame.instruments], dtype=np.int64)
        matrix = self._correlation.matrix(slots, self._slots.capacity)
        missing = np.full(shape, Missing.NO_INPUT, dtype=np.uint8)
        return CrossSection(self.features.names, np.full(shape, np.nan), missing, matrix)

    def _features(self, frame: UniverseFrame, slots: IntArray) -> CrossSection:
        config, state = self._config, self._state
        log_close = np.log(frame.close)
        priced = np.isfinite(log_close)
        returns, returns_missing = self._returns(slots, log_close, priced)
        has = np.flatnonzero(np.isfinite(returns))
        weight = np.ones(len(slots)) if config.weighting == "equal" else state["notional"][slots]
        market = _mean_return(returns[has], weight[has], config.min_instruments)
        self._learn(slots, returns, has, weight, market)
        self._average(slots[priced], log_close[priced])
        self._trade(slots[priced], frame.close[priced] * frame.volume[priced])
        state["log_close"][slots[priced]] = log_close[priced]
        state["frame"][slots[priced]] = self._n_frames
        self._correlation.update(slots, returns, np.where(priced, log_close, np.nan), state["notional"], self._slots)
        matrix = self._correlation.matrix(slots, self._slots.capacity)

        n = len(slots)
        values = np.full((n, len(self.features.names)), np.nan)
        missing = np.full(values.shape, Missing.NO_INPUT, dtype=np.uint8)
        column = {name: position for position, name in enumerate(_COLUMNS)}
        values[:, column["bar_return"]], missing[:, column["bar_return"]] = returns, returns_missing
        for name, value in self._of_the_frame(slots, returns[has], weight[has], market, log_close, priced).items():
            values[:, column[name]] = value
            missing[:, column[name]] = Missing.OK if np.isfinite(value) else Missing.NO_INPUT
        first = column["market_beta"]
        values[:, first : first + 2], missing[:, first : first + 2] = self._market.beta_and_correlation(slots)
        first = column["sector_beta"]
        own = self._sector_of[slots] != _NO_SECTOR
        found = self._sector.beta_and_correlation(slots[own])
        values[own, first : first + 2], missing[own, first : first + 2] = found
        self._mean_correlation(matrix, values[:, column["mean_correlation"]], missing[:, column["mean_correlation"]])
        self._ranks(frame, returns, returns_missing, values, missing)
        return CrossSection(self.features.names, values, missing, matrix)

    def _returns(
        self, slots: IntArray, log_close: FloatArray, priced: npt.NDArray[np.bool_]
    ) -> tuple[FloatArray, MissingArray]:
        before, seen = self._state["log_close"][slots], self._state["frame"][slots]
        found = log_close - before
        wild = np.abs(found) > self._config.max_abs_return
        missing = np.full(len(slots), Missing.OK, dtype=np.uint8)
        missing[wild] = Missing.DEGENERATE
        missing[seen != self._n_frames - 1] = Missing.STALE
        missing[seen == _NEVER] = Missing.WARMING_UP
        missing[~priced] = Missing.NOT_FINITE
        return np.where(missing == Missing.OK, found, np.nan), missing

    def _learn(self, slots: IntArray, returns: FloatArray, has: IntArray, weight: FloatArray, market: float) -> None:
        """Take the returns into the moments with the market's and their sector's."""
        if np.isfinite(market):
            self._market.update(slots[has], returns[has], np.full(len(has), market))
        if not self._sectors:
            return
        own = has[self._sector_of[slots[has]] != _NO_SECTOR]
        sector = self._sector_of[slots[own]]
        width = len(self._sectors)
        count = np.bincount(sector, minlength=width)
        total = np.bincount(sector, weights=weight[own], minlength=width)
        moved = np.bincount(sector, weights=weight[own] * returns[own], minlength=width)
        enough = (count >= self._config.min_sector_instruments) & (total > 0)
        mean = np.divide(moved, total, out=np.full(width, np.nan), where=enough)
        compared = np.isfinite(mean[sector])
        rows = own[compared]
        self._sector.update(slots[rows], returns[rows], mean[sector[compared]])

    def _average(self, slots: IntArray, log_close: FloatArray) -> None:
        state = self._state
        before, n = state["average"][slots], state["n_closes"][slots]
        moved = before + (log_close - before) * (2.0 / (self._config.average_span + 1.0))
        state["average"][slots] = np.where(n == 0, log_close, moved)
        state["n_closes"][slots] = n + 1

    def _trade(self, slots: IntArray, notional: FloatArray) -> None:
        """Take the notional of the bars into the weights; everything else of the universe decays."""
        decayed = self._state["notional"]
        decayed *= np.exp2(-1.0 / self._config.notional_half_life)
        total = decayed[slots] + np.where(notional >= 0.0, notional, 0.0)
        decayed[slots] = np.where(np.isfinite(total), total, decayed[slots])

    def _of_the_frame(
        self, slots: IntArray, returns: FloatArray, weight: FloatArray, market: float, log_close: FloatArray,
        priced: npt.NDArray[np.bool_],
    ) -> dict[str, float]:  # fmt: skip
        """Return the features that all instruments of a frame share; NaN where there are too few."""
        least = self._config.min_instruments
        found = {"market_return": market, "dispersion": np.nan, "advancing": np.nan, "above_average": np.nan}
        if np.isfinite(market):
            found["dispersion"] = float(np.sqrt(np.sum(weight * (returns - market) ** 2) / np.sum(weight)))
        if len(returns) >= least:
            found["advancing"] = float(np.mean(returns > 0))
        old = priced & (self._state["n_closes"][slots] >= self._config.average_span)
        if np.count_nonzero(old) >= least:
            found["above_average"] = float(np.mean(log_close[old] > self._state["average"][slots[old]]))
        return found

    def _mean_correlation(self, matrix: CorrelationMatrix, values: FloatArray, missing: MissingArray) -> None:
        columns = np.flatnonzero(matrix.position >= 0)
        rows = matrix.position[columns]
        others = matrix.correlation.copy()
        np.fill_diagonal(others, np.nan)
        known = np.isfinite(others)
        count = known.sum(axis=1)
        mean = np.where(known, others, 0.0).sum(axis=1) / np.maximum(count, 1)
        values[rows] = np.where(count[columns] > 0, mean[columns], np.nan)
        missing[rows] = np.where(count[columns] > 0, Missing.OK, Missing.WARMING_UP)

    def _ranks(
        self, frame: UniverseFrame, returns: FloatArray, returns_missing: MissingArray, values: FloatArray,
        missing: MissingArray,
    ) -> None:  # fmt: skip
        for number, name in enumerate(self._config.ranked):
            if name == "bar_return":
                own, why = returns, returns_missing
            else:
                position = frame.names.index(name)
                own, why = frame.values[:, position], frame.missing[:, position]
            rank = percentiles(np.where(why == Missing.OK, own, np.nan))
            column = len(_COLUMNS) + number
            if np.count_nonzero(np.isfinite(rank)) < self._config.min_instruments:
                rank = np.full(len(rank), np.nan)
            values[:, column] = rank
            missing[:, column] = np.where(np.isfinite(rank), Missing.OK, np.where(why == 0, Missing.NO_INPUT, why))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        rows = len(self._slots)
        return {
            "version": _VERSION,
            "feature_set": self.features.hash,
            "n_frames": self._n_frames,
            "slots": self._slots.snapshot(),
            "state": self._state.snapshot(rows),
            "market": self._market.snapshot(rows),
            "sector": self._sector.snapshot(rows),
            "correlation": self._correlation.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it, or for other features.
        """
        if (snapshot["version"], snapshot["feature_set"]) != (_VERSION, self.features.hash):
            raise VersionError(
                f"expected a cross-section snapshot of version {_VERSION} for feature set {self.features.hash}, found "
                f"{snapshot['version']} for {snapshot['feature_set']}; resume with the version and configuration that "
                "wrote it, or start a new run"
            )
        self._n_frames = snapshot["n_frames"]
        self._slots.restore(snapshot["slots"])
        for name, state in (("state", self._state), ("market", self._market), ("sector", self._sector)):
            state.restore(snapshot[name])
            state.ensure(self._slots.capacity)
        self._correlation.restore(snapshot["correlation"])
        self._name_sectors(np.arange(len(self._slots)))


def _mean_return(returns: FloatArray, weight: FloatArray, least: int) -> float:
    """Return the weighted mean, or NaN of too few or without weight."""
    total = float(np.sum(weight))
    if len(returns) < least or not total > 0.0 or not np.isfinite(total):
        return float("nan")
    return float(np.sum(weight * returns) / total)
