"""Configuration of the Kafka source: which topics, whose clock, where to begin, how much at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, SecretStr, WrapValidator, model_validator

from schemas.config import ComponentConfig, Duration
from schemas.records import TOPICS
from schemas.time import parse_duration

__all__ = ["ArrivalClock", "KafkaConfig", "KafkaTopic", "RecordFormat", "SchemaRegistryConfig", "Start"]

ArrivalClock = Literal["broker", "header", "record"]
"""Where `ts_recv` comes from: the broker's time of the record, its header `ts_recv`, or its own `ts_recv` field."""
RecordFormat = Literal["json", "avro", "arrow"]
"""What a record's value is: one JSON object, one Avro record with the id of its schema, or an Arrow IPC stream of many
rows."""
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


def _known(hidden: dict[str, Any] | _NotText) -> dict[str, SecretStr]:
    if isinstance(hidden, _NotText):
        raise ValueError(f"expected a table of settings, found {hidden!r}")
    for key, inner in hidden.items():
        if isinstance(inner, _NotText):
            raise ValueError(f"expected text, a number or a truth value for `{key}`, found {inner!r}")
        if not key.startswith(_PASSED_ON):
            raise ValueError(
                f"expected settings that begin with one of {', '.join(_PASSED_ON)}, found `{key}`; "
                "the source sets everything else itself"
            )
    return hidden


# the last of these comes first; the type's own validation is left out, for in JSON it refuses what is a secret already
Secrets = Annotated[dict[str, SecretStr], WrapValidator(lambda hidden, _: _known(hidden)), BeforeValidator(_hide)]


def _hide_text(value: Any) -> SecretStr | _NotText:
    """Wrap one value; see `_hide`."""
    if isinstance(value, SecretStr):
        return value
    return SecretStr(value) if isinstance(value, str) else _NotText(type(value).__name__)


def _known_text(hidden: SecretStr | _NotText) -> SecretStr:
    if isinstance(hidden, _NotText):
        raise ValueError(f"expected text, found {hidden!r}")
    return hidden


Secret = Annotated[SecretStr, WrapValidator(lambda hidden, _: _known_text(hidden)), BeforeValidator(_hide_text)]


