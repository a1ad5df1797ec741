"""The archive as a source: every record once, in arrival order, however it is cut, paced, stopped or resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.sources.archive import ArchiveSource, slice_cuts
from dataflows.sources.archive_reader import GroupSpan, TopicReader, group_spans
from dataflows.sources.replay_range import ReplayRange
from operators.arrival import Arrival
from schemas.batches import integers, make_batch, times
from schemas.errors import InputError, VersionError
from schemas.records import archive_schema
from schemas.time import END_OF_TIME
from sinks.archive import Archive, ArchiveWriter

Place = tuple[int, int, int]
DAY = 86_400 * 10**9


def trades(recv: list[int], topic: str = "trades") -> pa.RecordBatch:
    names = [f"I{ts % 3}" for ts in recv]
    return make_batch(topic, {"instrument_id": names, "ts_event": recv, "ts_recv": recv}, len(recv))


def write(archive: Archive, topic: str, source: str, recv: list[int]) -> None:
    with ArchiveWriter(archive, topic, source) as writer:
        writer.append(trades(recv, topic))


def write_file(path: Path, recv: list[int], group_rows: int, topic: str = "trades", **options: Any) -> Path:
    """Write a file of the archive by hand, row groups of a few records, in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(recv)
    batch = make_batch(
        topic, {"instrument_id": ["A"] * n, "ts_recv": recv, "partition": [0] * n, "offset": list(range(n))}, n
    )
    pq.write_table(pa.Table.from_batches([batch]), path, row_group_size=group_rows, **options)
    return path


def places(batch: pa.RecordBatch) -> list[Place]:
    columns = times(batch, "ts_recv"), integers(batch, "partition"), integers(batch, "offset")
    return list(zip(*(column.tolist() for column in columns), strict=True))


EDGES = [0, 3, 4, 10, 499, 500, 501, 4_000, 4_001, 2 * DAY, 2 * DAY + 7, 3 * DAY]
"""Starts and ends of ranges: at records, beside them, and between days."""


class Drive:
    """Calls the partitions of a source in turn, as Bytewax does, and keeps what they deliver."""

    def __init__(self, source: ArchiveSource, resume: dict[str, Any] | None = None) -> None:
        self.source = source
        self.parts = {name: source.build_part("s", name, (resume or {}).get(name)) for name in source.list_parts()}
        self.open = set(self.parts)
        self.delivered: list[Arrival] = []

    def step(self, name: str) -> list[Arrival]:
        if name not in self.open:
            return []
        try:
            arrivals = self.parts[name].next_batch()
        except StopIteration:
            self.open.discard(name)
            self.parts[name].close()
            return []
        self.delivered += arrivals
        return arrivals

    def run(self, steps: int | None = None) -> Drive:
        while self.open and (steps is None or steps > 0):
            for name in sorted(self.open):
                self.step(name)
            steps = None if steps is None else steps - 1
        return self

    def snapshot(self) -> dict[str, Any]:
        return {name: part.snapshot() for name, part in self.parts.items()}

    def close(self) -> None:
        for part in self.parts.values():
            part.close()

    def places(self) -> dict[str, list[Place]]:
        found: dict[str, list[Place]] = {name: [] for name in self.parts}
        for arrival in self.delivered:
            if arrival.batch is not None:
                found[arrival.topic] += places(arrival.batch)
        return found


