"""The configuration: one TOML file, parsed once into frozen, bounded types."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Self, get_args, get_origin

from pydantic import Field, ValidationError, model_validator
from pydantic.json_schema import GenerateJsonSchema

from dataflows.sources.kafka_config import KafkaConfig
from dataflows.telemetry import TelemetryConfig
from models.drift_config import DriftConfig
from operators.shard_config import ShardConfig
from operators.specialists_config import SpecialistsConfig
from operators.universe_engine_config import UniverseEngineConfig
from schemas.config import ComponentConfig, Duration
from schemas.errors import ConfigError, InputError
from schemas.features import content_hash
from schemas.tables import PUBLISHED
from schemas.time import duration_ns, format_duration, parse_duration

__all__ = ["Settings", "load_settings", "settings_schema"]


_TOPIC_NAME: Final = r"^[a-zA-Z0-9._-]*$"
_DECIDING: Final = ("shards", "compute", "universe", "specialists", "drift")
"""Keys that decide the rows, given the input."""


class SinkConfig(ComponentConfig):
    """How rows are written."""

    batch_rows: int = Field(100_000, ge=1, le=1_000_000, description="rows of a table that are written at once")
    max_age: Duration = Field(
        parse_duration("1s"),
        ge=timedelta(milliseconds=10),
        le=timedelta(minutes=10),
        description="how long rows of a live run wait for more; a replay waits for the next snapshot",
    )
    patience: Duration = Field(
        parse_duration("2m"),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="how long a live run tries to insert rows while the database is away or refuses for the time "
        "being; then it ends with exit code 7",
    )


class RecoveryConfig(ComponentConfig):
    """How often the state is saved."""

    snapshot_interval: Duration = Field(
        parse_duration("5s"),
        ge=timedelta(milliseconds=1),
        le=timedelta(hours=1),
        description="time between snapshots; what came after the last one is computed again",
    )
    partitions: int = Field(
        1, ge=1, le=256, description="files that snapshots are spread over; fixed when a run begins"
    )
    drain: Duration = Field(
        parse_duration("30s"),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="how long a live run may take to stop; then it ends with exit code 10",
    )


class OutputsConfig(ComponentConfig):
    """What a live run publishes to Kafka."""

    signals: str = Field("", max_length=249, pattern=_TOPIC_NAME, description="topic of signals; none where empty")
    predictions: str = Field(
        "",
        max_length=249,
        pattern=_TOPIC_NAME,
        description="topic of predictions; none where empty. One record for each answer of each model",
    )
    drift_events: str = Field(
        "", max_length=249, pattern=_TOPIC_NAME, description="topic of drift events; none where empty"
    )
    dead_letters: str = Field(
        "", max_length=249, pattern=_TOPIC_NAME, description="topic of dead letters; none where empty"
    )
    max_dead_letters: int = Field(
        100_000, ge=1, le=10**9, description="dead letters within `dead_letter_window` above which a live run stops"
    )
    dead_letter_window: Duration = Field(
        parse_duration("1m"),
        ge=timedelta(seconds=1),
        le=timedelta(days=1),
        description="time over which `max_dead_letters` are counted",
    )

    @property
    def topics(self) -> dict[str, str]:
        """Table to the topic that its rows go to, of those that are published."""
        named = {schema.name: str(getattr(self, schema.name)) for schema in PUBLISHED}
        return {table: topic for table, topic in named.items() if topic}

    @model_validator(mode="after")
    def _topics_are_distinct(self) -> Self:
        names = list(self.topics.values())
        if len(set(names)) != len(names):
            raise ValueError(f"expected a topic of its own for each table, was {self.topics}; rename one")
        return self


class Settings(ComponentConfig):
    """Everything that can be configured.

    Examples
    --------
    >>> Settings().shards
    4
    """

    shards: int = Field(4, ge=1, le=4096, description="parts that the instruments are split into; fixed for a run")
    compute: ShardConfig = Field(default_factory=ShardConfig)
    universe: UniverseEngineConfig = Field(
        default_factory=UniverseEngineConfig, description="what is computed across instruments"
    )
    specialists: SpecialistsConfig = Field(default_factory=SpecialistsConfig)
    drift: DriftConfig = Field(default_factory=DriftConfig)
    sink: SinkConfig = Field(default_factory=SinkConfig)
    recovery: RecoveryConfig = Field(default_factory=RecoveryConfig)
    kafka: KafkaConfig | None = Field(None, description="the brokers and input topics")
    outputs: OutputsConfig = Field(default_factory=OutputsConfig)
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig, description="where metrics, traces and logs go")

    def result_hash(self) -> str:
        """Return the content hash of what decides the rows, given the input."""
        content = self.content()
        return content_hash({name: content[name] for name in _DECIDING})

    @model_validator(mode="after")
    def _universe_has_its_bars(self) -> Self:
        interval = self.universe.members.interval
        if self.universe.enabled and interval not in self.compute.bars.intervals:
            raise ValueError(
                f"expected `universe.members.interval` among `compute.bars.intervals` "
                f"{self.compute.bars.content()['intervals']}, was {self.universe.members.content()['interval']}; or "
                "set `universe.enabled` to false"
            )
        return self


def load_settings(path: Path | None) -> Settings:
    """Read a configuration file; None gives the defaults.

    A text that is `${NAME}` stands for the environment variable of that name.

    Raises
    ------
    InputError
        The file is missing.
    ConfigError
        It is not TOML, or a key is unknown, mistyped, out of bounds or inconsistent; the key is named.
    """
    if path is None:
        return Settings()
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"expected a configuration file at `{path}`, found {reason}; correct the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in `{path}`, found {error}") from error
    return parse_settings(_expanded(content, str(path)), str(path))


_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _expanded(value: Any, origin: str) -> Any:
    """Return the content with every text that is `${NAME}` replaced with the environment variable."""
    if isinstance(value, dict):
        return {key: _expanded(inner, origin) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner, origin) for inner in value]
    match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if match[1] not in os.environ:
        raise ConfigError(f"in `{origin}`: expected the environment variable {match[1]}, found none; set it")
    return os.environ[match[1]]


def parse_settings(content: dict[str, Any], origin: str) -> Settings:
    """Check settings; see `load_settings`."""
    try:
        # as JSON a list may fill a tuple, while neither text nor a truth value passes for a number
        return Settings.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        faults = "; ".join(_faults(error.errors(include_url=False)))
        raise ConfigError(f"in `{origin}`: {faults}; `signalbox config schema` lists every key") from error


_EXPECTED: Final = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a table of keys",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} at most",
}
"""What a key must be, by the kind of its fault."""
_SHOWN: Final = 80
"""Characters of a wrong value that are shown."""


def _faults(details: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for each fault, but not for a list that only lacks what was refused in it."""
    for detail in details:
        inner = any(other["loc"][: len(detail["loc"])] == detail["loc"] for other in details if other is not detail)
        if not (inner and detail["type"] == "too_short"):
            yield _fault(detail)


