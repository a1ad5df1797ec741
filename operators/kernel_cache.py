"""Where compiled kernels are kept: a folder that is named by the source of all of them.

numba keeps machine code beside each source file and compiles anew when that file changes. It does not
see that a kernel in another file changed, which it has compiled into its callers. So the folder is named by a digest of
every file with a kernel: after any change all are compiled once more, and code of an older version is never run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

import numba

__all__ = ["use_kernel_cache"]

_KEPT: Final = 3
"""Folders that are kept, the present one included: a version before and a branch beside, some megabytes each."""


def use_kernel_cache(root: Path, packages: tuple[str, ...]) -> Path | None:
    """Make numba keep its code in the folder of the present kernels; return it.

    Nothing changes where `NUMBA_CACHE_DIR` is set, or no folder can be made: numba then decides itself.

    Parameters
    ----------
    root
        Folder that holds the packages.
    packages
        Packages with kernels.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "signalbox" / "kernels"
    folder = base / _digest(root, packages)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _prune(base)
        os.utime(folder)
    except OSError:
        return None
    numba.config.CACHE_DIR = str(folder)
    return folder


def _digest(root: Path, packages: tuple[str, ...]) -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_bytes()
            if b"njit" in source:
                digest.update(path.name.encode() + b"\0" + source)
    return digest.hexdigest()[:16]


def _prune(base: Path) -> None:
    folders = sorted((path for path in base.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in folders[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