def stored(archive: Archive) -> dict[str, list[Place]]:
    """Return every record of an archive in arrival order, read without the source."""
    found = {}
    for topic in archive.topics():
        rows = []
        for path in archive.files(topic):
            table = pq.read_table(path, columns=["ts_recv", "partition", "offset"])
            rows += list(zip(*(table[name].cast("int64").to_pylist() for name in table.column_names), strict=True))
        found[topic] = sorted(rows)
    return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Archive:
    """Three topics: two overlapping sources with equal times, a burst, a few records, and a night between days."""
    archive = Archive.create(tmp_path_factory.mktemp("source") / "archive")
    rng = np.random.default_rng(1)
    for source in ("x", "y"):
        gaps = rng.choice([0, 0, 1, 5, 100], 400)
        write(archive, "trades", source, (np.cumsum(gaps) + 10).tolist())
    write(archive, "books", "x", [500] * 300 + [2 * DAY + n for n in range(50)])
    write(archive, "news", "x", [3, 4_000, 2 * DAY])
    return archive


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 64, 1_000, 10**6])
def test_source_any_batch_size_delivers_every_record_once_in_order(archive, batch_rows):
    drive = Drive(ArchiveSource(archive, batch_rows=batch_rows)).run()
    assert drive.places() == stored(archive)
    assert drive.source.exhausted
    assert drive.source.delivered == drive.source.rows == 1_153
    for arrival in drive.delivered:
        assert arrival.batch is None or 0 < arrival.batch.num_rows <= batch_rows


@pytest.mark.parametrize("batch_rows", [3, 100])
def test_source_clocks_rise_and_cover_what_was_delivered(archive, batch_rows):
    drive = Drive(ArchiveSource(archive, batch_rows=batch_rows)).run()
    for topic in drive.parts:
        own = [arrival for arrival in drive.delivered if arrival.topic == topic]
        clocks = [arrival.clock for arrival in own]
        assert clocks == sorted(clocks)
        assert clocks[-1] == END_OF_TIME
        # a record below a clock may not come after it
        before = -(2**63)
        for arrival in own:
            if arrival.batch is not None:
                assert int(times(arrival.batch, "ts_recv")[0]) >= before
            before = arrival.clock


def test_source_slices_hold_about_as_many_records_as_asked_for(tmp_path):
    archive = Archive.create(tmp_path / "even")
    write(archive, "trades", "x", list(range(0, 50_000, 10)))
    write(archive, "quotes", "x", list(range(5, 50_000, 10)))
    drive = Drive(ArchiveSource(archive, batch_rows=1_000)).run()
    sizes = [arrival.batch.num_rows for arrival in drive.delivered if arrival.batch is not None]
    assert all(300 <= size <= 700 for size in sizes)


def test_source_overlapping_files_merge_by_time_partition_and_offset(tmp_path):
    archive = Archive.create(tmp_path / "two")
    write(archive, "trades", "x", [1, 5, 5, 9])
    write(archive, "trades", "y", [5, 5, 7])
    drive = Drive(ArchiveSource(archive, batch_rows=100)).run()
    assert drive.places()["trades"] == [(1, 0, 0), (5, 0, 1), (5, 0, 2), (5, 1, 0), (5, 1, 1), (7, 1, 2), (9, 0, 3)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.integers(0, 30), first=st.integers(1, 400), second=st.integers(1, 2_000))
def test_source_resumed_anywhere_with_another_batch_size_goes_on_exactly(archive, steps, first, second):
    begun = Drive(ArchiveSource(archive, batch_rows=first)).run(steps)
    kept = begun.snapshot()
    begun.close()
    rest = Drive(ArchiveSource(archive, batch_rows=second), kept).run()
    found = {topic: begun.places()[topic] + rest.places()[topic] for topic in begun.places()}
    assert found == stored(archive)
    for topic in begun.parts:
        clocks = [arrival.clock for arrival in (*begun.delivered, *rest.delivered) if arrival.topic == topic]
        assert clocks == sorted(clocks)
        assert clocks[-1] == END_OF_TIME, "the shards must hear that the topic is done"


def test_source_resumed_at_its_end_says_so_once(archive):
    done = Drive(ArchiveSource(archive, batch_rows=100)).run()
    again = Drive(ArchiveSource(archive, batch_rows=100), done.snapshot()).run()
    assert [(arrival.clock, arrival.batch) for arrival in again.delivered] == [(END_OF_TIME, None)] * 3
    assert again.source.exhausted


