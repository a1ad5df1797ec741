"""A figure of panels over one time axis as SVG: small, without scripts, and the same bytes for the same numbers.

Coordinates of lines and marks are whole tenths of a pixel in a group that is scaled, so that differences of arithmetic
in the last digits of a value change nothing, or one tenth of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from math import floor, log10
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS", "DOWN", "UP", "Figure", "Line", "Mark", "Panel"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Shape = Literal["up", "down", "ring", "above", "below"]

COLOURS: Final = ("#4c84f0", "#d98a2b", "#8f6bd8", "#1fa67a", "#d65a8a", "#3aa6b9", "#a0863b", "#7d8aa0")
UP: Final = "#1fa67a"
DOWN: Final = "#df5452"
_WIDTH, _LEFT, _RIGHT = 760, 76, 12
_HEAD, _FOOT, _TITLE, _GAP = 6, 24, 16, 8
_TENTHS: Final = 10
_HOUR_NS: Final = 3600 * 10**9
_SHAPES: Final[dict[str, str]] = {
    "up": "m0-45 40 75h-80z",
    "down": "m0 45 40-75h-80z",
    "ring": "m-35 0a35 35 0 1 0 70 0a35 35 0 1 0-70 0z",
    "above": "v-80",
    "below": "v80",
}
_FILLED: Final = ("up", "down")
_STYLE: Final = (
    "text{font:11px sans-serif;fill:#667}path{fill:none;stroke-width:13;stroke-linejoin:round;stroke-linecap:round}"
    ".f{stroke:#9995;stroke-width:10}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line; NaN breaks it.

    Parameters
    ----------
    name
        What it is; with several lines in a panel it stands above, in the line's colour.
    values
        At the times of the figure, shape `(n,)`.
    """

    name: str
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark at a time and value."""

    ts: int
    value: float
    shape: Shape
    colour: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines and marks over one scale.

    Parameters
    ----------
    title
        Stands above it, with the unit.
    lines
        The lines.
    marks
        The marks.
    height
        Pixels.
    note
        Stands in the middle where there is no line to draw.
    """

    title: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    height: int = 70
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels above each other.

    Parameters
    ----------
    title, description
        For those who do not see it.
    ts
        Times, ascending, UTC ns, shape `(n,)`, `n` of at least 2.
    panels
        From the top.
    """

    title: str
    description: str
    ts: IntArray
    panels: Sequence[Panel]

    def svg(self) -> str:
        """Return the figure as SVG.

        Examples
        --------
        >>> ts = np.array([0, 3600 * 10**9])
        >>> text = Figure("t", "d", ts, [Panel("close", [Line("close", np.array([1.0, 2.0]))])]).svg()
        >>> text.startswith("<svg "), "<desc>d</desc>" in text, '<path stroke="#4c84f0" d="M760 ' in text
        (True, True, True)
        """
        height = _HEAD + sum(panel.height + _TITLE + _GAP for panel in self.panels) + _FOOT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{escape(self.title)}</title>",
            f"<desc>{escape(self.description)}</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        ]
        top = _HEAD
        for panel in self.panels:
            parts += self._panel(panel, top + _TITLE)
            top += panel.height + _TITLE + _GAP
        return "\n".join([*parts, *self._axis(top), "</svg>", ""])

    def _x(self, ts: int) -> int:
        first, last = int(self.ts[0]), int(self.ts[-1])
        return _LEFT * _TENTHS + round((ts - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT) * _TENTHS)

    def _panel(self, panel: Panel, top: int) -> list[str]:
        parts = [f'<text x="{_LEFT}" y="{top - 4}">{_headline(panel)}</text>']
        scale = _Scale.of(panel, top)
        frame = f"M{_LEFT * 10} {top * 10}h{(_WIDTH - _LEFT - _RIGHT) * 10}v{panel.height * 10}"
        drawn = [f'<path class="f" d="{frame}h-{(_WIDTH - _LEFT - _RIGHT) * 10}z"/>']
        if scale is None:
            middle = (_LEFT + _WIDTH - _RIGHT) // 2
            parts.append(f'<text x="{middle}" y="{top + panel.height // 2 + 4}" text-anchor="middle">'
                         f"{escape(panel.note or 'no value on this day')}</text>")  # fmt: skip
        else:
            parts += [
                f'<text x="{_LEFT - 6}" y="{scale.at(tick) // _TENTHS + 4}" text-anchor="end">{label}</text>'
                for tick, label in scale.ticks()
            ]
            drawn += [
                _path(self._points(line, scale), COLOURS[at % len(COLOURS)]) for at, line in enumerate(panel.lines)
            ]
            drawn += self._marks(panel.marks, scale)
        return [*parts, '<g transform="scale(.1)">', *drawn, "</g>"]

    def _points(self, line: Line, scale: _Scale) -> list[tuple[int, int] | None]:
        return [
            (self._x(ts), scale.at(value)) if np.isfinite(value) else None
            for ts, value in zip(self.ts.tolist(), line.values.tolist(), strict=True)
        ]

    def _marks(self, marks: Sequence[Mark], scale: _Scale) -> list[str]:
        """Return a path for all marks of one shape and colour."""
        found: dict[tuple[Shape, str], list[str]] = {}
        for mark in marks:
            place = f"M{self._x(mark.ts)} {scale.at(mark.value)}{_SHAPES[mark.shape]}"
            found.setdefault((mark.shape, mark.colour), []).append(place)
        return [
            f'<path style="fill:{colour if shape in _FILLED else "none"}" stroke="{colour}" d="{"".join(places)}"/>'
            for (shape, colour), places in found.items()
        ]

    def _axis(self, top: int) -> list[str]:
        first, last = int(self.ts[0]), int(self.ts[-1])
        hours = range(-(-first // _HOUR_NS) * _HOUR_NS, last + 1, _HOUR_NS)
        return [
            f'<text x="{self._x(ts) // _TENTHS}" y="{top + 8}" text-anchor="middle">'
            f"{datetime.fromtimestamp(ts // 10**9, UTC):%H:%M}</text>"
            for ts in hours
        ] + [f'<text x="{_WIDTH - _RIGHT}" y="{top + 20}" text-anchor="end">time, UTC</text>']


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values of a panel to tenths of a pixel."""

    low: float
    high: float
    top: int
    height: int

    @classmethod
    def of(cls, panel: Panel, top: int) -> _Scale | None:
        parts = [line.values[np.isfinite(line.values)] for line in panel.lines]
        values = np.concatenate([*parts, np.array([mark.value for mark in panel.marks])]) if parts else np.empty(0)
        if not len(values):
            return None
        low, high = float(values.min()), float(values.max())
        margin = (high - low) * 0.05 or max(abs(high) * 0.05, 1e-9)
        return cls(low - margin, high + margin, top, panel.height)

    def at(self, value: float) -> int:
        share = (self.high - value) / (self.high - self.low)
        return round((self.top + share * self.height) * _TENTHS)

    def ticks(self) -> list[tuple[float, str]]:
        """Return two to five round values within, with their labels."""
        span = self.high - self.low
        power = 10.0 ** floor(log10(span))
        most = max(self.height / 18, 3.0)
        step = next(size * power for size in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0) if span / (size * power) <= most)
        first = int(np.ceil(self.low / step))
        values = [number * step for number in range(first, int(np.floor(self.high / step)) + 1)]
        return [(value, f"{value:.6g}" if abs(value) > step * 1e-6 else "0") for value in values]


def _headline(panel: Panel) -> str:
    title = escape(panel.title)
    if len(panel.lines) < 2:
        return title
    return title + "".join(
        f' <tspan fill="{COLOURS[at % len(COLOURS)]}">{escape(line.name)}</tspan>'
        for at, line in enumerate(panel.lines)
    )


def _path(points: Sequence[tuple[int, int] | None], colour: str) -> str:
    """Return a line through points, broken at None; each step is relative to the rounded point before."""
    steps: list[str] = []
    before: tuple[int, int] | None = None
    for point in points:
        if point is not None:
            steps.append(f"M{point[0]} {point[1]}l0 0" if before is None else _step(before, point))
        before = point
    return f'<path stroke="{colour}" d="{"".join(steps)}"/>'


def _step(before: tuple[int, int], point: tuple[int, int]) -> str:
    dx, dy = point[0] - before[0], point[1] - before[1]
    return f"l{dx}{'' if dy < 0 else ' '}{dy}"
