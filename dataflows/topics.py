"""The topics on the brokers: making those that the configuration names, and telling how they are.

Nothing is ever deleted or changed here: a topic that exists is left as it is, and what differs is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from dataflows.settings import Settings
from dataflows.sources.kafka_client import LEADERS_CHANGE, answering, open_admin
from dataflows.sources.kafka_config import KafkaConfig
from schemas.errors import ConfigError, InputError, TransientError
from schemas.time import duration_ns, parse_duration

__all__ = [
    "BROKER_DEFAULT",
    "FOR_EVER",
    "KEPT",
    "CreatedTopic",
    "PartitionState",
    "TopicPlan",
    "TopicState",
    "create_topics",
    "describe_inputs",
    "describe_topics",
    "kafka_section",
    "plan_topics",
]

BROKER_DEFAULT: Final = -1
"""A number that is left to the brokers."""
FOR_EVER: Final = timedelta(microseconds=-1)
"""Retention of a topic whose records are never deleted for their age."""
KEPT: Final = ("message.timestamp.type", "cleanup.policy", "retention.ms", "min.insync.replicas")
"""Settings of a topic that are set when it is made, compared when it exists, and shown."""

_DEFAULT_RETENTION: Final = parse_duration("7d")
_ABSENT: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_REFUSED: Final = {
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_REQUEST,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
}
"""What the brokers will refuse again, however often they are asked."""
_MOVING: Final = {*LEADERS_CHANGE, KafkaError.UNKNOWN_TOPIC_OR_PART}
"""What a broker says that has not heard of a topic made just now, or of its new leader."""
_AGAIN_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 5.0
"""How much longer than the client library we wait for its answer, so that its reason is the one that is shown."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be.

    Parameters
    ----------
    name
        Name on the brokers.
    partitions
        Number of partitions.
    replication
        Copies of each partition; `BROKER_DEFAULT` leaves it to the brokers.
    config
        Settings of the topic.
    """

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class CreatedTopic:
    """What became of a plan.

    Parameters
    ----------
    name
        Name on the brokers.
    created
        Whether it was made, or would have been in a dry run; otherwise it was there.
    partitions, replication
        As they are, or were asked for.
    differences
        What of a topic that was there is not as planned, in words.
    """

    name: str
    created: bool
    partitions: int
    replication: int
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition.

    Parameters
    ----------
    partition
        Its number.
    first, end
        Offset of the first record, and the one behind the last.
    oldest, newest
        Times of the oldest and the newest record, UTC ns; None where there is no record.
    problem
        What is wrong with its leader or its copies; empty where nothing is.
    """

    partition: int
    first: int
    end: int
    oldest: int | None
    newest: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic as it is.

    Parameters
    ----------
    name
        Name on the brokers.
    exists
        Whether there is such a topic.
    replication
        Copies of the first partition.
    partitions
        Each partition in order.
    config
        Settings named in `KEPT`; empty where we may not read them.
    """

    name: str
    exists: bool
    replication: int = 0
    partitions: tuple[PartitionState, ...] = ()
    config: dict[str, str] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Offsets between the first and the end: the records, if nothing was compacted or transactional."""
        return sum(state.end - state.first for state in self.partitions)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the partitions."""
        return tuple(f"partition {state.partition}: {state.problem}" for state in self.partitions if state.problem)

    @property
    def oldest(self) -> int | None:
        """Time of the oldest record, UTC ns."""
        return min((state.oldest for state in self.partitions if state.oldest is not None), default=None)

    @property
    def newest(self) -> int | None:
        """Time of the newest record, UTC ns."""
        return max((state.newest for state in self.partitions if state.newest is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        totals = {"records": self.records, "problems": self.problems, "oldest": self.oldest, "newest": self.newest}
        return asdict(self) | totals


def kafka_section(settings: Settings) -> KafkaConfig:
    """Return the brokers and topics of the configuration.

    Raises
    ------
    ConfigError
        It names none.
    """
    if settings.kafka is None:
        raise ConfigError("expected brokers and topics in section `[kafka]` of the configuration, found none; add them")
    return settings.kafka


def plan_topics(
    settings: Settings,
    *,
    partitions: int = 4,
    replication: int = BROKER_DEFAULT,
    retention: timedelta | None = None,
) -> list[TopicPlan]:
    """Return the input and output topics of a configuration as they should be made.

    Parameters
    ----------
    settings
        The configuration.
    partitions
        Partitions of each topic.
    replication
        Copies of each partition. `min.insync.replicas` is one less, and at least 1: one broker may be away.
    retention
        How long records are kept. By default a week; and for ever where records carry their own time
        (`clock = "record"`): their time is that of the history in them, which the brokers would delete as old.

    Raises
    ------
    ConfigError
        No brokers are configured, or a retention is not of whole milliseconds.

    Examples
    --------
    >>> from dataflows.sources.kafka_config import KafkaConfig
    >>> settings = Settings(kafka=KafkaConfig(brokers="localhost:9092", topics={"trades": {"clock": "record"}}))
    >>> plan_topics(settings, replication=3)[0].config  # doctest: +NORMALIZE_WHITESPACE
    {'message.timestamp.type': 'CreateTime', 'cleanup.policy': 'delete', 'retention.ms': '-1',
     'min.insync.replicas': '2'}
    """
    config = kafka_section(settings)
    clocks = {config.topic_name(topic): entry.clock for topic, entry in config.topics.items()}
    plans = []
    for name in dict.fromkeys([*clocks, *settings.outputs.topics.values()]):
        clock = clocks.get(name)
        kept = retention if retention is not None else FOR_EVER if clock == "record" else _DEFAULT_RETENTION
        entries = {
            "message.timestamp.type": "LogAppendTime" if clock == "broker" else "CreateTime",
            "cleanup.policy": "delete",
            "retention.ms": _milliseconds(kept),
        }
        if replication != BROKER_DEFAULT:
            entries["min.insync.replicas"] = str(max(1, replication - 1))
        plans.append(TopicPlan(name, partitions, replication, entries))
    return plans


def _milliseconds(retention: timedelta) -> str:
    if retention == FOR_EVER:
        return "-1"
    nanoseconds = duration_ns(retention)
    if nanoseconds <= 0 or nanoseconds % 10**6:
        raise ConfigError(f"expected a retention of one or more whole milliseconds, found {retention}; correct it")
    return str(nanoseconds // 10**6)


def create_topics(config: KafkaConfig, plans: Sequence[TopicPlan], *, dry_run: bool = False) -> list[CreatedTopic]:
    """Make the topics that are missing.

    Parameters
    ----------
    config
        Where the brokers are.
    plans
        The topics.
    dry_run
        Whether the brokers only check what would be made.

    Raises
    ------
    InputError
        The brokers refused a topic, or do not let us in.
    TransientError
        No broker answered in time.
    """
    admin = open_admin(config)
    found = {state.name: state for state in _existing(admin, config, [plan.name for plan in plans])}
    missing = [plan for plan in plans if plan.name not in found]
    made = _create(admin, config, missing, dry_run=dry_run) if missing else set()
    if not dry_run:
        _await_leaders(admin, config, sorted(made))
    late = [plan.name for plan in missing if plan.name not in made]  # somebody else made it just now
    found |= {state.name: state for state in _existing(admin, config, late)}
    return [_outcome(plan, found.get(plan.name)) for plan in plans]


def _create(admin: AdminClient, config: KafkaConfig, plans: list[TopicPlan], *, dry_run: bool) -> set[str]:
    """Return the names of the topics that were made; one that exists by now is none of them."""
    wanted = [
        NewTopic(plan.name, num_partitions=plan.partitions, replication_factor=plan.replication, config=plan.config)
        for plan in plans
    ]
    seconds = config.timeout.total_seconds()
    with _asking(config, "new topics"):
        futures = admin.create_topics(wanted, operation_timeout=seconds, request_timeout=seconds, validate_only=dry_run)
    made = set()
    for name, future in futures.items():
        with _asking(config, f"new topic `{name}`"):
            if _unless(future, config, {KafkaError.TOPIC_ALREADY_EXISTS}) is not _NOTHING:
                made.add(name)
    return made


def _await_leaders(admin: AdminClient, config: KafkaConfig, names: list[str]) -> None:
    """Wait until every partition of topics made just now can be used."""
    deadline = time.monotonic() + config.timeout.total_seconds()
    while names:
        ready = {state.name for state in _existing(admin, config, names) if not state.problems}
        names = [name for name in names if name not in ready]
        if names and time.monotonic() > deadline:
            raise TransientError(
                f"expected a leader for every partition of {', '.join(names)} in time, found some without; look at "
                "them with `signalbox topics describe`"
            )
        time.sleep(_AGAIN_SECONDS if names else 0)


def _outcome(plan: TopicPlan, found: TopicState | None) -> CreatedTopic:
    if found is None:
        return CreatedTopic(plan.name, created=True, partitions=plan.partitions, replication=plan.replication)
    pairs = [("partitions", str(plan.partitions), str(len(found.partitions)))]
    if plan.replication != BROKER_DEFAULT:
        pairs.append(("replication", str(plan.replication), str(found.replication)))
    pairs += [(key, wanted, found.config[key]) for key, wanted in plan.config.items() if key in found.config]
    differences = tuple(f"{key}: expected {wanted}, found {is_}" for key, wanted, is_ in pairs if wanted != is_)
    return CreatedTopic(plan.name, False, len(found.partitions), found.replication, differences)


def describe_topics(config: KafkaConfig, names: Sequence[str]) -> list[TopicState]:
    """Return how these topics are, in order; one that is missing says so.

    Raises
    ------
    InputError
        The brokers do not let us in.
    TransientError
        No broker answered in time.
    """
    admin = open_admin(config)
    found = {state.name: state for state in _existing(admin, config, names)}
    offsets = _Offsets(admin, config, list(found.values()))
    return [offsets.fill(found[name]) if name in found else TopicState(name, exists=False) for name in names]


def describe_inputs(config: KafkaConfig) -> dict[str, TopicState]:
    """Return how every input topic is, by our name of it.

    Raises
    ------
    InputError
        A topic is missing, or the brokers do not let us in.
    TransientError
        No broker answered in time.
    """
    names = [config.topic_name(topic) for topic in config.topics]
    states = dict(zip(config.topics, describe_topics(config, names), strict=True))
    absent = [state.name for state in states.values() if not state.exists]
    if absent:
        raise InputError(
            f"expected topics {', '.join(names)} at `{config.brokers}`, found no {', '.join(absent)}; "
            "make them with `signalbox topics create`"
        )
    return states


def _existing(admin: AdminClient, config: KafkaConfig, names: Sequence[str]) -> Iterator[TopicState]:
    """Yield those of the topics that exist, without offsets."""
    if not names:
        return
    with _asking(config, "the topics"):
        futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=config.timeout.total_seconds())
    for name, future in futures.items():
        with _asking(config, f"topic `{name}`"):
            found = _unless(future, config, _ABSENT)
        if found is not _NOTHING:
            parts = tuple(
                PartitionState(part.id, 0, 0, None, None, _problem(part))
                for part in sorted(found.partitions, key=lambda part: part.id)
            )
            copies = len(found.partitions[0].replicas) if found.partitions else 0
            settings = _config(admin, config, name)
            yield TopicState(name, exists=True, replication=copies, partitions=parts, config=settings)


def _problem(part: Any) -> str:
    if not _is_node(part.leader):
        return "no leader"
    away = len(part.replicas) - len(part.isr)
    return f"{away} of {len(part.replicas)} copies are not in sync" if away > 0 else ""


def _is_node(node: Any) -> bool:
    return node is not None and node.id >= 0


def _config(admin: AdminClient, config: KafkaConfig, name: str) -> dict[str, str]:
    """Return the settings of a topic that matter here, or none where we may not read them."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    with _asking(config, f"the settings of `{name}`"):
        (future,) = admin.describe_configs([resource], request_timeout=config.timeout.total_seconds()).values()
        found = _unless(future, config, {KafkaError.TOPIC_AUTHORIZATION_FAILED, *_ABSENT})
    return {} if found is _NOTHING else {key: str(found[key].value) for key in KEPT if key in found}


