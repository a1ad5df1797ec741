"""Figures: labels escaped, sizes bounded, nothing drawn where there is no value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dataflows.report.drift import FeatureDrift
from dataflows.report.figures import (
    InstrumentPlot,
    coverage_figure,
    drift_figure,
    instrument_figure,
    strategy_figure,
)
from dataflows.report.queries import Series
from dataflows.report.text import json_block
from schemas.enums import Missing

_HOSTILE = b"<a href='https://example.org'>&amp;\x00%{x}</a>"


def _signal(ts: int = 10**9, intent: str = "enter", direction: str = "long", text: bytes = b"why") -> dict[str, Any]:
    return {
        "ts": ts, "intent": intent.encode(), "direction": direction.encode(), "price": 10.0, "confidence": 0.5,
        "strategy": text, "reason": text, "input_names": [text] * 9, "input_values": [1.5] * 9,
        "threshold_names": [text], "threshold_values": [2.0],
    }  # fmt: skip


def _series(*values: float) -> Series:
    return Series(np.arange(len(values), dtype=np.int64) * 10**9, np.array(values))


def test_instrument_figure_of_signals_has_a_trace_for_each_action() -> None:
    signals = [_signal(), _signal(direction="short"), _signal(intent="exit"), _signal(intent="reduce")]
    data = instrument_figure(InstrumentPlot(None, _series(1.0, 2.0), {}, signals))["data"]
    assert [trace["name"] for trace in data] == ["close", "enter long", "enter short", "exit", "reduce"]
    assert [len(trace["x"]) for trace in data] == [2, 1, 1, 1, 1]


def test_instrument_figure_of_hostile_signals_shows_only_its_own_markup() -> None:
    [trace] = instrument_figure(InstrumentPlot(None, None, {}, [_signal(text=_HOSTILE)]))["data"]
    bare = trace["hovertext"][0]
    for own in ("<b>", "</b>", "<i>", "</i>", "<br>"):
        bare = bare.replace(own, "")
    assert "<" not in bare
    assert r"&lt;a href='https://example.org'&gt;&amp;amp;\x00" in bare


def test_instrument_figure_of_many_long_hovers_stays_within_its_bytes() -> None:
    signals = [_signal(text=b"<" * 500) for _ in range(400)]
    figure = instrument_figure(InstrumentPlot(None, None, {}, signals))
    assert len(figure["data"][0]["hovertext"]) == 400
    assert len(json_block(figure).encode()) < 300_000
    assert figure["data"][0]["hovertext"][-1] == "<b>enter long at 10</b><br>confidence 0.500"


def test_instrument_figure_keeps_missing_values_as_gaps() -> None:
    figure = instrument_figure(InstrumentPlot(None, None, {"spread_bps": _series(1.0, np.nan, 3.0)}))
    [trace] = figure["data"]
    assert trace["y"] == [1.0, None, 3.0]
    assert trace["x"] == [0, 1_000, 2_000]
    json.dumps(figure, allow_nan=False)


def test_instrument_figure_without_any_value_says_so_in_each_panel() -> None:
    figure = instrument_figure(InstrumentPlot(None, None, {"spread_bps": _series(np.nan)}))
    texts = [annotation["text"] for annotation in figure["layout"]["annotations"]]
    assert figure["data"] == []
    assert texts.count("no value in this run") == 4


def test_strategy_figure_counts_signals_in_their_buckets() -> None:
    buckets = [{"strategy": b"a", "bucket": 0, "n": 2}, {"strategy": b"b", "bucket": 2, "n": 5}]
    data = strategy_figure(["a", "b"], buckets, low=0, width=10**9, n=3)["data"]
    assert [trace["y"] for trace in data] == [[2, 0, 0], [0, 0, 5]]
    assert data[0]["x"] == [500, 1_500, 2_500]


def test_drift_figure_ranks_what_has_a_statistic() -> None:
    drifts = [FeatureDrift("a", 0.2, 0.3), FeatureDrift("b"), FeatureDrift("c", 0.1, 0.1)]
    bars = drift_figure(drifts)["data"][0]
    assert (bars["y"], bars["x"]) == (["c", "a"], [0.1, 0.2])


def test_coverage_figure_stacks_reasons_and_leaves_out_unused_ones() -> None:
    shares = {"a": {Missing.OK: 0.5, Missing.STALE: 0.5}, "b": {Missing.OK: 1.0}}
    [trace] = coverage_figure(["a", "b"], shares)["data"]
    assert (trace["name"], trace["y"], trace["x"]) == ("stale", ["b", "a"], [0.0, 50.0])


@pytest.mark.parametrize("value", [123456.123456, 1e-12, 0.1])
def test_instrument_figure_rounds_beyond_what_a_screen_shows(value: float) -> None:
    [trace] = instrument_figure(InstrumentPlot(None, _series(value), {}))["data"]
    assert trace["y"][0] == pytest.approx(value, rel=1e-7)