def test_source_snapshot_is_plain_and_not_changed_by_later_deliveries(archive):
    drive = Drive(ArchiveSource(archive, batch_rows=50)).run(3)
    kept = drive.snapshot()
    before = repr(kept)
    drive.run()
    assert repr(kept) == before
    for state in kept.values():
        assert type(state["clock"]) is int
        assert state["last"] is None or [type(value) for value in state["last"]] == [int, int, int]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edges=st.lists(st.sampled_from(EDGES), min_size=2, max_size=2, unique=True).map(sorted),
    batch_rows=st.sampled_from([1, 13, 5_000]),
)
def test_source_range_is_half_open(archive, edges, batch_rows):
    start, stop = edges
    drive = Drive(ArchiveSource(archive, batch_rows=batch_rows, replay=ReplayRange(start, stop))).run()
    expected = {topic: [place for place in rows if start <= place[0] < stop] for topic, rows in stored(archive).items()}
    assert drive.places() == expected
    assert all(part.snapshot()["clock"] == END_OF_TIME for part in drive.parts.values())


def test_source_ranges_side_by_side_give_the_whole(archive):
    found: dict[str, list[Place]] = {topic: [] for topic in archive.topics()}
    for start, stop in ((-(2**62), 500), (500, 501), (501, 2 * DAY), (2 * DAY, END_OF_TIME)):
        source = ArchiveSource(archive, batch_rows=9, replay=ReplayRange(start, stop))
        for topic, rows in Drive(source).run().places().items():
            found[topic] += rows
    assert found == stored(archive)


def test_source_range_without_records_ends_at_once(archive):
    drive = Drive(ArchiveSource(archive, batch_rows=9, replay=ReplayRange(DAY, DAY + 5))).run()
    assert [arrival.clock for arrival in drive.delivered] == [END_OF_TIME] * 3
    assert drive.source.delivered == 0


def test_source_resumed_in_a_range_stays_in_it(archive):
    span = ReplayRange(100, 2 * DAY + 3)
    begun = Drive(ArchiveSource(archive, batch_rows=20, replay=span)).run(4)
    kept = begun.snapshot()
    begun.close()
    rest = Drive(ArchiveSource(archive, batch_rows=33, replay=span), kept).run()
    for topic, rows in stored(archive).items():
        expected = [place for place in rows if span.start <= place[0] < span.stop]
        assert begun.places()[topic] + rest.places()[topic] == expected


@pytest.mark.parametrize("eager", ["books", "news", "trades"])
def test_source_no_topic_runs_ahead_of_a_slow_one(archive, eager):
    drive = Drive(ArchiveSource(archive, batch_rows=20))
    for _ in range(200):
        drive.step(eager)
    cuts = drive.source._cuts
    clock = drive.parts[eager].snapshot()["clock"]
    # the others stand before their first slice: two slices may be done, and a part of the third not begun
    assert clock <= cuts[1]
    drive.run()
    assert drive.places() == stored(archive)


def test_source_topic_that_ended_lets_the_others_go_on(archive):
    drive = Drive(ArchiveSource(archive, batch_rows=20))
    done = Drive(ArchiveSource(archive, batch_rows=20)).run().snapshot()
    drive = Drive(ArchiveSource(archive, batch_rows=20), {"news": done["news"], "books": done["books"]}).run()
    assert drive.places()["trades"] == stored(archive)["trades"]


def test_source_stopped_ends_every_topic_and_can_go_on(archive):
    stop = Event()
    drive = Drive(ArchiveSource(archive, batch_rows=20, stop=stop)).run(2)
    stop.set()
    drive.run()
    assert not drive.source.exhausted
    kept = drive.snapshot()
    rest = Drive(ArchiveSource(archive, batch_rows=50), kept).run()
    assert {topic: drive.places()[topic] + rest.places()[topic] for topic in drive.parts} == stored(archive)


