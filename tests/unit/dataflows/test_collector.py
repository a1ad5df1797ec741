from __future__ import annotations

import gc
import weakref

import pytest

from dataflows.collector import sparing_collector


class _Node:
    def __init__(self) -> None:
        self.self = self


def _fail() -> None:
    with sparing_collector():
        if gc.get_freeze_count():
            raise ValueError("frozen")


def test_collector_is_as_before_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="frozen"):
        _fail()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_collector_still_finds_cycles() -> None:
    with sparing_collector():
        gone = weakref.ref(_Node())
        kept = [[] for _ in range(2 * gc.get_threshold()[0])]
        assert gone() is None
        del kept
