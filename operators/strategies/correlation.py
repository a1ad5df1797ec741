r"""Correlation: trade an instrument whose short-term return departs from what its most correlated peers imply.

With returns of the last $L$ frames in units of their deviation, $u_i = R_i / (\sigma_i \sqrt L)$, and the peers $P$ of
instrument $i$ (those whose shrunk correlation $\rho_{ij}$ with it is greatest), the peers' move is
$c = \sum_{j \in P} w_j u_j$ with $w_j = \rho_{ij} / \sum \rho$. Its linear prediction of $u_i$ and what remains are

$$\hat u_i = \frac{w^\top \rho_i}{w^\top R w}\, c, \qquad
z_i = \frac{u_i - \hat u_i}{\sqrt{1 - (w^\top \rho_i)^2 / (w^\top R w)}} .$$

An instrument with $z \le -e$ fell behind its peers and is bought, one with $z \ge e$ is sold; the position ends when
$|z|$ is back within the exit level, at the stop, when it was held too long, or when its peers or bars are gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from operators.columns import FloatArray, IntArray, frozen
from operators.cross_section import CorrelationMatrix, CrossSection
from operators.strategies.last_prices import LastPrices
from operators.strategies.universe_base import UniverseDecision, UniverseDecisions, UniverseStrategy
from operators.universe import UniverseFrame
from schemas.config import ComponentConfig, Duration
from schemas.enums import Direction, Intent
from schemas.errors import VersionError
from schemas.time import duration_ns, parse_duration

__all__ = ["Correlation", "CorrelationConfig", "departures"]

_VERSION: Final = 1
_EVIDENCE: Final = ("zscore", "own_move", "implied_move", "peers", "mean_peer_correlation", "explained", "intensity")
_WIDTH: Final = len(_EVIDENCE) - 1
_BEHIND, _AHEAD, _BACK, _AT_STOP, _TOO_LONG, _NO_BAR, _NO_PEERS = range(7)


class CorrelationConfig(ComponentConfig):
    """Parameters of the correlation strategy."""

    lookback: int = Field(5, ge=1, le=1_000, description="frames of the short-term return")
    min_instruments: int = Field(10, ge=10, le=1_000, description="least correlated instruments before it decides")
    min_peer_correlation: float = Field(0.4, gt=0, lt=1, description="least shrunk correlation of a peer")
    min_peers: int = Field(3, ge=1, le=100, description="least peers of an instrument")
    max_peers: int = Field(10, ge=1, le=100, description="most peers of an instrument, the most correlated")
    entry_zscore: float = Field(2.5, gt=0, le=20, description="departure that opens a position, standard deviations")
    exit_zscore: float = Field(0.5, ge=0, le=20, description="departure that ends it, standard deviations")
    stop_zscore: float = Field(6.0, gt=0, le=100, description="departure at which it is given up, standard deviations")
    max_holding: Duration = Field(parse_duration("1h"), gt=timedelta(0), description="a position this old ends")
    cooldown: Duration = Field(
        timedelta(0), ge=timedelta(0), description="least time from an exit to the next entry of an instrument"
    )
    max_price_age: Duration = Field(
        parse_duration("15m"), gt=timedelta(0), description="a position ends when it had no bar for longer"
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if not self.exit_zscore < self.entry_zscore < self.stop_zscore:
            raise ValueError(
                "expected `exit_zscore` below `entry_zscore` below `stop_zscore`, was "
                f"{self.exit_zscore}, {self.entry_zscore} and {self.stop_zscore}"
            )
        if self.min_peers > self.max_peers:
            raise ValueError(f"expected `min_peers` up to `max_peers`, was {self.min_peers} and {self.max_peers}")
        return self


@dataclass(slots=True)
class _Held:
    direction: int
    ts_entered: int


class Correlation(UniverseStrategy):
    """Trades breaks of the correlation structure.

    Parameters
    ----------
    config
        A `CorrelationConfig`.

    Notes
    -----
    An instrument needs a return in each frame of the lookback, and so does a peer to count. Matrix and deviations
    contain the frames of the lookback themselves, which makes a departure look slightly smaller than it is. Decides on
    one instrument at a time: the peers are evidence, not legs. Costs about 0.2 ms a frame for 100 instruments.

    Examples
    --------
    >>> Correlation(CorrelationConfig()).thresholds()["entry_zscore"]
    2.5

    References
    ----------
    Avellaneda, M. and Lee, J.-H. (2010). Statistical arbitrage in the US equities market. Quantitative Finance 10(7).
    """

    name: ClassVar[str] = "correlation"
    Config = CorrelationConfig
    derived = _EVIDENCE
    compares = ("entry_zscore", "exit_zscore", "stop_zscore", "min_peer_correlation", "min_peers", "min_instruments",
                "max_holding", "max_price_age")  # fmt: skip
    reasons = (
        "fell behind what its correlated peers imply",
        "ran ahead of what its correlated peers imply",
        "came back to what its correlated peers imply",
        "departed further, to the stop",
        "held as long as allowed",
        "had no bar for too long",
        "its correlated peers are gone",
    )
    config: CorrelationConfig

    def __init__(self, config: CorrelationConfig) -> None:
        super().__init__(config)
        self._held: dict[str, _Held] = {}
        self._ended: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._prices = LastPrices()
        self._n_correlated = 0

    @property
    def inactive(self) -> str | None:
        """Why it decides nothing at present."""
        least = self.config.min_instruments
        return None if self._n_correlated >= least else f"fewer than {least} instruments have correlations"

    @property
    def min_history(self) -> int:
        """Frames of history that it reads from the correlation matrix."""
        return self.config.lookback

    def on_frame(self, frame: UniverseFrame, cross: CrossSection) -> UniverseDecisions:
        """Take the next frame; see the module for the rule."""
        matrix = cross.matrix
        self._n_correlated = int(np.count_nonzero(np.isfinite(matrix.deviation)))
        rows = {name: row for row, name in enumerate(matrix.instruments) if name}
        self._prices.update(frame, [*rows, *sorted(self._held)])
        enough = frame.complete and self._n_correlated >= self.config.min_instruments
        found = self._departures(matrix) if enough else np.full((len(matrix.instruments), _WIDTH), np.nan)
        decisions = self._exits(frame, rows, found, matrix.intensity)
        if enough:
            decisions += self._entries(frame, rows, found, matrix)
        self._forget_absent(rows)
        return tuple(decisions)

    def _departures(self, matrix: CorrelationMatrix) -> FloatArray:
        config = self.config
        if len(matrix.returns) < config.lookback:
            return np.full((len(matrix.instruments), _WIDTH), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            moves = matrix.returns[-config.lookback :].sum(axis=0) / (matrix.deviation * np.sqrt(config.lookback))
        return departures(
            moves, matrix.correlation, min_correlation=config.min_peer_correlation, min_peers=config.min_peers,
            max_peers=config.max_peers,
        )  # fmt: skip

    def _exits(
        self, frame: UniverseFrame, rows: dict[str, int], found: FloatArray, intensity: float
    ) -> list[UniverseDecision]:
        decisions = []
        for name in sorted(self._held):
            held = self._held[name]
            row = rows.get(name)
            numbers = found[row] if row is not None else np.full(_WIDTH, np.nan)
            reason = self._end(name, held, float(numbers[0]), frame, gone=frame.complete and row is None)
            if reason is None:
                continue
            del self._held[name]
            self._ended[name] = frame.ts
            self._waiting.add(name)
            decisions.append(self._decision(name, held.direction, Intent.EXIT, 1.0, reason, numbers, intensity))
        return decisions

    def _end(self, name: str, held: _Held, z: float, frame: UniverseFrame, *, gone: bool) -> int | None:
        config = self.config
        # how far it is towards its peers, seen from the side that it was opened on
        inward = z * held.direction
        ends = (
            (inward >= -config.exit_zscore, _BACK),
            (inward <= -config.stop_zscore, _AT_STOP),
            (gone, _NO_PEERS),
            (frame.ts - held.ts_entered >= duration_ns(config.max_holding), _TOO_LONG),
            ((self._prices.age(name, frame.ts) or 0) > duration_ns(config.max_price_age), _NO_BAR),
        )
        return next((reason for is_so, reason in ends if is_so), None)

    def _entries(
        self, frame: UniverseFrame, rows: dict[str, int], found: FloatArray, matrix: CorrelationMatrix
    ) -> list[UniverseDecision]:
        config = self.config
        distance = np.abs(found[:, 0])
        self._waiting -= {name for name in self._waiting if name in rows and distance[rows[name]] < config.entry_zscore}
        far = np.flatnonzero((distance >= config.entry_zscore) & (distance < config.stop_zscore)).tolist()
        decisions = []
        for name in sorted(matrix.instruments[row] for row in far):
            if not self._may_open(name, frame.ts):
                continue
            numbers = found[rows[name]]
            direction = 1 if numbers[0] < 0 else -1
            self._held[name] = _Held(direction, frame.ts)
            confidence = min(float(distance[rows[name]]) / (2 * config.entry_zscore), 1.0)
            reason = _BEHIND if direction > 0 else _AHEAD
            decisions.append(
                self._decision(name, direction, Intent.ENTER, confidence, reason, numbers, matrix.intensity)
            )
        return decisions

    def _may_open(self, name: str, ts: int) -> bool:
        ended = self._ended.get(name)
        rested = ended is None or ts - ended >= duration_ns(self.config.cooldown)
        return rested and name not in self._held and name not in self._waiting and self._prices.age(name, ts) == 0

    def _decision(
        self, name: str, direction: int, intent: Intent, confidence: float, reason: int, numbers: FloatArray,
        intensity: float,
    ) -> UniverseDecision:  # fmt: skip
        evidence = dict(zip(_EVIDENCE, [*numbers.tolist(), intensity], strict=True))
        price = self._prices.price(name)
        return UniverseDecision(name, Direction(direction), intent, confidence, price, reason, evidence)

    def _forget_absent(self, rows: dict[str, int]) -> None:
        """Forget what is kept of instruments that left the matrix and are not held."""
        self._ended = {name: ts for name, ts in self._ended.items() if name in rows}
        self._waiting = {name for name in self._waiting if name in rows}
        self._prices.keep([*rows, *self._held])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "version": _VERSION,
            "held": {name: [held.direction, held.ts_entered] for name, held in sorted(self._held.items())},
            "ended": dict(sorted(self._ended.items())),
            "waiting": sorted(self._waiting),
            "prices": self._prices.snapshot(),
            "n_correlated": self._n_correlated,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it.
        """
        if snapshot["version"] != _VERSION:
            raise VersionError(
                f"expected a correlation snapshot of version {_VERSION}, found version {snapshot['version']}; resume "
                "with the version that wrote it, or start a new run"
            )
        self._held = {name: _Held(direction, ts) for name, (direction, ts) in snapshot["held"].items()}
        self._ended = dict(snapshot["ended"])
        self._waiting = set(snapshot["waiting"])
        self._prices.restore(snapshot["prices"])
        self._n_correlated = snapshot["n_correlated"]


