"""Fixtures that every test may use, and what holds for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Generator
from importlib import import_module
from pathlib import Path

import numba
import pytest
from hypothesis import settings

_REPOSITORY = Path(__file__).resolve().parent.parent

# an example may compile a kernel, or wait for a busy machine: time says nothing about it
settings.register_profile("signalbox", parent=settings(), deadline=None)
settings.load_profile("signalbox")


def _use_kernel_cache_of_worker(worker: str) -> None:
    """Keep the kernels that this process compiles apart from those of the other workers.

    numba writes its index of compiled code without a lock: two processes that compile one function for two
    signatures at the same moment can leave an entry that names the code of the other. Only tests call a kernel with
    several signatures, so the commands that they start may share a folder.
    """
    import_module("operators")  # chooses the folder of the present kernels
    if numba.config.CACHE_DIR:
        numba.config.CACHE_DIR = str(Path(numba.config.CACHE_DIR) / worker)


class _NothingSkipped:
    """Turns whatever would be skipped into a failure that says why it would be."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        _fail_if_skipped(report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        _fail_if_skipped(report)
        return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"expected nothing to be skipped with SIGNALBOX_REQUIRE_ALL=1, found: {reason}"


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        _use_kernel_cache_of_worker(os.environ["PYTEST_XDIST_WORKER"])
    if os.environ.get("SIGNALBOX_REQUIRE_ALL") == "1":
        config.pluginmanager.register(_NothingSkipped(), "nothing-skipped")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real market data; the test skips where it is absent, and fails where all is required."""
    folder = Path(os.environ.get("SIGNALBOX_REAL_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real market data in `{folder}`; set SIGNALBOX_REAL_DATA")
    return folder
