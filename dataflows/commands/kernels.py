"""Compiled kernels: where they are kept, and what a command says before it compiles them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numba

import operators  # noqa: F401 - its import says where compiled kernels are kept
from dataflows.commands.terminal import say

__all__ = ["announce_compilation", "kernel_folder"]

_FEW: Final = 20
"""Kept kernels of a machine on which none of the great ones was compiled; a run keeps some seventy."""


def kernel_folder() -> Path | None:
    """Return the folder of compiled kernels, or None where numba keeps each beside its source."""
    return Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else None


def announce_compilation() -> None:
    """Say that kernels are about to be compiled, where few are kept."""
    folder = kernel_folder()
    if folder is not None and sum(1 for _ in folder.rglob("*.nbi")) < _FEW:
        say("compiling, once on this machine; the first run takes about half a minute longer")
