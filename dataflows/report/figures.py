"""The plots of the report as plain Plotly figures: data and layout, without colours of the page's theme.

Every label that comes from data has passed `plot_text`; no template of Plotly's (`%{...}`) is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dataflows.report.drift import FeatureDrift
from dataflows.report.queries import Row, Series
from dataflows.report.text import decimals, json_block, number, plot_text, visible
from schemas.enums import Missing

__all__ = ["InstrumentPlot", "coverage_figure", "drift_figure", "instrument_figure", "strategy_figure"]

Figure = dict[str, Any]

_COLOURS: Final = ("#4c84f0", "#d98a2b", "#8f6bd8", "#1fa67a", "#d65a8a", "#3aa6b9", "#a0863b", "#7d8aa0")
_UP, _DOWN, _NEUTRAL = "#1fa67a", "#df5452", "#7d8aa0"
_REASON_COLOURS: Final = {
    Missing.WARMING_UP: "#4c84f0",
    Missing.NO_INPUT: "#9aa5b8",
    Missing.DEGENERATE: "#8f6bd8",
    Missing.STALE: "#d98a2b",
    Missing.OUT_OF_SYNC: "#df5452",
    Missing.NOT_FINITE: "#3b3f4a",
}
_MARKERS: Final[tuple[tuple[str, str | None, str, Figure], ...]] = (
    ("enter", "long", "enter long", {"symbol": "triangle-up", "color": _UP}),
    ("enter", "short", "enter short", {"symbol": "triangle-down", "color": _DOWN}),
    ("exit", None, "exit", {"symbol": "circle-open", "color": "#d98a2b"}),
    ("reduce", None, "reduce", {"symbol": "diamond-open", "color": "#8f6bd8"}),
)
_CROWDED: Final = 150
"""Signals from which on markers are small."""
_HOVER_BYTES: Final = 200_000
"""Bytes of an instrument's hover texts; twelve of them, twelve sets of series and Plotly make less than 12 MB."""
_HOVER_PAIRS: Final = 8
"""Inputs and thresholds that a marker's hover shows."""
_PANELS: Final = (
    ("spread, bps", (("spread_bps", "spread"),)),
    ("depth imbalance", (("depth_imbalance", "depth imbalance"),)),
    ("order flow imbalance, base units", (("order_flow_imbalance", "order flow imbalance"),)),
    ("sentiment (bold) and its intensity (faint, right)", (("news_sentiment", "news"), ("social_sentiment", "social"))),
)
_INTENSITY: Final = {"news_sentiment": "news_intensity", "social_sentiment": "social_intensity"}
PLOTTED: Final = (
    "spread_bps", "depth_imbalance", "order_flow_imbalance",
    "news_sentiment", "news_intensity", "social_sentiment", "social_intensity",
)  # fmt: skip
"""Features that are plotted over time."""
_PRICE_SHARE: Final = 0.42
_GAP: Final = 0.045


@dataclass(frozen=True, slots=True)
class InstrumentPlot:
    """What is plotted of one instrument.

    Parameters
    ----------
    candles
        Bars, where they are few enough to be told apart; else None.
    close
        Closes, where there are more.
    features
        Plotted features by name; a name that the run does not compute is absent.
    signals
        Signals to mark.
    """

    candles: pa.Table | None
    close: Series | None
    features: Mapping[str, Series] = field(default_factory=dict)
    signals: Sequence[Row] = ()


def _milliseconds(ts: Any) -> list[float]:
    """Return Plotly's time: milliseconds, which it shows in UTC."""
    return [value / 1e6 if value % 10**6 else value // 10**6 for value in np.asarray(ts, dtype=np.int64).tolist()]


def _values(values: Any) -> list[float | None]:
    """Return numbers of eight digits, which no screen tells from the whole ones; None for what is not finite."""
    return [float(f"{value:.8g}") if np.isfinite(value) else None for value in np.asarray(values).tolist()]


def _line(series: Series, name: str, axis: str, colour: str, **more: Any) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": _milliseconds(series.ts),
        "y": _values(series.values),
        "yaxis": axis,
        "line": {"color": colour, "width": 1.4},
        **more,
    }


