"""The plots of features, strategies and specialists of one day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from dataflows.catalogue import Catalogue, StrategyEntry
from schemas.enums import Missing
from schemas.features import FeatureSpec
from scripts.plots.day import Day, FloatArray
from scripts.plots.figure import DOWN, UP, Figure, Line, Mark, Panel
from scripts.plots.places import FeaturePlot, feature_plots

__all__ = ["draw"]

_LEVEL_UNITS: Final = ("price", "quote currency")
_LEVEL_BAND: Final = 0.1
"""A feature whose values all lie within this share of the close is a price level, drawn over it."""
_PRICE_HEIGHT: Final = 130
_MOST_MARKS: Final = 60


def draw(catalogue: Catalogue, day: Day) -> dict[str, str]:
    """Return every plot: path below the folder of plots, and SVG."""
    figures: dict[str, Figure] = {}
    for family in catalogue.families.values():
        figures |= {plot.path: _features(plot, day) for plot in feature_plots(family)}
    figures |= {f"strategies/{entry.name}.svg": _strategy(entry, day) for entry in catalogue.strategies.values()}
    figures |= {f"specialists/{name}.svg": _specialist(name, day) for name in catalogue.specialists}
    return {path: figure.svg() for path, figure in figures.items()}


def _features(plot: FeaturePlot, day: Day) -> Figure:
    instrument = _most(day, lambda name: sum(_n_finite(day, spec, name) for spec in plot.specs))
    row = day.row(instrument)
    close = day.columns["close"][row]
    levels = [spec for spec in plot.specs if _is_level(spec, day.columns[spec.name][row], close)]
    over = [Line(spec.name, day.columns[spec.name][row]) for spec in levels]
    title = f"{instrument}, price{':' if over else ''}"
    price = Panel(title, [Line("close", close), *over], height=_PRICE_HEIGHT)
    below = [
        Panel(
            f"{spec.name}, unit {spec.unit}", [Line(spec.name, day.columns[spec.name][row])], note=_why(day, spec, row)
        )
        for spec in plot.specs
        if spec not in levels
    ]
    absent = [spec.name for spec in plot.specs if not np.isfinite(day.columns[spec.name][row]).any()]
    description = f"{_opening(instrument)} with {', '.join(spec.name for spec in plot.specs)}."
    if absent:
        description += f" No value on this day: {', '.join(absent)}."
    return Figure(plot.title, description, day.ts, [price, *below])


def _opening(instrument: str) -> str:
    return f"Closes of minutes of the synthetic instrument {instrument}"


def _most(day: Day, count: Callable[[str], int]) -> str:
    """Return the instrument with the most of something, of equal ones the first."""
    return max(day.instruments, key=lambda name: (count(name), -day.row(name)))


def _n_finite(day: Day, spec: FeatureSpec, instrument: str) -> int:
    return int(np.isfinite(day.columns[spec.name][day.row(instrument)]).sum())


def _is_level(spec: FeatureSpec, values: FloatArray, close: FloatArray) -> bool:
    known = np.isfinite(values) & np.isfinite(close)
    if spec.unit not in _LEVEL_UNITS or not known.any():
        return False
    return bool((np.abs(values[known] / close[known] - 1.0) <= _LEVEL_BAND).all())


def _why(day: Day, spec: FeatureSpec, row: int) -> str:
    """Return why a feature has no value, in words."""
    codes = Counter(day.missing[spec.name][row].tolist())
    return f"no value on this day: {Missing(codes.most_common(1)[0][0]).name.lower()}"


def _strategy(entry: StrategyEntry, day: Day) -> Figure:
    own = [signal for signal in day.signals if signal[0] == entry.name]
    counts = Counter(signal[1] for signal in own)
    instrument = _most(day, lambda name: counts[name])
    signals = [signal for signal in own if signal[1] == instrument]
    price = Panel(
        f"{instrument}, price, with entries and exits of {entry.name}",
        [Line("close", day.columns["close"][day.row(instrument)])],
        [_signal_mark(*signal[2:]) for signal in signals[:_MOST_MARKS]],
        height=220,
    )
    known = day.columns.keys() - {"close"}
    below = [
        Panel(need, [Line(need, day.columns[need][day.row(instrument)])])
        for need in entry.needs
        if need in known and entry.on in ("bar", "universe")
    ]
    return Figure(f"{entry.name} on the synthetic day", _said(instrument, signals), day.ts, [price, *below])


def _said(instrument: str, signals: list[tuple[Any, ...]]) -> str:
    """Return how many signals there are and how they are marked."""
    if not signals:
        return f"{_opening(instrument)}. No signal on this day."
    n_entries = sum(signal[4] == "enter" for signal in signals)
    some = f" The first {_MOST_MARKS} are marked." if len(signals) > _MOST_MARKS else ""
    return (
        f"{_opening(instrument)}: {n_entries} entries (triangles, upwards for long and downwards for short) and "
        f"{len(signals) - n_entries} exits (rings).{some}"
    )


def _signal_mark(ts: int, direction: str, intent: str, price: float) -> Mark:
    if intent != "enter":
        return Mark(ts, price, "ring", "#d98a2b")
    return Mark(ts, price, "up", UP) if direction == "long" else Mark(ts, price, "down", DOWN)


def _specialist(name: str, day: Day) -> Figure:
    answers = Counter(answer[1] for answer in day.answers if answer[0] == name)
    instrument = _most(day, lambda of: answers[of])
    row = day.row(instrument)
    probability = np.full(len(day.ts), np.nan)
    for model, of, ts, value in day.answers:
        if (model, of) == (name, instrument):
            probability[np.searchsorted(day.ts, ts)] = value
    outcomes = [outcome[2:] for outcome in day.outcomes if outcome[:2] == (name, instrument)]
    price = Panel(f"{instrument}, price", [Line("close", day.columns["close"][row])], height=_PRICE_HEIGHT)
    below = Panel(
        f"{name}, probability of a rise, with what came of it",
        [Line("probability", probability)],
        list(_outcome_marks(outcomes)),
        height=_PRICE_HEIGHT,
        note="no answer on this day",
    )
    described = f"{_opening(instrument)}, and the probability that {name} gave a rise"
    labels = Counter(label for _, label, _ in outcomes)
    said = (
        f"{described}: {answers[instrument]} answers, of which {labels['rise']} were followed by a rise (strokes "
        f"upwards) and {labels['fall']} by a fall (downwards)."
        if answers[instrument]
        else f"{described}. No answer on this day."
    )
    return Figure(f"{name} on the synthetic day", said, day.ts, [price, below])


def _outcome_marks(outcomes: Iterable[tuple[Any, ...]]) -> Iterable[Mark]:
    for ts, label, probability in outcomes:
        if label in ("rise", "fall"):
            yield Mark(ts, probability, "above", UP) if label == "rise" else Mark(ts, probability, "below", DOWN)