def _fault(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"expected a known key, found `{key}`{_near(detail['loc'])}"
    if detail["type"] == "value_error":
        return f"`{key}`: {detail['ctx']['error']}"
    if detail["type"] == "missing":
        return f"`{key}`: expected a value, found none"
    text = _shown(detail["input"], section=detail["type"] == "model_type")
    expected = _EXPECTED.get(detail["type"])
    if expected is None:
        return f"`{key}`: {detail['msg'][:1].lower()}{detail['msg'][1:]}, found {text[:_SHOWN]}"
    return f"`{key}`: expected {expected.format_map(detail.get('ctx', {}))}, found {text[:_SHOWN]}"


def _shown(found: Any, *, section: bool) -> str:
    """Return a wrong value as text. What stands for a section may hold secrets: only its kind is shown."""
    if section or isinstance(found, dict):
        return f"a value of type {type(found).__name__}"
    return format_duration(duration_ns(found)) if isinstance(found, timedelta) else json.dumps(found, default=str)


def _near(loc: Sequence[int | str]) -> str:
    """Return the known key that an unknown one resembles."""
    section: Any = Settings
    for name in loc[:-1]:
        section = _inner(section, name)
    similar = get_close_matches(str(loc[-1]), getattr(section, "model_fields", ()), n=1)
    return f", which is close to `{similar[0]}`" if similar else ""


def _inner(section: Any, name: int | str) -> Any:
    """Return the type of a key: of a section, or of a table whose keys are free."""
    if get_origin(section) is dict:
        return get_args(section)[1]
    field = getattr(section, "model_fields", {}).get(name)
    found = field.annotation if field is not None else None
    options = get_args(found) if isinstance(found, UnionType) else (found,)
    return next((option for option in options if option is not NoneType), None)


class _Schema(GenerateJsonSchema):
    """Writes durations as a configuration does."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(duration_ns(dft))
        if isinstance(dft, tuple):
            return [self.encode_default(item) for item in dft]
        return super().encode_default(dft)


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    return Settings.model_json_schema(schema_generator=_Schema)