class SchemaRegistryConfig(ComponentConfig):
    """The Schema Registry that knows the schemas of Avro records.

    Examples
    --------
    >>> SchemaRegistryConfig(url="https://registry.example:8081", user="reader", password="secret").password
    SecretStr('**********')
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    url: str = Field(
        min_length=1,
        max_length=2000,
        description="address, `http://host:port` or `https://host:port`; several are separated by commas and tried in "
        "order",
    )
    user: str = Field("", max_length=255, pattern=r"^[^:]*$", description="user name; none where it is empty")
    password: Secret = Field(SecretStr(""), description="password of the user; never shown")
    ca: str = Field(
        "", max_length=4096, description="file of the authorities that the registry's certificate is checked against"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for address in self.url.split(","):
            parts = urlsplit(address.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("expected addresses such as `https://host:port` in `url`, found another text")
            if parts.username is not None or parts.password is not None:
                raise ValueError("expected no user and password in `url`, found some; use `user` and `password`")
        if bool(self.user) != bool(self.password.get_secret_value()):
            raise ValueError("expected both `user` and `password`, or neither, found one")
        return self


class KafkaTopic(ComponentConfig):
    """How one topic is read."""

    name: str = Field(
        "", max_length=249, pattern=r"^[a-zA-Z0-9._-]*$", description="name on the brokers; ours where it is empty"
    )
    clock: ArrivalClock = Field(
        "broker",
        description="whose time orders the records: the brokers', that of the header `ts_recv`, or that of the record; "
        "a topic that was published again or simulated needs `record`",
    )
    format: RecordFormat = Field("json", description="what the value of a record is")


class KafkaConfig(ComponentConfig):
    """The brokers, the input topics, and how they are read.

    Examples
    --------
    >>> config = KafkaConfig(brokers="localhost:9092", topics={"trades": {}}, client={"sasl.password": "secret"})
    >>> config.client
    {'sasl.password': SecretStr('**********')}
    >>> config.topic_name("trades")
    'trades'
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    brokers: str = Field(
        min_length=1, pattern=r"^\S+$", description="addresses to begin with, `host:port`, separated by commas"
    )
    topics: dict[str, KafkaTopic] = Field(min_length=1, description="input topics by our name for them")
    start: Start = Field(
        "earliest",
        description="where to begin without a snapshot; at a time means at the first record that the brokers have "
        "stamped with it or later",
    )
    start_offsets: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="offsets to begin at instead, by partition (`trades/0`)"
    )
    follow: bool = Field(
        True, description="whether to go on at the end of the topics, or to end where they ended at the start"
    )
    group: str = Field(
        "signalbox",
        min_length=1,
        max_length=255,
        description="consumer group under which positions are committed for tools that show lag; never read back",
    )
    client: Secrets = Field(
        default_factory=dict,
        description="settings handed to the client library (`security.protocol`, `sasl.*`, `ssl.*`, `socket.*`); their "
        "values are never shown",
    )
    idle_margin: Duration = Field(
        parse_duration("50ms"),
        ge=timedelta(milliseconds=1),
        le=timedelta(minutes=10),
        description="how far behind the wall clock the clock of a partition without new records is kept: above the "
        "skew of the clocks and the time until a record can be read, or records are raised and counted as order "
        "violations",
    )
    idle_interval: Duration = Field(
        parse_duration("10ms"),
        ge=timedelta(milliseconds=1),
        le=timedelta(seconds=10),
        description="least time between two moves of the clock of a partition without new records",
    )
    header_ahead: Duration = Field(
        parse_duration("1m"),
        ge=timedelta(0),
        le=timedelta(days=1),
        description="how far a header `ts_recv` may be ahead of the brokers' time; a record beyond it is refused",
    )
    batch_records: int = Field(
        20_000, ge=1, le=1_000_000, description="most records of one partition that are handed on at once"
    )
    batch_bytes: int = Field(
        8 * 2**20, ge=1024, le=2**30, description="most bytes of one partition that are handed on at once"
    )
    lead_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        le=2**36,
        description="bytes that partitions ahead of the slowest may have handed on, per process",
    )
    queue_bytes: int = Field(
        32 * 2**20,
        ge=2**16,
        le=2**30,
        description="bytes that are fetched ahead, per worker: by the client library, and as much again in queues",
    )
    partitions_interval: Duration = Field(
        parse_duration("30s"),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="how often the brokers are asked for new partitions",
    )
    timeout: Duration = Field(
        parse_duration("15s"),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=5),
        description="longest wait for an answer of the brokers at the start, and of the schema registry at any time",
    )
    schema_registry: SchemaRegistryConfig | None = Field(
        None, description='where the schemas of topics with `format = "avro"` are'
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = sorted(set(self.topics) - set(TOPICS))
        if unknown:
            raise ValueError(f"`topics`: expected topics among {', '.join(TOPICS)}, found {', '.join(unknown)}")
        names = [self.topic_name(topic) for topic in self.topics]
        if len(set(names)) < len(names):
            raise ValueError(f"`topics`: expected a name of its own for each topic, found {', '.join(names)}")
        avro = sorted(topic for topic, entry in self.topics.items() if entry.format == "avro")
        if avro and self.schema_registry is None:
            raise ValueError(f"expected `schema_registry` for the Avro of topic {', '.join(avro)}, found none")
        for source in self.start_offsets:
            topic, _, partition = source.rpartition("/")
            if topic not in self.topics or not (partition.isascii() and partition.isdigit()):
                raise ValueError(f"`start_offsets`: expected partitions such as `trades/0`, found `{source}`")
        return self

    def topic_name(self, topic: str) -> str:
        """Return the name that a topic has on the brokers."""
        return self.topics[topic].name or topic