def instrument_figure(plot: InstrumentPlot) -> Figure:
    """Return price with signals above, then spread, imbalances and sentiment, on one time axis."""
    data: list[Figure] = [*_price(plot), *_markers(plot.signals)]
    titles = ["price with signals", *(title for title, _ in _PANELS)]
    domains = _domains(len(titles))
    layout: Figure = {
        "height": 900,
        "margin": {"l": 64, "r": 48, "t": 64, "b": 36},
        "hovermode": "closest",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.035, "yanchor": "bottom"},
        "xaxis": {"type": "date", "anchor": "y5", "showspikes": True, "spikemode": "across", "spikethickness": 1,
                  "spikedash": "dot", "spikesnap": "cursor", "rangeslider": {"visible": False}},
        "annotations": [_title(text, domain[1]) for text, domain in zip(titles, domains, strict=True)],
    }  # fmt: skip
    for position, domain in enumerate(domains):
        layout[f"yaxis{position + 1}" if position else "yaxis"] = {"domain": domain, "zeroline": position > 1}
    layout["yaxis5"]["range"] = [-1.05, 1.05]
    layout["yaxis6"] = {"overlaying": "y5", "side": "right", "rangemode": "tozero", "showgrid": False,
                        "tickmode": "auto", "nticks": 4}  # fmt: skip
    for position, (_, lines) in enumerate(_PANELS, 2):
        drawn = _panel(plot.features, lines, f"y{position}")
        data.extend(drawn)
        if not drawn:
            layout["annotations"].append(_empty(domains[position - 1]))
    return {"data": data, "layout": layout}


def _domains(panels: int) -> list[list[float]]:
    height = (1 - _PRICE_SHARE - (panels - 1) * _GAP) / (panels - 1)
    domains = [[1 - _PRICE_SHARE, 1.0]]
    for _ in range(panels - 1):
        top = domains[-1][0] - _GAP
        domains.append([max(0.0, top - height), top])
    return domains


def _title(text: str, top: float) -> Figure:
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left",
            "yanchor": "bottom", "showarrow": False}  # fmt: skip


def _empty(domain: Sequence[float]) -> Figure:
    return {"text": "no value in this run", "xref": "paper", "yref": "paper", "x": 0.5, "y": sum(domain) / 2,
            "showarrow": False, "opacity": 0.7}  # fmt: skip


def _price(plot: InstrumentPlot) -> list[Figure]:
    if plot.candles is not None and plot.candles.num_rows:
        prices = {name: _values(plot.candles.column(name).to_numpy()) for name in ("open", "high", "low", "close")}
        return [{"type": "candlestick", "name": "bars", "x": _milliseconds(plot.candles.column("ts").to_numpy()),
                 **prices, "yaxis": "y", "increasing": {"line": {"color": _UP, "width": 1}},
                 "decreasing": {"line": {"color": _DOWN, "width": 1}}}]  # fmt: skip
    if plot.close is not None and len(plot.close.ts):
        return [_line(plot.close, "close", "y", _COLOURS[0])]
    return []


def _markers(signals: Sequence[Row]) -> list[Figure]:
    crowded = len(signals) > _CROWDED
    style: Figure = {"size": 6, "opacity": 0.75} if crowded else {"size": 10}
    hovers = _hovers(signals)
    traces = []
    for intent, direction, name, marker in _MARKERS:
        chosen = [
            (row, hover) for row, hover in zip(signals, hovers, strict=True)
            if row["intent"] == intent.encode() and direction in (None, row["direction"].decode())
        ]  # fmt: skip
        if chosen:
            traces.append(
                {"type": "scatter", "mode": "markers", "name": name, "yaxis": "y", "marker": marker | style,
                 "x": _milliseconds([row["ts"] for row, _ in chosen]),
                 "y": _values([row["price"] for row, _ in chosen]),
                 "hoverinfo": "text", "hovertext": [hover for _, hover in chosen]}
            )  # fmt: skip
    return traces


def _hovers(signals: Sequence[Row]) -> list[str]:
    """Return what each marker says: everything while the bytes last, then only what was decided."""
    left = _HOVER_BYTES
    hovers = []
    for row in signals:
        action = f"{row['intent'].decode()} {row['direction'].decode()} at {number(row['price'], 8)}"
        hover = f"<b>{action}</b><br>confidence {decimals(row['confidence'])}"
        whole = f"{hover}<br>{_explained(row)}"
        left -= len(json_block(whole).encode())
        hovers.append(whole if left > 0 else hover)
    return hovers


def _explained(row: Row) -> str:
    lines = [plot_text(visible(row["strategy"], 60)), plot_text(visible(row["reason"], 120))]
    for title, kind in (("inputs", "input"), ("thresholds", "threshold")):
        pairs = list(zip(row[f"{kind}_names"], row[f"{kind}_values"], strict=True))[:_HOVER_PAIRS]
        if pairs:
            lines.append(f"<i>{title}</i>")
            lines.extend(f"  {plot_text(visible(name, 40))} = {number(value)}" for name, value in pairs)
    return "<br>".join(lines)


