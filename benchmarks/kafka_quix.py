"""The Quix Streams peer: its environment, its runs, and whether it says the same as we do.

It pins older versions of our libraries, so it has an environment of its own, made once from the hashed lock file in
`benchmarks/peers/quix/` and kept in `.benchmark-cache/`.

`python -m benchmarks.kafka_quix DATABASE ROWS --archive ARCHIVE` compares our bars and z-scores with the peer's, and
exits with 1 where they differ. Both close a bar a second after its end, we by the arrival of records and Quix Streams
by their event times, so a trade that is reported late can miss a bar of one side alone: bars with such a trade are
left out. So are the last bars of an instrument, which Quix Streams keeps open until its next trade.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.agreement import compare_frames
from benchmarks.kafka_scene import REPOSITORY, Topics
from benchmarks.workload import CACHE
from sinks.archive import Archive
from sinks.store import Store

__all__ = ["agree", "environment", "main", "run"]

_PEER: Final = REPOSITORY / "benchmarks" / "peers" / "quix"
_INSTALL_S: Final = 900.0
_RUN_S: Final = 600.0
_LATE_MS: Final = 400
"""Trades of the workload are reported within 200 ms, or more than 500 ms late."""
_WINDOW: Final = 20
_KEY: Final = ("seconds", "instrument_id", "start")
_BAR: Final = ("open", "high", "low", "close", "volume", "trade_count")
_OURS: Final = """
    SELECT b.instrument_id, intDiv(b.interval_ns, 1000000000) AS seconds, toUnixTimestamp64Milli(b.ts_start) AS start,
           b.open, b.high, b.low, b.close, b.volume, b.trade_count, f.zscore
    FROM bars AS b
    JOIN features AS f ON f.run_id = b.run_id AND f.interval_ns = b.interval_ns
                      AND f.instrument_id = b.instrument_id AND f.ts = b.ts
    WHERE b.run_id = {run:String}
"""


def environment(cache: Path = CACHE) -> Path:
    """Return the interpreter of the peer's environment, which is made on first use."""
    lock = _PEER / "requirements.lock"
    home = cache / f"quix-{sha256(lock.read_bytes()).hexdigest()[:12]}"
    interpreter = home / "bin" / "python"
    if not home.exists():
        partial = home.with_name(f".{home.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        venv.create(partial, with_pip=True)
        install = [str(partial / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=_INSTALL_S)
        if done.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            raise SystemExit(f"expected to install `{lock.relative_to(REPOSITORY)}`, found: {done.stderr[-2000:]}")
        # scripts in it name the old folder, but the interpreter, which is all we use, does not
        partial.rename(home)
    return interpreter


def run(topics: Topics, out: Path, number: int) -> dict[str, Any]:
    """Run the peer over the trades, from the beginning to the last record, and return its figures.

    Parameters
    ----------
    topics
        Topics with trades.
    out
        Folder for its rows and its state; replaced.
    number
        Number of the run: each is a consumer group of its own, so that each begins at the beginning.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [str(environment()), str(_PEER / "program.py"), "--brokers", topics.brokers]
    command += ["--topic", topics.names["trades"], "--records", str(topics.rows), "--group", f"peer-{number}"]
    command += ["--out", str(out / "rows.jsonl"), "--state", str(out / "state")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RUN_S)
    if done.returncode:
        raise SystemExit(f"the Quix Streams peer failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["left"]:
        raise SystemExit(f"expected the peer to read every record, found {found['left']} unread")
    return found


def agree(database: Path, rows: Path, archive: Path) -> tuple[int, list[str]]:
    """Return how many bars were compared, and what differs, in words.

    Parameters
    ----------
    database
        Folder of our database.
    rows
        What the peer wrote.
    archive
        The trades.
    """
    with Store.open(str(database), create=False, read_only=True) as store:
        ours = pl.DataFrame(store.connection.arrow(_OURS, {"run": "benchmark"}))
    ours = ours.with_columns(pl.col("instrument_id").cast(pl.Binary).cast(pl.String))
    theirs = pl.read_ndjson(rows, infer_schema_length=None, schema_overrides={"zscore": pl.Float64})
    ours, theirs = (side.with_columns(pl.col("seconds", "start").cast(pl.Int64)) for side in (ours, theirs))
    last = theirs.group_by("instrument_id", "seconds").agg(pl.col("start").max().alias("last"))
    ours = ours.join(last, on=("instrument_id", "seconds")).filter(pl.col("start") <= pl.col("last")).drop("last")
    left_out = _left_out(ours, theirs, archive)
    found = []
    for table, flag, columns in (("bars", "touched", _BAR), ("features", "unscored", ("zscore",))):
        less = left_out.filter(flag)
        mine, peer = (side.join(less, on=_KEY, how="anti") for side in (ours, theirs))
        found += compare_frames(table, mine, peer, _KEY, columns)
    compared = left_out.height - left_out["touched"].sum()
    if not compared:
        return 0, ["no bar to compare"]
    return compared, [f"{one.table}.{one.column}: {one.count} differ" for one in found if one.count]


def _left_out(ours: pl.DataFrame, theirs: pl.DataFrame, archive: Path) -> pl.DataFrame:
    """Return all bars of both, and of each whether a late trade is in it, or in those that its z-score looks at."""
    columns = ["instrument_id", "ts_event", "ts_recv"]
    trades = pl.concat(pl.read_parquet(file, columns=columns) for file in Archive.open(archive).files("trades"))
    event, arrival = (pl.col(name).cast(pl.Datetime("ns")).cast(pl.Int64) // 10**6 for name in columns[1:])
    late = trades.filter(arrival - event > _LATE_MS).select(pl.col("instrument_id").cast(pl.String), event=event)
    touched = pl.concat(
        late.select(
            pl.lit(seconds, pl.Int64).alias("seconds"),
            "instrument_id",
            (pl.col("event") // (1000 * seconds) * (1000 * seconds)).alias("start"),
            pl.lit(value=True).alias("touched"),
        )
        for seconds in (1, 60)
    ).unique()
    known = pl.concat(side.select(_KEY) for side in (ours, theirs)).unique().sort(_KEY)
    found = known.join(touched, on=_KEY, how="left").with_columns(pl.col("touched").fill_null(value=False)).sort(_KEY)
    looks_at = pl.col("touched").cast(pl.Int8).rolling_max(_WINDOW, min_samples=1)
    return found.with_columns((looks_at.over("seconds", "instrument_id") > 0).alias("unscored"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="folder of our database")
    parser.add_argument("rows", type=Path, help="what the peer wrote")
    parser.add_argument("--archive", type=Path, required=True, help="the trades")
    chosen = parser.parse_args()
    compared, differences = agree(chosen.database, chosen.rows, chosen.archive)
    print(json.dumps({"bars": compared, "differences": differences}))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
