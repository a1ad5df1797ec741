r"""The barrier: one frame for each decision time, with every instrument, made from what each shard has closed.

A shard with frontier $F$ has told of every bar that closes at or before $F$. A decision time $T$ is over when
$\min_s F_s \ge T$; then the rows of all shards at $T$ become one frame, in alphabetical order, and frames come in
order of $T$. So the number of shards and how their output interleaves change nothing.

A frame holds the instruments of the universe. With $N_i(T) = \sum_k 2^{-(T - t_k) / h}\, C_k V_k$ the decayed notional
of an instrument, its members are the live instruments that pass the filters, and of these the `max_instruments` with
the greatest $N_i$ (of equal ones the first in alphabetical order). A frame is complete when the share of the members
that closed a bar at $T$ is at least `min_coverage`; what looks across instruments decides nothing on one that is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final

import bytewax.operators as op
import numpy as np
import numpy.typing as npt
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.columns import FloatArray, IntArray, MissingArray
from operators.slots import NO_SLOT, Slots
from operators.universe_config import UniverseConfig
from schemas.enums import Missing
from schemas.errors import ConfigError, InvariantError, VersionError
from schemas.failure import noted
from schemas.time import duration_ns

__all__ = ["UNIVERSE_KEY", "UniverseFrame", "UniverseSlice", "UniverseState", "universe"]

UNIVERSE_KEY: Final = "universe"
"""Key of the one stream of frames."""
_VERSION: Final = 1
_BEGINNING: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class UniverseFrame:
    """Every instrument of the universe that closed a bar at one decision time.

    Parameters
    ----------
    ts
        Decision time, UTC ns.
    interval_ns
        Length of the bars, ns.
    instruments
        Instruments in alphabetical order.
    close, volume
        Of each one's bar, shape `(n,)`.
    names
        Features that are carried: those that the consumers of the universe declare.
    values
        Their values, shape `(n, len(names))`; NaN where there is none.
    missing
        A `Missing` code for each, same shape.
    live
        Instruments of the universe that closed a bar lately, whether at this time or not.
    complete
        Whether enough of the live instruments are present to compare them.
    """

    ts: int
    interval_ns: int
    instruments: tuple[str, ...]
    close: FloatArray
    volume: FloatArray
    names: tuple[str, ...]
    values: FloatArray
    missing: MissingArray
    live: int = 0
    complete: bool = True

    @property
    def coverage(self) -> float:
        """Share of the live instruments that are present; NaN where none is live."""
        return len(self.instruments) / self.live if self.live else float("nan")


@dataclass(frozen=True, slots=True)
class UniverseSlice:
    """What one shard closed since its slice before, and how far it has come.

    Parameters
    ----------
    shard
        Name of the shard.
    frontier
        Every bar of the shard that closes at or before it is in this slice or was in one before, ns. A shard that
        closed nothing still sends its frontier: the others wait for it.
    interval_ns
        Length of the bars, ns.
    ts
        Decision time of each bar, shape `(n,)`, ns: above the frontier before, and at most this one.
    instruments
        Instrument of each bar.
    close, volume
        Of each bar, shape `(n,)`.
    values
        Features that are carried, shape `(n, k)`; NaN where there is none.
    missing
        A `Missing` code for each, same shape.
    """

    shard: str
    frontier: int
    interval_ns: int
    ts: IntArray
    instruments: tuple[str, ...]
    close: FloatArray
    volume: FloatArray
    values: FloatArray
    missing: MissingArray


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one decision time."""

    instruments: tuple[str, ...]
    close: FloatArray
    volume: FloatArray
    values: FloatArray
    missing: MissingArray

    def take(self, rows: npt.NDArray[np.int64]) -> _Rows:
        names = self.instruments
        return _Rows(
            tuple([names[row] for row in rows.tolist()]), self.close[rows], self.volume[rows], self.values[rows],
            self.missing[rows],
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: list[_Rows]) -> _Rows:
        if len(parts) == 1:
            return parts[0]
        return cls(
            tuple(chain.from_iterable(part.instruments for part in parts)),
            np.concatenate([part.close for part in parts]),
            np.concatenate([part.volume for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.missing for part in parts]),
        )


