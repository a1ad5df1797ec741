"""Parts of the generated pages: tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataflows.catalogue.docstrings import on_one_line
from dataflows.catalogue.keys import Key

__all__ = ["keys_table", "table"]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table; what would end a cell is escaped.

    Examples
    --------
    >>> print(table(("a", "b"), [("x", "|y|")]), end="")
    | a | b |
    | --- | --- |
    | x | \|y\| |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return on_one_line(text).replace("|", "\\|")


def keys_table(keys: Iterable[Key], *, without_default: str = "not set") -> str:
    """Return a table of keys: default, bounds, meaning."""
    rows = [
        (
            f"`{key.name}`",
            without_default if key.default is None else f"`{key.written}`",
            key.bounds,
            key.meaning,
        )
        for key in keys
    ]
    return table(("key", "default", "bounds", "meaning"), rows)
