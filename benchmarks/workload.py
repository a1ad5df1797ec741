"""The seeded market that every benchmark reads: quotes, trades, news and posts in an archive.

Prices walk on a tick grid, quotes are one to three ticks wide, sizes are round lots, and trades print at
the touch. Arrival times are strictly ordered; the event time of a record lies a few milliseconds before
its arrival, so records of one instrument are now and then out of order by event time. Activity differs
between instruments by about a factor of eight.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.texts import headlines, posts
from schemas.batches import make_batch
from sinks.archive import Archive, ArchiveWriter

__all__ = ["BARS_ONLY", "BARS_SMOKE", "CACHE", "FULL", "SMOKE", "Workload", "archive_of", "generate"]

CACHE: Final = Path(__file__).resolve().parent.parent / ".benchmark-cache"
_FORMAT: Final = 2
"""Raised with every change of what a workload holds: older caches are left alone and not used."""
_START: Final = 1_704_205_800 * 10**9
"""2024-01-02 14:30 UTC"""
_MINUTE: Final = 60 * 10**9
_TICK: Final = 0.01
_LOT: Final = 100.0
_CHUNK: Final = 131_072

Columns = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """What to generate.

    Parameters
    ----------
    instruments
        Number of instruments.
    quotes, trades, news, posts
        Records of each topic.
    seconds
        Market time.
    seed
        Seed of everything.
    """

    instruments: int
    quotes: int
    trades: int
    news: int
    posts: int
    seconds: int
    seed: int = 20240102

    @property
    def rows(self) -> int:
        """Records of all topics."""
        return self.quotes + self.trades + self.news + self.posts

    @property
    def key(self) -> str:
        """Name of the cache folder."""
        digest = sha256(dumps([_FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.rows}-{digest}"


FULL: Final = Workload(instruments=100, quotes=6_000_000, trades=3_960_000, news=20_000, posts=20_000, seconds=3600)
SMOKE: Final = Workload(instruments=4, quotes=120_000, trades=79_200, news=400, posts=400, seconds=1800)
"""The density of `FULL` (28 records per instrument and second), on fewer instruments and for half an hour."""
BARS_ONLY: Final = replace(FULL, quotes=0, trades=3_000_000, news=0, posts=0, seconds=2_700)
"""Trades at the density of `FULL`, for programs that take one event at a time."""
BARS_SMOKE: Final = replace(SMOKE, quotes=0, trades=20_000, news=0, posts=0, seconds=450)


def archive_of(workload: Workload, cache: Path = CACHE) -> Path:
    """Return the archive of a workload, written on first use."""
    root = cache / workload.key
    if not root.exists():
        partial = cache / f".{workload.key}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        archive = Archive.create(partial)
        for topic, columns in generate(workload).items():
            _write(archive, topic, columns)
        partial.rename(root)
    return root


def main() -> None:
    """Make the workload that the command line names and print where it is, as JSON."""
    workloads = {"FULL": FULL, "SMOKE": SMOKE, "BARS_ONLY": BARS_ONLY, "BARS_SMOKE": BARS_SMOKE}
    workload = workloads[sys.argv[1]]
    print(dumps({"archive": str(archive_of(workload)), "rows": workload.rows}))


def _write(archive: Archive, topic: str, columns: Columns) -> None:
    n = len(columns["ts_recv"])
    if not n:
        return
    with ArchiveWriter(archive, topic, "benchmark") as writer:
        for start in range(0, n, _CHUNK):
            part = slice(start, min(start + _CHUNK, n))
            chunk = {name: _part(values, part) for name, values in columns.items()}
            chunk["partition"] = np.zeros(part.stop - start, dtype=np.int32)
            chunk["offset"] = np.arange(start, part.stop)
            writer.append(make_batch(topic, chunk, part.stop - start))


def _part(values: Any, part: slice) -> Any:
    return values.slice(part.start, part.stop - part.start) if isinstance(values, pa.Array) else values[part]


def generate(workload: Workload) -> dict[str, Columns]:
    """Return the columns of each topic in arrival order."""
    rng = np.random.default_rng(workload.seed)
    n = workload.rows
    ts_recv, ts_event = _times(rng, n, workload.seconds)
    instrument = rng.choice(workload.instruments, size=n, p=_activity(workload.instruments)).astype(np.int32)
    topic = np.repeat(np.arange(4, dtype=np.int8), [workload.quotes, workload.trades, workload.news, workload.posts])
    rng.shuffle(topic)
    bid = _walk(rng, instrument, workload.instruments)
    names = pa.array([f"SB{code:03d}" for code in range(workload.instruments)])

    def common(rows: npt.NDArray[np.int64]) -> Columns:
        symbols = pa.DictionaryArray.from_arrays(pa.array(instrument[rows]), names)
        return {"instrument_id": symbols, "ts_event": ts_event[rows], "ts_recv": ts_recv[rows]}

    rows = [np.flatnonzero(topic == index) for index in range(4)]
    return {
        "quotes": common(rows[0]) | _quotes(rng, bid[rows[0]]),
        "trades": _late(rng, common(rows[1])) | _trades(rng, bid[rows[1]], instrument[rows[1]], ts_recv[rows[1]]),
        "news": common(rows[2]) | _news(rng, len(rows[2])),
        "social": common(rows[3]) | _social(rng, len(rows[3])),
    }


def _times(rng: np.random.Generator, n: int, seconds: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    gaps = rng.exponential(size=n)
    arrival = np.cumsum(gaps) * ((seconds * 1e9 - n) / gaps.sum())
    ts_recv = _START + arrival.astype(np.int64) + np.arange(n)
    latency = 50_000 + np.minimum(rng.exponential(2e6, size=n), 2e8).astype(np.int64)
    return ts_recv, ts_recv - latency


def _activity(instruments: int) -> npt.NDArray[np.float64]:
    weight = (np.arange(instruments) + 5.0) ** -0.7
    return np.asarray(weight / weight.sum())


def _walk(rng: np.random.Generator, instrument: npt.NDArray[np.int32], instruments: int) -> npt.NDArray[np.int64]:
    """Return the best bid in ticks at each event: a walk of each instrument from a price of its own."""
    order = np.argsort(instrument, kind="stable")
    step = rng.choice(np.array([-1, 0, 1], dtype=np.int64), size=len(order), p=[0.02, 0.96, 0.02])
    path = np.cumsum(step)
    first = np.searchsorted(instrument[order], np.arange(instruments))
    offset = rng.integers(4_000, 40_000, size=instruments) - np.concatenate((path, [0]))[first]
    bid = np.empty(len(order), dtype=np.int64)
    bid[order] = path + offset[instrument[order]]
    return bid


def _quotes(rng: np.random.Generator, bid: npt.NDArray[np.int64]) -> Columns:
    n = len(bid)
    spread = rng.choice([1, 2, 3], size=n, p=[0.7, 0.2, 0.1])
    return {
        "bid_price": np.round(bid * _TICK, 2),
        "bid_size": _LOT * np.ceil(rng.gamma(4.0, 2.0, size=n)),
        "ask_price": np.round((bid + spread) * _TICK, 2),
        "ask_size": _LOT * np.ceil(rng.gamma(4.0, 2.0, size=n)),
        "sequence": np.arange(n),
    }


def _late(rng: np.random.Generator, columns: Columns) -> Columns:
    """Move the event time of a few records seconds back."""
    late = rng.random(len(columns["ts_event"])) < 1 / 5000
    delay = (late * rng.uniform(0.5e9, 5e9, size=len(late))).astype(np.int64)
    return columns | {"ts_event": columns["ts_event"] - delay}


def _trades(
    rng: np.random.Generator,
    bid: npt.NDArray[np.int64],
    instrument: npt.NDArray[np.int32],
    ts_recv: npt.NDArray[np.int64],
) -> Columns:
    n = len(bid)
    minute = (ts_recv - _START) // _MINUTE
    burst = rng.lognormal(0.0, 0.5, size=(int(instrument.max(initial=0)) + 1, int(minute.max(initial=0)) + 1))
    side = rng.choice(np.array([-1, 1], dtype=np.int8), size=n)
    order = np.argsort(instrument, kind="stable")
    ordered = instrument[order]
    trade_id = np.empty(n, dtype=np.int64)
    trade_id[order] = np.arange(n) - np.searchsorted(ordered, ordered)
    return {
        "price": np.round((bid + (side > 0)) * _TICK, 2),
        "size": np.ceil(rng.gamma(1.5, 60.0, size=n) * burst[instrument, minute]),
        "side": side,
        "trade_id": trade_id,
    }


def _news(rng: np.random.Generator, n: int) -> Columns:
    return {
        "news_id": [f"n{index}" for index in range(n)],
        "source": ["wire"] * n,
        "headline": headlines(rng, n),
    }


def _social(rng: np.random.Generator, n: int) -> Columns:
    return {
        "post_id": [f"p{index}" for index in range(n)],
        "platform": ["forum"] * n,
        "author": [f"a{author}" for author in rng.integers(5000, size=n).tolist()],
        "text": posts(rng, n),
    }


if __name__ == "__main__":
    main()
