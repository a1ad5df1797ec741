"""A recording grows in whole rolls, keeps positions with records, and survives a kill or a full disk at any moment."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataflows.sources.archive import ArchiveSource
from schemas.batches import make_batch
from schemas.errors import ConfigError, InputError, StorageError, StorageLockedError, VersionError
from sinks.archive import Archive, ArchiveWriter
from sinks.recording import Recording

DAY = 86_400 * 10**9
TOPICS = {"trades": {"name": "t"}, "quotes": {"name": "q"}}


def rows(topic: str, first: int, count: int, partition: int = 0, step: int = 1, text: str = "A"):
    recv = np.arange(first, first + count) * step
    columns = {"instrument_id": [text] * count, "ts_recv": recv, "partition": [partition] * count}
    return make_batch(topic, columns | {"offset": np.arange(first, first + count)}, count)


def offsets(archive: Archive, topic: str) -> list[int]:
    return [o for path in archive.files(topic) for o in pq.read_table(path)["offset"].to_pylist()]


def at(offset: int) -> dict[str, dict[str, int]]:
    return {"trades/0": {"offset": offset}, "quotes/0": {"offset": offset}}


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.*") if path.is_file() and path.name[0] != ".")


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*.tmp")]


# --- rolls


def test_roll_makes_records_of_all_topics_and_positions_visible_together(tmp_path):
    archive = tmp_path / "a"
    with Recording.open(archive, TOPICS) as recording:
        assert recording.positions == {}
        recording.append("trades", rows("trades", 0, 5))
        recording.append("quotes", rows("quotes", 0, 2))
        recording.append("trades", rows("trades", 5, 5))
        assert Archive.open(archive).contents() == {}
        roll = recording.commit(at(10))
        assert (roll.number, roll.rows, roll.files) == (0, {"trades": 10, "quotes": 2}, 2)
        assert roll.size == sum((archive / name).stat().st_size for name in names(archive) if "parquet" in name)
        assert offsets(Archive.open(archive), "trades") == list(range(10))
        recording.append("trades", rows("trades", 10, 1))
        assert recording.rows == 1
        assert recording.commit(at(11)).number == 1
    assert names(archive) == [
        "archive.json", "quotes/1970-01-01/00000.parquet", "trades/1970-01-01/00000.parquet",
        "trades/1970-01-01/00001.parquet",
    ]  # fmt: skip
    with Recording.open(archive, TOPICS) as recording:
        assert recording.positions == at(11)
    sources = Archive.open(archive).manifest()["sources"]
    assert {name: entry["rows"] for name, entry in sources.items()} == {"quotes/0": 2, "trades/0": 11}


def test_roll_over_several_days_has_a_file_for_each(tmp_path):
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        recording.append("trades", rows("trades", 0, 4, step=DAY // 2))
        assert recording.commit(at(4)).files == 2
    archive = Archive.open(tmp_path / "a")
    assert [path.parent.name for path in archive.files("trades")] == ["1970-01-01", "1970-01-02"]
    assert ArchiveSource(archive, batch_rows=10).rows == 4


def test_commit_without_records_moves_positions_only(tmp_path):
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        assert recording.commit(at(7)) is None
        assert recording.positions == at(7)
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        assert recording.positions == at(7)
        recording.append("trades", rows("trades", 7, 1))
        assert recording.commit(at(8)).number == 0


def test_many_small_batches_become_one_row_group(tmp_path):
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        for first in range(700):
            recording.append("trades", rows("trades", first, 1, text=f"I{first % 7}"))
        recording.commit(at(700))
    (path,) = Archive.open(tmp_path / "a").files("trades")
    assert pq.ParquetFile(path).num_row_groups == 1
    assert pq.read_table(path)["instrument_id"].to_pylist() == [f"I{i % 7}" for i in range(700)]


def test_size_grows_with_row_groups(tmp_path):
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        recording.append("trades", rows("trades", 0, 10))
        small = recording.size
        recording.append("trades", rows("trades", 10, 200_000))
        assert recording.size > small + 50_000


# --- what is not committed


def test_not_committed_records_are_removed(tmp_path):
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        recording.append("trades", rows("trades", 0, 3))
        recording.commit(at(3))
        recording.append("trades", rows("trades", 3, 3))
    assert hidden(tmp_path) == []
    assert offsets(Archive.open(tmp_path / "a"), "trades") == [0, 1, 2]


def test_files_named_but_not_committed_are_not_seen_and_removed_by_the_next_recorder(tmp_path):
    """As after a kill between the last rename and the manifest."""
    root = tmp_path / "a"
    with Recording.open(root, TOPICS) as recording:
        recording.append("trades", rows("trades", 0, 3))
        recording.commit(at(3))
    day = root / "trades" / "1970-01-01"
    shutil.copy(day / "00000.parquet", day / "00001.parquet")
    shutil.copy(day / "00000.parquet", day / ".00001.tmp")
    archive = Archive.open(root)
    assert [path.name for path in archive.files("trades")] == ["00000.parquet"]
    assert [path.name for path in archive.contents()["trades"]] == ["00000.parquet"]
    Recording.open(root, TOPICS).close()
    assert sorted(path.name for path in day.iterdir()) == ["00000.parquet"]


_WRITER = """
import sys
from pathlib import Path
from schemas.batches import make_batch
from sinks.recording import Recording
with Recording.open(Path(sys.argv[1]), {"trades": {}, "news": {}}) as recording:
    first = recording.positions.get("trades/0", {"offset": 0})["offset"]
    for roll in range(10_000):
        for topic in ("trades", "news"):
            columns = {"ts_recv": [first, first + 1], "partition": [0, 0], "offset": [first, first + 1]}
            recording.append(topic, make_batch(topic, columns, 2))
        first += 2
        recording.commit({"trades/0": {"offset": first}, "news/0": {"offset": first}})
        if not roll:
            print("rolling", flush=True)
