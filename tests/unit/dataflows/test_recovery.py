"""The recovery folder: private to the account, or refused, because snapshots are read as code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bytewax.recovery import RecoveryConfig

from dataflows.recovery import check_private, discard_recovery, prepare_recovery
from schemas.errors import ConfigError


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "runs" / "r1"
    prepare_recovery(path)
    return path


def test_new_folder_is_private_and_has_nothing_to_resume(tmp_path):
    config, resumable = prepare_recovery(tmp_path / "deep" / "folder")
    assert isinstance(config, RecoveryConfig)
    assert not resumable
    assert (tmp_path / "deep" / "folder").stat().st_mode & 0o777 == 0o700


def test_folder_used_before_is_resumable(folder):
    assert prepare_recovery(folder)[1]


def test_empty_folder_with_wide_permissions_is_made_private(tmp_path):
    path = tmp_path / "empty"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    assert not prepare_recovery(path)[1]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_folder_that_others_can_write_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=r"to be writable by its owner only, found mode d.*chmod -R go-w"):
        prepare_recovery(folder)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_snapshot_that_others_can_write_is_refused(folder, mode):
    snapshot = next(folder.glob("*.sqlite3"))
    snapshot.chmod(mode)
    with pytest.raises(ConfigError, match=f"expected `{snapshot}` to be writable by its owner only"):
        prepare_recovery(folder)


def test_snapshot_that_others_can_read_is_taken(folder):
    next(folder.glob("*.sqlite3")).chmod(0o644)
    check_private(folder)


def test_link_among_the_snapshots_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").touch()
    (folder / "part-9.sqlite3").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"expected no link in the recovery folder, found .*part-9"):
        prepare_recovery(folder)


def test_folder_that_is_a_link_is_refused_and_its_target_left_alone(tmp_path):
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(ConfigError, match=r"expected no link in the recovery folder, found .*link"):
        prepare_recovery(link)
    assert target.stat().st_mode & 0o777 == 0o755
    assert list(target.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["folder", "snapshot"])
def test_owner_that_is_another_account_is_refused(folder, what):
    os.chown(folder if what == "folder" else next(folder.glob("*.sqlite3")), 12345, -1)
    with pytest.raises(ConfigError, match=r"expected .* to belong to user 0, found user 12345; snapshots run code"):
        prepare_recovery(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_empty_folder_of_another_account_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="found user 12345"):
        prepare_recovery(path)
    assert list(path.iterdir()) == []


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(ConfigError, match=r"expected a folder for recovery at .*file"):
        prepare_recovery(path)


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"expected a folder for recovery at .*below"):
        prepare_recovery(tmp_path / "file" / "below")


def test_discard_removes_everything_and_may_be_repeated(folder):
    discard_recovery(folder)
    assert not folder.exists()
    discard_recovery(folder)
