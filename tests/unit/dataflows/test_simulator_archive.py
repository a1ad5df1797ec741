from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataflows.simulator import FaultConfig, SimulationReport, SimulatorConfig, generate_topics, simulate
from schemas.errors import ConfigError
from schemas.records import TOPICS
from schemas.wire import decode
from sinks.archive import Archive

SMALL = {"instruments": 6, "duration": "90s", "news_rate": 600, "social_rate": 600, "book_rate": 10, "seed": 5}
KINDS = {
    "duplicate_trades": 17,
    "duplicate_news": 4,
    "duplicate_social": 5,
    "late_trades": 11,
    "late_by": "30s",
    "sequence_gaps": 9,
    "crossed_quotes": 13,
    "crossed_books": 8,
    "malformed": 6,
    "missing_field": 2,
    "wrong_type": 3,
    "naive_time": 1,
    "out_of_range": 4,
}
NS = 10**9


def digests(root: Path) -> dict[str, str]:
    files = sorted([*root.glob("*/*/*.parquet"), *root.glob("*.json")])
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(archive: Archive, topic: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in archive.files(topic)])


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Archive, SimulationReport]]:
    def run(**changes: object) -> tuple[Archive, SimulationReport]:
        archive = Archive.create(tmp_path_factory.mktemp("market") / "archive")
        return archive, simulate(SimulatorConfig.model_validate(SMALL | changes), archive)

    return run


@pytest.fixture(scope="module")
def plain(write: Callable[..., tuple[Archive, SimulationReport]]) -> tuple[Archive, SimulationReport]:
    return write()


@pytest.fixture(scope="module")
def faulty(write: Callable[..., tuple[Archive, SimulationReport]]) -> tuple[Archive, SimulationReport]:
    return write(faults=KINDS)


def marked(report: SimulationReport, topic: str, reason: str) -> list[int]:
    return [fault.offset for fault in report.faults if (fault.topic, fault.reason) == (topic, reason)]


def test_simulate_same_seed_same_bytes(faulty, write) -> None:
    again, _ = write(faults=KINDS)
    assert digests(again.root) == digests(faulty[0].root)
    assert len(digests(again.root)) == len(TOPICS) + 2


def test_simulate_other_process_same_bytes(faulty, tmp_path) -> None:
    script = (
        "import json, sys; from pathlib import Path;"
        "from dataflows.simulator import *; from sinks.archive import Archive;"
        "config = SimulatorConfig.model_validate(json.loads(sys.argv[1]));"
        "simulate(config, Archive.create(Path(sys.argv[2])))"
    )
    settings = json.dumps(SMALL | {"faults": KINDS})
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", script, settings, str(tmp_path / "a")], check=True, cwd=root, timeout=120)
    assert digests(tmp_path / "a") == digests(faulty[0].root)


def test_simulate_other_seed_other_bytes(plain, write) -> None:
    other, _ = write(seed=6)
    same = {name for name, digest in digests(other.root).items() if digests(plain[0].root)[name] == digest}
    assert same <= {"archive.json"}


def test_simulate_twice_into_one_archive_replaces(plain, write) -> None:
    archive, _ = write(seed=8)
    report = simulate(SimulatorConfig.model_validate(SMALL), archive)
    assert report.rows == plain[1].rows
    assert digests(archive.root) == digests(plain[0].root)


def test_simulate_no_faults_expects_none(plain) -> None:
    archive, report = plain
    assert (report.expected_dead_letters, report.expected_late, report.faults) == ({}, {}, ())
    for topic in TOPICS:
        assert read(archive, topic)["raw"].null_count == report.rows[topic]
    ids = read(archive, "trades").to_pandas()[["instrument_id", "trade_id"]].drop_duplicates()
    assert len(ids) == report.rows["trades"]


def test_simulate_every_topic_recv_never_decreases(faulty) -> None:
    for topic in TOPICS:
        recv = read(faulty[0], topic)["ts_recv"].cast("int64").to_numpy()
        assert len(recv) == faulty[1].rows[topic] > 0
        assert np.all(np.diff(recv) >= 0)


