"""Bars of one second and one minute and a z-score of trades, as a Quix Streams user would write them.

`python program.py --brokers B --topic T --records N --out FILE --state FOLDER` reads the topic from its beginning in an
environment of its own (`requirements.lock`), stops after N records, and prints one line of JSON. Settings are the
library's: state in RocksDB with changelog topics, a commit every five seconds. What comes out of the windows is
written as lines of JSON with each commit.

It is independent of the rest of the repository, which needs other versions of its libraries.
"""

import argparse
import json
import time
from collections import deque
from pathlib import Path

from quixstreams import Application, State
from quixstreams.dataframe.windows import Count, First, Last, Max, Min, Sum
from quixstreams.sinks.base import BatchingSink, SinkBatch

WINDOW = 20
"""Bars that the z-score looks back on, the present one included."""


class Lines(BatchingSink):
    """Appends rows to a file, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def write(self, batch: SinkBatch) -> None:
        """Write what came since the last commit."""
        with self._path.open("a") as file:
            file.writelines(json.dumps({"instrument_id": item.key} | item.value) + "\n" for item in batch)


def event_time(value, headers, timestamp, timestamp_type) -> int:
    """Return when a trade happened, in ms."""
    return value["ts_event"] // 1_000_000


def standardise(row: dict, state: State) -> dict:
    """Add the z-score of the close over the last bars."""
    # bars of both lengths share the store of the instrument
    name = f"closes_{row['seconds']}s"
    closes = deque(state.get(name, []), maxlen=WINDOW)
    closes.append(row["close"])
    state.set(name, list(closes))
    score = None
    if len(closes) == WINDOW:
        mean = sum(closes) / WINDOW
        deviation = (sum((close - mean) ** 2 for close in closes) / WINDOW) ** 0.5
        if deviation > 1e-8 * mean:
            score = (row["close"] - mean) / deviation
    return row | {"zscore": score}


def bars(trades, seconds: int, sink: Lines) -> None:
    """Add bars of a length to the program."""
    window = trades.tumbling_window(duration_ms=1000 * seconds, grace_ms=1000, name=f"bars_{seconds}s")
    closed = window.agg(
        open=First("price"), high=Max("price"), low=Min("price"), close=Last("price"), volume=Sum("size"),
        trade_count=Count(),
    ).final()  # fmt: skip
    closed.update(lambda row: row.update(seconds=seconds))
    closed.apply(standardise, stateful=True).sink(sink)


class Progress:
    """Counts records and stops the program after the last."""

    def __init__(self, records: int) -> None:
        self.left = records
        self.begun = self.cpu = 0.0
        self.app: Application | None = None

    def __call__(self, topic: str, partition: int, offset: int) -> None:
        """Take note of a record."""
        if not self.begun:
            self.begun, self.cpu = time.perf_counter(), time.process_time()
        self.left -= 1
        if not self.left:
            self.app.stop()


def peak_mib() -> float:
    """Return the largest resident size of this process; `ru_maxrss` would be its parent's, if that was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--group", default="peer")
    chosen = parser.parse_args()
    progress = Progress(chosen.records)
    app = Application(
        broker_address=chosen.brokers, consumer_group=chosen.group, auto_offset_reset="earliest",
        state_dir=chosen.state, on_message_processed=progress, loglevel="WARNING",
    )  # fmt: skip
    progress.app = app
    topic = app.topic(chosen.topic, value_deserializer="json", key_deserializer="str", timestamp_extractor=event_time)
    trades, sink = app.dataframe(topic), Lines(chosen.out)
    bars(trades, 1, sink)
    bars(trades, 60, sink)
    chosen.out.touch()
    app.run()
    figures = {
        "seconds": time.perf_counter() - progress.begun,
        "cpu_seconds": time.process_time() - progress.cpu,
        "peak_mib": peak_mib(),
        "left": progress.left,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
