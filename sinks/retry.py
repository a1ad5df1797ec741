"""Bounded retries with exponential back-off, for what may succeed later and for nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Final, Self, TypeVar

from schemas.errors import StorageError, TransientError

__all__ = ["Backoff"]

_LOG: Final = logging.getLogger(__name__)
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

    @classmethod
    def lasting(cls, patience: timedelta) -> Self:
        """Return one whose last call is made no earlier than `patience` after the first.

        Examples
        --------
        >>> Backoff.lasting(timedelta(minutes=2)).seconds
        121.3
        """
        return next(found for attempts in count(2) if (found := cls(attempts)).seconds >= patience.total_seconds())

    @property
    def seconds(self) -> float:
        """Delays between the first call and the last one together."""
        return sum(self._delay(attempt) for attempt in range(1, self.attempts))

    def _delay(self, attempt: int) -> float:
        doubled: float = self.first_delay * 2 ** min(attempt - 1, 60)
        return min(doubled, self.max_delay)

    def run(self, call: Callable[[], _Result]) -> _Result:
        """Return the result of a call, repeating it while it raises `TransientError`.

        Raises
        ------
        StorageError
            The last attempt failed too.
        """
        for attempt in range(1, self.attempts):
            try:
                result = call()
            except TransientError as error:
                if attempt == 1:
                    _LOG.warning("%s; trying again for %.0f s", error, self.seconds)
                self.retries += 1
                self.sleep(self._delay(attempt))
            else:
                if attempt > 1:
                    _LOG.warning("attempt %d succeeded", attempt)
                return result
        try:
            return call()
        except TransientError as error:
            raise StorageError(f"{error} (gave up after {self.attempts} attempts)") from error