def test_simulate_rates_near_configured(plain) -> None:
    truth = plain[1].truth
    factor = {"calm": 0.7, "normal": 1.0, "turbulent": 1.9}
    mean = (0.3 * 0.7 + 0.5 * 1.0 + 0.2 * 1.9) / 1.0
    weighted = sum(factor[stay["regime"]] * stay["seconds"] for stay in truth["regimes"]) / mean
    expected = weighted * SMALL["instruments"] * 2.0
    assert sum(stay["seconds"] for stay in truth["regimes"]) == pytest.approx(90)
    assert plain[1].rows["trades"] == pytest.approx(expected, abs=5 * expected**0.5)


def test_simulate_fault_counts_are_the_configured(faulty) -> None:
    dead, broken = faulty[1].expected_dead_letters, ("malformed", "missing_field", "wrong_type", "naive_time")
    for topic in TOPICS:
        assert {reason: dead[topic][reason] for reason in (*broken, "out_of_range")} == {
            reason: KINDS[reason] for reason in (*broken, "out_of_range")
        }
    assert dead["trades"]["duplicate"] == 17
    assert (dead["news"]["duplicate"], dead["social"]["duplicate"]) == (4, 5)
    assert (dead["quotes"]["crossed_book"], dead["books"]["crossed_book"]) == (13, 8)
    assert 3 * 9 <= dead["books"]["sequence_gap"] <= 10 * 9
    assert faulty[1].expected_late == {"bar_closed": 11}


def test_simulate_faults_are_where_the_report_says(faulty) -> None:
    archive, report = faulty
    for topic in TOPICS:
        table = read(archive, topic)
        raw = np.flatnonzero(table["raw"].is_valid().to_numpy())
        reasons = {fault.offset: fault.reason for fault in report.faults if fault.topic == topic}
        payloads = [table["raw"][row].as_py() for row in raw]
        where = np.zeros(len(raw), dtype=np.int64)
        decoded = decode(topic, payloads, where, where.astype(np.int32), where)
        found = {int(raw[error.row]): error.reason.value for error in decoded.errors}
        # what a type-checking decoder lets through has a value outside its bounds
        bounded = [field.name for field in TOPICS[topic].fields if field.positive or field.non_negative]
        for row, message in zip(raw.tolist(), decoded.batch.to_pylist(), strict=True):
            if row not in found and min(message[name] or 0 for name in bounded) < 0:
                found[row] = "out_of_range"
        assert found == {row: reasons[row] for row in raw.tolist()}


@pytest.mark.parametrize(("topic", "key"), [("trades", "trade_id"), ("news", "news_id"), ("social", "post_id")])
def test_simulate_duplicates_are_the_marked_and_equal_the_first(faulty, topic, key) -> None:
    frame = read(faulty[0], topic).to_pandas()
    good = frame[frame["raw"].isna()]
    again = good[good.duplicated(["instrument_id", key])]
    assert again["offset"].tolist() == marked(faulty[1], topic, "duplicate")
    first = good.drop_duplicates(["instrument_id", key]).set_index(["instrument_id", key])
    for _, row in again.iterrows():
        twin = first.loc[(row["instrument_id"], row[key])]
        names = [name for name in TOPICS[topic].names if name not in ("instrument_id", key, "ts_recv")]
        assert row[names].astype(str).tolist() == twin[names].astype(str).tolist()
        assert 0 <= (row["ts_recv"] - twin["ts_recv"]).value <= 5 * NS


