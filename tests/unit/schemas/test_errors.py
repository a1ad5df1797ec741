"""Errors: each class says who must act by its exit code."""

from __future__ import annotations

import pytest

import schemas.errors as module
from schemas.errors import DataError, ExitCode, SignalboxError, StorageError, StorageLockedError

CLASSES = [getattr(module, name) for name in module.__all__ if name != "ExitCode"]


@pytest.mark.parametrize("cls", CLASSES)
def test_error_is_ours_and_has_an_exit_code_that_is_not_success(cls):
    assert issubclass(cls, SignalboxError)
    assert isinstance(cls.exit_code, ExitCode)
    assert cls.exit_code != ExitCode.OK


def test_exit_codes_are_fixed():
    """Scripts depend on them."""
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0, "INTERNAL": 1, "USAGE": 2, "CONFIG": 3, "INPUT": 4, "LOCKED": 5, "VERSION": 6, "STORAGE": 7,
        "FINDINGS": 8, "FLOOD": 9, "DEADLINE": 10, "INTERRUPTED": 130,
    }  # fmt: skip


def test_data_error_keeps_reason_and_detail():
    error = DataError("wrong_type", "expected a number, was 'x'")
    assert (error.reason, error.detail) == ("wrong_type", "expected a number, was 'x'")
    assert str(error) == "wrong_type: expected a number, was 'x'"


def test_locked_is_a_storage_error_with_its_own_code():
    assert issubclass(StorageLockedError, StorageError)
    assert StorageLockedError.exit_code == ExitCode.LOCKED
