"""Bounded retries with exponential back-off, for what may succeed later and for nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.errors import StorageError, TransientError

__all__ = ["Backoff"]

_Result = TypeVar("_Result")


@dataclass(slots=True)
class Backoff:
    """How often, and how long apart, a call is tried again.

    Parameters
    ----------
    attempts
        Calls in all. With the defaults the last one is made about 13 s after the first, which outlasts
        a server's restart and is well under the time after which an operator should be called.
    first_delay
        Seconds before the second call; each further delay is twice the one before.
    max_delay
        Seconds that no delay exceeds.
    sleep
        Waits; given so that a test need not.

    Attributes
    ----------
    retries
        Calls that were repeated.
    """

    attempts: int = 8
    first_delay: float = 0.1
    max_delay: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    retries: int = field(default=0, init=False)

    def run(self, call: Callable[[], _Result]) -> _Result:
        """Return the result of a call, repeating it while it raises `TransientError`.

        Raises
        ------
        StorageError
            The last attempt failed too.
        """
        for attempt in range(1, self.attempts):
            try:
                return call()
            except TransientError:
                self.retries += 1
                self.sleep(min(self.first_delay * 2 ** (attempt - 1), self.max_delay))
        try:
            return call()
        except TransientError as error:
            raise StorageError(f"{error} (gave up after {self.attempts} attempts)") from error
