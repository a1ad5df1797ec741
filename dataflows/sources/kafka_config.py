"""Configuration of the Kafka source: which topics, whose clock, where to begin, how much at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from schemas.config import ComponentConfig, Duration
from schemas.records import TOPICS

__all__ = ["ArrivalClock", "KafkaConfig", "KafkaTopic", "RecordFormat", "Start"]

ArrivalClock = Literal["broker", "header", "record"]
"""Where `ts_recv` comes from: the broker's time of the record, its header `ts_recv`, or its own `ts_recv` field."""
RecordFormat = Literal["json", "arrow"]
"""What a record's value is: one JSON object, or an Arrow IPC stream of many rows."""
Start = Literal["earliest", "latest"] | AwareDatetime
"""Where a partition begins that has no snapshot and no offset of its own in `start_offsets`."""

_PASSED_ON: Final = ("security.", "sasl.", "ssl.", "client.", "enable.ssl.", "https.ca.", "socket.", "broker.address.")
"""Settings of the client library that are the deployment's business. All others decide what is delivered or how much
is held, and are set by the source itself."""


class _NotText:
    """Stands for a value that was refused, so that no message can show it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"a value of type {self.kind}"


def _hide(value: Any) -> Any:
    """Wrap every value before anything can fail: a message about the settings then shows none of them."""
    if not isinstance(value, dict):
        return _NotText(type(value).__name__)
    hidden: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):  # TOML reads `sasl.password = "x"` as a table in a table
            nested = _hide(inner)
            hidden |= {f"{key}.{name}": secret for name, secret in nested.items()}
        elif isinstance(inner, bool):
            hidden[str(key)] = SecretStr(str(inner).lower())
        elif isinstance(inner, (str, int, float)):
            hidden[str(key)] = SecretStr(str(inner))
        else:
            hidden[str(key)] = inner if isinstance(inner, SecretStr) else _NotText(type(inner).__name__)
    return hidden


def _known(client: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for key in client:
        if not key.startswith(_PASSED_ON):
            raise ValueError(
                f"expected settings that begin with one of {', '.join(_PASSED_ON)}, found `{key}`; "
                "the source sets everything else itself"
            )
    return client


Secrets = Annotated[dict[str, SecretStr], AfterValidator(_known), BeforeValidator(_hide)]


class KafkaTopic(ComponentConfig):
    """How one topic is read.

    Parameters
    ----------
    name
        Name on the brokers; that of the topic itself where it is empty.
    clock
        Whose time orders the records; see `ArrivalClock`. A topic that was published again, or simulated faster
        than life, needs `record`: wall time means nothing there.
    format
        What a record's value is.
    """

    name: str = Field("", max_length=249, pattern=r"^[a-zA-Z0-9._-]*$")
    clock: ArrivalClock = "broker"
    format: RecordFormat = "json"


class KafkaConfig(ComponentConfig):
    """The Kafka source.

    Parameters
    ----------
    brokers
        Addresses to begin with, `host:port` separated by commas.
    topics
        Input topics by our name for them (`trades`, `quotes`, ...).
    start
        Where to begin without a snapshot: `earliest`, `latest`, or a time with its zone, which means the first
        record that the broker has stamped with it or later.
    start_offsets
        Offsets to begin at instead, by partition (`trades/0`).
    follow
        Whether to go on at the end of the topics. Otherwise the input ends where they ended when it began.
    group
        Consumer group under which positions are committed for tools that show lag. They are never read back.
    client
        Settings handed to the client library as they are: `security.protocol`, `sasl.*`, `ssl.*`, `socket.*`. Their
        values are never shown.
    idle_margin
        A partition without new records moves its clock to the wall clock less this. It must cover the skew between
        the brokers' clocks (or the capture's, with `clock = "header"`) and ours and the time a record needs to become
        readable; a record that needs longer is raised to the clock and counted as an order violation.
    idle_interval
        Least time between two such moves.
    header_ahead
        How far a header `ts_recv` may be ahead of the broker's time of the record. One beyond it is refused, because
        it would hold up everything behind it.
    batch_records, batch_bytes
        Most records and bytes of one partition that are handed on at once.
    lead_bytes
        Bytes of records that partitions ahead of the slowest one may have handed on, per process; what is aligned
        has to be kept until the slowest has caught up.
    queue_bytes
        Bytes that are fetched ahead, per worker: by the client library, and as much again in the queues of partitions
        that wait for their turn.
    partitions_interval
        How often the brokers are asked for new partitions.
    timeout
        Longest wait for an answer of the brokers at the start.

    Examples
    --------
    >>> config = KafkaConfig(brokers="localhost:9092", topics={"trades": {}}, client={"sasl.password": "secret"})
    >>> config.client
    {'sasl.password': SecretStr('**********')}
    >>> config.topic_name("trades")
    'trades'
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    brokers: str = Field(min_length=1, pattern=r"^\S+$")
    topics: dict[str, KafkaTopic] = Field(min_length=1)
    start: Start = "earliest"
    start_offsets: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    follow: bool = True
    group: str = Field("signalbox", min_length=1, max_length=255)
    client: Secrets = Field(default_factory=dict)
    idle_margin: Annotated[Duration, Field(ge=timedelta(milliseconds=1), le=timedelta(minutes=10))] = timedelta(
        milliseconds=50
    )
    idle_interval: Annotated[Duration, Field(ge=timedelta(milliseconds=1), le=timedelta(seconds=10))] = timedelta(
        milliseconds=10
    )
    header_ahead: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(days=1))] = timedelta(minutes=1)
    batch_records: int = Field(20_000, ge=1, le=1_000_000)
    batch_bytes: int = Field(8 * 2**20, ge=1024, le=2**30)
    lead_bytes: int = Field(64 * 2**20, ge=1024, le=2**36)
    queue_bytes: int = Field(32 * 2**20, ge=2**16, le=2**30)
    partitions_interval: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] = timedelta(
        seconds=30
    )
    timeout: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(minutes=5))] = timedelta(seconds=15)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = sorted(set(self.topics) - set(TOPICS))
        if unknown:
            raise ValueError(f"`topics`: expected topics among {', '.join(TOPICS)}, found {', '.join(unknown)}")
        names = [self.topic_name(topic) for topic in self.topics]
        if len(set(names)) < len(names):
            raise ValueError(f"`topics`: expected a name of its own for each topic, found {', '.join(names)}")
        for source in self.start_offsets:
            topic, _, partition = source.rpartition("/")
            if topic not in self.topics or not (partition.isascii() and partition.isdigit()):
                raise ValueError(f"`start_offsets`: expected partitions such as `trades/0`, found `{source}`")
        return self

    def topic_name(self, topic: str) -> str:
        """Return the name that a topic has on the brokers."""
        return self.topics[topic].name or topic
