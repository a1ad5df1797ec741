"""What each section of the report says, gathered from the store and made ready for the templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dataflows.report.accounts import Accounts
from dataflows.report.drift import MIN_VALUES, SAMPLE_ROWS, feature_drifts
from dataflows.report.figures import (
    PLOTTED,
    InstrumentPlot,
    coverage_figure,
    drift_figure,
    instrument_figure,
    strategy_figure,
)
from dataflows.report.queries import Queries, Row
from dataflows.report.text import NO_VALUE, clock, count, duration, number, visible
from schemas.enums import Missing, RunStatus
from schemas.time import format_duration
from sinks.store import Run

__all__ = [
    "feature_content",
    "head_content",
    "instrument_content",
    "loss_content",
    "plot_interval",
    "signal_content",
    "thinning_note",
]

MAX_INSTRUMENTS: Final = 12
_CANDLES: Final = 300
"""Bars that are drawn as candles; more would be thinner than three pixels each."""
_PRICE_POINTS: Final = 2_000
_FEATURE_POINTS: Final = 1_000
"""A panel is about 1,100 pixels wide: least and greatest value for every second pixel."""
_MARKERS: Final = 400
"""Signals marked per instrument, each with its hover text: about 150 kB of the page."""
_LATEST: Final = 50
_STRATEGIES: Final = 24
_BUCKETS: Final = 60
_EXAMPLES: Final = 20
_PAYLOAD: Final = 300
_PLOT_INTERVAL: Final = 60 * 10**9
_DRIFT_ROWS: Final = 300
"""Rows of an instrument, a hundred to a third, from which on the plotted bar length is good for drift."""
_STATUS_CLASSES: Final = {RunStatus.COMPLETE: "good", RunStatus.FAILED: "bad"}


def plot_interval(intervals: Sequence[int]) -> int:
    """Return one minute where the run has such bars, else the length nearest to it by ratio.

    Examples
    --------
    >>> plot_interval([10**9, 300 * 10**9])
    300000000000
    """
    return min(
        intervals, key=lambda ns: (max(ns, _PLOT_INTERVAL) / min(ns, _PLOT_INTERVAL), ns), default=_PLOT_INTERVAL
    )


def head_content(queries: Queries, run: Run, accounts: Accounts, elapsed: float | None) -> dict[str, Any]:
    """Return what identifies the run, its totals and its assumptions."""
    status = queries.store.run_status(run.run_id)
    span = queries.span()
    stored = {table.table: table.rows for table in accounts.tables}
    instruments = queries.instrument_total()
    bars = _bars_config(run.config)
    tiles = [
        ("records read", count(accounts.read)),
        *([("records per second", count(round(accounts.read / elapsed)))] if elapsed else []),
        ("decision time covered", duration(span[1] - span[0]) if span else NO_VALUE),
        ("instruments", count(instruments)),
        *((name.replace("_", " "), count(rows)) for name, rows in stored.items()),
    ]
    facts = [
        ("first decision, UTC", clock(span[0]) if span else NO_VALUE, False),
        ("last decision, UTC", clock(span[1]) if span else NO_VALUE, False),
        ("source", visible(run.source, 300), False),
        ("bars", _joined(bars.get("intervals")), False),
        ("version", visible(run.version), False),
        ("configuration", visible(run.config_hash), True),
        ("feature set", f"{visible(run.feature_set)}, features: {count(len(run.feature_names))}", True),
        ("run", visible(run.run_id), True),
    ]
    return {
        "run_id": visible(run.run_id),
        "version": visible(run.version),
        "status": status.name.lower() if status else NO_VALUE,
        "status_class": _STATUS_CLASSES.get(status, "warn") if status else "warn",
        "final": status in (RunStatus.COMPLETE, RunStatus.STOPPED),
        "has_rows": span is not None,
        "tiles": tiles,
        "facts": facts,
        "instruments": count(instruments),
        "assumptions": _assumptions(bars.get("grace")),
    }


def _assumptions(grace: Any) -> list[str]:
    wait = f"{visible(grace, 20)} (the configured grace)" if isinstance(grace, str) else "a configured grace"
    return [
        "Signals are decisions, not orders. Nothing was sent, sized or filled.",
        "No costs are modelled: no fees, spread, slippage, funding or market impact.",
        "Times of rows are decision times: everything in a row had arrived before its time.",
        "A window without a trade has no bar. Nothing is filled in between.",
        f"A bar closes {wait} after its end, by arrival; trades that come later are late events.",
        "A value that cannot be computed is missing with a reason, never replaced by a neutral number.",
    ]


def _bars_config(config: str) -> Mapping[str, Any]:
    """Return the part of the configuration about bars, wherever it stands in it."""
    try:
        content = json.loads(config)
    except (ValueError, RecursionError):
        return {}
    levels = [content]
    while levels:
        level = levels.pop(0)
        if isinstance(level, dict):
            if isinstance(level.get("bars"), dict):
                return dict(level["bars"])
            levels.extend(level.values())
    return {}


def _joined(values: Any) -> str:
    return ", ".join(visible(str(value), 20) for value in values[:16]) if isinstance(values, list) else NO_VALUE


def instrument_content(
    queries: Queries, interval: int, features: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a plot with its note for each of the busiest instruments, and their names."""
    columns = [name for name in PLOTTED if name in features]
    content, names = [], []
    for row in queries.busiest_instruments(interval, MAX_INSTRUMENTS):
        name = row["instrument_id"].decode("utf-8", errors="replace")
        names.append(name)
        few = row["bars"] <= _CANDLES
        signals, step = queries.signals_of(name, _MARKERS)
        plot = InstrumentPlot(
            candles=queries.candles(interval, name) if few else None,
            close=None if few else queries.series("bars", ["close"], interval, name, _PRICE_POINTS).get("close"),
            features=queries.series("features", columns, interval, name, _FEATURE_POINTS),
            signals=signals,
        )
        label = f"{visible(name, 60)} ({count(row['signals'])} signals)"
        content.append({"label": label, "figure": instrument_figure(plot), "note": _plot_note(row, len(signals), step)})
    return content, names


