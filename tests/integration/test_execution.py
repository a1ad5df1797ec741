"""What a run ends with when one of its steps fails."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.execution import Execution, execute
from dataflows.settings import Settings
from operators.arrival import Arrival
from schemas.enums import RunStatus
from schemas.errors import InputError, SignalboxError, StorageError, TransientError
from schemas.failure import noted
from sinks.store import Store


class _Failing(StatefulSourcePartition[Arrival, None]):
    def __init__(self, error: BaseException, cause: BaseException | None) -> None:
        self._error = error
        self._cause = cause

    @noted
    def next_batch(self) -> list[Arrival]:
        raise self._error from self._cause

    def snapshot(self) -> None:
        return None


class FailingSource(FixedPartitionedSource[Arrival, None]):
    """A source whose only partition fails at once."""

    sources = ("trades/0",)
    delivered = 0
    exhausted = False

    def __init__(self, error: BaseException, cause: BaseException | None) -> None:
        self._part = _Failing(error, cause)

    def list_parts(self) -> list[str]:
        return list(self.sources)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Failing:
        return self._part


def run(store: Store, error: BaseException, cause: BaseException | None = None) -> None:
    source: Any = FailingSource(error, cause)
    execute(Execution("failing", Settings(), source, "a source that fails", threading.Event()), store)


@pytest.mark.parametrize("cause", [None, ValueError("why"), TransientError("the first attempt")])
@pytest.mark.parametrize("error", [InputError("topic is gone"), StorageError("gave up after 3 attempts")])
def test_error_of_a_step_is_raised_whatever_caused_it(store: Store, error: SignalboxError, cause: BaseException | None):
    with pytest.raises(type(error), match=str(error)):
        run(store, error, cause)
    assert store.run_status("failing") is RunStatus.FAILED


def test_fault_of_our_own_is_not_taken_for_one_of_the_user(store: Store):
    with pytest.raises(Exception, match="error calling") as found:
        run(store, ZeroDivisionError("division by zero"))
    assert not isinstance(found.value, SignalboxError)
