"""The client library: its settings, what the brokers say about topics, and its errors in our words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import InputError, SignalboxError, TransientError
from schemas.time import duration_ns, format_time

__all__ = [
    "LEADERS_CHANGE",
    "STATISTICS_MS",
    "answering",
    "connection_settings",
    "offset_at",
    "open_admin",
    "open_consumer",
    "open_producer",
    "partition_count",
    "refusal",
    "watermarks",
]

_LOG = logging.getLogger(__name__)
STATISTICS_MS: Final = 250
"""Interval of the library's reports, from which we learn whether the leader of a partition still answers."""
_FETCH_WAIT_MS: Final = 100
"""Longest that a broker holds a fetch without records; it answers at once when there is one. Partitions that are to be
read again have to wait for the fetch under way."""
_FETCH_BYTES: Final = 2**20
"""Most bytes of one partition in an answer: what is fetched ahead can exceed its bound by one answer."""
_DENIED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
}
_T = TypeVar("_T")
_PAUSE_S: Final = 0.1
_ABSENT: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
LEADERS_CHANGE: Final = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
}
"""Answers while leaders change. The client library calls none of them retriable where a call waits for its answer."""


def open_consumer(
    config: KafkaConfig, on_error: Callable[[KafkaError], None], on_statistics: Callable[[str], None] | None = None
) -> Consumer:
    """Return a consumer that delivers only what it is told to, and says so when it cannot."""
    settings = connection_settings(config) | {
        "group.id": config.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "queued.max.messages.kbytes": config.queue_bytes // 1024,
        "fetch.message.max.bytes": min(config.queue_bytes, _FETCH_BYTES),
        "fetch.max.bytes": max(config.queue_bytes, _FETCH_BYTES),
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": 5,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": duration_ns(config.partitions_interval) // 10**6,
        "error_cb": on_error,
    }
    if on_statistics is not None:
        settings |= {"statistics.interval.ms": STATISTICS_MS, "stats_cb": on_statistics}
    with _taking_settings(config):
        return Consumer(settings, logger=_LOG)


def open_producer(config: KafkaConfig, settings: Mapping[str, Any]) -> Producer:
    """Return a producer for the same brokers; `settings` come on top of the connection's."""
    with _taking_settings(config):
        return Producer(connection_settings(config) | dict(settings), logger=_LOG)


def open_admin(config: KafkaConfig) -> AdminClient:
    """Return an administration client for the same brokers."""
    with _taking_settings(config):
        return AdminClient(connection_settings(config), logger=_LOG)


def connection_settings(config: KafkaConfig) -> dict[str, Any]:
    """Return the client library's settings that say where the brokers are and how we are let in, secrets included."""
    return {key: secret.get_secret_value() for key, secret in config.client.items()} | {
        "bootstrap.servers": config.brokers
    }


@contextmanager
def _taking_settings(config: KafkaConfig) -> Iterator[None]:
    """Name a setting that the client library refuses, but not its value, which the library shows."""
    try:
        yield
    except KafkaException as error:
        key = next((key for key in config.client if f'"{key}"' in str(error)), None)
        what = f"value of `client.{key}`" if key else "setting"
        raise InputError(f"expected settings that the client library takes, found a {what} that it refused") from None


def refusal(error: KafkaError, where: str) -> SignalboxError | None:
    """Return the error to stop with, or None where the client library will try again by itself."""
    if error.code() in _DENIED:
        return InputError(f"expected to be let in for {where}, found: {error.str()}; check `client` and the ACLs")
    if error.code() in _ABSENT:
        return InputError(f"expected {where}, found none: {error.str()}; was the topic deleted?")
    if error.fatal():
        return InputError(f"expected to read {where}, found: {error.str()}")
    return None


@contextmanager
def answering(config: KafkaConfig, what: str) -> Iterator[float]:
    """Yield the longest wait in seconds, and translate what the client library raises."""
    try:
        yield config.timeout.total_seconds()
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        raise refusal(reason, what) or TransientError(
            f"expected {what} from brokers `{config.brokers}`, found: {reason.str()}; are they running and reachable?"
        ) from error


def partition_count(consumer: Consumer, config: KafkaConfig, topic: str) -> int:
    """Return the number of partitions of a topic.

    Raises
    ------
    InputError
        There is no such topic, or we may not read it.
    TransientError
        No broker answered.
    """
    name = config.topic_name(topic)
    with answering(config, f"topic `{name}`") as timeout:
        found = consumer.list_topics(name, timeout=timeout).topics.get(name)
    if found is None or (found.error is not None and found.error.code() in _ABSENT) or not found.partitions:
        raise InputError(f"expected topic `{name}` at `{config.brokers}`, found none; create it first")
    if found.error is not None:
        raise InputError(f"expected topic `{name}` at `{config.brokers}`, found: {found.error.str()}")
    return len(found.partitions)


def watermarks(consumer: Consumer, config: KafkaConfig, name: str, partition: int) -> tuple[int, int]:
    """Return the first offset of a partition and the one behind its last readable record."""
    place = TopicPartition(name, partition)
    with answering(config, f"the ends of partition {partition} of `{name}`") as timeout:
        found = _retrying(lambda left: consumer.get_watermark_offsets(place, timeout=left), timeout)
    if found is None:
        raise TransientError(f"expected the ends of partition {partition} of `{name}` in time, found no answer")
    return int(found[0]), int(found[1])


def _retrying(ask: Callable[[float], _T], timeout: float) -> _T:
    """Ask again, within the time, while leaders change."""
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            return ask(max(left, _PAUSE_S))
        except KafkaException as error:
            if left <= 0 or error.args[0].code() not in LEADERS_CHANGE:
                raise
            time.sleep(_PAUSE_S)


def offset_at(consumer: Consumer, config: KafkaConfig, name: str, partition: int, milliseconds: int, end: int) -> int:
    """Return the offset of the first record that the broker stamped with this time (UTC) or later, or the end."""
    when = format_time(milliseconds * 10**6)
    with answering(config, f"the records of `{name}` since {when}") as timeout:
        (found,) = consumer.offsets_for_times([TopicPartition(name, partition, milliseconds)], timeout=timeout)
    if found.error is not None:
        raise TransientError(f"expected the records of `{name}` since {when}, found: {found.error.str()}")
    return found.offset if found.offset >= 0 else end
