"""Trades to event bars: a bar closes when enough has happened, counted in trades, volume, money or imbalance.

They are built in arrival order, and a bar closes with the trade that fills it, so no trade is late for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from operators.columns import CodeArray, Columns, FloatArray, Int8Array, IntArray, frozen
from operators.state import Column, InstrumentState
from schemas.config import ComponentConfig
from schemas.enums import EventBarKind, Side
from schemas.errors import ConfigError

__all__ = ["EventBarColumns", "EventBarState", "EventBarsConfig"]

_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _NOTIONAL, _BUY, _IMBALANCE = range(8)
_N_SUMS: Final = 8
_ROW, _SERIES, _NUMBER, _START, _COUNT = range(5)

_Size = Annotated[float, Field(gt=0, le=1e18)]


class EventBarsConfig(ComponentConfig):
    """Bars that close when enough has happened; none where all lists are empty."""

    ticks: Annotated[tuple[Annotated[int, Field(ge=1, le=10**9)], ...], Field(max_length=16)] = ()
    """trades in a tick bar; a series of bars for each number"""
    volumes: Annotated[tuple[_Size, ...], Field(max_length=16)] = ()
    """quantity in a volume bar, base units"""
    notionals: Annotated[tuple[_Size, ...], Field(max_length=16)] = ()
    """money in a dollar bar, quote currency"""
    imbalances: Annotated[tuple[Annotated[int, Field(ge=2, le=10**6)], ...], Field(max_length=16)] = ()
    """trades that an imbalance bar is expected to have before any has closed"""
    imbalance_span: Annotated[int, Field(ge=1, le=10_000)] = 20
    """bars that the expectations of imbalance bars average over"""
    imbalance_bound: Annotated[float, Field(ge=1.0, le=100.0)] = 8.0
    """multiple of the expected trades after which an imbalance bar closes whatever its imbalance"""

    @model_validator(mode="after")
    def _thresholds_are_distinct(self) -> Self:
        for name in ("ticks", "volumes", "notionals", "imbalances"):
            thresholds = getattr(self, name)
            if len(set(thresholds)) != len(thresholds):
                raise ValueError(f"expected distinct `{name}`, was {list(thresholds)}")
        return self

    @property
    def series(self) -> tuple[tuple[EventBarKind, float], ...]:
        """Kind and threshold of each series of bars, in the order in which bars of one trade are given.

        Examples
        --------
        >>> [(kind.name, threshold) for kind, threshold in EventBarsConfig(ticks=(100,), volumes=(2.5,)).series]
        [('TICK', 100.0), ('VOLUME', 2.5)]
        """
        lists = (self.ticks, self.volumes, self.notionals, self.imbalances)
        return tuple(
            (kind, float(threshold))
            for kind, thresholds in zip(EventBarKind, lists, strict=True)
            for threshold in thresholds
        )


@dataclass(frozen=True, slots=True)
class EventBarColumns(Columns):
    """Closed event bars, in the order of the trades that closed them, then of the series."""

    code: CodeArray
    series: npt.NDArray[np.int32]
    """index of the series among the configured ones"""
    kind: Int8Array
    """an `EventBarKind`"""
    threshold: FloatArray
    """trades, quantity or money in a bar; of imbalance bars, expected trades"""
    number: IntArray
    """position among the bars of the series since the instrument's life began, from 1"""
    ts_start: IntArray
    """`ts_event` of the first trade in arrival order"""
    ts_end: IntArray
    """`ts_event` of the last trade in arrival order"""
    ts: IntArray
    """decision time: `ts_recv` of the trade that closed the bar, the last in it"""
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    notional: FloatArray
    vwap: FloatArray
    """notional over volume; NaN where one overflowed"""
    trade_count: IntArray
    buy_volume: FloatArray
    imbalance: FloatArray
    """trades that bought less trades that sold"""