def departures(
    moves: FloatArray, correlation: FloatArray, *, min_correlation: float, min_peers: int, max_peers: int
) -> FloatArray:
    """Return how far each move is from what the peers imply.

    Parameters
    ----------
    moves
        Returns in units of their deviation, shape `(m,)`; NaN where there is none.
    correlation
        Shape `(m, m)`; NaN for a pair without one.
    min_correlation
        Least correlation of a peer.
    min_peers, max_peers
        Bounds of the number of peers; of more the most correlated count, of equal ones the first.

    Returns
    -------
    departures
        Shape `(m, 6)`: z-score, own move, implied move, number of peers, their mean correlation, and the share of the
        variance that they explain; NaN where there are too few peers.

    Examples
    --------
    >>> correlation = np.array([[1.0, 0.8, 0.8], [0.8, 1.0, 0.8], [0.8, 0.8, 1.0]])
    >>> found = departures(np.array([-2.0, 1.0, 1.0]), correlation, min_correlation=0.5, min_peers=2, max_peers=5)
    >>> found[0].round(3).tolist()
    [-5.375, -2.0, 0.889, 2.0, 0.8, 0.711]
    """
    out = np.full((len(moves), _WIDTH), np.nan)
    _depart(frozen(moves), frozen(correlation), min_correlation, min_peers, max_peers, out)
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _depart(
    moves: FloatArray, correlation: FloatArray, min_correlation: float, min_peers: int, max_peers: int, out: FloatArray
) -> None:  # fmt: skip
    m = len(moves)
    chosen = np.empty(max_peers, dtype=np.int64)
    for i in range(m):
        n = 0
        if not np.isfinite(moves[i]):
            continue
        for j in range(m):
            if j == i or not np.isfinite(moves[j]) or not correlation[i, j] >= min_correlation:
                continue
            n = _insert(chosen, n, j, correlation[i])
        if n < min_peers:
            continue
        total = 0.0
        for k in range(n):
            total += correlation[i, chosen[k]]
        implied = 0.0
        shared = 0.0
        variance = 0.0
        for k in range(n):
            weight = correlation[i, chosen[k]] / total
            implied += weight * moves[chosen[k]]
            shared += weight * correlation[i, chosen[k]]
            for other in range(n):
                variance += weight * correlation[i, chosen[other]] / total * correlation[chosen[k], chosen[other]]
        explained = shared * shared / variance
        if not (variance > 0.0 and explained < 1.0):
            continue
        implied *= shared / variance
        out[i, 0] = (moves[i] - implied) / np.sqrt(1.0 - explained)
        out[i, 1] = moves[i]
        out[i, 2] = implied
        out[i, 3] = n
        out[i, 4] = total / n
        out[i, 5] = explained


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _insert(chosen: IntArray, n: int, candidate: int, strength: FloatArray) -> int:
    """Put a candidate among the chosen, the strongest first; return how many there are."""
    place = n
    while place > 0 and strength[chosen[place - 1]] < strength[candidate]:
        place -= 1
    if place == len(chosen):
        return n
    last = min(n, len(chosen) - 1)
    for k in range(last, place, -1):
        chosen[k] = chosen[k - 1]
    chosen[place] = candidate
    return min(n + 1, len(chosen))