"""


def test_kill_at_any_moment_leaves_whole_rolls_of_all_topics(tmp_path):
    rng = random.Random(3)
    root, reached = tmp_path / "a", 0
    for _ in range(8):
        command = [sys.executable, "-c", _WRITER, str(root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"rolling\n", process.stderr.read()
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        archive = Archive.open(root)
        found = archive.manifest()["sources"].get("trades/0", {"note": {"offset": 0}})["note"]["offset"]
        assert found >= reached
        reached = found
        assert offsets(archive, "trades") == offsets(archive, "news") == list(range(reached))
    assert reached > 10


# --- who may write


def test_second_recorder_is_refused_with_the_process_that_has_it(tmp_path):
    with Recording.open(tmp_path / "a", TOPICS):
        with pytest.raises(StorageLockedError, match=rf"no recorder, found process {os.getpid()} recording into it"):
            Recording.open(tmp_path / "a", TOPICS)
        assert Archive.open(tmp_path / "a").contents() == {}
    Recording.open(tmp_path / "a", TOPICS).close()


def test_archive_of_files_and_recording_do_not_mix(tmp_path):
    with ArchiveWriter(Archive.create(tmp_path / "files"), "trades", "x") as writer:
        writer.append(rows("trades", 0, 1))
    with pytest.raises(InputError, match=r"expected a recording or an empty archive at .* found an archive of files"):
        Recording.open(tmp_path / "files", TOPICS)
    Recording.open(tmp_path / "recording", TOPICS).close()
    with pytest.raises(InputError, match=r"expected an archive for files at .* found a recording"):
        ArchiveWriter(Archive.open(tmp_path / "recording"), "trades", "x")


def test_other_topics_or_settings_are_refused(tmp_path):
    Recording.open(tmp_path / "a", TOPICS).close()
    with pytest.raises(ConfigError, match=r"the topics with which the recording .* other settings of `news`, `quotes`"):
        Recording.open(tmp_path / "a", {"trades": {"name": "t"}, "news": {}})
    Recording.open(tmp_path / "a", TOPICS).close()


def test_newer_version_and_other_folders_are_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="expected an empty folder or an archive"):
        Recording.open(tmp_path, TOPICS)
    with pytest.raises(InputError, match=r"expected to write the recording at .* file exists; .* correct it"):
        Recording.open(tmp_path / "notes.txt", TOPICS)
    Recording.open(tmp_path / "a", TOPICS).close()
    path = tmp_path / "a" / "archive.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"recording": manifest["recording"] | {"version": 2}}))
    with pytest.raises(VersionError, match="expected a recording of version 1 or older"):
        Recording.open(tmp_path / "a", TOPICS)


# --- full disks


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MiB; the test skips where this account may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs, as root: {mounted.stderr.strip() if mounted else 'no `mount`'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, free: int) -> Path:
    """Leave so many bytes of a file system."""
    ballast, state = folder / "ballast", os.statvfs(folder)
    with ballast.open("wb") as file:
        file.write(bytes(max(state.f_bavail * state.f_frsize - free, 0)))
    return ballast


def attempt(recording: Recording, first: int) -> str:
    """Append and commit a thousand records of each topic; return why it failed, or nothing."""
    try:
        for topic in TOPICS:
            recording.append(topic, rows(topic, first, 1_000))
        recording.commit(at(first + 1_000))
    except StorageError as error:
        return str(error)
    return ""


def test_disk_full_at_any_write_keeps_what_was_committed_and_goes_on(small_disk):
    """Whatever room is left: a folder, a row group, a footer or the manifest fails, or nothing does."""
    root, committed, stages = small_disk / "a", 0, set()
    for free in [0, *range(0, 80 * 1024, 4096)]:
        with Recording.open(root, TOPICS) as recording:
            assert recording.positions == (at(committed) if committed else {})
            ballast = fill(small_disk, free)
            failure = attempt(recording, committed)
            stages.add((bool(failure), sum(name.endswith("parquet") for name in names(root))))
            assert recording.failed == bool(failure)
            if failure:
                assert re.search(r"expected room .* no space left on device; what was committed is whole", failure)
                assert "found one that failed" in attempt(recording, committed)
            else:
                committed += 1_000
        archive = Archive.open(root)
        assert offsets(archive, "trades") == offsets(archive, "quotes") == list(range(committed))
        ballast.unlink()
    assert committed >= 1_000
    assert {(True, 0), (True, 2)} <= stages, "expected failures before a file had its name, and behind that"


def test_disk_full_at_the_start_can_begin_later(small_disk):
    ballast = fill(small_disk, 0)
    with pytest.raises(StorageError, match="expected room for the recording"):
        Recording.open(small_disk / "a", TOPICS)
    ballast.unlink()
    with Recording.open(small_disk / "a", TOPICS) as recording:
        recording.append("trades", rows("trades", 0, 1))
        assert recording.commit(at(1)) is not None


def test_file_that_may_not_grow_says_so(tmp_path):
    """The limit of a file's size is met in the middle of a row group."""
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        recording.append("trades", rows("trades", 0, 10))
        recording.commit(at(10))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        try:
            with pytest.raises(StorageError, match=r"expected room for the recording at .* file too large"):
                recording.append("trades", rows("trades", 10, 200_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert hidden(tmp_path) == []
    with Recording.open(tmp_path / "a", TOPICS) as recording:
        assert recording.positions == at(10)
