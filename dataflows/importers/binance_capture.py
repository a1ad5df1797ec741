"""Raw captures of Binance streams: each line is a receive time in nanoseconds, a space and a JSON message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.importers.base import BadRow, Chunk, Importer, ImportOptions
from dataflows.importers.checks import END_OF_TIMES, Faults, constant, make_chunk
from dataflows.importers.reading import line_blocks, open_input, split_lines
from schemas.enums import BookKind, Side
from schemas.errors import InputError

__all__ = ["BinanceCaptureImporter"]

_MS: Final = 10**6
_NO_EVENT_TIME: Final = "event time absent: receive time used"
_PEEK_BYTES: Final = 64

_Millis = Annotated[int, msgspec.Meta(ge=0, lt=END_OF_TIMES // _MS)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Levels = list[tuple[float, float]]


class _Envelope(msgspec.Struct):
    """A message of a combined stream, or a book snapshot as the REST interface gives it."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    last_update_id: _Count | None = msgspec.field(default=None, name="lastUpdateId")


class _Snapshot(msgspec.Struct):
    last: _Count = msgspec.field(name="lastUpdateId")
    bids: _Levels
    asks: _Levels
    event: _Millis | None = msgspec.field(default=None, name="E")
    transaction: _Millis | None = msgspec.field(default=None, name="T")


class _Depth(msgspec.Struct):
    symbol: _Symbol = msgspec.field(name="s")
    first: _Count = msgspec.field(name="U")
    last: _Count = msgspec.field(name="u")
    bids: _Levels = msgspec.field(name="b")
    asks: _Levels = msgspec.field(name="a")
    event: _Millis | None = msgspec.field(default=None, name="E")
    transaction: _Millis | None = msgspec.field(default=None, name="T")
    previous: _Count | None = msgspec.field(default=None, name="pu")


class _Trade(msgspec.Struct):
    symbol: _Symbol = msgspec.field(name="s")
    trade_id: _Count = msgspec.field(name="t")
    price: float = msgspec.field(name="p")
    size: float = msgspec.field(name="q")
    buyer_is_maker: bool = msgspec.field(name="m")
    event: _Millis | None = msgspec.field(default=None, name="E")
    transaction: _Millis | None = msgspec.field(default=None, name="T")
    kind: str = msgspec.field(default="MARKET", name="X")


class _BookTicker(msgspec.Struct):
    symbol: _Symbol = msgspec.field(name="s")
    sequence: _Count = msgspec.field(name="u")
    bid_price: float = msgspec.field(name="b")
    bid_size: float = msgspec.field(name="B")
    ask_price: float = msgspec.field(name="a")
    ask_size: float = msgspec.field(name="A")
    event: _Millis | None = msgspec.field(default=None, name="E")
    transaction: _Millis | None = msgspec.field(default=None, name="T")


_Message = _Snapshot | _Depth | _Trade | _BookTicker
# Binance writes numbers as text; the lax decoder reads them to the nearest double.
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_SNAPSHOT: Final = msgspec.json.Decoder(_Snapshot, strict=False)
_DECODERS: Final[dict[str, tuple[str, msgspec.json.Decoder[Any]]]] = {
    "depth": ("books", msgspec.json.Decoder(_Depth, strict=False)),
    "trade": ("trades", msgspec.json.Decoder(_Trade, strict=False)),
    "bookTicker": ("quotes", msgspec.json.Decoder(_BookTicker, strict=False)),
}


