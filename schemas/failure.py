"""Keeps the first error of this process's steps.

The engine raises the error of a step again when it runs in one process. In a cluster its connections fail first, and
what is raised then says only that; so the error is kept where it happens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

__all__ = ["first_failure", "forget_failures", "noted"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_lock: Final = Lock()
_failures: list[BaseException] = []


def noted(step: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the step, whose first error is kept.

    Examples
    --------
    >>> @noted
    ... def divide(a, b):
    ...     return a / b
    >>> divide(1, 0)
    Traceback (most recent call last):
        ...
    ZeroDivisionError: division by zero
    >>> first_failure()
    ZeroDivisionError('division by zero')
    >>> forget_failures()
    """

    @wraps(step)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        try:
            return step(*args, **kwargs)
        except StopIteration:
            raise
        except BaseException as error:
            with _lock:
                if not _failures:
                    _failures.append(error)
            raise

    return call


def first_failure() -> BaseException | None:
    """Return the first error since the last `forget_failures`, or None."""
    with _lock:
        return _failures[0] if _failures else None


def forget_failures() -> None:
    """Forget what was kept, before a run begins."""
    with _lock:
        _failures.clear()
