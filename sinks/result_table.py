"""The result of a query as text for people: a table where its columns fit, else one record after the other.

Numbers and times are never cut; long text is, down to a readable rest. What a terminal would obey is escaped.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["result_text"]

_TABLE_ROWS: Final = 1_000
"""Rows of a table on a terminal; more are counted, not shown."""
_RECORDS: Final = 50
"""Records shown where each takes as many lines as it has columns."""
_GAP: Final = 3
"""Blanks between two columns."""
_LEAST_TEXT: Final = 24
"""Characters of a long text that a table shows at least; where that is too much, records are shown."""
_DIGITS: Final = (6, 8)
"""Significant digits of a float below one and of any other; the other formats give every digit."""
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: list[str]
    numeric: bool
    cut: bool
    """whether long cells may be cut"""

    @property
    def width(self) -> int:
        return max(map(cell_len, [self.name, *self.cells]))

    @property
    def least_width(self) -> int:
        return min(self.width, max(_LEAST_TEXT, cell_len(self.name))) if self.cut else self.width


def result_text(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    """Return a result as lines of at most `width` characters, with the number of rows below.

    Parameters
    ----------
    names
        Names of the columns.
    rows
        Values as JSON gives them, in lists of one for each column.
    width
        Characters of a line.

    Examples
    --------
    >>> print(result_text(["ts", "price"], [["2024-08-08T23:54:13.500000000Z", 61234.5]], 40))
    ts                           price
    ──────────────────────────────────
    2024-08-08T23:54:13.500Z   61234.5
    1 row
    """
    shown = rows[:_TABLE_ROWS]
    columns = [_column(name, [row[position] for row in shown]) for position, name in enumerate(names)]
    if len(names) > 1:  # a definition or a plan alone has lines of its own
        columns = [_on_one_line(column) for column in columns]
    widths = _widths(columns, width)
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, force_terminal=False, highlight=False)
    if widths is not None:
        console.print(_table(columns, widths))
    else:
        shown = rows[:_RECORDS]
        for number in range(len(shown)):
            console.print(_record(number, names, rows[number]))
    counted = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
    more = "" if len(shown) == len(rows) else f", the first {len(shown)} shown"
    return "\n".join([*(line.rstrip() for line in text.getvalue().splitlines()), counted + more])


def _column(name: str, values: Sequence[Any]) -> _Column:
    present = [value for value in values if value is not None]
    times = [_TIME.fullmatch(value) if isinstance(value, str) else None for value in present]
    if times and all(times):
        decimals = _decimals(time[2] for time in times if time)
        cells = ["-" if value is None else _short_time(value, decimals) for value in values]
        return _Column(_visible(name), cells, numeric=False, cut=False)
    numeric = bool(present) and all(isinstance(value, int | float) for value in present)
    return _Column(_visible(name), [_cell(value) for value in values], numeric=numeric, cut=not numeric)


def _on_one_line(column: _Column) -> _Column:
    return replace(column, cells=[cell.replace("\n", "\\n") for cell in column.cells])


def _decimals(fractions: Iterable[str]) -> int:
    """Return how many decimals of the second a column needs: none, three, six or nine."""
    return max((len(fraction.rstrip("0")) + 2) // 3 * 3 for fraction in fractions)


def _short_time(text: str, decimals: int) -> str:
    return text[: len("2024-08-08T23:54:13") + (decimals + 1 if decimals else 0)] + "Z"


def _widths(columns: Sequence[_Column], width: int) -> list[int] | None:
    """Return the width of each column, or None where they do not fit beside each other."""
    if len(columns) == 1:
        return [min(columns[0].width, width)]
    room = width - _GAP * (len(columns) - 1)
    least = [column.least_width for column in columns]
    if sum(least) > room:
        return None
    # the widest texts give way first: all are cut to one length, the largest that fits
    whole = [column.width for column in columns]
    longest = max(whole)
    cut = next(length for length in range(longest, 0, -1) if sum(_cut(whole, least, length)) <= room)
    return _cut(whole, least, cut)


def _cut(whole: Sequence[int], least: Sequence[int], length: int) -> list[int]:
    return [max(low, min(high, length)) for low, high in zip(least, whole, strict=True)]


def _table(columns: Sequence[_Column], widths: Sequence[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    alone = len(columns) == 1
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.name), justify="right" if column.numeric else "left", width=width,
            overflow="fold" if alone else "ellipsis", no_wrap=not alone,
        )  # fmt: skip
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def _record(number: int, names: Sequence[str], row: Sequence[Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(Text(f"row {number + 1}"), no_wrap=True)
    table.add_column("", overflow="fold")
    for column in map(_column, names, ([value] for value in row)):
        table.add_row(Text(column.name), Text(column.cells[0]))
    return table


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "-" if value is None else str(value).lower()
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_visible(str(key))}: {_cell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_cell, value)) + "]"
    return _visible(str(value))


def _float(value: float) -> str:
    """Return the significant digits, without an exponent where the number is of everyday size."""
    digits = _DIGITS[abs(value) >= 1]
    if not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _visible(text: str) -> str:
    """Return the text with everything escaped that a terminal would obey instead of show."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )
