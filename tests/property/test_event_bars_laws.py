"""Event bars against a plain loop, and the laws: any cut, any instrument, any restart gives the same bars."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from operators.event_bars import EventBarColumns, EventBarsConfig, EventBarState
from schemas.enums import EventBarKind
from schemas.errors import ConfigError, VersionError
from schemas.tables import EVENT_BARS
from sinks.conform import conform

_N_CODES = 3
_LAW = settings(deadline=None, max_examples=60)
_CONFIG = EventBarsConfig(
    ticks=(1, 3, 7),
    volumes=(2.5, 10.0),
    notionals=(500.0,),
    imbalances=(2, 5, 12),
    imbalance_span=3,
    imbalance_bound=3.0,
)
_NAMES = [field.name for field in fields(EventBarColumns)]


@dataclass(frozen=True)
class Trades:
    """Trades in arrival order, read-only."""

    code: npt.NDArray[np.int32]
    ts_recv: npt.NDArray[np.int64]
    ts_event: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    side: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.code)

    def part(self, rows: Any) -> tuple[Any, ...]:
        """Return the columns of some trades, as `update` takes them."""
        return tuple(getattr(self, field.name)[rows] for field in fields(self))


def _trades(seed: int, n: int, n_codes: int = _N_CODES, buyers: float = 0.5, flagged: float = 0.7) -> Trades:
    """Return random trades whose sizes and prices are multiples of a quarter, so that sums are exact."""
    rng = np.random.default_rng(seed)
    side = np.where(rng.random(n) < buyers, 1, -1) * (rng.random(n) < flagged)
    ts_recv = np.cumsum(rng.integers(0, 3, n))
    trades = Trades(
        rng.integers(0, n_codes, n).astype(np.int32),
        ts_recv,
        ts_recv - rng.integers(0, 5, n),
        100.0 + 0.25 * np.cumsum(rng.integers(-1, 2, n)),
        0.25 * rng.integers(1, 20, n),
        side.astype(np.int8),
    )
    for column in vars(trades).values():
        column.flags.writeable = False
    return trades


def _state(config: EventBarsConfig = _CONFIG) -> EventBarState:
    state = EventBarState(config)
    state.ensure(_N_CODES)
    return state


def _joined(parts: list[EventBarColumns]) -> EventBarColumns:
    return EventBarColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES))


def _equal(first: EventBarColumns, second: EventBarColumns) -> None:
    for name in _NAMES:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def _plain(trades: Trades, config: EventBarsConfig) -> list[dict[str, Any]]:
    """Return the bars by the definition: lists of trades, summed when a bar closes."""
    found = []
    signs: dict[int, int] = {}
    prices: dict[int, float] = {}
    open_bars: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    closed: dict[tuple[int, int], int] = defaultdict(int)
    learnt: dict[tuple[int, int], tuple[float, float]] = {}
    means: dict[tuple[int, int], float] = defaultdict(float)
    targets: dict[tuple[int, int], float] = {}
    for i in range(len(trades)):
        code, side, price = int(trades.code[i]), int(trades.side[i]), float(trades.price[i])
        tick = np.sign(price - prices.get(code, price)) or signs.get(code, 0)
        sign = side if side else int(tick)
        signs[code], prices[code] = sign, price
        for j, (kind, threshold) in enumerate(config.series):
            key = (code, j)
            bar = open_bars[key]
            if kind == EventBarKind.IMBALANCE:
                if not bar:
                    square, length = learnt.setdefault(key, (threshold, threshold))
                    variance = max(square / length, 1.0 / config.imbalance_bound)
                    targets[key] = max(threshold * abs(means[key]), math.sqrt(threshold * variance))
                means[key] += 2.0 / (config.imbalance_span * threshold + 1.0) * (sign - means[key])
            bar.append((i, sign))
            rows = [row for row, _ in bar]
            theta = sum(b for _, b in bar)
            reached = {
                EventBarKind.TICK: len(bar) >= threshold,
                EventBarKind.VOLUME: trades.size[rows].sum() >= threshold,
                EventBarKind.DOLLAR: (trades.size * trades.price)[rows].sum() >= threshold,
                EventBarKind.IMBALANCE: abs(theta) >= targets.get(key, 0.0) - 1e-9
                or len(bar) >= config.imbalance_bound * threshold,
            }[kind]
            if not reached:
                continue
            if kind == EventBarKind.IMBALANCE:
                weight, (square, length) = 2.0 / (config.imbalance_span + 1.0), learnt[key]
                learnt[key] = (square + weight * (theta**2 - square), length + weight * (len(bar) - length))
            closed[key] += 1
            prices_in, sizes = trades.price[rows], trades.size[rows]
            notional = float((prices_in * sizes).sum())
            found.append(
                {
                    "code": code, "series": j, "kind": int(kind), "threshold": threshold, "number": closed[key],
                    "ts_start": trades.ts_event[rows[0]], "ts_end": trades.ts_event[i], "ts": trades.ts_recv[i],
                    "open": prices_in[0], "high": prices_in.max(), "low": prices_in.min(), "close": prices_in[-1],
                    "volume": sizes.sum(), "notional": notional, "vwap": notional / sizes.sum(),
                    "trade_count": len(rows), "buy_volume": sizes[trades.side[rows] == 1].sum(), "imbalance": theta,
                }
            )  # fmt: skip
            open_bars[key] = []
    return found


@pytest.mark.parametrize(("seed", "buyers"), [(1, 0.5), (2, 0.8), (3, 0.0)])
@pytest.mark.parametrize("flagged", [0.0, 0.5, 1.0])
def test_bars_equal_a_plain_loop(seed: int, buyers: float, flagged: float) -> None:
    trades = _trades(seed, 600, buyers=buyers, flagged=flagged)
    bars = _state().update(*trades.part(slice(None)))
    expected = _plain(trades, _CONFIG)
    assert len(bars) == len(expected) > 500
    assert {bar["kind"] for bar in expected} == set(EventBarKind)
    for name in _NAMES:
        np.testing.assert_array_equal(getattr(bars, name), [bar[name] for bar in expected], err_msg=name)


@_LAW
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_bars_do_not_depend_on_the_cuts(seed: int, cuts: list[int]) -> None:
    trades = _trades(seed, 200)
    state = _state()
    edges = [0, *sorted(cuts), 200]
    _equal(
        _joined([state.update(*trades.part(slice(a, b))) for a, b in itertools.pairwise(edges)]),
        _state().update(*trades.part(slice(None))),
    )


@_LAW
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 200))
def test_restored_state_continues_and_snapshots_do_not_change(seed: int, cut: int) -> None:
    trades = _trades(seed, 200)
    state, twin = _state(), _state()
    state.update(*trades.part(slice(0, cut)))
    snapshot = state.snapshot(_N_CODES)
    copy = repr(snapshot)
    expected = state.update(*trades.part(slice(cut, None)))
    assert repr(snapshot) == copy
    twin.restore(snapshot)
    _equal(twin.update(*trades.part(slice(cut, None))), expected)


@_LAW
@given(seed=st.integers(0, 2**32))
def test_instruments_do_not_affect_each_other(seed: int) -> None:
    trades = _trades(seed, 200)
    bars = _state().update(*trades.part(slice(None)))
    for code in range(_N_CODES):
        own = _state().update(*trades.part(trades.code == code))
        _equal(own, bars.take(bars.code == code))


@_LAW
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 200))
def test_later_trades_do_not_change_earlier_bars(seed: int, cut: int) -> None:
    trades = _trades(seed, 200)
    bars = _state().update(*trades.part(slice(None)))
    before = _state().update(*trades.part(slice(0, cut)))
    _equal(before, bars.take(slice(0, len(before))))


@_LAW
@given(seed=st.integers(0, 2**32), n=st.integers(0, 400))
def test_nothing_is_lost_between_bars(seed: int, n: int) -> None:
    """Every trade is in one bar of each series: what is left over is less than a bar."""
    trades = _trades(seed, n)
    bars = _state().update(*trades.part(slice(None)))
    for code, (j, (kind, threshold)) in itertools.product(range(_N_CODES), enumerate(_CONFIG.series)):
        own = bars.take((bars.code == code) & (bars.series == j))
        traded = trades.code == code
        assert own.number.tolist() == list(range(1, len(own) + 1))
        used = int(own.trade_count.sum())
        assert own.volume.sum() == trades.size[traded][:used].sum()
        assert own.notional.sum() == (trades.price * trades.size)[traded][:used].sum()
        rest = trades.size[traded][used:]
        left = {
            EventBarKind.TICK: len(rest),
            EventBarKind.VOLUME: rest.sum(),
            EventBarKind.DOLLAR: (trades.price * trades.size)[traded][used:].sum(),
            EventBarKind.IMBALANCE: len(rest) / _CONFIG.imbalance_bound,
        }[kind]
        assert left < threshold


def test_a_bar_closes_with_the_trade_that_fills_it() -> None:
    state = _state(EventBarsConfig(volumes=(10.0,), notionals=(1000.0,)))
    sizes = np.array([4.0, 5.0, 1.0, 100.0, 9.0])
    n = len(sizes)
    bars = state.update(
        np.zeros(n, np.int32), np.arange(n), np.arange(n), np.full(n, 100.0), sizes, np.ones(n, np.int8)
    )
    assert bars.ts.tolist() == [2, 2, 3, 3]
    assert bars.volume.tolist() == [10.0, 10.0, 100.0, 100.0]
    assert bars.kind.tolist() == [EventBarKind.VOLUME, EventBarKind.DOLLAR] * 2


def _lengths(side: npt.NDArray[np.int8], **parameters: Any) -> npt.NDArray[np.int64]:
    n = len(side)
    state = _state(EventBarsConfig(**parameters))
    prices = np.full(n, 10.0)
    return state.update(np.zeros(n, np.int32), np.arange(n), np.arange(n), prices, np.ones(n), side).trade_count


@pytest.mark.parametrize("expected", [25, 100, 400])
def test_fair_signs_keep_imbalance_bars_at_the_configured_length(expected: int) -> None:
    side = np.random.default_rng(expected).choice(np.array([-1, 1], np.int8), 1_000_000)
    lengths = _lengths(side, imbalances=(expected,))
    assert lengths.mean() == pytest.approx(expected, rel=0.25)
    halves = np.array_split(lengths, 2)
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.1)


@pytest.mark.parametrize("share", [0.6, 0.75, 1.0])
def test_imbalance_bars_stay_within_their_bounds_where_one_side_trades(share: float) -> None:
    side = np.where(np.random.default_rng(1).random(300_000) < share, 1, -1).astype(np.int8)
    lengths = _lengths(side, imbalances=(100,))[100:]
    assert lengths.mean() == pytest.approx(100, rel=0.25)
    assert lengths.max() <= 800


def test_imbalance_bar_that_expected_one_side_closes_when_signs_turn_fair() -> None:
    rng = np.random.default_rng(2)
    side = np.concatenate([np.ones(50_000), rng.choice([-1, 1], 200_000)]).astype(np.int8)
    lengths = _lengths(side, imbalances=(100,))
    assert lengths.max() <= 800
    assert lengths[-500:].mean() == pytest.approx(100, rel=0.15)


def test_informed_buying_closes_imbalance_bars_sooner() -> None:
    rng = np.random.default_rng(3)
    burst = np.where(rng.random(2000) < 0.9, 1, -1)
    side = np.concatenate([rng.choice([-1, 1], 50_000), burst]).astype(np.int8)
    n = len(side)
    state = _state(EventBarsConfig(imbalances=(100,)))
    bars = state.update(np.zeros(n, np.int32), np.arange(n), np.arange(n), np.full(n, 10.0), np.ones(n), side)
    first = np.flatnonzero(bars.ts > 50_000)[1]
    assert bars.trade_count[first] < 0.5 * bars.trade_count[:first].mean()
    assert bars.imbalance[first] > 0.0


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_trade_without_price_or_size_is_left_out(value: float) -> None:
    trades = _trades(5, 200)
    clean = _state().update(*trades.part(slice(None)))
    for spoilt in ("price", "size"):
        columns = {field.name: np.insert(getattr(trades, field.name), 50, 1) for field in fields(trades)}
        columns[spoilt][50] = value
        _equal(_state().update(*columns.values()), clean)


def test_overflow_does_not_outlive_its_bar() -> None:
    state = _state(EventBarsConfig(ticks=(2,), notionals=(1e12,)))
    n = 8
    price, size = np.full(n, 10.0), np.ones(n)
    price[2], size[2] = 1e200, 1e200
    bars = state.update(np.zeros(n, np.int32), np.arange(n), np.arange(n), price, size, np.ones(n, np.int8))
    ticks = bars.take(bars.kind == EventBarKind.TICK)
    assert np.isnan(ticks.vwap).tolist() == [False, True, False, False]
    assert bars.take(bars.kind == EventBarKind.DOLLAR).ts.tolist() == [2]


def test_state_keeps_its_size_and_reset_begins_a_new_life() -> None:
    trades = _trades(6, 3000)
    state = _state()
    size = state.nbytes
    first = state.update(*trades.part(slice(None)))
    assert state.nbytes == size
    state.reset(np.arange(_N_CODES, dtype=np.int32))
    _equal(state.update(*trades.part(slice(None))), first)


def test_no_trades_and_no_series_give_no_bars() -> None:
    state = _state()
    before = state.snapshot(_N_CODES)
    assert len(state.update(*_trades(7, 0).part(slice(None)))) == 0
    assert state.snapshot(_N_CODES) == before
    assert len(_state(EventBarsConfig()).update(*_trades(7, 50).part(slice(None)))) == 0


def test_bars_are_rows_of_their_table() -> None:
    state = _state()
    bars = state.update(*_trades(8, 300).part(slice(None)))
    columns = {"instrument_id": pa.array([f"i{code}" for code in bars.code]).dictionary_encode()}
    columns["series"] = state.names(bars.series)
    columns |= {
        name: pa.array(getattr(bars, name)).cast(EVENT_BARS.arrow.field(name).type) for name in EVENT_BARS.names[3:]
    }
    stored = conform(EVENT_BARS, pa.table(columns), run_id="r")
    keys = set(zip(*(stored.column(name).to_pylist() for name in EVENT_BARS.key), strict=True))
    assert len(keys) == len(bars)
    assert set(stored.column("series").to_pylist()) == {
        "tick_1", "tick_3", "tick_7", "volume_2.5", "volume_10", "dollar_500",
        "imbalance_2", "imbalance_5", "imbalance_12",
    }  # fmt: skip


def test_snapshot_of_other_series_or_version_is_refused() -> None:
    snapshot = _state().snapshot(_N_CODES)
    with pytest.raises(ConfigError, match=r"expected open event bars of .*resume with the configuration"):
        _state(EventBarsConfig(ticks=(5,))).restore(snapshot)
    snapshot["state"]["version"] = 99
    with pytest.raises(VersionError, match="found version 99"):
        _state().restore(snapshot)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ticks": (5, 5)}, "expected distinct `ticks`"),
        ({"volumes": (1.0, 1.0)}, "expected distinct `volumes`"),
        ({"ticks": (0,)}, "greater than or equal to 1"),
        ({"notionals": (0.0,)}, "greater than 0"),
        ({"imbalances": (1,)}, "greater than or equal to 2"),
    ],
)
def test_thresholds_that_make_no_bars_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EventBarsConfig(**parameters)