def test_source_sources_and_parts_are_the_topics(archive):
    source = ArchiveSource(archive, batch_rows=1)
    assert source.sources == ("books", "news", "trades")
    assert source.list_parts() == ["books", "news", "trades"]


def test_source_archive_without_records_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected records in the archive .* import some"):
        ArchiveSource(Archive.create(tmp_path / "empty"), batch_rows=1)


@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 10**6)), max_size=8),
    batch_rows=st.integers(1_000, 10**6),
    epoch=st.sampled_from([0, 1_700_000_000 * 10**9]),
)
def test_cuts_rise_strictly_and_are_not_more_than_needed(spans, batch_rows, epoch):
    groups = [GroupSpan(epoch + first, epoch + first + length, rows) for first, length, rows in spans]
    cuts = slice_cuts(groups, batch_rows)
    assert cuts == sorted(set(cuts))
    assert all(type(cut) is int for cut in cuts)
    assert len(cuts) <= sum(rows for *_, rows in spans) // batch_rows + 1
    if cuts:
        assert min(group.first for group in groups) <= cuts[0]
        assert cuts[-1] <= max(group.last for group in groups) + 1


# --- faults of files


def read_all(path: Path) -> list[int]:
    reader = TopicReader("trades", (path,), -(2**62), END_OF_TIME)
    try:
        batch = reader.take_below(END_OF_TIME)
        return times(batch, "ts_recv").tolist() if batch is not None else []
    finally:
        reader.close()


def test_file_of_several_groups_is_read(tmp_path):
    path = write_file(tmp_path / "f.parquet", [1, 2, 2, 3, 9], 2)
    assert read_all(path) == [1, 2, 2, 3, 9]
    assert group_spans("trades", (path,)) == [GroupSpan(1, 2, 2), GroupSpan(2, 3, 2), GroupSpan(9, 9, 1)]


def test_file_unsorted_within_a_group_is_refused(tmp_path):
    path = write_file(tmp_path / "f.parquet", [1, 3, 2, 4], 4)
    with pytest.raises(InputError, match=r"expected `ts_recv` that never decreases in .*f.parquet.*import its source"):
        read_all(path)


def test_file_unsorted_between_groups_is_refused(tmp_path):
    path = write_file(tmp_path / "f.parquet", [5, 6, 1, 2], 2)
    with pytest.raises(InputError, match=r"expected `ts_recv` that never decreases in .*f.parquet.*row group 1"):
        read_all(path)


def test_file_without_statistics_is_refused(tmp_path):
    path = write_file(tmp_path / "f.parquet", [1, 2], 2, write_statistics=False)
    with pytest.raises(InputError, match=r"expected statistics of `ts_recv` in .*f.parquet"):
        read_all(path)


def test_file_with_an_empty_group_is_refused(tmp_path):
    """No writer of ours makes one, and it has no span of time."""
    path = tmp_path / "f.parquet"
    full = make_batch("trades", {"ts_recv": [1, 2], "partition": [0, 0], "offset": [0, 1]}, 2)
    with pq.ParquetWriter(path, archive_schema("trades")) as writer:
        writer.write_batch(full.slice(0, 0))
        writer.write_batch(full)
    with pytest.raises(InputError, match=r"expected statistics of `ts_recv` in .*f.parquet"):
        read_all(path)


def test_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"ts_recv": [1]}), path)
    with pytest.raises(InputError, match=r"expected the columns of `trades` .* found \['ts_recv'\]"):
        read_all(path)


def test_file_of_another_topic_is_refused(tmp_path):
    path = write_file(tmp_path / "f.parquet", [1], 1, topic="news")
    with pytest.raises(InputError, match="expected the columns of `trades`"):
        read_all(path)


