"""The dead letters on their Kafka topic: reading them back, choosing among them, adding them up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import Message

from schemas.tables import DEAD_LETTERS
from schemas.time import END_OF_TIME

__all__ = ["DeadLetter", "DeadLetterFilter", "Group", "Place", "group", "parse_dead_letter", "without_repeats"]

_NEEDED: Final = ("id", "run_id", "topic", "partition", "offset", "reason", "ts_recv")


class Place(NamedTuple):
    """Where a refused record stands in its source topic."""

    topic: str
    """our name of the topic"""
    partition: int
    offset: int
    """as in the tables: of a row of an Arrow record, `offset * 2**20 + row`"""

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record.

    Parameters
    ----------
    id
        Digest of run and place: what was published twice has the same.
    run_id
        Run that refused it.
    place
        Where the record stands.
    reason, detail
        Why it was refused.
    ts_recv
        When we had it, UTC ns.
    instrument_id
        Its instrument, empty where it could not be read.
    payload
        Its bytes.
    """

    id: str
    run_id: str
    place: Place
    reason: str
    detail: str
    ts_recv: int
    instrument_id: str
    payload: bytes

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; the bytes as `payload` if they are UTF-8, else as `payload_hex`."""
        try:
            payload = {"payload": self.payload.decode()}
        except UnicodeDecodeError:
            payload = {"payload_hex": self.payload.hex()}
        return self.headers() | payload

    def headers(self) -> dict[str, Any]:
        """Return what is known besides the bytes."""
        return {
            "id": self.id,
            "run_id": self.run_id,
            **self.place._asdict(),
            "reason": self.reason,
            "detail": self.detail,
            "ts_recv": self.ts_recv,
            "instrument_id": self.instrument_id or None,
        }


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant; by default all.

    Parameters
    ----------
    topic
        Our name of the source topic.
    reason
        Why they were refused.
    start, stop
        Received at `start <= ts_recv < stop`, UTC ns.
    """

    topic: str | None = None
    reason: str | None = None
    start: int = 0
    stop: int = END_OF_TIME

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is among them."""
        return (
            self.topic in (None, letter.place.topic)
            and self.reason in (None, letter.reason)
            and self.start <= letter.ts_recv < self.stop
        )


@dataclass(slots=True)
class Group:
    """Dead letters of one source topic and reason: how many, when the first and the last were received, UTC ns."""

    count: int = 0
    first: int = END_OF_TIME
    last: int = 0

    def add(self, letter: DeadLetter) -> None:
        """Count a dead letter."""
        self.count += 1
        self.first = min(self.first, letter.ts_recv)
        self.last = max(self.last, letter.ts_recv)


def parse_dead_letter(message: Message) -> DeadLetter | None:
    """Return the dead letter that a record holds, or None where it is none of ours.

    Examples
    --------
    >>> headers = {"id": "5e", "run_id": "r", "topic": "trades", "partition": "0", "offset": "7"}
    >>> headers |= {"reason": "malformed", "ts_recv": "99", "table": "dead_letters"}
    >>> pairs = [(name, text.encode()) for name, text in headers.items()]
    >>> str(parse_dead_letter(Message("d", 0, 1, value=b"{", headers=pairs)).place)
    'trades/0/7'
    >>> parse_dead_letter(Message("d", 0, 1, value=b"{")) is None
    True
    """
    pairs: Any = message.headers() or ()
    headers = {name: value.decode(errors="replace") for name, value in pairs if value is not None}
    if headers.get("table") != DEAD_LETTERS.name or any(name not in headers for name in _NEEDED):
        return None
    try:
        place = Place(headers["topic"], int(headers["partition"]), int(headers["offset"]))
        ts_recv = int(headers["ts_recv"])
    except ValueError:
        return None
    return DeadLetter(
        headers["id"],
        headers["run_id"],
        place,
        headers["reason"],
        headers.get("detail", ""),
        ts_recv,
        headers.get("instrument_id", ""),
        message.value() or b"",
    )


def without_repeats(letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """Yield each dead letter once, however often it was published. It remembers about 100 bytes for each."""
    seen: set[str] = set()
    for letter in letters:
        if letter.id not in seen:
            seen.add(letter.id)
            yield letter


def group(letters: Iterable[DeadLetter]) -> dict[tuple[str, str], Group]:
    """Add up dead letters by source topic and reason."""
    groups: dict[tuple[str, str], Group] = {}
    for letter in letters:
        groups.setdefault((letter.place.topic, letter.reason), Group()).add(letter)
    return groups