class _Offsets:
    """First, end, oldest and newest of every partition that has a leader, asked for all at once."""

    def __init__(self, admin: AdminClient, config: KafkaConfig, topics: Sequence[TopicState]) -> None:
        self._config = config
        places = [
            (topic.name, state.partition)
            for topic in topics
            for state in topic.partitions
            if state.problem != "no leader"
        ]
        self._first = self._ask(admin, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        self._end = self._ask(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        self._oldest = self._ask(admin, places, OffsetSpec.for_timestamp(0))
        self._newest = self._ask(admin, places, OffsetSpec.max_timestamp())  # type: ignore[no-untyped-call]

    def _ask(self, admin: AdminClient, places: list[tuple[str, int]], what: Any) -> dict[tuple[str, int], Any]:
        """Return the answer for each partition; those whose leader has just changed are asked again, for a while."""
        found: dict[tuple[str, int], Any] = {}
        deadline = time.monotonic() + self._config.timeout.total_seconds()
        while left := [place for place in places if found.get(place, _NOTHING) is _NOTHING]:
            request = {TopicPartition(*place): what for place in left}
            last = time.monotonic() > deadline
            with _asking(self._config, "the offsets of the topics"):
                futures = admin.list_offsets(request, request_timeout=self._config.timeout.total_seconds())
                for place, future in futures.items():
                    found[place.topic, place.partition] = _unless(future, self._config, set() if last else _MOVING)
            time.sleep(_AGAIN_SECONDS if _NOTHING in found.values() else 0)
        return found

    def fill(self, topic: TopicState) -> TopicState:
        """Return the topic with its offsets and times."""
        parts = tuple(self._fill(topic.name, state) for state in topic.partitions)
        return TopicState(topic.name, True, topic.replication, parts, topic.config)

    def _fill(self, name: str, state: PartitionState) -> PartitionState:
        place = name, state.partition
        if place not in self._first:
            return state
        return PartitionState(
            state.partition,
            int(self._first[place].offset),
            int(self._end[place].offset),
            _time(self._oldest[place]),
            _time(self._newest[place]),
            state.problem,
        )


def _time(found: Any) -> int | None:
    return int(found.timestamp) * 10**6 if found.offset >= 0 and found.timestamp >= 0 else None


_NOTHING: Final = object()


def _unless(future: Future[Any], config: KafkaConfig, expected: set[int]) -> Any:
    """Return the answer, or `_NOTHING` where it is one of these errors."""
    try:
        return future.result(config.timeout.total_seconds() + _GRACE_SECONDS)
    except KafkaException as error:
        if error.args[0].code() in expected:
            return _NOTHING
        raise


@contextmanager
def _asking(config: KafkaConfig, what: str) -> Iterator[None]:
    """Translate what the client library raises; some of it the brokers will refuse again."""
    with answering(config, what):
        try:
            yield
        except TimeoutError as error:
            raise TransientError(
                f"expected {what} from brokers `{config.brokers}` in time, found no answer; are they running and "
                "reachable?"
            ) from error
        except KafkaException as error:
            if error.args[0].code() in _REFUSED:
                raise InputError(
                    f"expected brokers `{config.brokers}` to take {what}, found: {error.args[0].str()}"
                ) from error
            raise
