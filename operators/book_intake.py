"""Records of books and quotes in, tops of books out; every refused record is accounted for.

A delta that waits for a snapshot may be refused long after it came, so its record is kept as Arrow
bytes as long as it is held. At the end of the input whatever is still held is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from operators.book import BookState, BookUpdate
from operators.book_messages import BookMessages
from operators.book_sync import BookRefusal
from operators.book_top import TopOfBookState, quotes_top
from operators.columns import BookColumns, CodeArray
from operators.refusals import Refusals
from operators.shard_config import BookConfig
from schemas.batches import concat_batches, floats, int8s, integers, levels, take, times
from schemas.time import END_OF_TIME

__all__ = ["BookIntake"]

_DETAILS = {
    BookRefusal.DUPLICATE: "expected changes after those of the book, found ones applied before",
    BookRefusal.SUPERSEDED: "expected changes after the snapshot of the book, found older ones",
    BookRefusal.SEQUENCE_GAP: "expected the next changes of the book, found a gap that no snapshot closed",
    BookRefusal.CROSSED_BOOK: "expected the best bid below the best offer",
    BookRefusal.OUT_OF_RANGE: "expected finite positive prices and sizes, and numbers in order",
}


class BookIntake:
    """The books of a shard, fed from the topics `books` and `quotes`.

    Parameters
    ----------
    config
        Depth and bounds.
    """

    def __init__(self, config: BookConfig) -> None:
        self._books = BookState(config.depth, config.max_levels, config.max_pending)
        self._tops = TopOfBookState()
        self._depth = config.depth
        no_floats = np.empty(0)
        no_codes, no_times = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
        self._nothing = quotes_top(no_codes, no_times, no_floats, no_floats, no_floats, no_floats, config.depth)
        self._next_ident = 0
        self._held: dict[int, bytes] = {}
        self._released: list[int] = []

    def ensure(self, rows: int) -> None:
        """Have a row for each code below `rows`."""
        self._books.ensure(rows)
        self._tops.ensure(rows)

    def reset(self, codes: CodeArray) -> None:
        """Forget these instruments; what was held for them is refused with the next update."""
        self._released.extend(self._books.reset(codes).rejected_ident.tolist())
        self._tops.reset(codes)

    def snapshot(self, rows: int) -> dict[str, Any]:
        """Return the state as plain values, copied."""
        return {
            "books": self._books.snapshot(rows),
            "tops": self._tops.snapshot(rows),
            "next_ident": self._next_ident,
            "held": [[ident, record] for ident, record in self._held.items()],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take over a snapshot; `VersionError` if it is of another version or other bounds."""
        self._books.restore(snapshot["books"])
        self._tops.restore(snapshot["tops"])
        self._next_ident = snapshot["next_ident"]
        self._held = dict(snapshot["held"])
        still = set(self._books.held().tolist())
        self._released = [ident for ident in self._held if ident not in still]

    def update(
        self, batches: dict[str, pa.RecordBatch], codes: dict[str, CodeArray], frontier: int, refusals: Refusals
    ) -> BookColumns:
        """Take the records of a frame; return the top of each book after each of its updates, in arrival order."""
        self._refuse(None, self._released, [BookRefusal.SEQUENCE_GAP] * len(self._released), refusals)
        self._released = []
        books = self._take_books(batches.get("books"), codes.get("books"), refusals)
        if frontier == END_OF_TIME:
            self._account(None, self._books.flush(), refusals)
        quotes = self._take_quotes(batches.get("quotes"), codes.get("quotes"), refusals)
        return self._tops.update(books, quotes)

    def _take_books(self, batch: pa.RecordBatch | None, code: CodeArray | None, refusals: Refusals) -> BookColumns:
        if batch is None or code is None:
            return self._nothing
        ident = np.arange(self._next_ident, self._next_ident + batch.num_rows, dtype=np.int64)
        self._next_ident += batch.num_rows
        bid_offsets, bid_prices = levels(batch, "bid_prices")
        ask_offsets, ask_prices = levels(batch, "ask_prices")
        messages = BookMessages(
            code=code,
            ts=times(batch, "ts_recv"),
            ident=ident,
            kind=int8s(batch, "kind"),
            first_sequence=integers(batch, "first_sequence"),
            last_sequence=integers(batch, "last_sequence"),
            previous_sequence=integers(batch, "previous_sequence"),
            bid_offsets=bid_offsets,
            bid_prices=bid_prices,
            bid_sizes=levels(batch, "bid_sizes")[1],
            ask_offsets=ask_offsets,
            ask_prices=ask_prices,
            ask_sizes=levels(batch, "ask_sizes")[1],
        )
        held_before = len(self._held)
        update = self._books.update(messages)
        self._account((batch, int(ident[0])), update, refusals)
        refusals.accept("books", batch.num_rows + held_before - len(self._held) - len(update.rejected_ident))
        return update.top

    def _account(self, arrived: tuple[pa.RecordBatch, int] | None, update: BookUpdate, refusals: Refusals) -> None:
        """Refuse what the update refused, and keep the records of what it holds."""
        if arrived is not None:
            batch, first = arrived
            held = self._books.held()
            for ident in held[held >= first].tolist():
                self._held[ident] = _to_bytes(take(batch, np.array([ident - first])))
        reasons = [BookRefusal(reason) for reason in update.rejected_reason.tolist()]
        self._refuse(arrived, update.rejected_ident.tolist(), reasons, refusals)
        if self._held:
            still = set(self._books.held().tolist())
            self._held = {ident: record for ident, record in self._held.items() if ident in still}

    def _refuse(
        self,
        arrived: tuple[pa.RecordBatch, int] | None,
        idents: list[int],
        reasons: list[BookRefusal],
        refusals: Refusals,
    ) -> None:
        if not idents:
            return
        records = [
            take(arrived[0], np.array([ident - arrived[1]]))
            if arrived is not None and ident >= arrived[1]
            else _from_bytes(self._held.pop(ident))
            for ident in idents
        ]
        refused = concat_batches(records)
        details = [_DETAILS[reason] for reason in reasons]
        refusals.refuse_rows(refused, np.arange(refused.num_rows), [reason.dead_letter for reason in reasons], details)

    def _take_quotes(self, batch: pa.RecordBatch | None, code: CodeArray | None, refusals: Refusals) -> BookColumns:
        if batch is None or code is None:
            return self._nothing
        refusals.accept("quotes", batch.num_rows)
        bid_price, bid_size, ask_price, ask_size = (
            floats(batch, name) for name in ("bid_price", "bid_size", "ask_price", "ask_size")
        )
        return quotes_top(code, times(batch, "ts_recv"), bid_price, bid_size, ask_price, ask_size, self._depth)


def _to_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _from_bytes(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()
