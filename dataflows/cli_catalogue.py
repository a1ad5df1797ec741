"""The command that shows what there is. It parses and hands over, as `dataflows.cli` does."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["Kind", "catalogue"]


class Kind(StrEnum):
    """Kinds of items in the catalogue."""

    FEATURES = "features"
    STRATEGIES = "strategies"
    SPECIALISTS = "specialists"


def catalogue(
    kind: Annotated[Kind | None, typer.Argument(metavar="KIND", help="features, strategies or specialists.")] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One of them; of features that are computed together, all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for machines.")] = False,
) -> None:
    """Show what can be computed and what decides on it, or everything about one: formula, parameters, reference.

    The same is found with plots in docs/features.md, docs/strategies.md and docs/specialists.md.
    """
    from dataflows.commands.catalogue import run_catalogue

    run_catalogue(None if kind is None else kind.value, name, as_json=as_json)