def test_simulate_late_trades_are_the_marked(faulty) -> None:
    table = read(faulty[0], "trades").filter(read(faulty[0], "trades")["raw"].is_null())
    recv, event = (table[name].cast("int64").to_numpy() for name in ("ts_recv", "ts_event"))
    second_closed = (event // NS + 1) * NS + NS
    late = table["offset"].to_numpy()[recv >= second_closed]
    assert late.tolist() == marked(faulty[1], "trades", "bar_closed")
    age = (recv - event)[recv >= second_closed]
    assert np.all((age >= 30 * NS) & (age < 31 * NS))


def test_simulate_late_trades_have_ids_of_their_own_near_the_highest(faulty) -> None:
    frame = read(faulty[0], "trades").to_pandas()
    late = set(marked(faulty[1], "trades", "bar_closed"))
    highest: Counter[str] = Counter()
    seen: set[tuple[str, int]] = set()
    for name, number, offset in zip(frame["instrument_id"], frame["trade_id"], frame["offset"], strict=True):
        if offset in late:
            assert (name, number) not in seen
            assert highest[name] - 1024 < number <= highest[name] + 1
        if number == number:
            seen.add((name, number))
            highest[name] = max(highest[name], int(number))


def test_simulate_good_records_are_the_same_with_faults(plain, faulty) -> None:
    bad = [fault.offset for fault in faulty[1].faults if fault.topic == "quotes"]
    table = read(faulty[0], "quotes")
    kept = table.take(np.setdiff1d(np.arange(table.num_rows), bad)).drop_columns(["offset"])
    assert kept.equals(read(plain[0], "quotes").drop_columns(["offset"]))


def test_simulate_report_is_written_beside_the_topics(faulty) -> None:
    content = json.loads((faulty[0].root / "simulation.json").read_text())
    assert content == json.loads(json.dumps(faulty[1].content()))
    assert SimulatorConfig.model_validate(content["config"]) == SimulatorConfig.model_validate(
        SMALL | {"faults": KINDS}
    )
    assert len(content["truth"]["gaps"]) == KINDS["sequence_gaps"]


def test_simulate_progress_reaches_the_end(tmp_path) -> None:
    calls: list[tuple[int, float]] = []
    config = SimulatorConfig(instruments=2, duration="150s", book_rate=5)
    report = simulate(config, Archive.create(tmp_path / "a"), progress=lambda rows, share: calls.append((rows, share)))
    assert len(calls) == 3
    assert calls[-1] == (sum(report.rows.values()), 1.0)


def test_simulate_no_room_for_faults_refused_and_nothing_published(tmp_path) -> None:
    config = SimulatorConfig(instruments=2, duration="5s", news_rate=0, faults=FaultConfig(duplicate_news=3))
    archive = Archive.create(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"room for 3 faults of `faults.duplicate_news`, found room for 0"):
        simulate(config, archive)
    assert archive.topics() == ()


def test_generate_topics_slices_follow_each_other_and_agree_with_the_archive(faulty) -> None:
    last = 0
    parts: dict[str, list[pa.RecordBatch]] = {topic: [] for topic in TOPICS}
    for batches in generate_topics(SimulatorConfig.model_validate(SMALL | {"faults": KINDS})):
        recv = [batch["ts_recv"].cast("int64").to_numpy() for batch in batches.values()]
        assert min(times[0] for times in recv) >= last
        last = max(times[-1] for times in recv)
        for topic, batch in batches.items():
            parts[topic].append(batch)
    for topic in TOPICS:
        assert pa.Table.from_batches(parts[topic]).to_pylist() == read(faulty[0], topic).to_pylist()


def test_simulate_clock_skew_moves_event_times_of_the_venue(plain, write) -> None:
    skewed, _ = write(clock_skew="-20ms")
    for topic, shift in (("trades", 20_000_000), ("quotes", 20_000_000), ("news", 0)):
        a, b = (read(archive, topic) for archive in (plain[0], skewed))
        moved = a["ts_event"].cast("int64").to_numpy() - b["ts_event"].cast("int64").to_numpy()
        assert set(moved.tolist()) == {shift}
        assert a["ts_recv"].equals(b["ts_recv"])


def test_simulate_latency_is_around_the_configured_median(write) -> None:
    archive, _ = write(latency="3ms", instruments=2)
    table = read(archive, "trades")
    latency = (table["ts_recv"].cast("int64").to_numpy() - table["ts_event"].cast("int64").to_numpy()) / 1e6
    assert latency.min() > 0
    assert np.median(latency) == pytest.approx(3 * 0.6, rel=0.15)