class EventBarState(InstrumentState):
    r"""Open event bars of every instrument and series.

    A trade is added to the open bar of each series, whole; a bar closes with the trade that takes its count of
    trades, its volume or its notional to the threshold or above, and the next begins with nothing. So bars are no
    shorter than the threshold, and a trade much larger than it makes one bar.

    An imbalance bar closes at $|\theta| \ge \theta^*$ with the imbalance $\theta = \sum b_t$. The sign $b_t$ of a trade
    is that of its aggressor where the venue flags it, else by the tick rule: the sign of the change of the price, or
    of the trade before where the price is the same (0 for an unflagged first trade). What is expected of the $T_0$
    trades that the series is named by is fixed when a bar opens:

    $$ \theta^* = \max\left(T_0 |\hat b|, \sqrt{T_0 \hat v}\right), \qquad
    \hat v = \max\left(\frac{E[\theta^2]}{E[T]}, \frac1k\right) $$

    with the exponential mean $\hat b$ of all signs, $\hat b \leftarrow \hat b + \frac{2}{s T_0 + 1} (b_t - \hat b)$
    from 0, and those of $\theta^2$ and of the length $T$ over the bars that closed, with weight $\frac{2}{s + 1}$ from
    $T_0$; $s$ = `imbalance_span` in bars, $k$ = `imbalance_bound`. A bar of $k T_0$ trades closes whatever its
    imbalance.

    The author's rule is $E[T] |\hat b|$. It falls to nothing where buyers and sellers balance, and grows without end
    where long bars make longer ones. Here neither happens. The expected length is $T_0$, not learnt. And the
    imbalance of a bar has a least size, which is what $T_0$ trades without a preferred side come to: by Wald's
    identity $E[\theta^2] = v E[T]$ for signs that sum to a walk of variance $v$ a trade, wherever it is stopped. That
    is 1 for independent signs and far more where one order, or the tick rule, makes many alike in a row.

    Parameters
    ----------
    config
        The series of bars.

    Notes
    -----
    Sums are plain, in arrival order, and begin anew with each bar. Prices and sizes are finite and positive: decoding
    refuses others, and here they would be left out. Late trades count too: their bar is the one that is open
    when they arrive, and `ts_start` may lie after `ts_end`. The open bar at the end of the input is not given.

    An imbalance is a whole number, so imbalance bars are longer than expected on average, by a fifth where 25 trades
    are expected and by a tenth where 100 are.

    About 40 ns a trade and series, 120 bytes an instrument and series.

    Examples
    --------
    >>> state = EventBarState(EventBarsConfig(ticks=(2,), volumes=(4.0,)))
    >>> state.ensure(1)
    >>> bars = state.update(
    ...     np.zeros(4, np.int32), np.arange(10, 14), np.arange(4), np.array([5.0, 6.0, 7.0, 6.0]),
    ...     np.array([1.0, 3.0, 1.0, 1.0]), np.array([1, 1, -1, 0], np.int8),
    ... )
    >>> bars.ts.tolist(), bars.kind.tolist(), bars.close.tolist(), bars.vwap.tolist(), bars.imbalance.tolist()
    ([11, 11, 13], [1, 2, 1], [6.0, 6.0, 6.0], [5.75, 5.75, 6.5], [2.0, 2.0, -2.0])
    >>> state.names(bars.series).to_pylist()
    ['tick_2', 'volume_4', 'tick_2']

    References
    ----------
    Lopez de Prado, M. (2018). Advances in Financial Machine Learning, sections 2.3.1 and 2.3.2.1.
    """

    def __init__(self, config: EventBarsConfig) -> None:
        self._config = config
        self._kinds = frozen(np.array([kind for kind, _ in config.series], dtype=np.int8))
        self._thresholds = frozen(np.array([threshold for _, threshold in config.series], dtype=np.float64))
        self._names = pa.array([_series_name(*series) for series in config.series], pa.string())
        n = (max(len(config.series), 1),)
        super().__init__(
            {
                "last": Column("f8", fill=np.nan),
                "sign": Column("i1"),
                "sums": Column("f8", shape=(*n, _N_SUMS)),
                "count": Column("i8", shape=n),
                "number": Column("i8", shape=n),
                "start": Column("i8", shape=n),
                "mean_sign": Column("f8", shape=n),
                "squares": Column("f8", fill=1.0, shape=n),
                "length": Column("f8", fill=1.0, shape=n),
                "target": Column("f8", shape=n),
            },
            version=1,
        )

    def names(self, series: npt.NDArray[np.int32]) -> pa.DictionaryArray:
        """Return the text that names each series: kind and threshold.

        Parameters
        ----------
        series
            Indices of series, shape `(n,)`.
        """
        return pa.DictionaryArray.from_arrays(pa.array(series), self._names)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the state of the codes below `rows` as plain values, copied."""
        return {"config": self._config.content(), "state": super().snapshot(rows)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        ConfigError
            The snapshot is of other series or other parameters.
        VersionError
            It was written by another version.
        """
        if snapshot["config"] != self._config.content():
            raise ConfigError(
                f"expected open event bars of {self._config.content()}, found {snapshot['config']}; resume with the "
                "configuration that wrote the snapshot, or start a new run"
            )
        super().restore(snapshot["state"])

    def update(
        self,
        code: CodeArray,
        ts_recv: IntArray,
        ts_event: IntArray,
        price: FloatArray,
        size: FloatArray,
        side: Int8Array,
    ) -> EventBarColumns:
        """Take the next trades, in arrival order, and return the bars that they close.

        Parameters
        ----------
        code
            Instrument codes, shape `(n,)`; the state has a row for each.
        ts_recv, ts_event
            Arrival and event times, shape `(n,)`, ns.
        price, size
            Shape `(n,)`, finite and positive.
        side
            `Side` of the aggressor, shape `(n,)`.
        """
        state, config = self._state, self._config
        n_most = len(code) * len(self._kinds)
        keys = np.empty((n_most, 5), dtype=np.int64)
        sums = np.empty((n_most, _N_SUMS))
        n_out = 0
        if n_most:
            n_out = _fold(
                frozen(code), frozen(ts_event), frozen(price), frozen(size), frozen(side),
                self._kinds, self._thresholds, config.imbalance_span, config.imbalance_bound,
                state["last"], state["sign"], state["sums"], state["count"], state["number"], state["start"],
                state["mean_sign"], state["squares"], state["length"], state["target"], keys, sums,
            )  # fmt: skip
        return self._columns(keys[:n_out], sums[:n_out], code, ts_recv, ts_event)

    def _columns(
        self, keys: IntArray, sums: FloatArray, code: CodeArray, ts_recv: IntArray, ts_event: IntArray
    ) -> EventBarColumns:
        row, series = keys[:, _ROW], keys[:, _SERIES].astype(np.int32)
        named = [np.ascontiguousarray(column) for column in sums.T]
        with np.errstate(invalid="ignore", over="ignore"):
            vwap = named[_NOTIONAL] / named[_VOLUME]
        vwap[~np.isfinite(vwap)] = np.nan
        return EventBarColumns(
            code=code[row],
            series=series,
            kind=self._kinds[series],
            threshold=self._thresholds[series],
            number=keys[:, _NUMBER].copy(),
            ts_start=keys[:, _START].copy(),
            ts_end=ts_event[row],
            ts=ts_recv[row],
            open=named[_OPEN],
            high=named[_HIGH],
            low=named[_LOW],
            close=named[_CLOSE],
            volume=named[_VOLUME],
            notional=named[_NOTIONAL],
            vwap=vwap,
            trade_count=keys[:, _COUNT].copy(),
            buy_volume=named[_BUY],
            imbalance=named[_IMBALANCE],
        )


