"""Order books rebuilt from the messages of a feed, one per instrument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.book_levels import BookLevels
from operators.book_messages import NO_MESSAGES, BookMessages, HeldDelta, checked, hold, joined
from operators.book_sync import BookRefusal, BookStatus, Output, Stop, advance, emit_top, make_output
from operators.columns import BookColumns, CodeArray, FloatArray, Int8Array, IntArray
from operators.state import ArrayState, Column
from schemas.enums import BookKind
from schemas.errors import VersionError

__all__ = ["BookState", "BookUpdate"]

_VERSION: Final = 1
_COLUMNS: Final = {
    "status": Column("u1", fill=BookStatus.NEW),
    "last": Column("i8", fill=-1),
    "anchor": Column("i8", fill=-1),
    "held": Column("i8"),
    "dropped": Column("i8"),
}


class _BookArrays(NamedTuple):
    """What the kernels see of an instrument, shape `(rows,)`."""

    status: npt.NDArray[np.uint8]
    last: IntArray
    """number of the last change applied"""
    anchor: IntArray
    """number of the snapshot that the book was built from"""
    held: IntArray
    """deltas held"""
    dropped: IntArray
    """levels that the cap on levels cost"""


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


class _Events:
    """Output of one call, gathered over the runs of the kernel."""

    def __init__(self) -> None:
        self.tops: list[tuple[IntArray, npt.NDArray[np.uint8], FloatArray]] = []
        self.rejected: list[tuple[IntArray, Int8Array, IntArray]] = []

    def reject(self, idents: list[int], reason: BookRefusal, row: int) -> None:
        n = len(idents)
        reasons, rows = np.full(n, reason, dtype=np.int8), np.full(n, row, dtype=np.int64)
        self.rejected.append((np.array(idents, dtype=np.int64), reasons, rows))

    def update(self, messages: BookMessages) -> BookUpdate:
        rows, missing, top = (np.concatenate(parts) for parts in zip(_NO_TOPS, *self.tops, strict=True))
        idents, reasons, at = (np.concatenate(parts) for parts in zip(_NO_REJECTED, *self.rejected, strict=True))
        order = np.argsort(at, kind="stable")
        bid_price, bid_size, ask_price, ask_size, bid_depth, ask_depth = top.T
        columns = BookColumns(
            messages.code[rows],
            messages.ts[rows],
            bid_price,
            bid_size,
            ask_price,
            ask_size,
            bid_depth,
            ask_depth,
            missing,
        )
        return BookUpdate(columns, rows, idents[order], reasons[order], at[order])


_NO_ROWS: Final = np.empty(0, dtype=np.int64)
_NO_TOPS: Final = (_NO_ROWS, np.empty(0, dtype=np.uint8), np.empty((0, 6)))
_NO_REJECTED: Final = (_NO_ROWS, np.empty(0, dtype=np.int8), _NO_ROWS)


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
        Levels of each side that `bid_depth` and `ask_depth` sum; at least 1. A side with fewer sums what it has.
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
    about 0.1 microseconds per changed level near the market; a held delta costs some microseconds.

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
        self._state = ArrayState(_COLUMNS, version=_VERSION)
        self._levels = BookLevels(max_levels)
        self._held: dict[int, deque[HeldDelta]] = {}
        self.held_overflow = 0
        self._dropped_before = 0

    @property
    def dropped_levels(self) -> int:
        """Levels dropped because a side had `max_levels`."""
        return self._dropped_before + int(self._state["dropped"].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the books, without held messages."""
        return self._state.nbytes + self._levels.nbytes

    def status(self, code: int) -> BookStatus:
        """Return whether the book of an instrument may be read."""
        return BookStatus(int(self._state["status"][code]))

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
        self._dropped_before += int(self._state["dropped"][codes].sum())
        self._state.reset(codes)
        self._levels.reset(codes)
        return self._refuse_held(np.unique(codes).tolist())

    def flush(self) -> BookUpdate:
        """Refuse every held message: the input has ended, and no snapshot will come."""
        self._state["held"][:] = 0
        return self._refuse_held(sorted(self._held))

    def _refuse_held(self, codes: list[int]) -> BookUpdate:
        events = _Events()
        for code in codes:
            events.reject([delta.ident for delta in self._held.pop(code, ())], BookRefusal.SEQUENCE_GAP, -1)
        return events.update(NO_MESSAGES)

    def update(self, messages: BookMessages) -> BookUpdate:
        """Take the next messages, in arrival order; every code must have its row.

        Raises
        ------
        ValueError
            The arrays of the messages do not fit together.
        """
        messages = checked(messages)
        events = _Events()
        start = 0
        while start < len(messages.code):
            out = make_output(len(messages.code) - start + 1)
            stop, at = self._advance(messages, start, out)
            self._collect(messages, out, events)
            if stop == Stop.REPLAY:
                self._replay(messages, at, events)
            start = at + 1
        return events.update(messages)

    def _book(self) -> _BookArrays:
        return _BookArrays(*(self._state[name] for name in _BookArrays._fields))

    def _advance(self, messages: BookMessages, start: int, out: Output) -> tuple[int, int]:
        """Run the kernel up to the end or a snapshot that asks for its held deltas."""
        while True:
            book, levels = self._book(), self._levels.arrays
            stop, at = advance(messages, start, book, levels, out, self._max_levels, self._depth)
            if stop != Stop.GROW:
                return stop, at
            self._grow(messages, at)
            start = at

    def _grow(self, messages: BookMessages, at: int) -> None:
        code = int(messages.code[at])
        for side, offsets in ((2 * code, messages.bid_offsets), (2 * code + 1, messages.ask_offsets)):
            held = 0 if messages.kind[at] == BookKind.SNAPSHOT else int(self._levels.arrays.used[side])
            self._levels.reserve(side, held + int(offsets[at + 1] - offsets[at]))

    def _collect(self, messages: BookMessages, out: Output, events: _Events) -> None:
        n_tops, n_refused, n_held = out.n.tolist()
        events.tops.append((out.top_row[:n_tops], out.top_missing[:n_tops], out.top[:n_tops]))
        rows = out.refused_row[:n_refused]
        events.rejected.append((messages.ident[rows], out.refusal[:n_refused], rows))
        for row in out.held_row[:n_held].tolist():
            self._hold(messages, row, events)

    def _hold(self, messages: BookMessages, row: int, events: _Events) -> None:
        code = int(messages.code[row])
        deltas = self._held.setdefault(code, deque())
        deltas.append(hold(messages, row))
        if len(deltas) > self._max_pending:
            self.held_overflow += 1
            self._state["held"][code] -= 1
            events.reject([deltas.popleft().ident], BookRefusal.SEQUENCE_GAP, row)

    def _replay(self, messages: BookMessages, at: int, events: _Events) -> None:
        """Apply the held deltas of the book whose snapshot is message `at`; the snapshot's row shows the result."""
        code = int(messages.code[at])
        book = self._book()
        lost = book.status[code] == BookStatus.LOST
        book.status[code] = BookStatus.SYNCHRONISED
        book.held[code] = 0
        deltas = joined(code, int(messages.ts[at]), list(self._held.pop(code)))
        out = make_output(len(deltas.code) + 1)
        self._advance(deltas, 0, out)
        _, n_refused, n_held = out.n.tolist()
        rows = out.refused_row[:n_refused]
        reasons = out.refusal[:n_refused]
        if lost:
            reasons = np.where(reasons == BookRefusal.SUPERSEDED, np.int8(BookRefusal.SEQUENCE_GAP), reasons)
        events.rejected.append((deltas.ident[rows], reasons, np.full(n_refused, at)))
        for row in out.held_row[:n_held].tolist():
            self._hold(deltas, row, events)
        out.n[0] = 0
        emit_top(self._book(), self._levels.arrays, out, at, code, self._depth)
        events.tops.append((out.top_row[:1], out.top_missing[:1], out.top[:1]))

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
