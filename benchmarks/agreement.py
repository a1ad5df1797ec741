"""Do both sides say the same? Our tables in ClickHouse beside those of the Polars peer.

`python -m benchmarks.agreement DATABASE PEER` compares and exits with 1 where they differ. Two programs that
share no code and agree on every row are also a check of both.

Tolerances: `RELATIVE` of the larger value, or `ABSOLUTE` for values near zero. Polars' rolling sums are
updated as the window slides and its decayed sums are one cumulative sum, ours are made afresh or in
compensated order, so the last bits differ; prices, sizes, counts and everything made from one record are
equal to the last bit.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from benchmarks.ours import RUN_ID
from sinks.store import Store

__all__ = ["ABSOLUTE", "RELATIVE", "Difference", "compare", "compare_frames"]

RELATIVE: Final = 1e-9
ABSOLUTE: Final = 1e-9
_KEYS: Final = {
    "bars": ("interval_ns", "instrument_id", "ts"),
    "features": ("interval_ns", "instrument_id", "ts"),
    "signals": ("strategy", "instrument_id", "ts", "direction", "intent"),
}
_TEXTS: Final = ("instrument_id", "strategy", "reason")
_SIGNAL_COLUMNS: Final = ("confidence", "price")
_TIMES: Final = ("ts", "ts_start", "ts_end")


@dataclass(frozen=True, slots=True)
class Difference:
    """How one column differs.

    Parameters
    ----------
    table, column
        Where; the column `rows` stands for rows that only one side has.
    count
        Values that differ by more than the tolerance, or exist on one side only.
    relative
        Largest relative difference where both have a value.
    """

    table: str
    column: str
    count: int
    relative: float


def compare(database: Path, peer: Path) -> list[Difference]:
    """Return every column of every table with its difference.

    Parameters
    ----------
    database
        Folder of the database that `benchmarks.ours` wrote.
    peer
        Folder of the peer's Parquet files.
    """
    found: list[Difference] = []
    with Store.open(str(database), create=False, read_only=True) as store:
        for table, key in _KEYS.items():
            arrow = store.connection.arrow(f"SELECT * FROM {table} WHERE run_id = {{run:String}}", {"run": RUN_ID})
            theirs = pl.read_parquet(peer / f"{table}.parquet")
            columns = _SIGNAL_COLUMNS if table == "signals" else tuple(theirs.columns)
            found.extend(compare_frames(table, pl.DataFrame(arrow), theirs, key, columns))
    return found


def compare_frames(
    table: str, ours: pl.DataFrame, theirs: pl.DataFrame, key: tuple[str, ...], columns: tuple[str, ...]
) -> list[Difference]:
    """Return the difference of each of these columns, rows matched by key."""
    joined = _plain(ours).join(_plain(theirs), on=key, how="full", suffix="_peer", coalesce=False)
    unmatched = joined.filter(pl.any_horizontal(pl.col(f"{key[0]}_peer", key[0]).is_null())).height
    doubled = sum(frame.height - frame.select(key).unique().height for frame in (ours, theirs))
    found = [Difference(table, "rows", unmatched + doubled, 0.0)]
    values = [name for name in columns if name not in key and name not in _TEXTS]
    return found + [_difference(table, name, joined) for name in values]


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return texts as strings, times and enumerations as integers, and everything else as floats."""
    texts = [pl.col(name).cast(_text_type(frame.schema[name])).cast(pl.String) for name in _texts(frame)]
    times = [pl.col(name).cast(pl.Int64) for name in _TIMES if name in frame.columns]
    codes = [pl.col(name).cast(pl.Int8) for name in ("direction", "intent") if name in frame.columns]
    return frame.with_columns(*texts, *times, *codes)


def _texts(frame: pl.DataFrame) -> list[str]:
    return [name for name in _TEXTS if name in frame.columns]


def _text_type(found: pl.DataType) -> pl.DataType:
    return pl.Binary() if found in (pl.Binary, pl.String) else pl.String()


def _difference(table: str, name: str, joined: pl.DataFrame) -> Difference:
    ours = joined[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    theirs = joined[f"{name}_peer"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    one_sided = int((np.isnan(ours) != np.isnan(theirs)).sum())
    distance = np.abs(ours - theirs)[both]
    size = np.maximum(np.abs(ours), np.abs(theirs))[both]
    beyond = int((distance > np.maximum(RELATIVE * size, ABSOLUTE)).sum())
    relative = np.divide(distance, size, out=np.zeros_like(distance), where=size > 0)
    return Difference(table, name, one_sided + beyond, float(relative.max(initial=0.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("peer", type=Path)
    arguments = parser.parse_args()
    differences = compare(arguments.database, arguments.peer)
    for difference in differences:
        if difference.count:
            print(f"{difference.table}.{difference.column}: {difference.count} values differ", file=sys.stderr)
    sys.exit(any(difference.count for difference in differences))


if __name__ == "__main__":
    main()