def _panel(features: Mapping[str, Series], lines: Sequence[tuple[str, str]], axis: str) -> list[Figure]:
    drawn = []
    for position, (feature, name) in enumerate(lines):
        series = features.get(feature)
        if series is None or not np.isfinite(series.values).any():
            continue
        colour = _COLOURS[position] if feature in _INTENSITY else _COLOURS[(int(axis[1:]) + 4) % len(_COLOURS)]
        intensity = features.get(_INTENSITY.get(feature, ""))
        if intensity is not None:
            drawn.append(_line(intensity, f"{name} intensity", "y6", colour, opacity=0.55, showlegend=False))
            drawn[-1]["line"] = {"color": colour, "width": 0.8}
        drawn.append(_line(series, f"{name} sentiment" if intensity is not None else name, axis, colour,
                           showlegend=feature in _INTENSITY))  # fmt: skip
    return drawn


def strategy_figure(strategies: Sequence[str], buckets: Sequence[Row], low: int, width: int, n: int) -> Figure:
    """Return signals of each strategy over time as stacked bars of `n` buckets, `width` ns wide from `low`."""
    counts = {strategy: [0] * n for strategy in strategies}
    for row in buckets:
        counts[row["strategy"].decode("utf-8", errors="replace")][row["bucket"]] += row["n"]
    centres = _milliseconds(low + width * np.arange(n, dtype=np.int64) + width // 2)
    data = [
        {"type": "bar", "name": plot_text(visible(strategy, 60)), "x": centres, "y": counts[strategy],
         "width": width / 1e6 * 0.92, "marker": {"color": _COLOURS[position % len(_COLOURS)]}}
        for position, strategy in enumerate(strategies)
    ]  # fmt: skip
    layout = {"height": 300, "barmode": "stack", "margin": {"l": 56, "r": 12, "t": 28, "b": 46}, "hovermode": "x",
              "xaxis": {"type": "date"}, "yaxis": {"rangemode": "tozero", "title": {"text": "signals"}},
              "showlegend": True, "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}}  # fmt: skip
    return {"data": data, "layout": layout}


def drift_figure(drifts: Sequence[FeatureDrift]) -> Figure:
    """Return the statistic of each feature that has one, the largest on top."""
    known = sorted((drift for drift in drifts if drift.statistic is not None), key=lambda drift: drift.statistic or 0.0)
    labels = [plot_text(visible(drift.feature, 60)) for drift in known]
    data = [
        {"type": "bar", "orientation": "h", "name": "median instrument", "y": labels,
         "x": _values([drift.statistic for drift in known]), "marker": {"color": _COLOURS[0]}},
        {"type": "scatter", "mode": "markers", "name": "most shifted instrument", "y": labels,
         "x": _values([drift.largest for drift in known]),
         "marker": {"symbol": "line-ns-open", "size": 9, "color": _COLOURS[1], "line": {"width": 2}}},
    ]  # fmt: skip
    return {"data": data, "layout": _ranked(len(known), "Kolmogorov-Smirnov statistic", [0, 1.02])}


def coverage_figure(features: Sequence[str], shares: Mapping[str, Mapping[Missing, float]]) -> Figure:
    """Return the share of rows in which each feature is missing, stacked by reason, in the set's order."""
    ordered = list(reversed(features))
    labels = [plot_text(visible(feature, 60)) for feature in ordered]
    data = [
        {"type": "bar", "orientation": "h", "name": reason.name.lower().replace("_", " "), "y": labels,
         "x": _values([100 * shares[feature].get(reason, 0.0) for feature in ordered]), "marker": {"color": colour}}
        for reason, colour in _REASON_COLOURS.items()
        if any(shares[feature].get(reason) for feature in features)
    ]  # fmt: skip
    layout = _ranked(len(ordered), "rows without a value, %", [0, 101])
    return {"data": data, "layout": layout | {"barmode": "stack"}}


def _ranked(rows: int, title: str, bounds: list[float]) -> Figure:
    return {"height": 90 + 19 * max(rows, 3), "margin": {"l": 170, "r": 16, "t": 30, "b": 44}, "hovermode": "y",
            "xaxis": {"range": bounds, "title": {"text": title}}, "bargap": 0.3,
            "yaxis": {"type": "category", "automargin": True, "range": [-0.7, rows - 0.3]}, "showlegend": True,
            "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}}  # fmt: skip
