"""Order books rebuilt from the messages of a feed, one per instrument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from operators.book_levels import USED, BookLevels
from operators.book_messages import NO_MESSAGES, BookMessages, HeldDelta, checked, hold, joined, tables
from operators.book_sync import (
    BOOK_COLUMNS,
    DROPPED,
    HELD,
    HOLDS,
    STATUS,
    BookRefusal,
    BookStatus,
    Output,
    Verdict,
    advance,
    emit_top,
    make_output,
)
from operators.columns import BookColumns, CodeArray, FloatArray, Int8Array, IntArray, frozen
from operators.state import ArrayState, Column
from schemas.enums import BookKind
from schemas.errors import VersionError

__all__ = ["BookState", "BookUpdate"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """What messages did to the books."""

    top: BookColumns
    """the top after each message that changed a synchronised book or lost it, in arrival order"""
    row: IntArray
    """index of the message of each of those rows"""
    rejected_ident: IntArray
    """`ident` of each message that was refused, in the order in which that was decided"""
    rejected_reason: Int8Array
    """a `BookRefusal` for each"""
    rejected_row: IntArray
    """index of the message whose arrival decided each refusal; -1 where none did (`flush`, `reset`)"""


class _Rejected:
    """Refusals of one call, gathered from the kernel and from what was held."""

    def __init__(self) -> None:
        self._parts: list[tuple[IntArray, IntArray, IntArray]] = []

    def add(self, ident: IntArray, reason: IntArray, row: IntArray) -> None:
        if len(ident):
            self._parts.append((ident, reason, row))

    def add_held(self, idents: list[int], row: int) -> None:
        n = len(idents)
        self.add(np.array(idents, dtype=np.int64), np.full(n, BookRefusal.SEQUENCE_GAP), np.full(n, row))

    def update(self, messages: BookMessages, out: Output) -> BookUpdate:
        n_tops, n_refused, _ = out.n.tolist()
        at, reasons = out.refused[:n_refused].T
        self.add(messages.ident[at], reasons, at)
        none = np.empty(0, dtype=np.int64)
        ident, reason, row = (np.concatenate(columns) for columns in zip((none, none, none), *self._parts, strict=True))
        order = np.argsort(row, kind="stable")
        return BookUpdate(
            *_tops(messages, out, n_tops),
            ident[order],
            reason[order].astype(np.int8),
            row[order],
        )


def _tops(messages: BookMessages, out: Output, n_tops: int) -> tuple[BookColumns, IntArray]:
    top, top_row, levels = out.top[:n_tops], out.top_row[:n_tops], out.levels[:n_tops]
    row = top_row[:, 0].copy()
    bid_price, bid_size, ask_price, ask_size, bid_depth, ask_depth = (top[:, k].copy() for k in range(6))
    code, ts, missing = messages.code[row], messages.ts[row], top_row[:, 1].astype(np.uint8)
    tops = BookColumns(code, ts, bid_price, bid_size, ask_price, ask_size, bid_depth, ask_depth, missing, levels)
    return tops, row


class BookState:
    """Order books of price levels ("level 2"), rebuilt from snapshots and deltas.

    A snapshot replaces its book. A delta is applied if it is the next one by its numbers (rules in
    `operators.book_sync`). A gap, a delta that crosses the book or one with a value out of range loses the book:
    the message is refused, one row says `Missing.OUT_OF_SYNC`, and the book waits for a snapshot. Deltas that
    come while a book waits are held; when the snapshot comes, those it contains are refused and the others are
    applied at that moment, so that the snapshot gives one row. A snapshot is checked first, and one that is
    refused leaves the book as it was.

    Every message is applied, refused or held. Refusals name the message by the `ident` that the caller gave it,
    because a held message may be refused in a later call. `held` says which are still held; at the end of the
    input `flush` refuses them.

    Parameters
    ----------
    depth
        Levels of each side that `bid_depth` and `ask_depth` sum and that `levels` shows; at least 1. A side with fewer
        sums and shows what it has.
    max_levels
        Most levels of a side; at least 1. Beyond it the level furthest from the market is dropped and counted in
        `dropped_levels`; should the market come back there, the book does not know of it.
    max_pending
        Most deltas held for one instrument; beyond it the oldest is refused as `SEQUENCE_GAP` and counted in
        `held_overflow`. At least 1.

    Raises
    ------
    ValueError
        A parameter is below 1.

    Notes
    -----
    The top of a book with one empty side has the values of the other side, and `missing` says `OUT_OF_SYNC`.

    The result does not depend on how messages are cut into calls, nor on messages of other instruments. Cost is
    about 0.15 microseconds for a message of one level near the market; a level deep in a book of thousands costs
    twice that, and a delta that must be held about 6 microseconds.

    Examples
    --------
    >>> state = BookState(depth=5, max_levels=1000, max_pending=100)
    >>> state.ensure(1)
    >>> integers = lambda *values: np.array(values, dtype=np.int64)
    >>> messages = BookMessages(
    ...     code=np.zeros(2, dtype=np.int32), ts=integers(10, 20), ident=integers(0, 1),
    ...     kind=np.array([BookKind.SNAPSHOT, BookKind.DELTA], dtype=np.int8),
    ...     first_sequence=integers(-1, 8), last_sequence=integers(7, 9), previous_sequence=integers(-1, -1),
    ...     bid_offsets=integers(0, 1, 2), bid_prices=np.array([9.0, 9.5]), bid_sizes=np.array([1.0, 2.0]),
    ...     ask_offsets=integers(0, 1, 1), ask_prices=np.array([10.0]), ask_sizes=np.array([4.0]))
    >>> top = state.update(messages).top
    >>> top.bid_price, top.bid_depth
    (array([9. , 9.5]), array([1., 3.]))
    """

    def __init__(self, depth: int, max_levels: int, max_pending: int) -> None:
        for name, value in (("depth", depth), ("max_levels", max_levels), ("max_pending", max_pending)):
            if value < 1:
                raise ValueError(f"expected `{name}` of at least 1, was {value}")
        self._depth = depth
        self._max_levels = max_levels
        self._max_pending = max_pending
        self._state = ArrayState({"book": Column("i8", shape=(BOOK_COLUMNS,))}, version=_VERSION)
        self._levels = BookLevels(max_levels)
        self._held: dict[int, deque[HeldDelta]] = {}
        self.held_overflow = 0
        self._dropped_before = 0

    @property
    def dropped_levels(self) -> int:
        """Levels dropped because a side had `max_levels`."""
        return self._dropped_before + int(self._book[:, DROPPED].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the books, without held messages."""
        return self._state.nbytes + self._levels.nbytes

    def status(self, code: int) -> BookStatus:
        """Return whether the book of an instrument may be read."""
        return BookStatus(int(self._book[code, STATUS]))

    def levels(self, code: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return bid prices, bid sizes, offer prices and offer sizes of a book, the best first, copied."""
        bid_keys, bid_sizes = self._levels.side(2 * code)
        ask_keys, ask_sizes = self._levels.side(2 * code + 1)
        return bid_keys[::-1], bid_sizes[::-1], -ask_keys[::-1], ask_sizes[::-1]

    def held(self) -> IntArray:
        """Return the idents of the messages held, by code, then arrival."""
        return np.array([delta.ident for _, deltas in sorted(self._held.items()) for delta in deltas], dtype=np.int64)

    def ensure(self, rows: int) -> None:
        """Have a row for each code below `rows`."""
        self._state.ensure(rows)
        self._levels.ensure(rows)

    def reset(self, codes: CodeArray) -> BookUpdate:
        """Forget these instruments. The held messages of each are refused: the result must be accounted for."""
        self._dropped_before += int(self._book[codes, DROPPED].sum())
        self._state.reset(codes)
        self._levels.reset(codes)
        return self._refuse_held(np.unique(codes).tolist())

    def flush(self) -> BookUpdate:
        """Refuse every held message: the input has ended, and no snapshot will come."""
        self._book[:, HELD] = 0
        return self._refuse_held(sorted(self._held))

    def _refuse_held(self, codes: list[int]) -> BookUpdate:
        rejected = _Rejected()
        for code in codes:
            rejected.add_held([delta.ident for delta in self._held.pop(code, ())], -1)
        return rejected.update(NO_MESSAGES, make_output(0, self._depth))

    def update(self, messages: BookMessages) -> BookUpdate:
        """Take the next messages, in arrival order; every code must have its row.

        Raises
        ------
        ValueError
            The arrays of the messages do not fit together.
        """
        messages = checked(messages)
        table, keys, sizes = tables(messages)
        rejected = _Rejected()
        out = make_output(len(table), self._depth)
        start = n_held = 0
        while start < len(table):
            verdict, at = self._advance(table, keys, sizes, start, out)
            n_held, n_held_before = int(out.n[HOLDS]), n_held
            for row in out.held[n_held_before:n_held].tolist():
                self._hold(messages, row, row, rejected)
            if verdict == Verdict.REPLAY:
                self._replay(messages, at, out, rejected)
            start = at + 1
        return rejected.update(messages, out)

    @property
    def _book(self) -> IntArray:
        return self._state["book"]

    def _advance(
        self, table: IntArray, keys: FloatArray, sizes: FloatArray, start: int, out: Output
    ) -> tuple[Verdict, int]:
        """Run the kernel up to the end, or to a snapshot that asks for its held deltas."""
        inputs = frozen(keys), frozen(sizes)
        verdict, at = Verdict.GROW, start
        while verdict == Verdict.GROW:
            levels = self._levels
            pool = levels.sides, levels.keys, levels.sizes
            code, at = advance(frozen(table), at, *inputs, self._book, *pool, *out, self._max_levels, self._depth)
            verdict = Verdict(code)
            if verdict == Verdict.GROW:
                self._grow(table[at])
        return verdict, at

    def _grow(self, message: IntArray) -> None:
        code, kind, *_, bid_start, bid_end, ask_start, ask_end = message.tolist()
        for side, n_new in ((2 * code, bid_end - bid_start), (2 * code + 1, ask_end - ask_start)):
            used = 0 if kind == BookKind.SNAPSHOT else int(self._levels.sides[side, USED])
            self._levels.reserve(side, used + n_new)

    def _hold(self, messages: BookMessages, row: int, cause: int, rejected: _Rejected) -> None:
        code = int(messages.code[row])
        deltas = self._held.setdefault(code, deque())
        deltas.append(hold(messages, row))
        if len(deltas) > self._max_pending:
            self.held_overflow += 1
            rejected.add_held([deltas.popleft().ident], cause)

    def _replay(self, messages: BookMessages, at: int, out: Output, rejected: _Rejected) -> None:
        """Apply the held deltas of the book whose snapshot is message `at`; the snapshot's row shows the result."""
        code = int(messages.code[at])
        book = self._book
        lost = book[code, STATUS] == BookStatus.LOST
        book[code, STATUS] = BookStatus.SYNCHRONISED
        book[code, HELD] = 0
        deltas = joined(code, int(messages.ts[at]), list(self._held.pop(code)))
        done = make_output(len(deltas.code), self._depth)
        self._advance(*tables(deltas), 0, done)
        _, n_refused, n_held = done.n.tolist()
        rows, reasons = done.refused[:n_refused].T
        if lost:
            reasons = np.where(reasons == BookRefusal.SUPERSEDED, BookRefusal.SEQUENCE_GAP, reasons)
        rejected.add(deltas.ident[rows], reasons, np.full(n_refused, at))
        for row in done.held[:n_held].tolist():
            self._hold(deltas, row, at, rejected)
        levels = self._levels
        synchronised = bool(book[code, STATUS] == BookStatus.SYNCHRONISED)
        pool = levels.sides, levels.keys, levels.sizes
        emit_top(at, code, synchronised, *pool, self._depth, out.n, out.top, out.levels, out.top_row)

    def snapshot(self, n_rows: int) -> dict[str, Any]:
        """Return the books of the codes below `n_rows` as plain values, copied; only levels in use are copied."""
        return {
            "version": _VERSION,
            "parameters": [self._max_levels, self._max_pending],
            "instruments": self._state.snapshot(n_rows),
            "levels": self._levels.snapshot(n_rows),
            "held": [[code, [list(delta) for delta in deltas]] for code, deltas in sorted(self._held.items())],
            "counts": [self.held_overflow, self._dropped_before],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot.

        Raises
        ------
        VersionError
            The snapshot has another version, or was written with other caps.
        """
        expected = (_VERSION, [self._max_levels, self._max_pending])
        found = (snapshot["version"], list(snapshot["parameters"]))
        if found != expected:
            raise VersionError(
                f"expected books of version and [max_levels, max_pending] {expected}, found {found}; "
                "resume with the version and settings that wrote them, or start a new run"
            )
        self._state.restore(snapshot["instruments"])
        self._levels.restore(snapshot["levels"])
        self._held = {code: deque(HeldDelta(*delta) for delta in deltas) for code, deltas in snapshot["held"]}
        self.held_overflow, self._dropped_before = snapshot["counts"]
