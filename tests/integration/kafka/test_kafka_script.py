"""`scripts/kafka` does what it says, twice over, and names what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "kafka"


def kafka(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | environment,
    )  # fmt: skip


def test_start_twice_is_one_broker(kafka_broker):
    again = kafka("start", "--dir", kafka_broker.folder)
    assert (again.returncode, again.stdout.strip()) == (0, kafka_broker.address)
    status = kafka("status", "--dir", kafka_broker.folder)
    assert (status.returncode, status.stdout.strip()) == (0, kafka_broker.address)


def test_start_with_another_number_of_brokers_is_refused(kafka_broker):
    refused = kafka("start", "--dir", kafka_broker.folder, "--brokers", 3)
    assert refused.returncode == 1
    assert "expected `--brokers 1`, with which" in refused.stderr


def test_start_without_java_names_it(tmp_path):
    missing = kafka("start", "--dir", tmp_path, PATH=str(tmp_path))
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "expected Java 17 or newer on the PATH, found none" in missing.stderr


def test_start_without_maven_names_it(tmp_path):
    (tmp_path / "java").write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n")
    (tmp_path / "java").chmod(0o755)
    missing = kafka("start", "--dir", tmp_path / "data", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert missing.returncode == 3
    assert "expected Maven (`mvn`) on the PATH" in missing.stderr


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_292", "strange"])
def test_start_with_old_java_names_its_version(tmp_path, version):
    (tmp_path / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    (tmp_path / "java").chmod(0o755)
    missing = kafka("start", "--dir", tmp_path / "data", PATH=f"{tmp_path}:/bin:/usr/bin")
    assert missing.returncode == 3
    assert f"expected Java 17 or newer, found '{version}'" in missing.stderr


def test_status_before_any_start_says_so(tmp_path):
    status = kafka("status", "--dir", tmp_path)
    assert status.returncode == 1
    assert "no broker was ever started" in status.stderr
    assert kafka("stop", "--dir", tmp_path).returncode == 0
