"""Where everything is required, a skipped test fails, whatever skips it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
_TESTS = '''
import pytest

@pytest.fixture
def absent():
    pytest.skip("no broker")

@pytest.mark.skipif(True, reason="no root")
def test_skipped_by_mark(): ...

def test_skipped_by_call():
    pytest.skip("no browser")

def test_skipped_by_fixture(absent): ...

def test_skipped_for_data(real_data): ...

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    raise ValueError

def test_good():
    """
    >>> 1  # doctest: +SKIP
    2
    """
'''


@pytest.mark.parametrize(
    ("required", "end"), [("0", "1 passed, 7 skipped, 1 xfailed"), ("1", "2 failed, 1 passed, 1 xfailed, 5 errors")]
)
def test_suite_skips_or_fails_as_required(tmp_path, required, end):
    (tmp_path / "conftest.py").write_text(_CONFTEST.read_text())
    (tmp_path / "test_all.py").write_text(_TESTS)
    (tmp_path / "test_module.py").write_text('import pytest\n\npytest.importorskip("no_such_module")\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"SIGNALBOX_REQUIRE_ALL": required, "SIGNALBOX_REAL_DATA": str(tmp_path / "none")}
    command = [sys.executable, "-m", "pytest", "--doctest-modules", "-p", "no:cacheprovider", "-p", "no:xdist", "-ra"]
    command += ["--rootdir", str(tmp_path), "--continue-on-collection-errors", str(tmp_path)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert end in done.stdout.splitlines()[-1], done.stdout
    for reason in ("no broker", "no root", "no browser", "no_such_module", "SIGNALBOX_REAL_DATA", "+SKIP"):
        assert reason in done.stdout
    assert done.returncode == int(required)
