"""What the figures were measured on: processor, cores, memory, versions. No names of hosts or people."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["describe"]

_LIBRARIES = ("bytewax", "chdb", "clickhouse-connect", "numba", "numpy", "polars", "pyarrow")


def describe() -> dict[str, Any]:
    """Return the machine as plain JSON values."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {library: version(library) for library in _LIBRARIES},
        "load_before": round(os.getloadavg()[0], 2),
    }


def _field(path: Path, name: str) -> str:
    if not path.is_file():
        return ""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
