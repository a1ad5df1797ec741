"""Technical indicators: hand-made series with known values, and what each says when it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.columns import BarColumns
from operators.features import BAR_FEATURES
from schemas.enums import Missing

_OK, _WARM, _DEGENERATE, _NOT_FINITE = Missing.OK, Missing.WARMING_UP, Missing.DEGENERATE, Missing.NOT_FINITE
_NAN, _INF = float("nan"), float("inf")


def _run(
    name: str, close: list[float], *, high: Any = None, low: Any = None, volume: Any = None, **parameters: Any
) -> tuple[dict[str, list[float]], dict[str, list[Missing]]]:
    """Return values and `Missing` codes by output; high and low are the close unless given, volume is one."""
    n = len(close)
    ts = np.arange(n, dtype=np.int64)
    price = np.array(close, dtype=np.float64)
    top = price if high is None else np.array(high, dtype=np.float64)
    bottom = price if low is None else np.array(low, dtype=np.float64)
    size = np.ones(n) if volume is None else np.array(volume, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        notional = price * size
    code = np.zeros(n, dtype=np.int32)
    bars = BarColumns(code, ts, ts, ts, ts, price, top, bottom, price, size, notional, price, ts, size)
    cls = BAR_FEATURES[name]
    feature = cls(cls.Config(**parameters))
    feature.state.ensure(1)
    values, missing = feature.update(bars)
    names = [spec.name for spec in cls.specs(feature.config)]
    return (
        dict(zip(names, values.T.tolist(), strict=True)),
        {name: [Missing(code) for code in column] for name, column in zip(names, missing.T, strict=True)},
    )


def test_moving_averages_of_a_staircase_are_known() -> None:
    spans = {"sma_fast": 2, "sma_slow": 3, "ema_fast": 2, "ema_slow": 3}
    values, missing = _run("moving_averages", [1.0, 2.0, 3.0, 6.0], **spans)
    assert missing["sma_fast"] == missing["ema_fast_distance"] == [_WARM, _OK, _OK, _OK]
    assert missing["sma_slow_distance"] == missing["ema_slow"] == [_WARM, _WARM, _OK, _OK]
    assert (values["sma_fast"][3], values["sma_slow"][3]) == pytest.approx((4.5, 11 / 3), rel=1e-15)
    assert values["ema_fast"][1:] == pytest.approx([1.5, 2.5, 2.5 + 2 / 3 * 3.5], rel=1e-15)
    assert values["ema_slow"][2:] == [2.0, 4.0]
    assert values["ema_slow_distance"][3] == 0.5


def test_moving_averages_a_bad_close_stays_in_the_windows_and_never_enters_the_recursion() -> None:
    spans = {"sma_fast": 1, "sma_slow": 2, "ema_fast": 1, "ema_slow": 2}
    values, missing = _run("moving_averages", [1.0, 1.0, _NAN, 4.0, 4.0], **spans)
    assert missing["sma_slow"] == [_WARM, _OK, _NOT_FINITE, _NOT_FINITE, _OK]
    assert missing["ema_slow"] == [_WARM, _OK, _NOT_FINITE, _OK, _OK]
    assert values["ema_slow"][3] == pytest.approx(3.0, rel=1e-15)


def test_moving_averages_that_are_not_positive_stand_without_a_distance() -> None:
    _, missing = _run("moving_averages", [0.0] * 50)
    assert missing["sma_slow"][-1] == missing["ema_slow"][-1] == _OK
    assert missing["sma_slow_distance"][-1] == missing["ema_slow_distance"][-1] == _DEGENERATE


def test_exponential_average_that_would_overflow_keeps_its_value() -> None:
    spans = {"sma_fast": 1, "sma_slow": 2, "ema_fast": 1, "ema_slow": 2}
    _, missing = _run("moving_averages", [1e308, 1e308, -1e308, 1e308], **spans)
    assert missing["ema_slow"] == [_WARM, _OK, _NOT_FINITE, _OK]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("moving_averages", {"sma_fast": 50}, "expected `sma_fast` below `sma_slow`, found 50 and 50"),
        ("moving_averages", {"ema_slow": 12}, "expected `ema_fast` below `ema_slow`, found 12 and 12"),
        ("macd", {"fast": 30}, "expected `fast` below `slow`, found 30 and 26"),
        ("stochastic", {"window": 0}, "greater than or equal to 1"),
        ("bollinger", {"multiple": 0.0}, "greater than 0"),
        ("vwap", {"window": 1001}, "less than or equal to 1000"),
    ],
)
def test_parameters_out_of_bounds_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAR_FEATURES[name].Config(**parameters)


def test_macd_of_short_spans_is_known() -> None:
    values, missing = _run("macd", [1.0, 2.0, 4.0, 4.0], fast=1, slow=2, signal=2)
    assert missing == {
        "macd": [_WARM, _OK, _OK, _OK],
        "macd_signal": [_WARM, _WARM, _OK, _OK],
        "macd_histogram": [_WARM, _WARM, _OK, _OK],
    }
    line = [2 - 1.5, 4 - 19 / 6, 4 - 67 / 18]
    assert values["macd"][1:] == pytest.approx(line, rel=1e-12)
    signal = (line[0] + line[1]) / 2
    assert values["macd_signal"][2:] == pytest.approx([signal, signal + 2 / 3 * (line[2] - signal)], rel=1e-12)


@pytest.mark.parametrize("bad", [_NAN, _INF, -_INF])
def test_macd_skips_a_bad_close_and_goes_on(bad: float) -> None:
    with_bad, missing = _run("macd", [1.0, 2.0, 4.0, bad, 5.0], fast=1, slow=2, signal=2)
    without, _ = _run("macd", [1.0, 2.0, 4.0, 5.0], fast=1, slow=2, signal=2)
    assert missing["macd_histogram"] == [_WARM, _WARM, _OK, _NOT_FINITE, _OK]
    assert [column[-1] for column in with_bad.values()] == [column[-1] for column in without.values()]


def test_stochastic_of_a_short_series_is_known() -> None:
    values, missing = _run(
        "stochastic", [2.0, 3.0, 1.0, 4.0], high=[3, 4, 3, 5], low=[1, 2, 1, 1], window=2, slow_k=2, slow_d=2
    )
    assert missing["stochastic_d"] == [_WARM, _WARM, _WARM, _OK]
    assert values["stochastic_fast_k"][1:] == pytest.approx([200 / 3, 0.0, 75.0], rel=1e-12)
    assert values["stochastic_slow_k"][2:] == pytest.approx([100 / 3, 37.5], rel=1e-12)
    assert values["stochastic_d"][3] == pytest.approx((100 / 3 + 37.5) / 2, rel=1e-12)


def test_stochastic_of_a_flat_range_is_no_value_while_it_is_in_a_mean() -> None:
    _, missing = _run("stochastic", [2.0, 2.0, 3.0, 4.0, 5.0], window=2, slow_k=2, slow_d=1)
    assert missing["stochastic_fast_k"] == [_WARM, _DEGENERATE, _OK, _OK, _OK]
    assert missing["stochastic_slow_k"] == [_WARM, _WARM, _DEGENERATE, _OK, _OK]


def test_stochastic_mean_of_a_flat_and_a_bad_bar_is_not_finite() -> None:
    _, missing = _run("stochastic", [2.0, 2.0, _NAN, 3.0, 4.0], window=1, slow_k=2, slow_d=1, high=[2, 2, 3, 3, 5])
    assert missing["stochastic_fast_k"] == [_DEGENERATE, _DEGENERATE, _NOT_FINITE, _DEGENERATE, _OK]
    assert missing["stochastic_slow_k"] == [_WARM, _DEGENERATE, _NOT_FINITE, _NOT_FINITE, _DEGENERATE]


def test_bollinger_of_a_staircase_is_known() -> None:
    values, _ = _run("bollinger", [1.0, 2.0, 3.0], window=3, multiple=1.0)
    std = np.sqrt(2 / 3)
    expected = [2 + std, 2 - std, 0.5 + 0.5 / std, std]
    assert [column[2] for column in values.values()] == pytest.approx(expected, rel=1e-12)


def test_bollinger_of_a_flat_window_lies_on_the_price() -> None:
    values, missing = _run("bollinger", [5.0, 5.0], window=2)
    assert [column[1] for column in missing.values()] == [_OK, _OK, _DEGENERATE, _OK]
    assert [values[name][1] for name in ("bollinger_upper", "bollinger_lower", "bollinger_bandwidth")] == [
        5.0,
        5.0,
        0.0,
    ]


@pytest.mark.parametrize("bad", [_NAN, _INF, 1.7e308])
def test_bollinger_has_no_value_while_a_bad_close_is_in_the_window(bad: float) -> None:
    _, missing = _run("bollinger", [1.0, 2.0, bad, bad, 2.0, 3.0], window=2)
    expected = [_WARM, _OK, _NOT_FINITE, _NOT_FINITE, _NOT_FINITE, _OK]
    assert missing["bollinger_upper"] == missing["bollinger_percent_b"] == expected


def test_true_range_reaches_to_the_close_before() -> None:
    values, missing = _run("atr", [10.0, 13.0, 8.0], high=[11, 13, 9], low=[9, 12, 8], period=2)
    assert missing["true_range"] == [_WARM, _OK, _OK]
    assert missing["atr"] == missing["normalized_atr"] == [_WARM, _WARM, _OK]
    assert values["true_range"][1:] == [3.0, 5.0]
    assert (values["atr"][2], values["normalized_atr"][2]) == (4.0, 50.0)


def test_average_true_range_of_a_flat_series_is_no_value_and_its_true_range_is_zero() -> None:
    values, missing = _run("atr", [5.0] * 3, period=2)
    assert missing["atr"] == missing["normalized_atr"] == [_WARM, _WARM, _DEGENERATE]
    assert values["true_range"][1:] == [0.0, 0.0]


@pytest.mark.parametrize("bad", [_NAN, _INF, -_INF])
def test_average_true_range_skips_a_bad_bar_and_the_one_after_it(bad: float) -> None:
    values, missing = _run("atr", [1.0, 2.0, 4.0, bad, 9.0, 11.0], period=2)
    assert missing["atr"] == [_WARM, _WARM, _OK, _NOT_FINITE, _NOT_FINITE, _OK]
    assert values["atr"][5] == 1.75


def test_average_true_range_of_a_price_that_is_not_positive_has_no_percentage() -> None:
    _, missing = _run("atr", [1.0, 2.0, -1.0], period=2)
    assert (missing["atr"][2], missing["normalized_atr"][2]) == (_OK, _DEGENERATE)


def test_adx_of_steps_up_is_all_plus() -> None:
    values, missing = _run("adx", [1.0, 2.0, 3.0, 4.0], period=2)
    assert missing["plus_di"] == [_WARM, _WARM, _OK, _OK]
    assert missing["adx"] == [_WARM, _WARM, _WARM, _OK]
    assert [column[3] for column in values.values()] == [100.0, 0.0, 100.0]


def test_adx_equal_moves_to_both_sides_count_for_neither() -> None:
    values, missing = _run("adx", [5.0] * 4, high=[6, 7, 8, 9], low=[4, 3, 2, 1], period=2)
    assert values["plus_di"][2:] == values["minus_di"][2:] == [0.0, 0.0]
    assert missing["adx"] == [_WARM, _WARM, _DEGENERATE, _DEGENERATE]


def test_adx_of_a_flat_series_is_no_value() -> None:
    _, missing = _run("adx", [5.0] * 4, period=2)
    assert set(map(tuple, missing.values())) == {(_WARM, _WARM, _DEGENERATE, _DEGENERATE)}


@pytest.mark.parametrize("bad", [_NAN, _INF, -_INF])
def test_adx_skips_a_bad_bar_and_the_one_after_it(bad: float) -> None:
    _, missing = _run("adx", [1.0, 2.0, 3.0, 4.0, bad, 5.0, 6.0], period=2)
    assert missing["adx"] == [_WARM, _WARM, _WARM, _OK, _NOT_FINITE, _NOT_FINITE, _OK]


def test_keltner_of_a_short_series_is_known() -> None:
    values, missing = _run(
        "keltner", [10.0, 13.0, 8.0], high=[11, 13, 9], low=[9, 12, 8], span=2, atr_period=2, multiple=0.5
    )
    assert missing["keltner_upper"] == [_WARM, _WARM, _OK]
    middle = 11.5 - 3.5 * 2 / 3
    expected = [middle + 2, middle - 2, 4 / middle, (8 - middle + 2) / 4]
    assert [column[2] for column in values.values()] == pytest.approx(expected, rel=1e-12)


def test_keltner_of_a_flat_series_lies_on_the_price() -> None:
    values, missing = _run("keltner", [5.0] * 3, span=2, atr_period=2)
    assert [column[2] for column in missing.values()] == [_OK, _OK, _OK, _DEGENERATE]
    assert [values[name][2] for name in ("keltner_upper", "keltner_lower", "keltner_width")] == [5.0, 5.0, 0.0]


def test_keltner_skips_a_bad_bar() -> None:
    _, missing = _run("keltner", [1.0, 2.0, 3.0, _NAN, 4.0, 5.0], span=2, atr_period=2)
    assert missing["keltner_upper"] == [_WARM, _WARM, _OK, _NOT_FINITE, _NOT_FINITE, _OK]


def test_donchian_has_the_present_bar_in_it() -> None:
    values, missing = _run("donchian", [2.0, 3.0, 9.0], high=[3, 4, 10], low=[1, 2, 0.5], window=2)
    assert missing["donchian_position"] == [_WARM, _OK, _OK]
    assert [column[2] for column in values.values()] == pytest.approx([10.0, 0.5, 8.5 / 9.5], rel=1e-12)


def test_donchian_without_width_has_no_position() -> None:
    _, missing = _run("donchian", [5.0, 5.0], window=2)
    assert [column[1] for column in missing.values()] == [_OK, _OK, _DEGENERATE]


@pytest.mark.parametrize(
    ("close", "missing"),
    [
        ([1.0, 2.0, 3.0], [_WARM, _WARM, _OK]),
        ([0.0, 2.0, 3.0, 3.0], [_WARM, _WARM, _DEGENERATE, _OK]),
        ([1.0, 2.0, _NAN, 3.0, 3.0, 3.0], [_WARM, _WARM, _NOT_FINITE, _OK, _NOT_FINITE, _OK]),
        ([-_INF, 2.0, 3.0], [_WARM, _WARM, _NOT_FINITE]),
        ([1e-300, 1.0, 1e300], [_WARM, _WARM, _NOT_FINITE]),
    ],
)
def test_rate_of_change_says_why_it_is_missing(close: list[float], missing: list[Missing]) -> None:
    assert _run("rate_of_change", close, period=2)[1]["rate_of_change"] == missing


def test_rate_of_change_of_a_doubling_is_a_hundred() -> None:
    assert _run("rate_of_change", [3.0, 1.0, 6.0], period=2)[0]["rate_of_change"][2] == 100.0


def test_vwap_weighs_by_volume() -> None:
    values, missing = _run("vwap", [1.0, 4.0], volume=[2.0, 1.0], window=2)
    assert missing["rolling_vwap"] == [_WARM, _OK]
    expected = [2.0, 10_000.0, 2.0 / np.sqrt((2 * 1 + 4) / 3)]
    assert [column[1] for column in values.values()] == pytest.approx(expected, rel=1e-12)


def test_vwap_of_one_price_has_no_deviation() -> None:
    _, missing = _run("vwap", [4.0, 4.0], volume=[2.0, 0.0], window=2)
    assert [column[1] for column in missing.values()] == [_OK, _OK, _DEGENERATE]


@pytest.mark.parametrize(
    ("volume", "reason"),
    [([0.0, 0.0], _DEGENERATE), ([2.0, -1.0], _DEGENERATE), ([_NAN, 1.0], _NOT_FINITE), ([_INF, 1.0], _NOT_FINITE)],
)
def test_vwap_without_proper_volume_is_no_value(volume: list[float], reason: Missing) -> None:
    assert [column[1] for column in _run("vwap", [4.0, 5.0], volume=volume, window=2)[1].values()] == [reason] * 3


def test_obv_change_adds_what_rose_and_takes_away_what_fell() -> None:
    values, missing = _run("on_balance_volume", [1.0, 2.0, 1.5, 1.5], volume=[9.0, 4.0, 1.0, 5.0], window=3)
    assert missing["obv_change"] == [_WARM, _WARM, _WARM, _OK]
    assert [column[3] for column in values.values()] == [3.0, 0.3]


@pytest.mark.parametrize(
    ("close", "volume", "change", "share"),
    [
        ([1.0, 2.0], [1.0, 0.0], _OK, _DEGENERATE),
        ([1.0, 2.0], [1.0, -1.0], _DEGENERATE, _DEGENERATE),
        ([1.0, _NAN], [1.0, 1.0], _NOT_FINITE, _NOT_FINITE),
        ([_INF, 1.0], [1.0, 1.0], _NOT_FINITE, _NOT_FINITE),
        ([1.0, 2.0], [1.0, _INF], _NOT_FINITE, _NOT_FINITE),
    ],
)
def test_obv_change_says_why_it_is_missing(
    close: list[float], volume: list[float], change: Missing, share: Missing
) -> None:
    _, missing = _run("on_balance_volume", close, volume=volume, window=1)
    assert missing == {"obv_change": [_WARM, change], "obv_change_share": [_WARM, share]}


def test_money_flow_index_is_the_share_that_rose() -> None:
    values, missing = _run("money_flow", [1.0, 2.0, 1.0, 1.0], volume=[1.0, 3.0, 2.0, 7.0], period=3)
    assert missing["money_flow_index"] == [_WARM, _WARM, _WARM, _OK]
    assert values["money_flow_index"][3] == 75.0


@pytest.mark.parametrize(
    ("close", "volume", "reason"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], _DEGENERATE),
        ([1.0, 2.0, 3.0], [1.0, 1.0, -1.0], _DEGENERATE),
        ([-1.0, -2.0, -3.0], [1.0, 1.0, 1.0], _DEGENERATE),
        ([1.0, _NAN, 3.0], [1.0, 1.0, 1.0], _NOT_FINITE),
        ([1.0, 2.0, 3.0], [1.0, 1.0, _INF], _NOT_FINITE),
        ([1.0, 2.0, 3.0], [1.0, -1.0, _NAN], _NOT_FINITE),
    ],
)
def test_money_flow_index_says_why_it_is_missing(close: list[float], volume: list[float], reason: Missing) -> None:
    assert _run("money_flow", close, volume=volume, period=2)[1]["money_flow_index"] == [_WARM, _WARM, reason]
