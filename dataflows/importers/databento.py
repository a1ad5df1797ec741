"""Databento Binary Encoding: trades, best bid and offer, ten book levels, each with both clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import databento_dbn as dbn
import numpy as np
import pyarrow as pa

from dataflows.importers.base import BadRow, Chunk, Importer, ImportOptions
from dataflows.importers.checks import UNKNOWN_TIME, Faults, constant, make_chunk
from dataflows.importers.reading import InputStream, open_input
from schemas.enums import BookKind, Side
from schemas.errors import InputError

__all__ = ["DatabentoImporter"]

_SUPPORTED: Final = (
    "trades",
    "mbp-1",
    "tbbo",
    "bbo-1s",
    "bbo-1m",
    "cmbp-1",
    "tcbbo",
    "cbbo-1s",
    "cbbo-1m",
    "mbp-10",
)
_READ_BYTES: Final = 1 << 20
"""Bytes decoded at a time: at most some 20,000 records, as objects some 20 MB."""
_PRICE_SCALE: Final = 1_000_000_000
_MAX_TIME: Final = 2**63 - 1
_SIDES: Final = {"A": Side.SELL, "B": Side.BUY}
_NO_EVENT_TIME: Final = "event time absent: receive time used"

_TRADE = (dbn.TradeMsg,)
_QUOTE = (dbn.MBP1Msg, dbn.BBOMsg, dbn.CMBP1Msg, dbn.CBBOMsg)
_BOOK = (dbn.MBP10Msg,)
_SAMPLED = (dbn.BBOMsg, dbn.CBBOMsg)
"""Records of the end of an interval: the time since their event says nothing of the clocks."""
_CONTROL = (dbn.SystemMsg, dbn.ErrorMsg)


@dataclass(slots=True)
class _Symbols:
    """Names of the numbered instruments, day by day."""

    intervals: dict[int, list[tuple[date, date, str]]] = field(default_factory=dict)
    current: dict[int, str] = field(default_factory=dict)
    named: dict[tuple[int, int], str] = field(default_factory=dict)

    def load(self, mappings: dict[str, list[dict[str, Any]]]) -> None:
        """Take the mappings of a file's metadata: each name has a number for some days, or each number a name."""
        for left, intervals in mappings.items():
            for interval in intervals:
                right = interval["symbol"]
                name, number = (left, right) if right.isdigit() else (right, left)
                if number.isdigit():
                    spell = (interval["start_date"], interval["end_date"], name)
                    self.intervals.setdefault(int(number), []).append(spell)

    def name(self, number: int, ts: int) -> str:
        """Return the name of an instrument at a time, else its number as text."""
        if number in self.current:
            return self.current[number]
        key = (number, ts // 86_400_000_000_000)
        if key not in self.named:
            day = datetime.fromtimestamp(ts // 10**9, tz=UTC).date()
            spells = self.intervals.get(number, [])
            self.named[key] = next((name for start, end, name in spells if start <= day < end), str(number))
        return self.named[key]


@dataclass(slots=True)
class _Rows:
    """Records of one topic, of one read."""

    records: list[Any] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


class DatabentoImporter(Importer):
    """Reads `*.dbn` and `*.dbn.zst` of the schemas that have a topic.

    `trades` become trades; `mbp-1`, `tbbo`, `bbo-*` and their consolidated kinds become quotes, and
    their records of a trade become trades as well; `mbp-10` become book snapshots. A price that is not
    defined is an empty side. Names of instruments come from the file's mappings, else the number is
    the name. The venue is the file's dataset.
    """

    name: ClassVar[str] = "databento"
    summary: ClassVar[str] = "Databento Binary Encoding, `.dbn` or `.dbn.zst`"
    options: ClassVar[frozenset[str]] = frozenset({"symbol", "venue", "tick"})

    def recognises(self, path: Path) -> bool:
        """Return whether the name ends in `.dbn` or `.dbn.zst`."""
        return re.search(r"\.dbn(?:\.zst)?$", path.name) is not None

    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield the records of one file."""
        symbols = _Symbols()
        venue = options.venue or ""
        with open_input(path) as stream:
            for records in _records(stream):
                topics = {"books": _Rows(), "quotes": _Rows(), "trades": _Rows()}
                for position, record in enumerate(records):
                    if isinstance(record, dbn.Metadata):
                        _refuse_schema(path, record)
                        symbols.load(record.mappings)
                        venue = options.venue or record.dataset
                    else:
                        _route(record, position, topics, symbols)
                for topic, rows in topics.items():
                    if rows.records or rows.bad:
                        yield _chunk(topic, rows, symbols, venue, options, stream.bytes_done)


def _records(stream: InputStream) -> Iterator[list[Any]]:
    """Yield the records of each read.

    Raises
    ------
    InputError
        The file is no DBN, or ends within a record.
    """
    decoder = dbn.DBNDecoder()
    try:
        while data := stream.read(_READ_BYTES):
            decoder.write(data)
            yield decoder.decode()
    except dbn.DBNError as error:
        raise InputError(
            f"expected Databento Binary Encoding in `{stream.path}`, found something else ({error}); "
            "fetch the file again, or name the format that it has"
        ) from error
    if decoder.buffer():
        raise InputError(f"expected `{stream.path}` to end with a whole record, found it cut short; fetch it again")


def _refuse_schema(path: Path, metadata: Any) -> None:
    schema = metadata.schema
    if schema is not None and str(schema) not in _SUPPORTED:
        raise InputError(
            f"expected a schema among {', '.join(_SUPPORTED)} in `{path}`, found `{schema}`; "
            "no topic holds such records: fetch one of the schemas named"
        )


def _route(record: Any, position: int, topics: dict[str, _Rows], symbols: _Symbols) -> None:
    if isinstance(record, dbn.SymbolMappingMsg):
        symbols.current[record.instrument_id] = record.stype_out_symbol
        return
    if isinstance(record, _CONTROL):
        return
    names = []
    if isinstance(record, _BOOK):
        names = ["books"]
    elif isinstance(record, _QUOTE):
        names = ["quotes", "trades"] if getattr(record, "action", None) == "T" else ["quotes"]
    elif isinstance(record, _TRADE):
        names = ["trades"]
    for name in names:
        topics[name].records.append(record)
        topics[name].positions.append(position)
    if not names:
        text = "malformed: expected a record of a supported schema"
        topics["trades"].bad.append(BadRow(position, bytes(record), text))


def _chunk(topic: str, rows: _Rows, symbols: _Symbols, venue: str, options: ImportOptions, bytes_done: int) -> Chunk:
    records = rows.records
    n_rows = len(records)
    recv = np.array([_time(record.ts_recv) for record in records], dtype=np.int64)
    event = np.array([_time(record.ts_event) for record in records], dtype=np.int64)
    has_event = event != UNKNOWN_TIME
    sampled = np.array([isinstance(record, _SAMPLED) for record in records], dtype=np.bool_)
    columns: dict[str, Any] = _BUILDERS[topic](records)
    columns["ts_recv"] = recv
    columns["ts_event"] = np.where(has_event, event, recv)
    columns["instrument_id"] = (
        constant(options.symbol, n_rows)
        if options.symbol is not None
        else [symbols.name(record.instrument_id, ts) for record, ts in zip(records, recv.tolist(), strict=True)]
    )
    if topic != "books":
        columns["venue"] = constant(venue, n_rows)
    return make_chunk(
        topic,
        columns,
        lambda row: bytes(records[row]),
        n_rows=n_rows,
        bytes_done=bytes_done,
        positions=np.array(rows.positions, dtype=np.int64),
        bad=rows.bad,
        faults=Faults(n_rows),
        repaired=[(_NO_EVENT_TIME, ~has_event)],
        two_clocks=has_event & ~sampled,
        tick=options.tick,
    )


def _time(ts: int) -> int:
    return ts if ts <= _MAX_TIME else UNKNOWN_TIME


def _price(fixed: int) -> float:
    """Return the nearest double of a fixed-point price; 0 where it is not defined."""
    return 0.0 if fixed == dbn.UNDEF_PRICE else fixed / _PRICE_SCALE


def _trades(records: list[Any]) -> dict[str, Any]:
    return {
        "price": np.array([_price(record.price) for record in records], dtype=np.float64),
        "size": np.array([record.size for record in records], dtype=np.float64),
        "side": np.array([_SIDES.get(str(record.side), Side.UNKNOWN) for record in records], dtype=np.int8),
    }


def _quotes(records: list[Any]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "sequence": pa.array([getattr(record, "sequence", None) for record in records], type=pa.int64())
    }
    tops = [record.levels[0] for record in records]
    for side, price, size in (("bid", "bid_px", "bid_sz"), ("ask", "ask_px", "ask_sz")):
        prices = np.array([_price(getattr(top, price)) for top in tops], dtype=np.float64)
        sizes = np.array([getattr(top, size) for top in tops], dtype=np.float64)
        columns[f"{side}_price"] = prices
        columns[f"{side}_size"] = np.where(prices == 0, 0.0, sizes)
    return columns


def _books(records: list[Any]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "kind": np.full(len(records), BookKind.SNAPSHOT, dtype=np.int8),
        "last_sequence": np.array([record.sequence for record in records], dtype=np.int64),
    }
    levels = pa.list_(pa.float64())
    for side in ("bid", "ask"):
        present = [
            [(getattr(level, f"{side}_px"), getattr(level, f"{side}_sz")) for level in record.levels]
            for record in records
        ]
        present = [[pair for pair in row if pair[0] != dbn.UNDEF_PRICE] for row in present]
        columns[f"{side}_prices"] = pa.array([[_price(price) for price, _ in row] for row in present], type=levels)
        columns[f"{side}_sizes"] = pa.array([[float(size) for _, size in row] for row in present], type=levels)
    return columns


_BUILDERS: Final[dict[str, Any]] = {"books": _books, "quotes": _quotes, "trades": _trades}
