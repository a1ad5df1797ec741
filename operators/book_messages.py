"""Messages of order-book feeds as columns, and deltas that wait for the snapshot of their book."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from operators.columns import CodeArray, FloatArray, Int8Array, IntArray, frozen
from schemas.enums import BookKind

__all__ = ["NO_MESSAGES", "BookMessages", "HeldDelta", "checked", "hold", "joined", "tables"]


class BookMessages(NamedTuple):
    """Messages of the `books` topic in arrival order. A number that the feed does not give is -1.

    The levels of message `i` are `bid_prices[bid_offsets[i]:bid_offsets[i + 1]]`, and so on; offsets have shape
    `(n + 1,)`, the levels the length that the offsets reach, every other array `(n,)`.
    """

    code: CodeArray
    """int32 code of the instrument"""
    ts: IntArray
    """`ts_recv`, ns"""
    ident: IntArray
    """the caller's own number of the message; a refusal names it"""
    kind: Int8Array
    """a `BookKind`"""
    first_sequence: IntArray
    last_sequence: IntArray
    previous_sequence: IntArray
    bid_offsets: IntArray
    bid_prices: FloatArray
    bid_sizes: FloatArray
    ask_offsets: IntArray
    ask_prices: FloatArray
    ask_sizes: FloatArray


_NO_ROWS: Final = np.empty(0, dtype=np.int64)
_NO_LEVELS: Final = np.empty(0)
_NO_OFFSETS: Final = np.zeros(1, dtype=np.int64)
NO_MESSAGES: Final = BookMessages(
    code=np.empty(0, dtype=np.int32),
    ts=_NO_ROWS,
    ident=_NO_ROWS,
    kind=np.empty(0, dtype=np.int8),
    first_sequence=_NO_ROWS,
    last_sequence=_NO_ROWS,
    previous_sequence=_NO_ROWS,
    bid_offsets=_NO_OFFSETS,
    bid_prices=_NO_LEVELS,
    bid_sizes=_NO_LEVELS,
    ask_offsets=_NO_OFFSETS,
    ask_prices=_NO_LEVELS,
    ask_sizes=_NO_LEVELS,
)
"""messages, none of them"""


class HeldDelta(NamedTuple):
    """A delta that waits for a snapshot, as plain values; the levels are float64 bytes."""

    ident: int
    first_sequence: int
    last_sequence: int
    previous_sequence: int
    bid_prices: bytes
    bid_sizes: bytes
    ask_prices: bytes
    ask_sizes: bytes


def checked(messages: BookMessages) -> BookMessages:
    """Return read-only contiguous views of the one kind that kernels are compiled for.

    Raises
    ------
    ValueError
        The arrays do not fit together.
    """
    messages = BookMessages(*(_as(array, like) for array, like in zip(messages, NO_MESSAGES, strict=True)))
    n = len(messages.code)
    lengths = {name: len(array) for name, array in messages._asdict().items() if not name.startswith(("bid_", "ask_"))}
    if set(lengths.values()) != {n}:
        raise ValueError(f"expected arrays of one length, found {lengths}")
    _check_levels("bid", n, messages.bid_offsets, messages.bid_prices, messages.bid_sizes)
    _check_levels("ask", n, messages.ask_offsets, messages.ask_prices, messages.ask_sizes)
    return messages


def _as(array: Any, like: Any) -> Any:
    return frozen(np.asarray(array, dtype=like.dtype))


def _check_levels(side: str, n: int, offsets: IntArray, prices: FloatArray, sizes: FloatArray) -> None:
    rising = len(offsets) == n + 1 and offsets[0] >= 0 and bool((offsets[1:] >= offsets[:-1]).all())
    if not rising or not offsets[-1] <= len(prices) == len(sizes):
        raise ValueError(
            f"expected `{side}_offsets` to be {n + 1} rising positions within prices and sizes of one length, found "
            f"{len(offsets)} positions that end in {offsets[-1:].tolist()}, {len(prices)} prices, {len(sizes)} sizes"
        )


def tables(messages: BookMessages) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return messages as the kernels take them.

    Returns
    -------
    messages
        Shape `(n, 9)`: code, kind, first, last and previous number, bounds of the bids and of the offers.
    keys, sizes
        Levels of all bids, then of all offers; an offer's key is its negated price.
    """
    n = len(messages.code)
    table = np.empty((n, 9), dtype=np.int64)
    table[:, 0] = messages.code
    table[:, 1] = messages.kind
    table[:, 2] = messages.first_sequence
    table[:, 3] = messages.last_sequence
    table[:, 4] = messages.previous_sequence
    bids = slice(int(messages.bid_offsets[0]), int(messages.bid_offsets[-1]))
    asks = slice(int(messages.ask_offsets[0]), int(messages.ask_offsets[-1]))
    bid_at = messages.bid_offsets - bids.start
    ask_at = messages.ask_offsets - asks.start + (bids.stop - bids.start)
    table[:, 5] = bid_at[:-1]
    table[:, 6] = bid_at[1:]
    table[:, 7] = ask_at[:-1]
    table[:, 8] = ask_at[1:]
    keys = np.concatenate([messages.bid_prices[bids], -messages.ask_prices[asks]])
    return table, keys, np.concatenate([messages.bid_sizes[bids], messages.ask_sizes[asks]])


def hold(messages: BookMessages, row: int) -> HeldDelta:
    """Return one message as plain values, copied."""
    bids = slice(int(messages.bid_offsets[row]), int(messages.bid_offsets[row + 1]))
    asks = slice(int(messages.ask_offsets[row]), int(messages.ask_offsets[row + 1]))
    return HeldDelta(
        int(messages.ident[row]),
        int(messages.first_sequence[row]),
        int(messages.last_sequence[row]),
        int(messages.previous_sequence[row]),
        messages.bid_prices[bids].tobytes(),
        messages.bid_sizes[bids].tobytes(),
        messages.ask_prices[asks].tobytes(),
        messages.ask_sizes[asks].tobytes(),
    )


def joined(code: int, ts: int, deltas: list[HeldDelta]) -> BookMessages:
    """Return held deltas of one instrument as messages that arrive at `ts`."""
    n = len(deltas)
    ident, first, last, previous = np.array([delta[:4] for delta in deltas], dtype=np.int64).T
    bids = [(delta.bid_prices, delta.bid_sizes) for delta in deltas]
    asks = [(delta.ask_prices, delta.ask_sizes) for delta in deltas]
    code_column, kind = np.full(n, code, dtype=np.int32), np.full(n, BookKind.DELTA, dtype=np.int8)
    return checked(
        BookMessages(code_column, np.full(n, ts), ident, kind, first, last, previous, *_side(bids), *_side(asks))
    )


def _side(levels: list[tuple[bytes, bytes]]) -> tuple[IntArray, FloatArray, FloatArray]:
    offsets = np.cumsum([0, *(len(prices) // 8 for prices, _ in levels)])
    prices, sizes = (np.frombuffer(b"".join(column)) for column in zip(*levels, strict=True))
    return offsets, prices, sizes
