"""The configuration: one TOML file, parsed once into frozen, bounded types."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from operators.shard_config import ShardConfig
from schemas.config import ComponentConfig, Duration
from schemas.errors import ConfigError, InputError
from schemas.time import parse_duration

__all__ = ["Settings", "load_settings", "settings_schema"]


class SinkConfig(ComponentConfig):
    """How rows are written."""

    batch_rows: int = Field(100_000, ge=1, le=1_000_000, description="rows of a table that are written at once")


class RecoveryConfig(ComponentConfig):
    """How often the state is saved."""

    snapshot_interval: Duration = Field(
        parse_duration("5s"), description="time between snapshots; what came after the last one is computed again"
    )


class Settings(ComponentConfig):
    """Everything that can be configured.

    Examples
    --------
    >>> Settings().shards
    4
    """

    shards: int = Field(4, ge=1, le=4096, description="parts that the instruments are split into; fixed for a run")
    compute: ShardConfig = Field(default_factory=ShardConfig)
    sink: SinkConfig = Field(default_factory=SinkConfig)
    recovery: RecoveryConfig = Field(default_factory=RecoveryConfig)


def load_settings(path: Path | None) -> Settings:
    """Read a configuration file; None gives the defaults.

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
        raise InputError(f"expected a configuration file at `{path}`, found {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected TOML in `{path}`, found {error}") from error
    return parse_settings(content, str(path))


def parse_settings(content: dict[str, Any], origin: str) -> Settings:
    """Check settings; see `load_settings`."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(_fault(detail) for detail in error.errors(include_url=False))
        raise ConfigError(f"in `{origin}`: {faults}; `signalbox config schema` lists every key") from error


def _fault(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"expected a known key, found `{key}`"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"`{key}`: {message[:1].lower()}{message[1:]}, was {json.dumps(detail['input'], default=str)[:80]}"


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    return Settings.model_json_schema()
