"""Publishes rows of output tables to Kafka topics, and is done with an epoch before it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Self

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.errors import SignalboxError, StorageError, TransientError
from schemas.metrics import PUBLISH_FAILURES, PUBLISH_LATENCY, PUBLISHED_RECORDS
from schemas.tables import TABLES
from schemas.telemetry import add, current_trace, is_measuring, record, stage
from sinks.measures import ages, row_times
from sinks.messages import RowMessage, row_messages

__all__ = ["TopicWriter", "fatal_errors", "producer_settings"]

_TIMEOUT: Final = timedelta(seconds=30)
"""Outlasts the restart of a broker and the election of a leader."""
_GRACE_S: Final = 5.0
"""By then the client library has told what became of a record whose time was up."""
_WAIT_S: Final = 0.1
"""Longest single wait for the library; between two of them an error that it reported is noticed."""
_REMEDIES: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic",
    KafkaError._UNKNOWN_TOPIC: "create the topic",
    KafkaError._UNKNOWN_PARTITION: "create the topic anew with its partitions",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this account to write to the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow this account idempotent writes",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise `max.message.bytes` of the topic above that of the input topics",
}
"""What has to be done about errors that do not go away by themselves."""
_Settle = Callable[[KafkaError | None, Message], None]
_AGAIN: Final = "see that the brokers run and can be reached, then start the same command again"


def producer_settings(timeout: timedelta = _TIMEOUT) -> dict[str, Any]:
    """Return the client library's settings for a producer that loses nothing and does not dawdle.

    Idempotent and confirmed by all in-sync replicas: retries neither reorder nor double. A record leaves at once;
    while requests are under way the library gathers what comes, so that a burst still makes few requests.

    Parameters
    ----------
    timeout
        How long a record may wait for its confirmation.

    Examples
    --------
    >>> producer_settings()["delivery.timeout.ms"]
    30000
    """
    return {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 0,
        "delivery.timeout.ms": timeout // timedelta(milliseconds=1),
        "allow.auto.create.topics": False,
        # the topic's own limit decides what is too large, not the library's
        "message.max.bytes": 64 * 2**20,
        "queue.buffering.max.kbytes": 128 * 2**10,
        "queue.buffering.max.messages": 100_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
    }


@contextmanager
def fatal_errors() -> Iterator[None]:
    """Raise a fatal error of a producer as it is.

    The library raises it while it calls back. Python then complains of the callback: `SystemError`.

    Examples
    --------
    >>> with fatal_errors():
    ...     raise SystemError("returned a result with an exception set") from KafkaException("fenced")
    Traceback (most recent call last):
    cimpl.KafkaException: fenced
    """
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


class TopicWriter:
    """Publishes the rows of some tables; those of others are not its business and are passed over.

    What is written leaves at once. `flush` returns when every record is confirmed, or raises; after an error every
    call raises it, so that nothing is claimed. What is written again has the same header `id` (see
    `sinks.messages`). What waits is bounded by the library's queue: `write` waits while it is full.

    Parameters
    ----------
    producer
        Made with `producer_settings(timeout)`; the writer closes it.
    topics
        Table to the topic that its rows go to.
    run_id
        Run of the rows.
    timeout
        How long a record may wait for its confirmation.

    Attributes
    ----------
    written
        Confirmed records by table; one that was published before counts again.
    """

    def __init__(
        self,
        producer: Producer,
        topics: Mapping[str, str],
        *,
        run_id: str,
        timeout: timedelta = _TIMEOUT,
    ) -> None:
        unknown = sorted(set(topics) - set(TABLES))
        if unknown:
            raise ValueError(f"expected tables among {', '.join(TABLES)}, was {', '.join(unknown)}")
        self._producer = producer
        self._topics = dict(topics)
        self._run_id = run_id
        self._patience = timeout.total_seconds() + _GRACE_S
        self._taken = 0
        self._done = 0
        self._error: SignalboxError | None = None
        self._closed = False
        self.written: dict[str, int] = dict.fromkeys(topics, 0)
        self._measured = dict.fromkeys(topics, 0)
        for topic in topics.values():
            add(PUBLISH_FAILURES, 0, topic)

    @classmethod
    def open(
        cls,
        make_producer: Callable[[Mapping[str, Any]], Producer],
        topics: Mapping[str, str],
        *,
        run_id: str,
        timeout: timedelta = _TIMEOUT,
    ) -> Self:
        """Make the producer and see that the topics are there.

        Parameters
        ----------
        make_producer
            Makes a producer from the settings that it is given.
        topics, run_id, timeout
            As for the class.

        Raises
        ------
        StorageError
            A topic does not exist.
        TransientError
            No broker answered.
        """
        producer = make_producer(producer_settings(timeout))
        try:
            for topic in topics.values():
                _check_topic(producer, topic, timeout.total_seconds())
        except BaseException:
            producer.close()
            raise
        return cls(producer, topics, run_id=run_id, timeout=timeout)

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Send rows on their way; where a trace is current, its context goes with them.

        Raises
        ------
        StorageError
            The rows are not as the table expects them, or a record can never be published.
        TransientError
            A record was not confirmed in time, or the queue stayed full.
        """
        self._check()
        topic = self._topics.get(table)
        if topic is None:
            return
        facts = {
            "messaging.system": "kafka",
            "messaging.operation.name": "publish",
            "messaging.destination.name": topic,
        }
        with stage("publish", topic, parent=current_trace(), attributes=facts) as span:
            span.set("messaging.batch.message_count", rows.num_rows)
            extra = [("traceparent", span.trace.encode())] if span.trace else []
            settle = self._settle_and_time(rows) if is_measuring() else self._settle
            for message in row_messages(table, rows, self._run_id):
                self._send(topic, message, extra, settle)
                settle = self._settle
            self._serve(self._producer.poll, 0.0)
        self._measure()
        self._check()

    def restore(self, table: str, rows: pa.Table) -> None:
        """Do nothing: what a snapshot kept was confirmed before it was taken."""

    def secure(self, table: str, most: int) -> None:
        """Wait until everything written is confirmed; see `flush`."""
        self.flush()

    def flush(self) -> None:
        """Wait until everything written is confirmed.

        Raises
        ------
        StorageError
            A record can never be published as things are.
        TransientError
            A record was not confirmed in time.
        """
        self._check()
        deadline = time.monotonic() + self._patience
        while self._done < self._taken and self._error is None and time.monotonic() < deadline:
            self._serve(self._producer.flush, _WAIT_S)
        if self._done < self._taken and self._error is None:
            missing = self._taken - self._done
            self._error = TransientError(
                f"expected {self._taken} records confirmed, found {missing} without an answer of the brokers after "
                f"{self._patience:g} s; {_AGAIN}"
            )
        self._measure()
        self._check()

    def close(self) -> None:
        """Let go of the producer without waiting for what is under way; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._producer.purge()
        self._producer.close()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise StorageError("expected an open writer, found it closed")

    def _measure(self) -> None:
        """Emit what was confirmed since the last time: once for a batch, not for a record."""
        for table, topic in self._topics.items():
            add(PUBLISHED_RECORDS, self.written[table] - self._measured[table], topic)
            self._measured[table] = self.written[table]

    def _send(self, topic: str, message: RowMessage, extra: list[tuple[str, bytes]], settle: _Settle) -> None:
        deadline: float | None = None
        while True:
            try:
                self._producer.produce(
                    topic, message.value, message.key, headers=[*message.headers, *extra], on_delivery=settle
                )
            except BufferError:
                deadline = deadline or time.monotonic() + self._patience
            except KafkaException as error:
                self._error = _explain(error.args[0], topic)
                raise self._error from error
            else:
                self._taken += 1
                return
            self._serve(self._producer.poll, _WAIT_S)
            if time.monotonic() > deadline and self._error is None:
                self._error = TransientError(
                    f"expected room for a record to `{topic}`, found the queue full for {self._patience:g} s; {_AGAIN}"
                )
            self._check()

    def _serve(self, call: Callable[[float], object], seconds: float) -> None:
        """Let the library call back what became of records."""
        try:
            with fatal_errors():
                call(seconds)
        except KafkaException as error:
            self._error = self._error or _explain(error.args[0], ", ".join(self._topics.values()))

    def _settle(self, error: KafkaError | None, message: Message) -> None:
        """Note what became of a record; called by the library while it is polled."""
        self._done += 1
        topic = message.topic()
        if error is None:
            for table, name in self._topics.items():
                self.written[table] += name == topic
        elif self._error is None and not self._closed:
            self._error = _explain(error, topic or "")
            add(PUBLISH_FAILURES, 1, topic or "")

    def _settle_and_time(self, rows: pa.RecordBatch) -> _Settle:
        """Return what settles the first record of a batch and measures how old its row is by then."""
        times = row_times(rows, 1)

        def settle(error: KafkaError | None, message: Message) -> None:
            self._settle(error, message)
            for age in ages(times) if error is None else ():
                record(PUBLISH_LATENCY, age, message.topic() or "")

        return settle


def _explain(error: KafkaError, topic: str) -> SignalboxError:
    remedy = _REMEDIES.get(error.code())
    found = f"expected a record to `{topic}` confirmed, found: {error.str().lower()}"
    return TransientError(f"{found}; {_AGAIN}") if remedy is None else StorageError(f"{found}; {remedy}")


def _check_topic(producer: Producer, topic: str, timeout: float) -> None:
    try:
        found = producer.list_topics(topic, timeout=timeout).topics.get(topic)
    except KafkaException as error:
        raise _explain(error.args[0], topic) from error
    if found is None or found.error is not None or not found.partitions:
        reason = "none" if found is None or found.error is None else found.error.str().lower()
        raise StorageError(f"expected topic `{topic}` to publish to, found: {reason}; create it first")
