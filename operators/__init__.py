"""Verbs on streams: each module is one operator, a pure state over arrays behind a thin Bytewax logic."""

from pathlib import Path

from operators.kernel_cache import use_kernel_cache

use_kernel_cache(Path(__file__).resolve().parent.parent, ("operators", "dataflows/simulator"))
