"""LOBSTER: a message file and an order-book file, line by line beside each other, New York time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.importers.base import BadRow, Chunk, Importer, ImportOptions
from dataflows.importers.checks import Faults, constant, make_chunk
from dataflows.importers.delimited import Layout, Parsed, parse_lines
from dataflows.importers.reading import InputStream, line_blocks, open_input, split_lines
from dataflows.importers.venue_time import day_to_utc
from operators.columns import FloatArray, IntArray
from schemas.enums import BookKind, Side
from schemas.errors import InputError

__all__ = ["LobsterImporter"]

_NAME: Final = re.compile(r"(.+)_(\d{4}-\d{2}-\d{2})_\d+_\d+_(message|orderbook)_(\d+)\.csv(?:\.gz)?")
_PRICE_SCALE: Final = 10_000.0
_EMPTY_LEVEL: Final = 9_999_999_999.0
"""Price, with either sign, of a level that the book does not have."""
_SECOND: Final = 10**9
_ROWS: Final = 50_000
"""Rows taken from both files at a time; with ten levels some 15 MB of text."""
_NO_LINES: Final[list[bytes]] = []
_EXECUTIONS: Final = (4.0, 5.0)
"""Types of an execution of a visible and of a hidden order."""
_MESSAGE: Final = Layout(
    {
        "time": pa.float64(),
        "type": pa.float64(),
        "order_id": pa.string(),
        "size": pa.float64(),
        "price": pa.float64(),
        "direction": pa.float64(),
    }
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One read of both files."""

    messages: list[bytes]
    books: list[bytes]
    first: int
    bytes_done: int


@dataclass(frozen=True, slots=True)
class _Content:
    symbol: str
    day: date
    levels: int


