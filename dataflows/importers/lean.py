"""LEAN equity ticks: a zip file per instrument, day and kind, New York time, prices times 10,000."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataflows.importers.base import Chunk, Importer, ImportOptions
from dataflows.importers.checks import Faults, constant, make_chunk
from dataflows.importers.delimited import SYMBOL, Layout, Parsed, parse_block
from dataflows.importers.reading import InputStream, line_blocks, open_input
from dataflows.importers.venue_time import day_to_utc
from schemas.enums import Side
from schemas.errors import InputError

__all__ = ["LeanImporter"]

_NAME: Final = re.compile(r"(\d{8})_(trade|quote)\.(?:zip|csv(?:\.gz)?)", re.IGNORECASE)
_MEMBER: Final = re.compile(r"\d{8}_(.+)_(Trade|Quote)_Tick\.csv", re.IGNORECASE)
_PRICE_SCALE: Final = 10_000.0
_MS: Final = 10**6
_TRADES: Final = Layout(
    {
        "time": pa.float64(),
        "price": pa.float64(),
        "size": pa.float64(),
        "exchange": SYMBOL,
        "condition": SYMBOL,
        "suspicious": pa.bool_(),
    }
)
_QUOTES: Final = Layout(
    {
        "time": pa.float64(),
        "bid_price": pa.float64(),
        "bid_size": pa.float64(),
        "ask_price": pa.float64(),
        "ask_size": pa.float64(),
        "exchange": SYMBOL,
        "condition": SYMBOL,
        "suspicious": pa.bool_(),
    }
)


@dataclass(frozen=True, slots=True)
class _Content:
    """What name and path say of a file."""

    day: date
    topic: str
    symbol: str


class LeanImporter(Importer):
    """Reads `TICKER/YYYYMMDD_trade.zip` and `TICKER/YYYYMMDD_quote.zip` of the tick resolution.

    Milliseconds since midnight in New York become UTC; there is one clock, so `ts_recv` is `ts_event`.
    A trade's `conditions` is its sale condition code, with `!` behind it where the tick is flagged as
    suspicious; the side is unknown and there is no trade id. A quote row is one-sided: the other side
    is empty, and its condition is not kept.
    """

    name: ClassVar[str] = "lean"
    summary: ClassVar[str] = "LEAN equity ticks, `TICKER/YYYYMMDD_trade.zip` or `_quote.zip`"
    options: ClassVar[frozenset[str]] = frozenset({"symbol", "tick"})

    def recognises(self, path: Path) -> bool:
        """Return whether the name is a date and `trade` or `quote`, and the folder is not of bars."""
        resolutions = {part.lower() for part in path.parts[-4:-1]} & {"minute", "second", "hour", "daily"}
        return _NAME.fullmatch(path.name) is not None and not resolutions

    def label(self, path: Path) -> str:
        """Return folder and name: the name alone does not say the instrument."""
        return f"{path.resolve().parent.name}/{path.name}"

    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield the ticks of one file."""
        with open_input(path) as stream:
            content = _content(stream, options)
            layout, build = (_TRADES, _trades) if content.topic == "trades" else (_QUOTES, _quotes)
            for block in line_blocks(stream):
                parsed = parse_block(block, layout)
                yield _chunk(parsed, content, build(parsed), options, stream.bytes_done)


def _content(stream: InputStream, options: ImportOptions) -> _Content:
    path = stream.path
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise InputError(f"expected a file named `YYYYMMDD_trade.zip` or `YYYYMMDD_quote.zip`, found `{path.name}`")
    try:
        day = date.fromisoformat(found.group(1))
    except ValueError as error:
        raise InputError(f"expected a date at the start of `{path.name}`, found `{found.group(1)}`") from error
    member = _MEMBER.fullmatch(stream.name)
    if member is None and stream.name != path.name:
        raise InputError(
            f"expected ticks in `{path}`, found `{stream.name}`; only the tick resolution is imported, not bars"
        )
    symbol = options.symbol or (member.group(1) if member else path.resolve().parent.name).upper()
    return _Content(day, "trades" if found.group(2).lower() == "trade" else "quotes", symbol)


def _trades(parsed: Parsed) -> dict[str, Any]:
    conditions = parsed.batch.column("condition")
    suspicious = parsed.batch.column("suspicious")
    if pc.any(suspicious).as_py():
        text = conditions.dictionary_decode()
        conditions = pc.if_else(suspicious, pc.binary_join_element_wise(text, "!", ""), text)
    return {
        "price": parsed.floats("price") / _PRICE_SCALE,
        "size": parsed.floats("size"),
        "side": np.full(len(suspicious), Side.UNKNOWN, dtype=np.int8),
        "conditions": conditions,
    }


def _quotes(parsed: Parsed) -> dict[str, Any]:
    return {
        "bid_price": parsed.floats("bid_price") / _PRICE_SCALE,
        "bid_size": parsed.floats("bid_size"),
        "ask_price": parsed.floats("ask_price") / _PRICE_SCALE,
        "ask_size": parsed.floats("ask_size"),
    }


def _chunk(
    parsed: Parsed, content: _Content, columns: dict[str, Any], options: ImportOptions, bytes_done: int
) -> Chunk:
    n_rows = parsed.batch.num_rows
    ts, valid = day_to_utc(content.day, parsed.floats("time"), _MS)
    faults = Faults(n_rows)
    faults.mark(~valid, "out_of_range: expected a time within the day")
    common = {
        "instrument_id": constant(content.symbol, n_rows),
        "ts_event": ts,
        "ts_recv": ts,
        "venue": parsed.batch.column("exchange"),
    }
    return make_chunk(
        content.topic,
        common | columns,
        parsed.raw,
        n_rows=n_rows,
        bytes_done=bytes_done,
        positions=parsed.positions,
        bad=parsed.bad,
        faults=faults,
        tick=options.tick,
    )
