"""Errors sorted by who must act, each with its process exit code.

A message is lower case and says what was expected, what was found and what to do.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ConfigError",
    "DataError",
    "DeadLetterFloodError",
    "ExitCode",
    "InputError",
    "InvariantError",
    "SignalboxError",
    "StorageError",
    "StorageLockedError",
    "TransientError",
    "VersionError",
]


class ExitCode(IntEnum):
    """Exit codes of the `signalbox` command."""

    OK = 0
    INTERNAL = 1
    """an unforeseen fault: report it"""
    USAGE = 2
    """the command line is wrong"""
    CONFIG = 3
    """a configuration key or value is wrong; nothing was started"""
    INPUT = 4
    """a file, folder or archive is missing or unreadable"""
    LOCKED = 5
    """another process holds the database"""
    VERSION = 6
    """data or schema was written by a newer version"""
    STORAGE = 7
    """the database refused or could not be reached"""
    FINDINGS = 8
    """the command worked and found faults: `doctor`, quarantined rows with `--strict`"""
    FLOOD = 9
    """too many dead letters: the run stopped before more were drained"""
    DEADLINE = 10
    """stopping took longer than allowed; the run goes on from its last snapshot"""
    INTERRUPTED = 130
    """stopped by a signal; the run can be resumed"""


class SignalboxError(Exception):
    """Base of every error that Signalbox raises on purpose."""

    exit_code: ExitCode = ExitCode.INTERNAL


class ConfigError(SignalboxError):
    """A setting is unknown, mistyped, out of bounds or inconsistent: refuse to start."""

    exit_code = ExitCode.CONFIG


class InputError(SignalboxError):
    """An input file or archive is missing, unreadable or not of the stated format."""

    exit_code = ExitCode.INPUT


class DataError(SignalboxError):
    """One record is bad: it goes to the dead letters, the rest proceeds.

    Parameters
    ----------
    reason
        A member of `schemas.enums.DeadLetterReason`, by its text.
    detail
        What was expected and what was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DeadLetterFloodError(SignalboxError):
    """So many records were refused that more likely we are wrong than they: stop before more are drained."""

    exit_code = ExitCode.FLOOD


class TransientError(SignalboxError):
    """The same call may succeed later: retry within bounds."""

    exit_code = ExitCode.STORAGE


class StorageError(SignalboxError):
    """The database refused a statement or could not be reached after bounded retries."""

    exit_code = ExitCode.STORAGE


class StorageLockedError(StorageError):
    """Another process has the embedded database open."""

    exit_code = ExitCode.LOCKED


class VersionError(SignalboxError):
    """Data, schema or snapshot was written by a newer version of Signalbox."""

    exit_code = ExitCode.VERSION


class InvariantError(SignalboxError):
    """A law of the design was about to be broken: stop and call a person."""
