"""Which plots there are, and what each says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Final

from dataflows.catalogue import Family
from schemas.features import FeatureSpec

__all__ = ["FOLDER", "PLOTS", "FeaturePlot", "caption", "feature_plots"]

PLOTS: Final = "plots"
"""Folder of the plots, beside the pages."""
FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / PLOTS
_MOST: Final = 8
"""Features in a plot; more of a family go to further plots."""


@dataclass(frozen=True, slots=True)
class FeaturePlot:
    """A plot of some features of a family.

    Parameters
    ----------
    path
        File, below the folder of plots.
    title
        What it shows.
    specs
        The features.
    """

    path: str
    title: str
    specs: tuple[FeatureSpec, ...]


def feature_plots(family: Family) -> tuple[FeaturePlot, ...]:
    """Return the plots of a family, in which each of its features is shown once."""
    parts = [family.specs[first : first + _MOST] for first in range(0, len(family.specs), _MOST)]
    found = []
    for number, specs in enumerate(parts, start=1):
        name = family.name if len(parts) == 1 else f"{family.name}_{number}"
        names = ", ".join(spec.name for spec in specs)
        found.append(FeaturePlot(f"features/{name}.svg", f"{names} on the synthetic day", specs))
    return tuple(found)


def caption(path: str, folder: Path = FOLDER) -> str:
    """Return what a plot says of itself; a plot that is not there says that."""
    file = folder / path
    found = re.search(r"<desc>(.*?)</desc>", file.read_text("utf-8"), re.DOTALL) if file.is_file() else None
    return unescape(found.group(1)) if found else "expected a plot here, found none; run `make docs`"
