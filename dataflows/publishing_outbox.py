"""An idempotent producer whose every delivery is confirmed."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaError, KafkaException, Message

from dataflows.sources.kafka_client import open_producer, refusal
from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import InputError, SignalboxError, TransientError

__all__ = ["Headers", "Outbox"]

_LOG = logging.getLogger(__name__)
_DELIVERY_MS: Final = 120_000
"""Longest that a record waits for its confirmation: a restart of a broker fits, an outage is told."""
_QUEUED_MESSAGES: Final = 200_000
_QUEUED_KB: Final = 128 * 1024
"""What waits in memory at most; who publishes faster than the brokers take waits too."""
_LINGER_MS: Final = 5
_WAIT_SECONDS: Final = 0.1
_LOG_ERRORS: Final = 3

Headers = list[tuple[str, str | bytes | None]]


class Outbox:
    """Sends records in order, and knows how many were stored.

    Use it as a context manager: leaving it by an exception drops what has not been sent yet.

    Parameters
    ----------
    config
        Where the brokers are.

    Attributes
    ----------
    sent
        Records handed to the client library.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._refused = 0
        self._failure: SignalboxError | None = None
        self.sent = 0
        self._producer = open_producer(
            config,
            {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": _LINGER_MS,
                "message.timeout.ms": _DELIVERY_MS,
                "queue.buffering.max.messages": _QUEUED_MESSAGES,
                "queue.buffering.max.kbytes": _QUEUED_KB,
                "delivery.report.only.error": True,
                "log_level": _LOG_ERRORS,
                "on_delivery": self._on_delivery,
                "error_cb": self._on_error,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._producer.purge()
            self._producer.flush(_WAIT_SECONDS)

    @property
    def stored(self) -> int:
        """Records that the brokers have confirmed."""
        return self.sent - self._refused - len(self._producer)

    def send(
        self,
        name: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp: int,
        headers: Headers | None,
    ) -> None:
        """Send a record behind those before it; wait where too many are on their way.

        Parameters
        ----------
        name
            Topic on the brokers.
        value, key
            Bytes.
        partition
            Partition.
        timestamp
            `CreateTime`, ms; 0 is now.
        headers
            Headers, if any.

        Raises
        ------
        InputError
            The record is too large, or the brokers do not let us in.
        TransientError
            A record before it was not stored.
        """
        while True:
            try:
                self._producer.produce(name, value, key, partition, timestamp=timestamp, headers=headers)
            except BufferError:
                self._producer.poll(_WAIT_SECONDS)
                self._check()
            except KafkaException as error:
                raise self._explained(error.args[0], name, partition, len(value or b"")) from error
            else:
                self.sent += 1
                return

    def poll(self) -> None:
        """Take the confirmations that have come, without waiting.

        Raises
        ------
        InputError, TransientError
            A record was not stored.
        """
        self._producer.poll(0)
        self._check()

    def finish(self) -> None:
        """Wait until every record is stored.

        Raises
        ------
        InputError, TransientError
            A record was not stored.
        """
        while len(self._producer):
            self._producer.flush(_WAIT_SECONDS)
            self._check()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Take a record that was not stored. Called by the client library from within a poll."""
        if error is not None:
            self._refused += 1
            found = self._explained(error, message.topic() or "", message.partition() or 0, len(message))
            self._failure = self._failure or found

    def _on_error(self, error: KafkaError) -> None:
        """Take an error that belongs to no record. Called by the client library from within a poll."""
        self._failure = self._failure or refusal(error, f"the brokers `{self._config.brokers}`")
        _LOG.warning("kafka: %s", error.str())

    def _explained(self, error: Any, name: str, partition: int, size: int) -> SignalboxError:
        where = f"partition {partition} of `{name}`"
        if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP):
            return InputError(f"expected {where} to take a record of {size} bytes, found: {error.str()}")
        return refusal(error, where) or TransientError(
            f"expected {where} to store a record, found: {error.str()}; are the brokers running and reachable?"
        )
