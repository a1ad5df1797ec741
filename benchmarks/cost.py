"""`python -m benchmarks.cost [--smoke] [--json]`: nanoseconds per row with few and with many instruments.

Of each feature and of the whole catalogue in a shard (`benchmarks.cost_shard`), and of the bar features beside Polars
in batch (`benchmarks.cost_bars`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks.cost_bars import differing, measure_bars
from benchmarks.cost_shard import measure_shards
from benchmarks.machine import describe
from benchmarks.peer_polars_features import LEFT_OUT

__all__ = ["FULL", "SMOKE", "CostEntry", "Size", "measure_cost", "summary"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Parameters
    ----------
    few, many
        Numbers of instruments.
    seconds
        Seconds of a run of the shard with many instruments; with few a run has as many records.
    warm_up
        Bars of each instrument before it: the longest window and more.
    bars
        Bars of each of many instruments beside Polars; of few as many bars in all.
    runs
        Runs of each side.
    """

    few: int
    many: int
    seconds: int
    warm_up: int
    bars: int
    runs: int


FULL: Final = Size(few=100, many=10_000, seconds=2, warm_up=130, bars=140, runs=5)
SMOKE: Final = Size(few=4, many=16, seconds=2, warm_up=20, bars=80, runs=1)


@dataclass(frozen=True, slots=True)
class CostEntry:
    """One line of the results; `ratio` is of `many` over `few` in a shard, and of Polars over ours beside it."""

    work: str
    peer: str
    instruments: list[int]
    ns_per_row: list[float]
    ratio: float
    runs: int
    date: str
    machine: dict[str, Any]
    details: dict[str, Any]


def measure_cost(size: Size) -> list[CostEntry]:
    """Return the lines: the shard, and the bar features beside Polars with few and with many instruments.

    Raises
    ------
    SystemExit
        A value of a bar feature differs from Polars'.
    """
    if found := differing(size.few, 200):
        raise SystemExit(f"expected the bar features of both sides to agree, found differences in {found}")
    machine, date = describe(), datetime.now(UTC).date().isoformat()
    shard = measure_shards(size.few, size.many, size.seconds, size.warm_up, size.runs)
    whole = shard.pop("whole")
    lines = [
        CostEntry(
            "full catalogue, ns per record of a shard", f"{size.many} instruments over {size.few}",
            [size.few, size.many], [whole["few_ns"], whole["many_ns"]], whole["ratio"], size.runs, date, machine,
            {"stages": shard},
        )
    ]  # fmt: skip
    for instruments in (size.few, size.many):
        features = measure_bars(instruments, size.bars * size.many // instruments, size.runs)
        every = features.pop("all")
        lines.append(
            CostEntry(
                f"bar features, ns per bar, {instruments} instruments", "Polars in batch", [instruments],
                [every["ours_ns"], every["polars_ns"]], every["ratio"], size.runs, date, machine,
                {"features": features, "left_out": LEFT_OUT},
            )
        )  # fmt: skip
    return lines


def summary(lines: list[CostEntry]) -> list[str]:
    """Return the figures as lines of text."""
    text = []
    for line in lines:
        text.append(f"{line.work} | {line.peer} | {line.ns_per_row}: {line.ratio:.2f}")
        for name, figures in [*line.details.get("stages", {}).items(), *line.details.get("features", {}).items()]:
            text.append(f"  {name:38s} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a small size, to see that it works")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments = parser.parse_args()
    lines = measure_cost(SMOKE if arguments.smoke else FULL)
    if arguments.json:
        print(json.dumps({"lines": [asdict(line) for line in lines]}))
        return
    print("\n".join(summary(lines)))


if __name__ == "__main__":
    main()