class LobsterImporter(Importer):
    """Reads `TICKER_DATE_START_END_message_LEVELS.csv` with the `orderbook` file of the same name beside it.

    Every line is one book snapshot, numbered from 1. Executions of visible (type 4) and hidden orders
    (type 5) are trades as well: the direction is the resting order's, so the aggressor is on the other
    side. Crosses (6) and halts (7) are no trades. There is one clock, so `ts_recv` is `ts_event`.
    """

    name: ClassVar[str] = "lobster"
    summary: ClassVar[str] = "LOBSTER, `TICKER_DATE_START_END_message_LEVELS.csv` with its `orderbook` file"
    options: ClassVar[frozenset[str]] = frozenset({"symbol", "venue", "tick"})

    def recognises(self, path: Path) -> bool:
        """Return whether the name is that of a message file."""
        found = _NAME.fullmatch(path.name)
        return found is not None and found.group(3) == "message"

    def members(self, path: Path) -> tuple[Path, ...]:
        """Return the message file and its order-book file, whichever of them is named.

        Raises
        ------
        InputError
            The name is not one of LOBSTER's, or the other file is not there.
        """
        if _NAME.fullmatch(path.name) is None:
            raise InputError(f"expected a file named `TICKER_DATE_START_END_message_LEVELS.csv`, found `{path.name}`")
        pair = tuple(
            path.with_name(re.sub(r"_(?:message|orderbook)_(?=\d+\.csv)", f"_{kind}_", path.name))
            for kind in ("message", "orderbook")
        )
        for member in pair:
            if not member.is_file():
                raise InputError(f"expected `{member.name}` beside `{path}`, found none; put both files in one folder")
        return pair

    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield the trades and books of one pair."""
        message, orderbook = self.members(path)
        content = _content(message, options)
        layout = Layout({name: pa.float64() for name in _book_names(content.levels)})
        with open_input(message) as messages, open_input(orderbook) as books:
            for pair in _pairs(messages, books):
                yield from _chunks(pair, content, layout, options)


def _content(path: Path, options: ImportOptions) -> _Content:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise InputError(f"expected a file named `TICKER_DATE_START_END_message_LEVELS.csv`, found `{path.name}`")
    try:
        day = date.fromisoformat(found.group(2))
    except ValueError as error:
        raise InputError(f"expected a date in `{path.name}`, found `{found.group(2)}`") from error
    levels = int(found.group(4))
    if not 1 <= levels <= 1_000:
        raise InputError(f"expected 1 to 1000 levels in the name `{path.name}`, found {levels}")
    return _Content(options.symbol or found.group(1), day, levels)


def _book_names(levels: int) -> list[str]:
    return [f"{what}_{level}" for level in range(levels) for what in ("ask", "ask_size", "bid", "bid_size")]


def _numbered(stream: InputStream) -> Iterator[list[bytes]]:
    """Yield the lines of a file in lists of a fixed length; only the last is shorter."""
    lines: list[bytes] = []
    for block in line_blocks(stream):
        lines += split_lines(block)
        while len(lines) >= _ROWS:
            yield lines[:_ROWS]
            lines = lines[_ROWS:]
    if lines:
        yield lines


def _pairs(messages: InputStream, books: InputStream) -> Iterator[_Pair]:
    first = 1
    for left, right in zip_longest(_numbered(messages), _numbered(books), fillvalue=_NO_LINES):
        if len(left) != len(right):
            raise InputError(
                f"expected as many lines in `{books.path}` as in `{messages.path}`, found {first - 1 + len(right)} "
                f"and {first - 1 + len(left)} or more; fetch both again"
            )
        yield _Pair(left, right, first, messages.bytes_done + books.bytes_done)
        first += len(left)


def _chunks(pair: _Pair, content: _Content, layout: Layout, options: ImportOptions) -> Iterator[Chunk]:
    messages = parse_lines(pair.messages, _MESSAGE)
    books = parse_lines(pair.books, layout)
    n_lines = len(pair.messages)
    ts, valid = day_to_utc(content.day, messages.floats("time"), _SECOND)
    line_ts = np.full(n_lines, -1, dtype=np.int64)
    line_ts[messages.positions[valid]] = ts[valid]
    yield _book_chunk(pair, content, messages, books, line_ts, options)
    trades = _trade_chunk(pair, content, messages, ts, options)
    if trades is not None:
        yield trades


def _book_chunk(
    pair: _Pair, content: _Content, messages: Parsed, books: Parsed, line_ts: IntArray, options: ImportOptions
) -> Chunk:
    """Return a snapshot for every line; its bytes are both lines, for it needs both."""

    def raw(line: int) -> bytes:
        return pair.messages[line] + b"\n" + pair.books[line]

    rows = books.positions
    n_rows = len(rows)
    faults = Faults(n_rows)
    refused = {row.position: row.error for row in messages.bad}
    for text in sorted(set(refused.values())):
        lines = [line for line, error in refused.items() if error == text]
        faults.mark(np.isin(rows, lines), text)
    faults.mark(line_ts[rows] < 0, "out_of_range: expected a time within the day")
    matrix = np.stack([books.floats(name) for name in books.batch.schema.names], axis=1)
    columns: dict[str, Any] = {
        "instrument_id": constant(content.symbol, n_rows),
        "ts_event": line_ts[rows],
        "ts_recv": line_ts[rows],
        "kind": np.full(n_rows, BookKind.SNAPSHOT, dtype=np.int8),
        "last_sequence": rows + pair.first,
    }
    for side, first in (("ask", 0), ("bid", 2)):
        prices, sizes = matrix[:, first::4], matrix[:, first + 1 :: 4]
        present = np.abs(prices) != _EMPTY_LEVEL
        columns[f"{side}_prices"] = _lists(prices / _PRICE_SCALE, present)
        columns[f"{side}_sizes"] = _lists(sizes, present)
    bad = [
        BadRow(
            row.position,
            raw(row.position),
            row.error,
            int(line_ts[row.position]) if line_ts[row.position] >= 0 else None,
        )
        for row in books.bad
    ]
    return make_chunk(
        "books",
        columns,
        lambda row: raw(int(rows[row])),
        n_rows=n_rows,
        bytes_done=pair.bytes_done,
        positions=rows,
        bad=bad,
        faults=faults,
        tick=options.tick,
    )


def _lists(values: FloatArray, present: npt.NDArray[np.bool_]) -> pa.ListArray:
    """Return the present values of each row as a list."""
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[present]))


def _trade_chunk(
    pair: _Pair, content: _Content, messages: Parsed, ts: IntArray, options: ImportOptions
) -> Chunk | None:
    kinds = messages.floats("type")
    rows = np.flatnonzero(np.isin(kinds, _EXECUTIONS) & (ts >= 0))
    if not len(rows):
        return None
    directions = messages.floats("direction")[rows]
    faults = Faults(len(rows))
    faults.mark(np.abs(directions) != 1, "out_of_range: expected a direction of 1 or -1")
    conditions = pa.array(np.where(kinds[rows] == _EXECUTIONS[0], "visible", "hidden").tolist())
    columns: dict[str, Any] = {
        "instrument_id": constant(content.symbol, len(rows)),
        "ts_event": ts[rows],
        "ts_recv": ts[rows],
        "price": messages.floats("price")[rows] / _PRICE_SCALE,
        "size": messages.floats("size")[rows],
        "side": np.where(directions == 1, Side.SELL, Side.BUY).astype(np.int8),
        "conditions": conditions,
    }
    if options.venue is not None:
        columns["venue"] = constant(options.venue, len(rows))
    positions = messages.positions[rows]
    return make_chunk(
        "trades",
        columns,
        lambda row: pair.messages[int(positions[row])],
        n_rows=len(rows),
        bytes_done=pair.bytes_done,
        positions=positions,
        faults=faults,
        tick=options.tick,
    )
