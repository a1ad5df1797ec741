"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent


def _required() -> bool:
    return os.environ.get("SIGNALBOX_REQUIRE_ALL") == "1"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real market data; the test skips where it is absent, and fails where all is required."""
    folder = Path(os.environ.get("SIGNALBOX_REAL_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"needs real market data in `{folder}`; set SIGNALBOX_REAL_DATA"
        if _required():
            pytest.fail(message)
        pytest.skip(message)
    return folder