def test_file_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "f.parquet"
    batch = make_batch("trades", {"ts_recv": [1], "partition": [0], "offset": [0]}, 1)
    newer = {b"signalbox.schema": b"trades", b"signalbox.version": b"99"}
    pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(newer), path)
    with pytest.raises(VersionError, match=r"expected `trades` records of version 1 or older .* found version 99"):
        read_all(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet" * 50])
def test_file_that_is_no_parquet_is_refused(tmp_path, content):
    path = tmp_path / "f.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected a Parquet file of the archive in .*f.parquet"):
        read_all(path)


def test_file_whose_column_names_are_no_text_is_refused(tmp_path):
    path = write_file(tmp_path / "f.parquet", [1], 1)
    path.write_bytes(path.read_bytes().replace(b"venue", b"ven\xff\xfe"))
    with pytest.raises(InputError, match=r"expected a Parquet file of the archive in .*f.parquet"):
        read_all(path)


def test_file_whose_version_is_no_number_is_refused(tmp_path):
    path = tmp_path / "f.parquet"
    batch = make_batch("trades", {"ts_recv": [1], "partition": [0], "offset": [0]}, 1)
    odd = {b"signalbox.schema": b"trades", b"signalbox.version": b"new"}
    pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(odd), path)
    with pytest.raises(InputError, match=r"expected a Parquet file of the archive in .*f.parquet"):
        read_all(path)


def test_file_that_is_cut_off_is_refused(tmp_path):
    path = write_file(tmp_path / "f.parquet", list(range(1_000)), 100)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="expected a Parquet file of the archive"):
        read_all(path)


def test_file_with_a_damaged_group_is_refused_and_the_groups_before_are_read(tmp_path):
    path = write_file(tmp_path / "f.parquet", list(range(4_000)), 1_000, compression="lz4")
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(2).column(2).data_page_offset
    data[start : start + 400] = b"\xff" * 400
    path.write_bytes(bytes(data))
    reader = TopicReader("trades", (path,), -(2**62), END_OF_TIME)
    first = reader.take_below(2_000)
    assert first is not None
    assert first.num_rows == 2_000
    with pytest.raises(InputError, match=r"expected row group 2 of .*f.parquet.*, found damage: .*import its source"):
        reader.take_below(END_OF_TIME)
    reader.close()


def test_file_with_any_bytes_damaged_is_read_or_refused_but_nothing_else(tmp_path):
    """Damage that the format cannot see gives other records; it never gives another kind of error."""
    good = write_file(tmp_path / "good.parquet", list(range(500)), 100, compression="lz4")
    data = good.read_bytes()
    rng = np.random.default_rng(7)
    refused = 0
    for number in range(60):
        damaged = bytearray(data)
        at = int(rng.integers(4, len(data) - 8))
        damaged[at : at + 3] = rng.bytes(3)
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(bytes(damaged))
        try:
            read_all(path)
        except (InputError, VersionError):
            refused += 1
    assert refused > 10


def test_source_of_an_archive_with_a_damaged_file_names_it(tmp_path, archive):
    copy = Archive(tmp_path / "copy")
    shutil.copytree(archive.root, copy.root)
    victim = copy.files("news")[0]
    victim.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=str(victim)):
        ArchiveSource(copy, batch_rows=10)


def test_reader_flipped_byte_in_a_page_is_an_error(tmp_path):
    """Damage that still decodes would be other numbers: checksums of the pages find it."""
    archive = Archive.create(tmp_path / "a")
    n = 5_000
    rng = np.random.default_rng(1)
    columns = {"instrument_id": ["A"] * n, "ts_recv": np.arange(n), "price": rng.uniform(1, 2, n)}
    with ArchiveWriter(archive, "trades", "x") as writer:
        writer.append(make_batch("trades", columns, n))
    (path,) = archive.files("trades")
    column = next(
        c
        for c in (pq.ParquetFile(path).metadata.row_group(0).column(i) for i in range(20))
        if c.path_in_schema == "price"
    )
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0x40
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="found damage"):
        TopicReader("trades", (path,), 0, 2**62).take_below(2**62)