class _Rows:
    """Decoded messages of one topic, of one block."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.recv: list[int] = []
        self.messages: list[Any] = []
        self.bad: list[BadRow] = []


class BinanceCaptureImporter(Importer):
    """Reads captures of combined streams (`depth`, `trade`, `bookTicker`) and REST book snapshots.

    Event time is the transaction time `T`, else the event time `E`; spot messages that have neither
    (`bookTicker`, the snapshot) get the time of receipt and are counted as repaired. A snapshot names
    no symbol: it has that of the streams in the file, else of the file's name; it is quarantined where
    the file has several. A line of which the topic is not known is quarantined among the books, where
    a missing message matters most.
    """

    name: ClassVar[str] = "binance-capture"
    summary: ClassVar[str] = "captured Binance streams, lines of `<receive time ns> <JSON>`"
    options: ClassVar[frozenset[str]] = frozenset({"symbol", "venue", "tick"})

    def recognises(self, path: Path) -> bool:
        """Return whether the file begins with nineteen digits, a space and a brace."""
        try:
            return self._first_time(path) != ""
        except InputError:
            return False

    def start(self, path: Path) -> str:
        """Return the receive time of the first line."""
        return self._first_time(path)

    @staticmethod
    def _first_time(path: Path) -> str:
        with open_input(path) as stream:
            found = re.match(rb"(\d{19}) \{", stream.read(_PEEK_BYTES))
        return found.group(1).decode() if found else ""

    def read(self, path: Path, options: ImportOptions) -> Iterator[Chunk]:
        """Yield books, quotes and trades of one file."""
        named = re.match(r"[A-Za-z0-9]+", path.name)
        from_name = named.group().upper() if named else ""
        symbols: set[str] = set()
        with open_input(path) as stream:
            for block in line_blocks(stream):
                lines = split_lines(block)
                topics = _decode(lines)
                symbols |= {
                    message.symbol
                    for rows in topics.values()
                    for message in rows.messages
                    if not isinstance(message, _Snapshot)
                }
                if options.symbol is not None and len(symbols) > 1:
                    raise InputError(
                        f"expected one instrument in `{path}` for the option `symbol`, found {sorted(symbols)[:5]}; "
                        "leave the option out"
                    )
                snapshot_symbol = next(iter(symbols or {from_name})) if len(symbols) <= 1 else ""
                for topic, rows in topics.items():
                    yield _chunk(topic, rows, lines, stream.bytes_done, snapshot_symbol, options)


def _decode(lines: list[bytes]) -> dict[str, _Rows]:
    topics = {"books": _Rows(), "quotes": _Rows(), "trades": _Rows()}
    for position, line in enumerate(lines):
        head, _, body = line.partition(b" ")
        recv = int(head) if len(head) <= 19 and head.isdigit() else END_OF_TIMES
        topic = "books"
        try:
            if recv >= END_OF_TIMES:
                raise msgspec.ValidationError("expected a receive time in nanoseconds, a space and a message")
            envelope = _ENVELOPE.decode(body)
            topic, message = _open(envelope, body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            topics[_guess(body)].bad.append(BadRow(position, line, _reason(error)))
            continue
        rows = topics[topic]
        rows.positions.append(position)
        rows.recv.append(recv)
        rows.messages.append(message)
    return topics


def _open(envelope: _Envelope, body: bytes) -> tuple[str, _Message]:
    if envelope.last_update_id is not None:
        snapshot: _Message = _SNAPSHOT.decode(body)
        return "books", snapshot
    kind = envelope.stream.partition("@")[2].partition("@")[0]
    found = _DECODERS.get(kind)
    if found is None:
        raise msgspec.ValidationError("expected a stream `depth`, `trade` or `bookTicker`, or a book snapshot")
    topic, decoder = found
    return topic, decoder.decode(envelope.data)


def _guess(body: bytes) -> str:
    """Return the topic that a message which cannot be decoded would have had."""
    head = body[:_PEEK_BYTES]
    return "trades" if b"@trade" in head else "quotes" if b"@bookTicker" in head else "books"


def _reason(error: Exception) -> str:
    if not isinstance(error, msgspec.ValidationError):
        return "malformed: expected a JSON message"
    text = str(error)
    kind = "missing_field" if "missing required field" in text else "wrong_type"
    if text.startswith("expected"):
        kind = "malformed"
    return f"{kind}: {text[:1].lower()}{text[1:]}"


def _chunk(
    topic: str, rows: _Rows, lines: list[bytes], bytes_done: int, snapshot_symbol: str, options: ImportOptions
) -> Chunk:
    messages = rows.messages
    n_rows = len(messages)
    recv = np.array(rows.recv, dtype=np.int64)
    millis = [
        -1 if (ts := message.event if message.transaction is None else message.transaction) is None else ts
        for message in messages
    ]
    has_event = np.array(millis, dtype=np.int64) >= 0
    columns = _BUILDERS[topic](messages)
    symbols = [snapshot_symbol if isinstance(message, _Snapshot) else message.symbol for message in messages]
    faults = Faults(n_rows)
    faults.mark(np.array([not symbol for symbol in symbols], dtype=np.bool_), "missing_field: expected a symbol")
    if topic == "trades":
        other = np.array([message.kind != "MARKET" for message in messages], dtype=np.bool_)
        faults.mark(other, "out_of_range: expected a trade of the market (`X` is `MARKET`)")
    columns["instrument_id"] = symbols if options.symbol is None else constant(options.symbol, n_rows)
    columns["ts_recv"] = recv
    columns["ts_event"] = np.where(has_event, np.array(millis, dtype=np.int64) * _MS, recv)
    if options.venue is not None and topic != "books":
        columns["venue"] = constant(options.venue, n_rows)
    return make_chunk(
        topic,
        columns,
        lambda row: lines[rows.positions[row]],
        n_rows=n_rows,
        bytes_done=bytes_done,
        positions=np.array(rows.positions, dtype=np.int64),
        bad=rows.bad,
        faults=faults,
        repaired=[(_NO_EVENT_TIME, ~has_event)],
        two_clocks=has_event,
        tick=options.tick,
    )


def _trades(messages: list[_Trade]) -> dict[str, Any]:
    maker = np.array([message.buyer_is_maker for message in messages], dtype=np.bool_)
    return {
        "price": np.array([message.price for message in messages], dtype=np.float64),
        "size": np.array([message.size for message in messages], dtype=np.float64),
        "side": np.where(maker, Side.SELL, Side.BUY).astype(np.int8),
        "trade_id": np.array([message.trade_id for message in messages], dtype=np.int64),
    }


def _quotes(messages: list[_BookTicker]) -> dict[str, Any]:
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    columns: dict[str, Any] = {
        name: np.array([getattr(message, name) for message in messages], dtype=np.float64) for name in names
    }
    columns["sequence"] = np.array([message.sequence for message in messages], dtype=np.int64)
    return columns


def _books(messages: list[_Depth | _Snapshot]) -> dict[str, Any]:
    deltas = [message if isinstance(message, _Depth) else None for message in messages]
    columns: dict[str, Any] = {
        "kind": np.array([BookKind.SNAPSHOT if delta is None else BookKind.DELTA for delta in deltas], dtype=np.int8),
        "first_sequence": pa.array([None if delta is None else delta.first for delta in deltas], type=pa.int64()),
        "last_sequence": np.array([message.last for message in messages], dtype=np.int64),
        "previous_sequence": pa.array([None if delta is None else delta.previous for delta in deltas], type=pa.int64()),
    }
    for side in ("bid", "ask"):
        levels: list[_Levels] = [getattr(message, f"{side}s") for message in messages]
        flat = np.array(list(chain.from_iterable(chain.from_iterable(levels))), dtype=np.float64).reshape(-1, 2)
        offsets = _offsets(levels)
        columns[f"{side}_prices"] = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(flat[:, 0])))
        columns[f"{side}_sizes"] = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(flat[:, 1])))
    return columns


def _offsets(levels: list[_Levels]) -> pa.Array:
    counts: npt.NDArray[np.int32] = np.array([0, *(len(side) for side in levels)], dtype=np.int32)
    return pa.array(np.cumsum(counts, dtype=np.int32))


_BUILDERS: Final[dict[str, Any]] = {"books": _books, "quotes": _quotes, "trades": _trades}
