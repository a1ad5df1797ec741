"""Bar features: hand-made series with known values, and what each says when it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from schemas.enums import Missing

_OK, _WARM, _DEGENERATE, _NOT_FINITE = Missing.OK, Missing.WARMING_UP, Missing.DEGENERATE, Missing.NOT_FINITE
_NAN, _INF = float("nan"), float("inf")


def _bars(close: list[float], *, high: Any = None, low: Any = None, volume: Any = None) -> BarColumns:
    n = len(close)
    ts = np.arange(n, dtype=np.int64)
    price = np.array(close, dtype=np.float64)
    top = price if high is None else np.array(high, dtype=np.float64)
    bottom = price if low is None else np.array(low, dtype=np.float64)
    size = np.ones(n) if volume is None else np.array(volume, dtype=np.float64)
    one = np.ones(n, dtype=np.int64)
    code = np.zeros(n, dtype=np.int32)
    return BarColumns(code, one, ts, ts, ts, price, top, bottom, price, size, price * size, price, one, size)


def _run(name: str, bars: BarColumns, **parameters: Any) -> tuple[list[list[float]], list[list[Missing]]]:
    cls = BAR_FEATURES[name]
    feature = cls(cls.Config(**parameters))
    feature.state.ensure(1)
    with np.errstate(over="ignore", invalid="ignore"):
        values, missing = feature.update(bars)
    return values.T.tolist(), [[Missing(code) for code in column] for column in missing.T]


@pytest.mark.parametrize(
    ("close", "missing"),
    [
        ([1.0, 2.0, 1.0], [_WARM, _OK, _OK]),
        ([1.0, 0.0, 1.0, 1.0], [_WARM, _DEGENERATE, _DEGENERATE, _OK]),
        ([1.0, -1.0, 1.0, 1.0], [_WARM, _DEGENERATE, _DEGENERATE, _OK]),
        ([1.0, _NAN, 1.0, 1.0], [_WARM, _NOT_FINITE, _NOT_FINITE, _OK]),
        ([_INF, 1.0, 1.0], [_WARM, _NOT_FINITE, _OK]),
        ([1e-300, 1e300, 1e-300], [_WARM, _NOT_FINITE, _NOT_FINITE]),
    ],
)
def test_log_return_says_why_it_is_missing(close: list[float], missing: list[Missing]) -> None:
    assert _run("log_return", _bars(close))[1] == [missing]


def test_log_return_of_a_doubling_is_ln_two() -> None:
    assert _run("log_return", _bars([3.0, 6.0, 6.0]))[0][0][1:] == [np.log(2.0), 0.0]


def test_ewma_volatility_with_half_life_one_halves_each_weight() -> None:
    close = np.exp(np.cumsum([0.0, 0.01, 0.02, 0.03])).tolist()
    values, missing = _run("ewma_volatility", _bars(close), half_life=1.0, min_returns=2)
    expected = np.sqrt((0.03**2 + 0.02**2 / 2 + 0.01**2 / 4) / 1.75)
    assert missing == [[_WARM, _WARM, _OK, _OK]]
    assert values[0][3] == pytest.approx(expected, rel=1e-12)


def test_ewma_volatility_skips_a_bad_bar_and_goes_on() -> None:
    close = [1.0, 1.1, _NAN, 1.1, 1.2]
    values, missing = _run("ewma_volatility", _bars(close), half_life=1.0, min_returns=1)
    assert missing == [[_WARM, _OK, _NOT_FINITE, _NOT_FINITE, _OK]]
    assert values[0][4] == pytest.approx(np.sqrt((np.log(1.2 / 1.1) ** 2 + np.log(1.1) ** 2 / 2) / 1.5), rel=1e-12)


@pytest.mark.parametrize("name", ["ewma_volatility", "realized_volatility"])
def test_volatility_of_a_price_that_never_moved_is_no_value(name: str) -> None:
    parameters = {"min_returns": 2} if name == "ewma_volatility" else {"window": 2}
    assert _run(name, _bars([5.0] * 4), **parameters)[1] == [[_WARM, _WARM, _DEGENERATE, _DEGENERATE]]


def test_ewma_volatility_that_has_decayed_to_nothing_is_no_value() -> None:
    missing = _run("ewma_volatility", _bars([1.0, 1.1] + [1.1] * 120), half_life=1.0, min_returns=1)[1][0]
    assert missing[10] == _OK
    assert missing[-1] == _DEGENERATE


@pytest.mark.parametrize(("bad", "code"), [(_NAN, _NOT_FINITE), (_INF, _NOT_FINITE), (0.0, _DEGENERATE)])
def test_realized_volatility_has_no_value_while_a_bad_return_is_in_the_window(bad: float, code: Missing) -> None:
    missing = _run("realized_volatility", _bars([1.0, 2.0, bad, 2.0, 1.0, 2.0]), window=2)[1]
    assert missing == [[_WARM, _WARM, code, code, code, _OK]]


def test_zscore_of_the_last_of_a_staircase_is_known() -> None:
    values, missing = _run("zscore", _bars([1.0, 2.0, 3.0]), window=3)
    assert missing == [[_WARM, _WARM, _OK]] * 3
    assert [column[2] for column in values] == pytest.approx([np.sqrt(1.5), 2.0, np.sqrt(2 / 3)], rel=1e-12)


@pytest.mark.parametrize("price", [0.1, 5.0, 1e12, 1e-12, 0.0])
def test_zscore_of_a_flat_window_is_no_value_and_its_mean_stands(price: float) -> None:
    values, missing = _run("zscore", _bars([price] * 3), window=3)
    assert [column[2] for column in missing] == [_DEGENERATE, _OK, _DEGENERATE]
    assert values[1][2] == pytest.approx(price)


@pytest.mark.parametrize("bad", [_NAN, _INF, -_INF, 1.7e308])
def test_zscore_has_no_value_while_a_bad_close_is_in_the_window(bad: float) -> None:
    missing = _run("zscore", _bars([1.0, 2.0, bad, bad, 2.0, 3.0]), window=2)[1]
    assert missing[0] == [_WARM, _OK, _NOT_FINITE, _NOT_FINITE, _NOT_FINITE, _OK]
    assert missing[2] == missing[0]


def test_zscore_far_from_zero_keeps_its_digits() -> None:
    values, _ = _run("zscore", _bars([1e9 + 0.25, 1e9 + 0.5, 1e9 + 0.75]), window=3, relative_floor=1e-12)
    assert values[2][2] == pytest.approx(0.25 * np.sqrt(2 / 3), rel=1e-12)


@pytest.mark.parametrize(("close", "rsi"), [([1.0, 2.0, 3.0], 100.0), ([3.0, 2.0, 1.0], 0.0), ([1.0, 2.0, 1.0], 50.0)])
def test_rsi_of_a_period_of_two_is_known(close: list[float], rsi: float) -> None:
    values, missing = _run("rsi", _bars(close), period=2)
    assert missing == [[_WARM, _WARM, _OK]]
    assert values[0][2] == rsi


def test_rsi_of_a_flat_series_is_no_value_also_long_after_a_move() -> None:
    assert _run("rsi", _bars([5.0] * 4), period=2)[1] == [[_WARM, _WARM, _DEGENERATE, _DEGENERATE]]
    missing = _run("rsi", _bars([5.0, 6.0] + [6.0] * 100), period=2)[1][0]
    assert (missing[2], missing[-1]) == (_OK, _DEGENERATE)


@pytest.mark.parametrize("bad", [_NAN, _INF])
def test_rsi_skips_a_bad_close_and_goes_on(bad: float) -> None:
    values, missing = _run("rsi", _bars([1.0, 2.0, 1.0, bad, 1.0, 2.0]), period=2)
    assert missing == [[_WARM, _WARM, _OK, _NOT_FINITE, _NOT_FINITE, _OK]]
    assert values[0][5] == pytest.approx(75.0)


def test_rsi_of_overflowing_changes_recovers() -> None:
    close = [1e308, -1e308, 1e308, 1.0, 2.0, 3.0, 2.0]
    missing = _run("rsi", _bars(close), period=2)[1]
    assert missing == [[_WARM, _WARM, _WARM, _WARM, _OK, _OK, _OK]]


@pytest.mark.parametrize(
    ("volume", "missing"),
    [
        ([1.0, 3.0, 4.0], [_WARM, _WARM, _OK]),
        ([0.0, 0.0, 4.0], [_WARM, _WARM, _DEGENERATE]),
        ([0.0, 0.0, 0.0], [_WARM, _WARM, _DEGENERATE]),
        ([5e-324, 0.0, 1.0], [_WARM, _WARM, _DEGENERATE]),
        ([1.0, -1.0, 4.0, 4.0, 4.0], [_WARM, _WARM, _DEGENERATE, _DEGENERATE, _OK]),
        ([1.0, _NAN, 4.0, 4.0, 4.0], [_WARM, _WARM, _NOT_FINITE, _NOT_FINITE, _OK]),
        ([1.0, 1.0, _NAN, 4.0, 4.0], [_WARM, _WARM, _NOT_FINITE, _NOT_FINITE, _NOT_FINITE]),
        ([1e-300, 1e-300, 1e300], [_WARM, _WARM, _NOT_FINITE]),
    ],
)
def test_relative_volume_says_why_it_is_missing(volume: list[float], missing: list[Missing]) -> None:
    assert _run("relative_volume", _bars([1.0] * len(volume), volume=volume), window=2)[1] == [missing]


def test_relative_volume_leaves_the_present_bar_out_of_the_mean() -> None:
    assert _run("relative_volume", _bars([1.0] * 3, volume=[1.0, 3.0, 8.0]), window=2)[0][0][2] == 4.0


def test_channel_leaves_the_present_bar_out() -> None:
    bars = _bars([2.0, 3.0, 9.0], high=[3.0, 4.0, 10.0], low=[1.0, 2.0, 0.5])
    values, missing = _run("channel", bars, window=2)
    assert missing == [[_WARM, _WARM, _OK]] * 3
    assert [column[2] for column in values] == [4.0, 1.0, 3.0 / 2.5]


@pytest.mark.parametrize("bad", [_NAN, _INF, -_INF])
def test_channel_has_no_value_while_a_bad_low_is_in_the_window(bad: float) -> None:
    bars = _bars([1.0] * 5, low=[1.0, bad, 1.0, 1.0, 1.0])
    assert _run("channel", bars, window=2)[1] == [[_WARM, _WARM, _NOT_FINITE, _NOT_FINITE, _OK]] * 3


@pytest.mark.parametrize(("price", "code"), [(0.0, _DEGENERATE), (-3.0, _DEGENERATE), (3.0, _OK)])
def test_channel_range_needs_a_positive_middle(price: float, code: Missing) -> None:
    values, missing = _run("channel", _bars([price] * 3), window=2)
    assert [column[2] for column in missing] == [_OK, _OK, code]
    assert values[0][2] == price
