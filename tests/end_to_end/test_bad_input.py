"""Bad input: a clear error with its remedy, a documented exit code, and nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from schemas.errors import ExitCode


def _replay(archive, db, *options):
    return ("replay", "--archive", archive, "--db", db, "--run-id", "r", *options)


def test_replay_missing_archive_is_refused(signalbox, tmp_path):
    done = signalbox(*_replay(tmp_path / "none", tmp_path / "db"))
    assert done.returncode == ExitCode.INPUT
    assert "expected an archive at" in done.stderr
    assert "signalbox import" in done.stderr
    assert not (tmp_path / "db").exists()


def _writable_copy(archive, target):
    import shutil

    shutil.copytree(archive, target)
    return target


def test_replay_unreadable_archive_file_is_refused(signalbox, archive, tmp_path):
    copy = _writable_copy(archive, tmp_path / "copy")
    next((copy / "trades").glob("*/*.parquet")).write_bytes(b"PAR1 not really")
    done = signalbox(*_replay(copy, tmp_path / "db"))
    assert done.returncode == ExitCode.INPUT
    assert "expected a Parquet file of the archive" in done.stderr
    assert "import its source again" in done.stderr


def test_replay_damaged_manifest_is_refused(signalbox, archive, tmp_path):
    copy = _writable_copy(archive, tmp_path / "copy")
    (copy / "archive.json").write_text("{")
    done = signalbox(*_replay(copy, tmp_path / "db"))
    assert done.returncode == ExitCode.INPUT
    assert "expected an archive manifest" in done.stderr


def test_replay_newer_archive_is_refused(signalbox, archive, tmp_path):
    copy = _writable_copy(archive, tmp_path / "copy")
    manifest = json.loads((copy / "archive.json").read_text())
    (copy / "archive.json").write_text(json.dumps(manifest | {"version": 99}))
    done = signalbox(*_replay(copy, tmp_path / "db"))
    assert done.returncode == ExitCode.VERSION
    assert "upgrade signalbox" in done.stderr


def test_replay_locked_database_is_refused(signalbox, archive, tmp_path):
    db = tmp_path / "db"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from sinks.store import Store\n"
            "with Store.open(sys.argv[1]): print('open', flush=True); sys.stdin.read()",
            str(db),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline().strip() == "open"
        for command in (_replay(archive, db), ("query", "--db", db, "SELECT 1")):
            done = signalbox(*command)
            assert done.returncode == ExitCode.LOCKED, done.stderr
            assert str(holder.pid) in done.stderr
    finally:
        holder.communicate(timeout=30)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("shard = 2\n", "found `shard`"),
        ("[compute.bars]\nintervall = ['1s']\n", "found `compute.bars.intervall`"),
        ("shards = 0\n", "`shards`"),
        ("shards = 'many'\n", "`shards`"),
        ("[compute.bars]\nintervals = ['1s', '1s']\n", "`compute.bars`"),
        ("[compute.strategies.mean_reversion]\nentry_zscore = 1.0\nexit_zscore = 1.0\n", "below `entry_zscore`"),
        ("[compute.strategies.mean_reversion]\ninterval = '7m'\n", "strategies.mean_reversion.interval"),
        ("[compute.strategies]\nenabled = ['eval']\n", "compute.strategies"),
        ("shards = \n", "expected TOML"),
    ],
)
def test_config_wrong_key_or_value_is_named(signalbox, tmp_path, text, named):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    done = signalbox("config", "check", path)
    assert done.returncode == ExitCode.CONFIG
    assert named in done.stderr


def test_replay_wrong_config_starts_nothing(signalbox, archive, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("no_such_key = 1\n")
    done = signalbox(*_replay(archive, tmp_path / "db", "--config", path))
    assert done.returncode == ExitCode.CONFIG
    assert not (tmp_path / "db").exists()


def test_import_missing_file_is_refused(signalbox, tmp_path):
    done = signalbox("import", "lean", tmp_path / "20131007_trade.zip", "--archive", tmp_path / "archive")
    assert done.returncode == ExitCode.INPUT
    assert "20131007_trade.zip" in done.stderr


def test_query_missing_database_is_refused(signalbox, tmp_path):
    done = signalbox("query", "--db", tmp_path / "none", "SELECT 1")
    assert done.returncode == ExitCode.INPUT
    assert not (tmp_path / "none").exists()


def test_replay_recovery_folder_that_others_can_write_is_refused(signalbox, archive, tmp_path):
    folder = tmp_path / "recovery" / "r"
    folder.mkdir(parents=True)
    (folder / "part-0.sqlite3").touch()
    folder.chmod(0o777)
    done = signalbox(*_replay(archive, tmp_path / "db", "--recovery", tmp_path / "recovery"))
    assert done.returncode == ExitCode.CONFIG
    assert "chmod -R go-w" in done.stderr


def test_command_line_wrong_option_exits_with_usage(signalbox):
    done = signalbox("replay", "--nonsense")
    assert done.returncode == ExitCode.USAGE


def test_help_lists_every_command(signalbox):
    done = signalbox("--help")
    assert done.returncode == ExitCode.OK
    for command in ("demo", "import", "replay", "query", "report", "config", "doctor"):
        assert command in done.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['signalbox', '--help']\n"
        "from dataflows.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'pyarrow', 'numba', 'bytewax', 'pydantic', 'chdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_doctor_good_installation_exits_with_ok(signalbox, archive):
    done = signalbox("doctor", "--archive", archive, "--json")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.returncode == ExitCode.OK, found
    assert found["good"]


def test_doctor_missing_archive_is_a_finding(signalbox, tmp_path):
    done = signalbox("doctor", "--archive", tmp_path / "none", "--json")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.returncode == ExitCode.FINDINGS
    bad = [check for check in found["checks"] if not check["good"]]
    assert [check["name"] for check in bad] == ["archive"]
    assert "signalbox import" in bad[0]["remedy"]
