"""`signalbox doctor`: a verdict and a remedy for everything that a run needs.

Nothing that may be missing is imported here: each check imports what it looks at.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from dataflows.commands.terminal import print_json, print_table
from schemas.errors import ExitCode, InputError, SignalboxError
from schemas.time import format_time

__all__ = ["Check", "run_doctor"]

_PACKAGES: Final = {
    "bytewax": "bytewax",
    "chdb": "chdb",
    "clickhouse-connect": "clickhouse_connect",
    "confluent-kafka": "confluent_kafka",
    "numba": "numba",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "river": "river",
    "scikit-learn": "sklearn",
}
_SET_UP: Final = "run `make setup`"
_LEAST_FREE_BYTES: Final = 2 * 1024**3
"""Room that a day of a busy market takes in archive and database, several times over."""


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict."""

    name: str
    good: bool
    found: str
    remedy: str = ""


def run_doctor(
    *, db: str | None, archive: Path | None, config: Path | None, recovery: Path | None, as_json: bool
) -> None:
    """Run every check and print the verdicts; exit with `FINDINGS` if one is not good."""
    checks = [_python(), *(_package(*names) for names in _PACKAGES.items()), _disk()]
    checks.append(_attempt("configuration", lambda: _read_configuration(config)))
    checks.append(_attempt("kernels", _compile_kernels))
    if archive is not None:
        checks.append(_attempt("archive", lambda: _open_archive(archive)))
    checks.append(_attempt("database", lambda: _open_database(db)))
    if recovery is not None or (db is not None and "://" not in db):
        checks.extend(_recovery(recovery or Path(str(db)) / "recovery"))
    checks.extend(_kafka(config))
    good = all(check.good for check in checks)
    if as_json:
        print_json({"good": good, "checks": [asdict(check) for check in checks]})
    else:
        rows = [(check.name, "good" if check.good else "NOT WELL", check.found, check.remedy) for check in checks]
        print_table("", ("check", "verdict", "found", "remedy"), rows)
    if not good:
        sys.exit(ExitCode.FINDINGS)


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, good=True, found=look())
    except ImportError as error:
        return Check(name, good=False, found=f"cannot be looked at: {error}", remedy=_SET_UP)
    except SignalboxError as error:
        found, _, remedy = str(error).rpartition("; ")
        return Check(name, good=False, found=found or str(error), remedy=remedy if found else "see what was found")


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Check("python", good, found, "" if good else "use Python 3.11 or 3.12; Bytewax has no build for others")


def _package(name: str, module: str) -> Check:
    try:
        importlib.import_module(module)
        return Check(name, good=True, found=version(name))
    except (ImportError, PackageNotFoundError) as error:
        return Check(name, good=False, found=str(error), remedy=_SET_UP)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    good = free >= _LEAST_FREE_BYTES
    return Check("disk", good, f"{free / 1024**3:.1f} GiB free here", "" if good else "free at least 2 GiB")


def _read_configuration(config: Path | None) -> str:
    from dataflows.settings import load_settings

    origin = "the defaults" if config is None else f"`{config}`"
    return f"{origin}, content hash {load_settings(config).content_hash()}"


def _compile_kernels() -> str:
    """Run a frame without records, which compiles some kernels or reads them from their folder."""
    from dataflows.commands.kernels import kernel_folder
    from dataflows.settings import Settings
    from operators.arrival import Frame
    from operators.shard import ShardState

    try:
        ShardState(Settings().compute).update(Frame(1, {}))
    except OSError as error:
        raise InputError(f"expected a folder for compiled kernels, found {error}; set NUMBA_CACHE_DIR") from error
    folder = kernel_folder()
    return "compile" if folder is None else f"compile, and are kept in `{folder}`"


def _open_archive(archive: Path) -> str:
    from sinks.archive import Archive

    topics = Archive.open(archive).topics()
    return f"topics {', '.join(topics)}" if topics else "no topics"


def _open_database(db: str | None) -> str:
    from sinks.store import Store

    if db is not None:
        with Store.open(db, create=False, read_only=True) as store:
            return f"{store.location}: runs {', '.join(store.run_ids()) or 'none'}"
    with tempfile.TemporaryDirectory() as folder, Store.open(str(Path(folder) / "db")):
        return "the embedded engine starts and takes the tables"


def _kafka(config: Path | None) -> list[Check]:
    try:
        from dataflows.commands.doctor_kafka import look_at_kafka
    except ImportError as error:
        return [Check("brokers", good=False, found=str(error), remedy=_SET_UP)]
    return [Check(*found) for found in look_at_kafka(config)]


def _recovery(folder: Path) -> list[Check]:
    runs = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def look(path: Path) -> str:
        from dataflows.recovery import check_private, read_identity
        from dataflows.status import last_snapshot

        check_private(path)
        if not os.access(path, os.W_OK):
            raise InputError(f"expected a writable folder at `{path}`, found none; give it to this user")
        identity, snapshot = read_identity(path), last_snapshot(path)
        age = "no snapshot yet" if snapshot is None else f"last snapshot at {format_time(snapshot)}"
        return f"private; {age}; of {identity.source if identity is not None else 'an unnamed input'}"

    return [_attempt(f"recovery of `{path.name}`", lambda path=path: look(path)) for path in runs]  # type: ignore[misc]