class UniverseState:
    """Rows that wait for slower shards, and what ranks and filters the instruments.

    Parameters
    ----------
    config
        The universe.
    shards
        Names of all shards. No frame is made until each has sent a slice.
    names
        Features that slices carry.

    Raises
    ------
    ConfigError
        A filter reads a feature that slices do not carry.

    Notes
    -----
    A row whose close is not finite and positive, or whose volume is negative or not finite, is left out of the frame
    and changes nothing. One bar of absurd notional ranks its instrument first until it has decayed: it takes one place.
    A decision time at which no instrument closed a bar has no frame.

    Examples
    --------
    >>> state = UniverseState(UniverseConfig(interval="1m"), ("0", "1"), ())
    >>> def piece(shard, frontier, *names):
    ...     n = len(names)
    ...     return UniverseSlice(shard, frontier, 60 * 10**9, np.full(n, 7), names, np.ones(n), np.ones(n),
    ...                          np.empty((n, 0)), np.empty((n, 0), np.uint8))
    >>> state.update(piece("0", 7, "B"))
    []
    >>> [(frame.ts, frame.instruments) for frame in state.update(piece("1", 9, "A"))]
    [(7, ('A', 'B'))]
    """

    def __init__(self, config: UniverseConfig, shards: tuple[str, ...], names: tuple[str, ...]) -> None:
        absent = [need for need in config.needs if need not in names]
        if absent:
            raise ConfigError(f"expected features {list(config.needs)} for the universe's filters, found no {absent}")
        self._config = config
        self._names = names
        self._interval = duration_ns(config.interval)
        self._allow, self._deny = frozenset(config.filters.allow), frozenset(config.filters.deny)
        self._live_within = duration_ns(config.live_within)
        self._half_life = duration_ns(config.half_life)
        self._listing_age = duration_ns(config.filters.min_listing_age)
        self._frontiers = dict.fromkeys(sorted(shards), _BEGINNING)
        self._held: dict[int, list[_Rows]] = {}
        self._held_rows = 0
        self._last_order: tuple[tuple[str, ...], IntArray] | None = None
        self._slots = Slots(config.max_known, duration_ns(config.idle_expiry))
        self._first_seen: IntArray = np.zeros(config.max_known, dtype=np.int64)
        self._listed = np.zeros(config.max_known, dtype=np.bool_)
        self._named = np.zeros(config.max_known, dtype=np.bool_)
        self._last_updated: IntArray = np.zeros(config.max_known, dtype=np.int64)
        # close, spread, decayed volume and notional as of when each was last seen
        self._numbers: FloatArray = np.full((4, config.max_known), np.nan)

    @property
    def held_rows(self) -> int:
        """Rows that wait for slower shards."""
        return self._held_rows

    def update(self, piece: UniverseSlice) -> list[UniverseFrame]:
        """Take what a shard closed; return the frames that are over with it, in order.

        Raises
        ------
        InvariantError
            The shard is unknown, its frontier went back, a row lies outside its slice or is of other bars, an
            instrument came twice at one time, or more rows wait than `max_held_rows`.
        """
        self._hold(piece)
        frontier = min(self._frontiers.values())
        return [self._frame(ts) for ts in sorted(ts for ts in self._held if ts <= frontier)]

    def _hold(self, piece: UniverseSlice) -> None:
        before = self._frontiers.get(piece.shard)
        if before is None or piece.frontier < before or piece.interval_ns != self._interval:
            raise InvariantError(
                f"expected slices of {self._interval} ns bars from shards {list(self._frontiers)} whose frontiers "
                f"never go back, found `{piece.shard}` going from {before} to {piece.frontier} with bars of "
                f"{piece.interval_ns} ns"
            )
        self._frontiers[piece.shard] = piece.frontier
        n = len(piece.ts)
        if not n:
            return
        first, last = int(piece.ts.min()), int(piece.ts.max())
        if first <= before or last > piece.frontier:
            raise InvariantError(
                f"expected decision times above {before} and up to {piece.frontier} from shard `{piece.shard}`, found "
                f"{first} to {last}"
            )
        self._held_rows += n
        if self._held_rows > self._config.max_held_rows:
            raise InvariantError(
                f"expected at most {self._config.max_held_rows} rows that wait for the slowest shard, found "
                f"{self._held_rows}; a shard is far behind: see its step, or raise `max_held_rows`"
            )
        rows = _Rows(piece.instruments, piece.close, piece.volume, piece.values, piece.missing)
        if first == last:
            self._held.setdefault(first, []).append(rows)
            return
        order = np.argsort(piece.ts, kind="stable")
        starts, cuts = np.unique(piece.ts[order], return_index=True)
        for ts, own in zip(starts.tolist(), np.split(order, cuts[1:]), strict=True):
            self._held.setdefault(ts, []).append(rows.take(own))

    def _frame(self, ts: int) -> UniverseFrame:
        rows = _Rows.joined(self._held.pop(ts))
        self._held_rows -= len(rows.instruments)
        sane = np.isfinite(rows.close) & (rows.close > 0) & np.isfinite(rows.volume) & (rows.volume >= 0)
        order = self._alphabetical(rows.instruments)
        if not sane.all():
            order = order[sane[order]]
        rows = rows.take(order)
        slots, fresh = self._slots.assign(rows.instruments, ts)
        self._listed[fresh] = False
        self._name(fresh)
        known = slots != NO_SLOT
        self._see(slots[known], rows, known, ts)
        members = self._members(ts)
        is_member = np.zeros(self._slots.capacity + 1, dtype=np.bool_)
        is_member[members] = True
        present = is_member[slots]
        if not present.all():
            rows = rows.take(np.flatnonzero(present))
        live = len(members)
        complete = live > 0 and len(rows.instruments) >= self._config.min_coverage * live
        return UniverseFrame(
            ts, self._interval, rows.instruments, rows.close, rows.volume, self._names, rows.values, rows.missing, live,
            complete,
        )  # fmt: skip

    def _alphabetical(self, names: tuple[str, ...]) -> IntArray:
        if self._last_order is not None and names == self._last_order[0]:
            return self._last_order[1]
        order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        ordered = [names[row] for row in order.tolist()]
        twice = [name for name, following in pairwise(ordered) if name == following]
        if twice:
            raise InvariantError(f"expected an instrument once at each decision time, found {twice[:9]} twice")
        self._last_order = (names, order)
        return order

    def _see(self, slots: IntArray, rows: _Rows, known: npt.NDArray[np.bool_], ts: int) -> None:
        """Take the bars of one decision time into what ranks and filters."""
        close, volume = rows.close[known], rows.volume[known]
        new = ~self._listed[slots]
        self._first_seen[slots[new]] = ts
        self._listed[slots[new]] = True
        self._numbers[:, slots[new]] = np.array([[np.nan], [np.nan], [0.0], [0.0]])
        numbers = self._numbers[:, slots]
        numbers[0] = close
        if "spread_bps" in self._names:
            column = self._names.index("spread_bps")
            has_spread = rows.missing[known, column] == Missing.OK
            numbers[1, has_spread] = rows.values[known, column][has_spread]
        age = (ts - self._last_updated[slots]).astype(np.float64)
        decay = np.where(new, 0.0, np.exp2(-age / self._half_life))
        with np.errstate(over="ignore"):
            sums = numbers[2:] * decay + np.stack((volume, close * volume))
        numbers[2:] = np.where(np.isfinite(sums), sums, numbers[2:])
        self._numbers[:, slots] = numbers
        self._last_updated[slots] = ts

    def _name(self, slots: IntArray) -> None:
        """Note which of some slots the lists of names admit."""
        for slot in slots.tolist():
            name = self._slots.names[slot]
            self._named[slot] = name not in self._deny and (not self._allow or name in self._allow)

    def _members(self, ts: int) -> IntArray:
        """Return the slots of the universe's members: live, admitted, and not outranked."""
        slots = self._slots.live(ts - self._live_within)
        age = (ts - self._last_updated[slots]).astype(np.float64)
        close, spread, volume, notional = self._numbers[:, slots]
        volume, notional = (np.exp2(-age / self._half_life) * decayed for decayed in (volume, notional))
        filters = self._config.filters
        admitted = self._named[slots] & (ts - self._first_seen[slots] >= self._listing_age)
        floors = (filters.min_price, filters.min_volume, filters.min_notional)
        for least, value in zip(floors, (close, volume, notional), strict=True):
            if least is not None:
                admitted &= value >= least
        for greatest, value in ((filters.max_price, close), (filters.max_spread_bps, spread)):
            if greatest is not None:
                admitted &= value <= greatest
        return self._greatest(slots[admitted], notional[admitted])

    def _greatest(self, slots: IntArray, notional: FloatArray) -> IntArray:
        most = self._config.max_instruments
        if len(slots) <= most:
            return slots
        bound = np.partition(notional, len(notional) - most)[len(notional) - most]
        above, equal = slots[notional > bound], slots[notional == bound]
        by_name = sorted(equal.tolist(), key=self._slots.names.__getitem__)
        return np.concatenate((above, np.array(by_name[: most - len(above)], dtype=np.int64)))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        n = len(self._slots)
        return {
            "version": _VERSION,
            "names": list(self._names),
            "interval_ns": self._interval,
            "frontiers": dict(self._frontiers),
            "held": {ts: _plain(_Rows.joined(parts)) for ts, parts in sorted(self._held.items())},
            "slots": self._slots.snapshot(),
            "first_seen": self._first_seen[:n].tobytes(),
            "last_updated": self._last_updated[:n].tobytes(),
            "listed": self._listed[:n].tobytes(),
            "numbers": self._numbers[:, :n].tobytes(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            Another version wrote it, or it is of other shards, features or bars.
        """
        expected = (_VERSION, list(self._names), self._interval, sorted(self._frontiers))
        found = (snapshot["version"], snapshot["names"], snapshot["interval_ns"], sorted(snapshot["frontiers"]))
        if expected != found:
            raise VersionError(
                f"expected a universe snapshot of version, features, interval and shards {expected}, found {found}; "
                "resume with the version and configuration that wrote it, or start a new run"
            )
        self._frontiers = {shard: snapshot["frontiers"][shard] for shard in self._frontiers}
        self._held = {ts: [_from_plain(rows, len(self._names))] for ts, rows in snapshot["held"].items()}
        self._held_rows = sum(len(parts[0].instruments) for parts in self._held.values())
        self._slots.restore(snapshot["slots"])
        self._last_order = None
        n = len(self._slots)
        self._name(np.arange(n))
        self._first_seen[:n] = np.frombuffer(snapshot["first_seen"], dtype=np.int64)
        self._last_updated[:n] = np.frombuffer(snapshot["last_updated"], dtype=np.int64)
        self._listed[:n] = np.frombuffer(snapshot["listed"], dtype=np.bool_)
        self._numbers[:, :n] = np.frombuffer(snapshot["numbers"]).reshape(4, n)


def _plain(rows: _Rows) -> list[Any]:
    numbers = (rows.close, rows.volume, rows.values, rows.missing)
    return [list(rows.instruments), *(np.ascontiguousarray(array).tobytes() for array in numbers)]


def _from_plain(plain: list[Any], width: int) -> _Rows:
    names, close, volume, values, missing = plain
    shape = (len(names), width)
    return _Rows(
        tuple(names), np.frombuffer(close), np.frombuffer(volume), np.frombuffer(values).reshape(shape),
        np.frombuffer(missing, dtype=np.uint8).reshape(shape),
    )  # fmt: skip


class _UniverseLogic(StatefulBatchLogic[UniverseSlice, UniverseFrame, dict[str, Any]]):
    def __init__(
        self, config: UniverseConfig, shards: tuple[str, ...], names: tuple[str, ...], resume: dict[str, Any] | None
    ) -> None:
        self._state = UniverseState(config, shards, names)
        if resume is not None:
            self._state.restore(resume)

    @noted
    def on_batch(self, values: list[UniverseSlice]) -> tuple[Iterable[UniverseFrame], bool]:
        return [frame for piece in values for frame in self._state.update(piece)], StatefulBatchLogic.RETAIN

    @noted
    def snapshot(self) -> dict[str, Any]:
        return self._state.snapshot()


@operator
def universe(
    step_id: str, up: KeyedStream[UniverseSlice], *, shards: int, config: UniverseConfig, names: tuple[str, ...]
) -> KeyedStream[UniverseFrame]:
    """Join the slices of all shards into one frame for each decision time.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Slices of every shard, all under `UNIVERSE_KEY`; each shard's in the order in which it made them.
    shards
        Number of shards; their names are `0`, `1` and so on.
    config
        The universe.
    names
        Features that slices carry.
    """
    every = tuple(str(shard) for shard in range(shards))
    return op.stateful_batch("state", up, noted(lambda resume: _UniverseLogic(config, every, names, resume)))
