"""Replays through the command: digests, resumption after SIGKILL, and stopping."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from schemas.errors import ExitCode


def _last_json(output: str) -> dict:
    return json.loads(output.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def uninterrupted(signalbox, archive, tmp_path_factory):
    db = tmp_path_factory.mktemp("db") / "db"
    done = signalbox("replay", "--archive", archive, "--db", db, "--run-id", "whole", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    return _last_json(done.stdout)


def test_replay_json_has_the_documented_keys(uninterrupted):
    assert {"run_id", "counts", "digests", "rows_per_second"} <= set(uninterrupted)
    assert uninterrupted["status"] == "complete"
    assert all(digest["rows"] > 0 for name, digest in uninterrupted["digests"].items() if name in ("bars", "signals"))


@pytest.mark.parametrize("options", [("--workers", 4), ("--batch-rows", 3_000), ("--workers", 2, "--batch-rows", 900)])
def test_replay_workers_and_batches_give_the_same_digests(signalbox, archive, uninterrupted, tmp_path, options):
    done = signalbox("replay", "--archive", archive, "--db", tmp_path / "db", "--run-id", "again", "--json", *options)
    assert done.returncode == ExitCode.OK, done.stderr
    assert _last_json(done.stdout)["digests"] == uninterrupted["digests"]


def _start(archive, db, config, *options):
    command = [sys.executable, "-m", "dataflows.cli", "replay", "--archive", archive, "--db", db]
    command += ["--run-id", "r", "--json", "--config", config, "--batch-rows", "400", *options]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "signalbox.toml"
    path.write_text('[recovery]\nsnapshot_interval = "200ms"\n')
    return path


def _wait_for_snapshot(process, db) -> None:
    """Wait until the run has begun to compute: a kill during start-up would prove little."""
    deadline = time.monotonic() + 60
    while not list((db / "recovery").glob("r/*.sqlite3")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def test_replay_killed_at_random_moments_resumes_to_the_same_digests(archive, uninterrupted, config, tmp_path):
    rng = random.Random(5)
    db = tmp_path / "db"
    kills = 0
    for _ in range(4):
        process = _start(archive, db, config)
        _wait_for_snapshot(process, db)
        time.sleep(rng.uniform(0.2, 2.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    process = _start(archive, db, config)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == ExitCode.OK, errors
    result = _last_json(output)
    assert kills >= 2, "expected the run to be killed before its end"
    assert result["resumed"]
    assert result["digests"] == uninterrupted["digests"]
    assert result["counts"] == uninterrupted["counts"]


def test_replay_stopped_by_sigterm_says_so_and_resumes(archive, uninterrupted, config, tmp_path):
    db = tmp_path / "db"
    process = _start(archive, db, config)
    _wait_for_snapshot(process, db)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, errors
    stopped = _last_json(output)
    assert stopped["status"] == "stopped"
    assert 0 < stopped["rows"] < uninterrupted["rows"]
    process = _start(archive, db, config)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == ExitCode.OK, errors
    assert _last_json(output)["digests"] == uninterrupted["digests"]
    assert _last_json(output)["counts"] == uninterrupted["counts"]


def test_replay_completed_run_is_refused(signalbox, archive, tmp_path):
    arguments = ("replay", "--archive", archive, "--db", tmp_path / "db", "--run-id", "once")
    assert signalbox(*arguments).returncode == ExitCode.OK
    again = signalbox(*arguments)
    assert again.returncode == ExitCode.CONFIG
    assert "expected a new run id, was `once`, which is complete; choose another `--run-id`" in again.stderr


def test_replay_unfinished_run_with_another_configuration_is_refused(archive, config, signalbox, tmp_path):
    db = tmp_path / "db"
    process = _start(archive, db, config)
    _wait_for_snapshot(process, db)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    other = signalbox("replay", "--archive", archive, "--db", db, "--run-id", "r")
    assert other.returncode == ExitCode.CONFIG
    assert "began with config_hash" in other.stderr


def test_replay_range_is_checked(signalbox, archive, tmp_path):
    arguments = ("replay", "--archive", archive, "--db", tmp_path / "db", "--run-id", "r")
    naive = signalbox(*arguments, "--from", "2026-01-05T14:30:00")
    assert naive.returncode == ExitCode.CONFIG
    assert "expected a time with its zone" in naive.stderr
    reverse = signalbox(*arguments, "--from", "2026-01-05T14:30:00Z", "--to", "2026-01-05T14:00:00Z")
    assert reverse.returncode == ExitCode.CONFIG
    assert "expected `--from` before `--to`" in reverse.stderr
    assert not (tmp_path / "db").exists()
