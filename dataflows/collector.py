"""Python's garbage collector, made to look less often while records stream through.

By default it looks at all new objects whenever there are 700 more of them, and a poll of Kafka brings thousands of
records at once: that took more than half the time of a poll. None of them is in a cycle, so there is nothing to find;
they go as soon as their batch has been handed on.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["sparing_collector"]

_YOUNG: Final = 200_000
"""New objects that set the collector to work: more than a source holds in a steady run, so that it has to look at
records only while a backlog is read. A cycle waits for as long, which at 100 bytes an object are 20 MB."""


@contextmanager
def sparing_collector() -> Iterator[None]:
    """Leave the collector what was made before, and wake it seldom, as long as this lasts.

    What exists already, mostly modules, is not looked through again: a full collection of it takes some 100 ms, during
    which nothing is delivered.

    Examples
    --------
    >>> with sparing_collector():
    ...     gc.get_threshold()[0]
    200000
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
