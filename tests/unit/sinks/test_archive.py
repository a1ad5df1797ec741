"""The archive: files appear whole, partitions are stable, order is kept."""

from __future__ import annotations

import json
import os
import resource

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.batches import make_batch
from schemas.errors import InputError, VersionError
from sinks.archive import Archive, ArchiveWriter

DAY = 86_400 * 10**9


def trades(*recv):
    n = len(recv)
    return make_batch("trades", {"instrument_id": ["A"] * n, "ts_recv": list(recv), "price": [1.0] * n}, n)


def recv_of(archive, topic="trades"):
    return [t for path in archive.files(topic) for t in pq.read_table(path)["ts_recv"].cast("int64").to_pylist()]


def test_writer_splits_by_day_of_receipt(tmp_path):
    archive = Archive.create(tmp_path / "a")
    with ArchiveWriter(archive, "trades", "x") as writer:
        writer.append(trades(1, DAY - 1, DAY, 3 * DAY))
    assert [path.parent.name for path in archive.files("trades")] == ["1970-01-01", "1970-01-02", "1970-01-04"]
    assert recv_of(archive) == [1, DAY - 1, DAY, 3 * DAY]
    assert [t for path in archive.files("trades") for t in pq.read_table(path)["offset"].to_pylist()] == [0, 1, 2, 3]


def test_writer_record_that_goes_back_is_raised_and_counted(tmp_path):
    archive = Archive.create(tmp_path / "a")
    with ArchiveWriter(archive, "trades", "x") as writer:
        writer.append(trades(5, 3))
        writer.append(trades(4, 6))
        assert writer.order_violations == 2
    assert recv_of(archive) == [5, 5, 5, 6]


def test_writer_thousands_of_days_keep_one_file_open(tmp_path):
    archive = Archive.create(tmp_path / "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/dev/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 32, hard))
    try:
        with ArchiveWriter(archive, "trades", "x") as writer:
            writer.append(trades(*(np.arange(200) * DAY).tolist()))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(archive.files("trades")) == 200


def test_writer_error_leaves_no_file(tmp_path):
    archive = Archive.create(tmp_path / "a")

    def fail() -> None:
        with ArchiveWriter(archive, "trades", "x") as writer:
            writer.append(trades(1, DAY))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert archive.files("trades") == ()
    assert archive.topics() == ()
    assert not [path for path in (tmp_path / "a" / "trades").rglob("*") if path.is_file()]


def test_writer_again_replaces_the_source_and_keeps_its_partition(tmp_path):
    archive = Archive.create(tmp_path / "a")
    for recv in ((1, DAY, 2 * DAY), (7,)):
        with ArchiveWriter(archive, "trades", "x") as writer:
            writer.append(trades(*recv))
    with ArchiveWriter(archive, "trades", "y") as writer:
        writer.append(trades(2))
    assert archive.source("trades", "x")["partition"] == 0
    assert archive.source("trades", "y") == {"partition": 1, "complete": True, "rows": 1}
    assert sorted(recv_of(archive)) == [2, 7]


def test_writer_interrupted_rewrite_hides_the_source(tmp_path):
    archive = Archive.create(tmp_path / "a")
    with ArchiveWriter(archive, "trades", "x") as writer:
        writer.append(trades(1))
    writer = ArchiveWriter(archive, "trades", "x")
    writer.append(trades(2))
    assert archive.files("trades") == ()
    writer.close()
    assert recv_of(archive) == [2]


def test_archive_create_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="expected an empty folder or an archive"):
        Archive.create(tmp_path)


def test_archive_open_missing_or_damaged_or_newer_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected an archive at"):
        Archive.open(tmp_path / "none")
    archive = Archive.create(tmp_path / "a")
    path = tmp_path / "a" / "archive.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(VersionError, match="version 1 or older"):
        Archive.open(archive.root)
    path.write_text("[]")
    with pytest.raises(InputError, match="expected an archive manifest"):
        Archive.open(archive.root)
