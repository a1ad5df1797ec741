"""What the brokers say about the topics, asked at the start and again while they are read.

A topic that was deleted and made again has another id. Its offsets begin anew, so where it has grown beyond ours, they
are in range and name other records: only the id tells. A topic that got partitions has the id that it had.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from dataflows.sources.kafka_client import answering, open_admin, partition_count
from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import InputError, TransientError
from schemas.time import duration_ns

__all__ = ["TopicState", "TopicWatch", "describe"]

_LOG = logging.getLogger(__name__)
_GRACE_SECONDS: Final = 1.0
"""Time beyond the client library's own for an answer, so that its reason is what is told."""
_NO_ID: Final = "A" * 22
"""What stands for 16 bytes of zero."""
_ASKING_NS: Final = 10_000_000
"""Time between two looks whether the brokers have answered."""
_SOON_NS: Final = 1_000_000_000
"""Time until the first question where the answer is known to be news."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic as the brokers have it.

    Parameters
    ----------
    topic_id
        Id that it was given when it was made; empty from brokers that give none.
    partitions
        Number of partitions.
    """

    topic_id: str
    partitions: int


def describe(consumer: Consumer, admin: AdminClient, config: KafkaConfig) -> dict[str, TopicState]:
    """Return the topics of the configuration by our names for them.

    Raises
    ------
    InputError
        A topic is missing, or we may not read it.
    TransientError
        No broker answered in time.
    """
    counts = {topic: partition_count(consumer, config, topic) for topic in config.topics}
    with answering(config, "the ids of the topics") as timeout:
        answers = _ask(admin, config)
        try:
            ids = {topic: _id(answer.result(timeout + _GRACE_SECONDS)) for topic, answer in answers.items()}
        except TimeoutError as error:
            raise TransientError(
                f"expected the ids of the topics from brokers `{config.brokers}` in time, found no answer"
            ) from error
    return {topic: TopicState(ids[topic], count) for topic, count in counts.items()}


def _ask(admin: AdminClient, config: KafkaConfig) -> dict[str, Future[Any]]:
    names = [config.topic_name(topic) for topic in config.topics]
    answers = admin.describe_topics(TopicCollection(names), request_timeout=config.timeout.total_seconds())
    return {topic: answers[name] for topic, name in zip(config.topics, names, strict=True)}


def _id(description: Any) -> str:
    found = str(description.topic_id)
    return "" if found == _NO_ID else found


class TopicWatch:
    """Asks for the topics from time to time, without waiting. Shared by the threads of a process.

    Parameters
    ----------
    config
        The topics, and how often to ask.
    expected
        The topics as the run reads them.
    found
        The topics as they are now.
    """

    def __init__(
        self, config: KafkaConfig, expected: Mapping[str, TopicState], found: Mapping[str, TopicState]
    ) -> None:
        self._config = config
        self._expected = expected
        self._interval = duration_ns(config.partitions_interval)
        # partitions that are new already can wait until all workers have begun
        known = all(state.partitions <= expected[topic].partitions for topic, state in found.items())
        self._due = time.monotonic_ns() + (self._interval if known else _SOON_NS)
        self._admin: AdminClient | None = None
        self._answers: dict[str, Future[Any]] = {}
        self._lock = Lock()
        self._failure: InputError | None = None
        self.partitions: dict[str, int] = {}
        """partitions of the topics that have more than expected"""

    def look(self) -> None:
        """Take the answer of the brokers, and ask again when it is time.

        Raises
        ------
        InputError
            A topic was deleted and made anew.
        """
        if self._failure is not None:
            raise self._failure
        if time.monotonic_ns() < self._due:
            return
        with self._lock:
            if time.monotonic_ns() >= self._due:
                self._proceed()

    def _proceed(self) -> None:
        if not self._answers:
            self._admin = self._admin or open_admin(self._config)
            self._answers = _ask(self._admin, self._config)
        if not all(answer.done() for answer in self._answers.values()):
            self._due = time.monotonic_ns() + _ASKING_NS
            return
        answers, self._answers = self._answers, {}
        self._due = time.monotonic_ns() + self._interval
        for topic, answer in answers.items():
            self._compare(topic, answer)

    def _compare(self, topic: str, answer: Future[Any]) -> None:
        try:
            found = answer.result()
        except KafkaException as error:
            # a topic that is gone, or brokers that are away, are noticed where records are read
            _LOG.warning("asking for topic `%s`: %s", self._config.topic_name(topic), error)
            return
        expected, topic_id = self._expected[topic], _id(found)
        if expected.topic_id and topic_id and expected.topic_id != topic_id:
            self._failure = InputError(
                f"expected topic `{self._config.topic_name(topic)}` to have id {expected.topic_id}, found {topic_id}: "
                "it was deleted and made anew while it was read; start a new run, which reads the new topic"
            )
            raise self._failure
        if len(found.partitions) > expected.partitions:
            self.partitions[topic] = len(found.partitions)
