"""The processes that run one dataflow together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from threading import Event
from typing import Final

from schemas.errors import ConfigError

__all__ = ["LOST", "Cluster", "parse_cluster"]

LOST: Final = Event()
"""Set when the engine has lost its connections in the midst of a run. Its threads then outlive the error, and abort the
process if the interpreter is finalized beneath them."""

_ADDRESS: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Cluster:
    """The processes of a run, and which of them this one is.

    Parameters
    ----------
    addresses
        `host:port` of every process in order; empty for a single one.
    process_id
        Position of this process.
    """

    addresses: tuple[str, ...] = ()
    process_id: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process begins the run, prepares its recovery, and accounts for it."""
        return self.process_id == 0


def parse_cluster(processes: int, addresses: str, process_id: int) -> Cluster:
    """Return the cluster that a command line names.

    Parameters
    ----------
    processes
        Number of processes.
    addresses
        `host:port` of each, separated by commas; may be empty for one process.
    process_id
        Position of this process.

    Raises
    ------
    ConfigError
        They do not agree.

    Examples
    --------
    >>> parse_cluster(2, "a:2101,b:2101", 1)
    Cluster(addresses=('a:2101', 'b:2101'), process_id=1)
    >>> parse_cluster(1, "", 0).leads
    True
    """
    found = tuple(part.strip() for part in addresses.split(",") if part.strip())
    for address in found:
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match["port"]) <= _LAST_PORT:
            raise ConfigError(f"`--addresses`: expected host:port, separated by commas, found `{address}`")
    if len(set(found)) < len(found):
        raise ConfigError(f"`--addresses`: expected an address of its own for each process, found {addresses}")
    if processes == 1 and not found:
        found = ()
    elif len(found) != processes:
        raise ConfigError(
            f"`--addresses`: expected {processes}, one for each of `--processes`, found {len(found)}; "
            "give the same list in the same order to every process"
        )
    if not 0 <= process_id < processes:
        raise ConfigError(f"`--process-id`: expected a number from 0 to {processes - 1}, found {process_id}")
    return Cluster(found if processes > 1 else (), process_id)
