"""The command as a user runs it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataflows.simulator import SimulatorConfig, simulate
from sinks.archive import Archive

Signalbox = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def signalbox() -> Signalbox:
    """Return a function that runs the command to its end."""

    def run(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dataflows.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive of a small market."""
    root = tmp_path_factory.mktemp("archive") / "archive"
    simulate(SimulatorConfig(seed=11, instruments=6, duration="10m", snapshot_interval="30s"), Archive.create(root))
    return root
