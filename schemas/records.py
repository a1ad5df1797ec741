"""The records of the input topics.

Two clocks stand on every record, int64 UTC nanoseconds: `ts_event`, when the venue, publisher or
author says that it happened, and `ts_recv`, when we had it. `ts_recv` orders everything.

A batch in flight and a file of the archive hold a topic's columns and behind them the transport
columns: where the record stood in its log, and its bytes where they differ from what the columns say
(it could not be decoded, or its publisher's bytes were kept).
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa

from schemas.enums import BookKind, OptionRight, Side
from schemas.fields import Field, Schema

__all__ = ["TOPICS", "TRANSPORT", "archive_schema", "topic"]

_INSTRUMENT = Field("instrument_id", "symbol", "instrument, as the venue names it")
_TS_EVENT = Field("ts_event", "time", "when it happened by its publisher's clock, UTC ns")
_TS_RECV = Field("ts_recv", "time", "when we had it, UTC ns; never decreases within a partition")
_COMMON = (_INSTRUMENT, _TS_EVENT, _TS_RECV)

TRADES = Schema(
    "trades",
    "One execution on a venue.",
    (
        *_COMMON,
        Field("price", "float", "price of the trade, quote currency", positive=True),
        Field("size", "float", "quantity traded, base units", positive=True),
        Field("side", "enum", "aggressor's side", enum=Side),
        Field("trade_id", "int", "venue's number of the trade; rises within an instrument", nullable=True),
        Field("venue", "symbol", "venue or reporting facility", nullable=True),
        Field("conditions", "symbol", "sale conditions as the venue codes them", nullable=True),
    ),
    key=(),
)
QUOTES = Schema(
    "quotes",
    "The best bid and offer after a change. A size of zero says that the side is empty.",
    (
        *_COMMON,
        Field("bid_price", "float", "best bid, quote currency; 0 where the side is empty", non_negative=True),
        Field("bid_size", "float", "quantity at the best bid, base units", non_negative=True),
        Field("ask_price", "float", "best offer, quote currency; 0 where the side is empty", non_negative=True),
        Field("ask_size", "float", "quantity at the best offer, base units", non_negative=True),
        Field("sequence", "int", "venue's number of the book state", nullable=True),
        Field("venue", "symbol", "venue of the quote", nullable=True),
    ),
    key=(),
)
BOOKS = Schema(
    "books",
    "One message of an order-book feed: a snapshot of the levels, or the levels that changed.",
    (
        *_COMMON,
        Field("kind", "enum", "snapshot or delta", enum=BookKind),
        Field("first_sequence", "int", "number of the first change in the message", nullable=True),
        Field("last_sequence", "int", "number of the last change in the message"),
        Field("previous_sequence", "int", "last number of the message before, where the feed says it", nullable=True),
        Field("bid_prices", "levels", "bid levels, quote currency"),
        Field("bid_sizes", "levels", "quantity at each bid level, base units; 0 removes the level"),
        Field("ask_prices", "levels", "offer levels, quote currency"),
        Field("ask_sizes", "levels", "quantity at each offer level, base units; 0 removes the level"),
    ),
    key=(),
)
NEWS = Schema(
    "news",
    "One news item about one instrument.",
    (
        *_COMMON,
        Field("news_id", "text", "publisher's id of the item"),
        Field("source", "symbol", "publisher"),
        Field("headline", "text", "headline"),
        Field("body", "text", "text below the headline", nullable=True),
    ),
    key=(),
)
SOCIAL = Schema(
    "social",
    "One post about one instrument.",
    (
        *_COMMON,
        Field("post_id", "text", "platform's id of the post"),
        Field("platform", "symbol", "platform"),
        Field("author", "text", "author's id on the platform"),
        Field("text", "text", "text of the post"),
    ),
    key=(),
)
EARNINGS = Schema(
    "earnings",
    "One earnings announcement, or an update of its estimate.",
    (
        *_COMMON,
        Field("report_id", "text", "id of the announcement; an update carries the same one"),
        Field("ts_report", "time", "when the report is or was due, UTC ns"),
        Field("eps_estimate", "float", "consensus earnings per share, currency units", nullable=True),
        Field("eps_actual", "float", "reported earnings per share, currency units", nullable=True),
    ),
    key=(),
)
OPTIONS = Schema(
    "options",
    "The state of one option contract: last trade, open interest, implied volatility.",
    (
        *_COMMON,
        Field("contract_id", "symbol", "contract, as the venue names it"),
        Field("ts_expiry", "time", "expiry, UTC ns"),
        Field("strike", "float", "strike price, quote currency", positive=True),
        Field("right", "enum", "call or put", enum=OptionRight),
        Field("price", "float", "last or closing price, quote currency", nullable=True, non_negative=True),
        Field("volume", "float", "contracts traded since the session's start", nullable=True, non_negative=True),
        Field("open_interest", "float", "contracts open", nullable=True, non_negative=True),
        Field("implied_volatility", "float", "annualised, as a fraction", nullable=True, non_negative=True),
        Field("delta", "float", "option delta", nullable=True),
        Field("underlying_price", "float", "price of the underlying, quote currency", nullable=True, positive=True),
    ),
    key=(),
)

TOPICS: dict[str, Schema] = {schema.name: schema for schema in (BOOKS, EARNINGS, NEWS, OPTIONS, QUOTES, SOCIAL, TRADES)}
"""Every input topic by name, in the order that breaks ties between equal `ts_recv`."""

TRANSPORT: tuple[Field, ...] = (
    Field("partition", "int32", "partition of the topic that the record stood in"),
    Field("offset", "int", "position in the partition"),
    Field("raw", "bytes", "the record's bytes, where they were kept or could not be decoded", nullable=True),
    Field("error", "text", "why the producer of this file could not decode the record", nullable=True),
)


def topic(name: str) -> Schema:
    """Return the schema of a topic.

    Raises
    ------
    KeyError
        There is no such topic.

    Examples
    --------
    >>> topic("trades").names[:3]
    ('instrument_id', 'ts_event', 'ts_recv')
    """
    if name not in TOPICS:
        raise KeyError(f"expected a topic among {sorted(TOPICS)}, was `{name}`")
    return TOPICS[name]


@cache
def archive_schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a topic's batches in flight and files in the archive.

    The topic's columns, then the transport columns. Only `ts_recv`, `partition` and `offset` are
    always there: of a record that could not be decoded nothing else is known but its bytes.

    Examples
    --------
    >>> archive_schema("trades").names[-4:]
    ['partition', 'offset', 'raw', 'error']
    """
    schema = topic(name)
    sure = {"ts_recv", "partition", "offset"}
    fields = [field.arrow.with_nullable(field.name not in sure) for field in (*schema.fields, *TRANSPORT)]
    return pa.schema(fields, metadata=schema.arrow.metadata)