def _series_name(kind: EventBarKind, threshold: float) -> str:
    return f"{kind.name.lower()}_{int(threshold) if threshold.is_integer() else threshold!r}"


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _fold(
    code: CodeArray, ts_event: IntArray, price: FloatArray, size: FloatArray, side: Int8Array,
    kinds: Int8Array, thresholds: FloatArray, span: int, bound: float,
    last: FloatArray, sign: Int8Array, sums: FloatArray, count: IntArray, number: IntArray, start: IntArray,
    mean_sign: FloatArray, squares: FloatArray, length: FloatArray, target: FloatArray, keys: IntArray, out: FloatArray,
) -> int:  # fmt: skip
    """Add each trade to its bars and give those that it fills; return how many."""
    n_out = 0
    for i in range(len(code)):
        c = code[i]
        if not (np.isfinite(price[i]) and np.isfinite(size[i]) and price[i] > 0.0 and size[i] > 0.0):
            continue
        sign[c] = _signed(side[i], price[i], last[c], sign[c])
        last[c] = price[i]
        for j in range(len(kinds)):
            bar = sums[c, j]
            if count[c, j] == 0:
                _begin(bar, price[i])
                start[c, j] = ts_event[i]
                if kinds[j] == EventBarKind.IMBALANCE:
                    variance = max(squares[c, j] / length[c, j], 1.0 / bound)
                    target[c, j] = max(thresholds[j] * abs(mean_sign[c, j]), np.sqrt(thresholds[j] * variance))
            count[c, j] += 1
            _add(bar, price[i], size[i], side[i] == Side.BUY, sign[c])
            if kinds[j] == EventBarKind.IMBALANCE:
                mean_sign[c, j] += 2.0 / (span * thresholds[j] + 1.0) * (sign[c] - mean_sign[c, j])
            if not _full(kinds[j], thresholds[j], count[c, j], bar, target[c, j], bound):
                continue
            number[c, j] += 1
            keys[n_out, _ROW] = i
            keys[n_out, _SERIES] = j
            keys[n_out, _NUMBER] = number[c, j]
            keys[n_out, _START] = start[c, j]
            keys[n_out, _COUNT] = count[c, j]
            out[n_out, :] = bar
            n_out += 1
            if kinds[j] == EventBarKind.IMBALANCE:
                weight = 2.0 / (span + 1.0)
                squares[c, j] += weight * (bar[_IMBALANCE] * bar[_IMBALANCE] / thresholds[j] - squares[c, j])
                length[c, j] += weight * (count[c, j] / thresholds[j] - length[c, j])
            count[c, j] = 0
    return n_out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _signed(side: int, price: float, last: float, sign: int) -> int:
    """Return the sign of a trade: its aggressor's, else by the tick rule."""
    if side != Side.UNKNOWN:
        return 1 if side == Side.BUY else -1
    if price > last:
        return 1
    return -1 if price < last else sign


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _begin(bar: FloatArray, price: float) -> None:
    bar[_OPEN] = price
    bar[_HIGH] = price
    bar[_LOW] = price
    bar[_VOLUME:] = 0.0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add(bar: FloatArray, price: float, size: float, bought: bool, sign: int) -> None:
    bar[_HIGH] = max(bar[_HIGH], price)
    bar[_LOW] = min(bar[_LOW], price)
    bar[_CLOSE] = price
    bar[_VOLUME] += size
    bar[_NOTIONAL] += price * size
    if bought:
        bar[_BUY] += size
    bar[_IMBALANCE] += sign


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _full(kind: int, threshold: float, count: int, bar: FloatArray, target: float, bound: float) -> bool:
    if kind == EventBarKind.TICK:
        return count >= threshold
    if kind == EventBarKind.VOLUME:
        return bool(bar[_VOLUME] >= threshold)
    if kind == EventBarKind.DOLLAR:
        return bool(bar[_NOTIONAL] >= threshold)
    return abs(bar[_IMBALANCE]) >= target or count >= bound * threshold
