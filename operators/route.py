"""Route the rows of a batch to shards by a hash of their instrument.

The hash is CRC-32 of the instrument's UTF-8 name, so the shard of an instrument never changes. Every
shard is told the source's clock with each batch, whether it gets rows or not.
"""

from __future__ import annotations

from zlib import crc32

import bytewax.operators as op
import numpy as np
import pyarrow as pa
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream

from operators.arrival import Arrival
from schemas.batches import symbols, take
from schemas.failure import noted

__all__ = ["Router", "route"]


class Router:
    """Splits arrivals by shard.

    Parameters
    ----------
    shards
        Number of shards, fixed for a deployment.

    Examples
    --------
    >>> from schemas.batches import make_batch
    >>> batch = make_batch("trades", {"instrument_id": ["A", "D", "A"], "ts_recv": [1, 2, 3]}, 3)
    >>> parts = Router(2).split(Arrival("trades", "trades", clock=3, batch=batch))
    >>> [(key, part.batch.num_rows if part.batch else 0) for key, part in parts]
    [('0', 1), ('1', 2)]
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._keys = [str(shard) for shard in range(shards)]

    def shard(self, instrument_id: str) -> int:
        """Return the shard of an instrument."""
        return crc32(instrument_id.encode()) % self._shards

    @noted
    def split(self, arrival: Arrival) -> list[tuple[str, Arrival]]:
        """Return what each shard gets of an arrival, rows in their order."""
        batch = arrival.batch
        if self._shards == 1 or batch is None or not batch.num_rows:
            return [(key, arrival) for key in self._keys]
        codes, names = symbols(batch, "instrument_id")
        shard_of = np.array([self.shard(name or "") for name in names], dtype=np.uint16)
        shard = shard_of[codes]
        order = np.argsort(shard, kind="stable")
        cuts = np.searchsorted(shard[order], np.arange(self._shards + 1))
        ordered = take(batch, order)
        return [
            (key, self._part(arrival, ordered.slice(start, stop - start)))
            for key, start, stop in zip(self._keys, cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        ]

    @staticmethod
    def _part(arrival: Arrival, rows: pa.RecordBatch) -> Arrival:
        return Arrival(
            arrival.source, arrival.topic, arrival.clock, rows if rows.num_rows else None, trace=arrival.trace
        )


@operator
def route(step_id: str, up: Stream[Arrival], *, shards: int) -> KeyedStream[Arrival]:
    """Send each row to the shard of its instrument, and each clock to every shard.

    Parameters
    ----------
    step_id
        Unique id.
    up
        Validated arrivals.
    shards
        Number of shards.
    """
    router = Router(shards)
    return op.flat_map("split", up, router.split)
