"""Draw the plots of the generated pages, or check that they are current.

Usage: `python -m scripts.generate_plots [--check]`. The synthetic day is simulated and run through the graph, which
takes some seconds. With `--check` nothing is written, and the exit code is 1 where a plot is stale: one is missing or
too many, its words differ, or a coordinate differs by more than 0.2 pixels. Numbers of another machine may differ in
the last digits, and coordinates are rounded to a tenth of a pixel.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dataflows.catalogue import collect
from scripts.plots.day import read_day
from scripts.plots.draw import draw
from scripts.plots.places import FOLDER

__all__ = ["same", "stale"]

_TOLERANCE: Final = 2
"""Tenths of a pixel."""
_COORDINATES: Final = re.compile(r' d="([^"]*)"')
_STEP: Final = re.compile(r"[a-zA-Z]")
_NUMBER: Final = re.compile(r"-?\d+")


def same(one: str, other: str) -> bool:
    """Return whether two plots are the same but for rounding of coordinates.

    Examples
    --------
    >>> same('<path d="M10 5l2-3"/>', '<path d="M10 5l2-4"/>'), same("<text>1</text>", "<text>2</text>")
    (True, False)
    """
    if one == other:
        return True
    paths, others = (_COORDINATES.findall(text) for text in (one, other))
    if _COORDINATES.sub("", one) != _COORDINATES.sub("", other) or len(paths) != len(others):
        return False
    return all(map(_is_near, paths, others))


def _is_near(path: str, other: str) -> bool:
    """Return whether two paths have the same steps, with numbers that differ by rounding at most."""
    steps = [_STEP.findall(text) for text in (path, other)]
    numbers = [[int(number) for number in _NUMBER.findall(text)] for text in (path, other)]
    if steps[0] != steps[1] or len(numbers[0]) != len(numbers[1]):
        return False
    return all(abs(a - b) <= _TOLERANCE for a, b in zip(*numbers, strict=True))


def stale(plots: Mapping[str, str], folder: Path) -> list[str]:
    """Return the plots that are missing, too many or not the same, by path below the folder."""
    there = {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.svg")}
    differing = {path for path, text in plots.items() if path not in there or not same(text, there[path])}
    return sorted(differing | (there.keys() - plots.keys()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a plot is stale")
    options = parser.parse_args(arguments)
    plots = draw(collect(), read_day())
    found = stale(plots, FOLDER)
    for path in found:
        if options.check:
            print(f"stale: {path}: run `make docs`")
        elif path in plots:
            (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
            (FOLDER / path).write_text(plots[path], "utf-8")
            print(f"wrote {path}")
        else:
            (FOLDER / path).unlink()
            print(f"removed {path}")
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