def _plot_note(row: Row, marked: int, step: int) -> str:
    drawn = f"{count(row['bars'])} bars"
    if row["bars"] > _CANDLES:
        drawn += ", drawn as a line of closes"
    if step == 1:
        return f"{drawn}; all {count(marked)} signals are marked."
    return f"{drawn}; every {step}th of {count(row['signals'])} signals is marked."


def thinning_note() -> str:
    """Return how long series are thinned."""
    return (
        f"A series of more than {_PRICE_POINTS:,} closes or {_FEATURE_POINTS:,} feature values shows the least and the "
        "greatest value of equal buckets of time, so peaks survive."
    )


def signal_content(queries: Queries) -> dict[str, Any]:
    """Return signals by strategy, over time, and the latest."""
    strategies = queries.strategies(_STRATEGIES)
    if not strategies:
        return {"strategies": [], "latest": [], "strategy_figure": None}
    names = [row["strategy"].decode("utf-8", errors="replace") for row in strategies]
    low = min(row["first_ts"] for row in strategies)
    width = -(-(max(row["last_ts"] for row in strategies) - low + 1) // _BUCKETS)
    buckets = queries.signals_over_time(names, low, width)
    return {
        "strategies": strategies,
        "strategy_figure": strategy_figure(names, buckets, low, width, _BUCKETS),
        "latest": [_signal(row) for row in queries.latest_signals(_LATEST)],
    }


def _signal(row: Row) -> dict[str, Any]:
    intent, direction = row["intent"].decode(), row["direction"].decode()
    entering = "buy" if direction == "long" else "sell"
    return {
        "ts": row["ts"],
        "instrument": visible(row["instrument_id"], 60),
        "strategy": visible(row["strategy"], 60),
        "action": f"{intent} {direction}",
        "action_class": entering if intent == "enter" else "flat",
        "confidence": row["confidence"],
        "price": row["price"],
        "reason": visible(row["reason"], 300),
        "inputs": _pairs(row["input_names"], row["input_values"]),
        "thresholds": _pairs(row["threshold_names"], row["threshold_values"]),
    }


def _pairs(names: Sequence[bytes], values: Sequence[float]) -> list[tuple[str, str]]:
    return [(visible(name, 60), number(value)) for name, value in zip(names, values, strict=True)]


def feature_content(
    queries: Queries, interval: int, features: Sequence[str], instruments: Sequence[str]
) -> dict[str, Any]:
    """Return coverage of each feature at the plotted bar length, and drift at one with rows enough for it."""
    shares = _missing_shares(queries, interval, features)
    if not shares:
        return {"features": [], "drifted": False, "drift_figure": None, "coverage_figure": None}
    enough = queries.rows_of_busiest(interval) >= _DRIFT_ROWS
    drift_interval = interval if enough else min(queries.intervals())
    drifts = feature_drifts(queries, features, drift_interval, instruments)
    rows = []
    for drift in drifts:
        missing = {reason: share for reason, share in shares[drift.feature].items() if reason != Missing.OK}
        largest = max(missing, key=lambda reason: missing[reason], default=None)
        rows.append({
            "feature": visible(drift.feature, 60),
            "missing": sum(missing.values()),
            "reason": largest.name.lower().replace("_", " ") if largest is not None else "",
            "statistic": drift.statistic,
            "largest": drift.largest,
            "instrument": visible(drift.instrument, 60),
            "median_first": drift.median_first,
            "median_last": drift.median_last,
            "instruments": drift.instruments,
        })  # fmt: skip
    return {
        "features": rows,
        "drifted": any(drift.statistic is not None for drift in drifts),
        "drift_figure": drift_figure(drifts),
        "coverage_figure": coverage_figure(features, shares),
        "drift_interval": format_duration(drift_interval),
        "sample_rows": SAMPLE_ROWS,
        "min_values": MIN_VALUES,
    }


def _missing_shares(queries: Queries, interval: int, features: Sequence[str]) -> dict[str, dict[Missing, float]]:
    """Return the share of rows by reason for each feature; empty where there are no rows."""
    counts: dict[str, dict[Missing, int]] = {feature: {} for feature in features}
    for row in queries.missing_codes(interval):
        if row["position"] <= len(features):
            counts[features[row["position"] - 1]][Missing(row["code"])] = row["n"]
    if not any(counts.values()):
        return {}
    return {
        feature: {reason: n / sum(found.values()) for reason, n in found.items()} for feature, found in counts.items()
    }


def loss_content(queries: Queries) -> dict[str, Any]:
    """Return dead letters and late events: groups and examples."""
    return {
        "refused": [
            (visible(row["topic"], 60), visible(row["reason"], 60), count(row["n"])) for row in queries.refused()
        ],
        "refused_examples": [_example(row) for row in queries.refused_examples(_EXAMPLES, _PAYLOAD)],
        "late": [
            (
                visible(row["topic"], 60),
                visible(row["reason"], 60),
                format_duration(row["interval_ns"]),
                count(row["n"]),
                f"{number(row['delay'] / 1e9, 4)} s",
            )
            for row in queries.late()
        ],
        "late_examples": [_example(row) for row in queries.late_examples(_EXAMPLES, _PAYLOAD)],
    }


def _example(row: Row) -> dict[str, Any]:
    shown = visible(row["payload"], _PAYLOAD)
    return {
        "place": f"{visible(row['topic'], 60)} / {row['partition']} / {row['offset']}",
        "ts_recv": row["ts_recv"],
        "ts_event": row.get("ts_event"),
        "bar": format_duration(row["interval_ns"]) if "interval_ns" in row else "",
        "instrument": NO_VALUE if row["instrument_id"] is None else visible(row["instrument_id"], 60),
        "reason": visible(row["reason"], 60),
        "detail": visible(row.get("detail", ""), 300),
        "size": row["size"],
        "payload": shown if row["size"] <= _PAYLOAD or shown.endswith("…") else f"{shown}…",
    }
