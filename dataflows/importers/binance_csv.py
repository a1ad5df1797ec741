"""Binance public data: zipped CSV of trades, aggregated trades and best bid and offer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from dataflows.importers.base import Chunk, Importer, ImportOptions
from dataflows.importers.checks import constant, make_chunk
from dataflows.importers.delimited import Layout, Parsed, parse_block
from dataflows.importers.reading import line_blocks, open_input
from operators.columns import IntArray
from schemas.enums import Side
from schemas.errors import ConfigError, InputError

__all__ = ["BinanceCsvImporter"]

_NAME: Final = re.compile(r"([A-Z0-9_]+)-(trades|aggTrades|bookTicker)-\d{4}-\d{2}(?:-\d{2})?\.(?:zip|csv(?:\.gz)?)")
_KINDS: Final = ("trades", "aggTrades", "bookTicker")
_US_FROM: Final = 10**14
"""Times were milliseconds to 2024 and are microseconds since: 10^14 ms is the year 5138, 10^14 us is 1973."""


def _layout(*names: str) -> Layout:
    kinds = {"time": pa.int64(), "transaction_time": pa.int64(), "event_time": pa.int64(), "update_id": pa.int64()}
    numbers = {name: pa.int64() for name in ("id", "first_id", "last_id")}
    flags = {name: pa.bool_() for name in ("is_buyer_maker", "is_best_match")}
    types = kinds | numbers | flags
    return Layout({name: types.get(name, pa.float64()) for name in names})


# The futures' files have no last column `is_best_match`.
_LAYOUTS: Final[dict[tuple[str, int], Layout]] = {
    ("trades", 7): _layout("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"),
    ("trades", 6): _layout("id", "price", "qty", "quote_qty", "time", "is_buyer_maker"),
    ("aggTrades", 8): _layout("id", "price", "qty", "first_id", "last_id", "time", "is_buyer_maker", "is_best_match"),
    ("aggTrades", 7): _layout("id", "price", "qty", "first_id", "last_id", "time", "is_buyer_maker"),
    ("bookTicker", 7): _layout(
        "update_id", "bid_price", "bid_size", "ask_price", "ask_size", "transaction_time", "event_time"
    ),
}


@dataclass(frozen=True, slots=True)
class _Content:
    kind: str
    symbol: str


class BinanceCsvImporter(Importer):
    """Reads `SYMBOL-trades-DATE.zip`, `SYMBOL-aggTrades-DATE.zip` and `SYMBOL-bookTicker-DATE.zip`.

    With or without a header line; times in milliseconds or microseconds, told apart row by row by
    their size. Trades have one clock, so `ts_recv` is `ts_event`; of a quote `ts_event` is the
    transaction time and `ts_recv` the event time, the earliest at which a subscriber had it. A buyer
    who was the maker makes the seller the aggressor.
    """

    name: ClassVar[str] = "binance-csv"
    summary: ClassVar[str] = "Binance public data, `SYMBOL-trades-DATE.zip`, `-aggTrades-` or `-bookTicker-`"
    options: ClassVar[frozenset[str]] = frozenset({"symbol", "venue", "kind", "tick"})

    def recognises(self, path: Path) -> bool:
        """Return whether the name is `SYMBOL-KIND-DATE`."""
        return _NAME.fullmatch(path.name) is not None

    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield the rows of one file."""
        content = _content(path, options)
        with open_input(path) as stream:
            layout: Layout | None = None
            for block in line_blocks(stream):
                if layout is None:
                    layout, header = _layout_of(path, content.kind, block)
                    block = block[header:]
                parsed = parse_block(block, layout) if block else None
                if parsed is not None:
                    yield _chunk(parsed, content, options, stream.bytes_done)


def _content(path: Path, options: ImportOptions) -> _Content:
    if options.kind is not None and options.kind not in _KINDS:
        raise ConfigError(f"expected a `kind` among {list(_KINDS)}, was `{options.kind}`; name one of them")
    found = _NAME.fullmatch(path.name)
    symbol = options.symbol or (found.group(1) if found else None)
    kind = options.kind or (found.group(2) if found else None)
    if symbol is None or kind is None:
        raise InputError(
            f"expected a file named like `BTCUSDT-trades-2024-08-08.zip`, found `{path.name}`; "
            "give the options `symbol` and `kind`"
        )
    return _Content(kind, symbol)


def _layout_of(path: Path, kind: str, block: bytes) -> tuple[Layout, int]:
    """Return the layout that the first line shows, and the length of the header."""
    first = block[: block.find(b"\n") + 1] or block
    fields = first.strip().split(b",")
    layout = _LAYOUTS.get((kind, len(fields)))
    if layout is None:
        counts = sorted(count for name, count in _LAYOUTS if name == kind)
        raise InputError(
            f"expected {' or '.join(map(str, counts))} columns of `{kind}` in `{path}`, found {first[:80]!r}; "
            "give the option `kind`, or name the format that the file has"
        )
    is_header = fields[0].strip().replace(b"_", b"").isalpha()
    return layout, len(first) if is_header else 0


def _to_ns(values: IntArray) -> IntArray:
    """Return ms or us as ns; what is neither becomes -1."""
    factor = np.where(values >= _US_FROM, 10**3, 10**6)
    sane = (values >= 0) & (values < 10**16)
    return np.where(sane, np.where(sane, values, 0) * factor, -1)


def _chunk(parsed: Parsed, content: _Content, options: ImportOptions, bytes_done: int) -> Chunk:
    n_rows = parsed.batch.num_rows
    is_quote = content.kind == "bookTicker"
    columns: dict[str, Any] = {"instrument_id": constant(content.symbol, n_rows)}
    columns |= _quotes(parsed) if is_quote else _trades(parsed)
    if options.venue is not None:
        columns["venue"] = constant(options.venue, n_rows)
    return make_chunk(
        "quotes" if is_quote else "trades",
        columns,
        parsed.raw,
        n_rows=n_rows,
        bytes_done=bytes_done,
        positions=parsed.positions,
        bad=parsed.bad,
        tick=options.tick,
    )


def _trades(parsed: Parsed) -> dict[str, Any]:
    ts = _to_ns(parsed.integers("time"))
    return {
        "ts_event": ts,
        "ts_recv": ts,
        "price": parsed.floats("price"),
        "size": parsed.floats("qty"),
        "side": np.where(parsed.flags("is_buyer_maker"), Side.SELL, Side.BUY).astype(np.int8),
        "trade_id": parsed.integers("id"),
    }


def _quotes(parsed: Parsed) -> dict[str, Any]:
    return {
        "ts_event": _to_ns(parsed.integers("transaction_time")),
        "ts_recv": _to_ns(parsed.integers("event_time")),
        "bid_price": parsed.floats("bid_price"),
        "bid_size": parsed.floats("bid_size"),
        "ask_price": parsed.floats("ask_price"),
        "ask_size": parsed.floats("ask_size"),
        "sequence": parsed.integers("update_id"),
    }
