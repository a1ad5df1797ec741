"""Replays through the command: digests, resumption after SIGKILL, and stopping."""

from __future__ import annotations

import json
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ExitCode
from scripts.crash_test import Replays


@dataclass(frozen=True)
class Whole:
    """A replay that nothing disturbed."""

    db: Path
    result: dict[str, Any]


def _last_json(output: str) -> dict:
    return json.loads(output.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def whole(signalbox, archive, tmp_path_factory) -> Whole:
    db = tmp_path_factory.mktemp("db") / "db"
    done = signalbox("replay", "--archive", archive, "--db", db, "--run-id", "whole", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    return Whole(db, _last_json(done.stdout))


@pytest.fixture
def replays(archive, tmp_path) -> Replays:
    """Replays in small batches, with a snapshot five times a second."""
    return Replays(archive, tmp_path)


def test_replay_json_has_the_documented_keys(whole):
    assert {"run_id", "counts", "digests", "rows_per_second"} <= set(whole.result)
    assert whole.result["status"] == "complete"
    assert all(digest["rows"] > 0 for name, digest in whole.result["digests"].items() if name in ("bars", "signals"))


@pytest.mark.parametrize("options", [("--workers", 4), ("--workers", 2, "--batch-rows", 900)])
def test_replay_workers_and_batches_give_the_same_digests(signalbox, archive, whole, tmp_path, options):
    done = signalbox("replay", "--archive", archive, "--db", tmp_path / "db", "--run-id", "again", "--json", *options)
    assert done.returncode == ExitCode.OK, done.stderr
    assert _last_json(done.stdout)["digests"] == whole.result["digests"]


def test_replay_killed_at_random_moments_resumes_to_the_same_digests(replays, whole):
    """`scripts.crash_test` is the long version."""
    lives = replays.live_through("killed", 4, random.Random(5), stretch=0.5)
    assert sum(life.killed for life in lives) >= 3, "expected the run to be killed before its end"
    assert sum(life.killed and life.epochs > 0 for life in lives) >= 2, "expected kills after snapshots"
    result = lives[-1].result
    assert result is not None, lives[-1].errors
    assert result["resumed"]
    assert result["digests"] == whole.result["digests"]
    assert result["counts"] == whole.result["counts"]


def test_replay_stopped_by_sigterm_resumes_with_its_own_configuration_only(replays, signalbox, archive, whole):
    process = replays.start("stopped")
    replays.await_snapshot("stopped", process, before=1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, errors
    stopped = _last_json(output)
    assert stopped["status"] == "stopped"
    assert 0 < stopped["rows"] < whole.result["rows"]
    config = replays.folder / "other.toml"
    config.write_text("shards = 7\n")
    arguments = ("--archive", archive, "--db", replays.folder / "stopped", "--run-id", "stopped", "--config", config)
    other = signalbox("replay", *arguments)
    assert other.returncode == ExitCode.CONFIG
    assert "began with config_hash" in other.stderr
    resumed = replays.live("stopped")
    assert resumed.result is not None, resumed.errors
    assert resumed.result["resumed"]
    assert resumed.result["digests"] == whole.result["digests"]
    assert resumed.result["counts"] == whole.result["counts"]


def test_replay_completed_run_is_refused(signalbox, archive, whole):
    again = signalbox("replay", "--archive", archive, "--db", whole.db, "--run-id", "whole")
    assert again.returncode == ExitCode.CONFIG
    assert "expected a new run id, was `whole`, which is complete; choose another `--run-id`" in again.stderr


def test_replay_range_is_checked(signalbox, archive, tmp_path):
    arguments = ("replay", "--archive", archive, "--db", tmp_path / "db", "--run-id", "r")
    naive = signalbox(*arguments, "--from", "2026-01-05T14:30:00")
    assert naive.returncode == ExitCode.CONFIG
    assert "expected a time with its zone" in naive.stderr
    reverse = signalbox(*arguments, "--from", "2026-01-05T14:30:00Z", "--to", "2026-01-05T14:00:00Z")
    assert reverse.returncode == ExitCode.CONFIG
    assert "expected `--from` before `--to`" in reverse.stderr
    assert not (tmp_path / "db").exists()
