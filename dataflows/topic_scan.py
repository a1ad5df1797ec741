"""Reads a topic once, from its first record to where it ended at the start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dataflows.sources.kafka_client import open_consumer, refusal, watermarks
from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import InputError, SignalboxError, TransientError

__all__ = ["TopicScan", "partitions_of"]

_RECORDS: Final = 1_000
_ABSENT: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_WAIT_S: Final = 0.1
Progress = Callable[[int, int], None]
"""Takes offsets read so far, and offsets in all."""


class TopicScan:
    """The records that a topic holds when the scan is opened, without those of aborted transactions.

    Nothing is committed. Each call of `messages` reads the same records again, unless they expire meanwhile.

    Parameters
    ----------
    config
        Says where the brokers are.
    name
        Name of the topic on the brokers.

    Raises
    ------
    InputError
        There is no such topic, or we may not read it.
    TransientError
        No broker answered in time.
    """

    def __init__(self, config: KafkaConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._error: SignalboxError | None = None
        self._consumer = open_consumer(config, self._note)
        try:
            partitions = partitions_of(self._consumer, config, name)
            if not partitions:
                raise InputError(f"expected topic `{name}` at `{config.brokers}`, found none; is its name right?")
            self._ends = {number: watermarks(self._consumer, config, name, number) for number in range(partitions)}
        except BaseException:
            self._consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    @property
    def end(self) -> int:
        """Offset behind the last record of the first partition."""
        return self._ends[0][1]

    def messages(self, progress: Progress | None = None) -> Iterator[Message]:
        """Yield the records, in order within each partition.

        Raises
        ------
        InputError
            Records expired before they were read.
        TransientError
            The brokers delivered nothing for the configured timeout.
        """
        position = {number: low for number, (low, high) in self._ends.items() if low < high}
        total = sum(self._ends[number][1] - low for number, low in position.items())
        first = sum(position.values())
        self._consumer.assign([TopicPartition(self._name, number, low) for number, low in position.items()])
        last_news = time.monotonic()
        done = 0
        while done < total:
            found = self._consumer.consume(_RECORDS, timeout=_WAIT_S)
            self._check(bool(found), last_news)
            last_news = time.monotonic() if found else last_news
            for message in found:
                if self._advance(message, position):
                    yield message
            done = sum(position.values()) - first
            if progress is not None:
                progress(done, total)

    def _advance(self, message: Message, position: dict[int, int]) -> bool:
        """Move the position of a partition; return whether the message is a record before its end."""
        number, offset, error = message.partition(), message.offset(), message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise self._explain(error)
        if number is None or offset is None or number not in position:
            return False
        high = self._ends[number][1]
        # markers of transactions and compacted records leave gaps: the end of a partition tells that there is no more
        position[number] = max(position[number], min(high, offset if error is not None else offset + 1))
        return error is None and offset < high

    def _note(self, error: KafkaError) -> None:
        self._error = self._error or refusal(error, f"topic `{self._name}`")

    def _check(self, news: bool, last_news: float) -> None:
        if self._error is not None:
            raise self._error
        timeout = self._config.timeout.total_seconds()
        if not news and time.monotonic() - last_news > timeout:
            raise TransientError(
                f"expected the records of `{self._name}` from brokers `{self._config.brokers}`, found none for "
                f"{timeout:g} s; are they running and reachable?"
            )

    def _explain(self, error: KafkaError) -> SignalboxError:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            return InputError(
                f"expected the records that `{self._name}` held at the start, found that some have expired; try again"
            )
        where = f"topic `{self._name}`"
        return refusal(error, where) or TransientError(f"expected the records of {where}, found: {error.str().lower()}")


def partitions_of(consumer: Consumer, config: KafkaConfig, name: str) -> int:
    """Return the number of partitions of a topic by its name on the brokers, 0 where there is none.

    Raises
    ------
    InputError
        We may not see it.
    TransientError
        No broker answered in time.
    """
    where = f"topic `{name}`"
    try:
        found = consumer.list_topics(name, timeout=config.timeout.total_seconds()).topics[name]
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        raise refusal(reason, where) or TransientError(
            f"expected {where} from brokers `{config.brokers}`, found: {reason.str().lower()}; are they running and "
            "reachable?"
        ) from error
    if found.error is not None and found.error.code() not in _ABSENT:
        raise refusal(found.error, where) or TransientError(f"expected {where}, found: {found.error.str().lower()}")
    return len(found.partitions)
