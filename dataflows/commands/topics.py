"""`signalbox topics create` and `signalbox topics describe`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

from dataflows.commands.terminal import print_json, print_table
from dataflows.settings import Settings, load_settings
from dataflows.topics import (
    BROKER_DEFAULT,
    FOR_EVER,
    KEPT,
    TopicState,
    create_topics,
    describe_topics,
    kafka_section,
    plan_topics,
)
from schemas.errors import ConfigError, ExitCode
from schemas.time import format_duration, format_time, parse_duration

__all__ = ["parse_retention", "run_create", "run_describe"]

_STAMPS, _, _RETENTION, _ = KEPT
_SECOND_CHARACTERS: Final = 19
"""Characters of a time up to its seconds."""


def parse_retention(text: str | None) -> timedelta | None:
    """Return the retention that `--retention` names, a duration or `forever`.

    Raises
    ------
    ConfigError
        It is neither.

    Examples
    --------
    >>> parse_retention("7d")
    datetime.timedelta(days=7)
    """
    if text is None:
        return None
    if text == "forever":
        return FOR_EVER
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"`--retention`: {error}; or `forever`") from error


def run_create(
    config: Path | None,
    *,
    partitions: int,
    replication: int | None,
    retention: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the topics that are missing, and print what became of each."""
    settings = load_settings(config)
    plans = plan_topics(
        settings,
        partitions=partitions,
        replication=BROKER_DEFAULT if replication is None else replication,
        retention=parse_retention(retention),
    )
    made = create_topics(kafka_section(settings), plans, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "topics": [asdict(topic) for topic in made]})
        return
    verb = "would be made" if dry_run else "made"
    rows = [
        (
            topic.name,
            str(topic.partitions),
            "brokers' default" if topic.replication == BROKER_DEFAULT else str(topic.replication),
            verb if topic.created else "exists, left as it is",
            "; ".join(topic.differences),
        )
        for topic in made
    ]
    print_table("", ("topic", "partitions", "copies", "outcome", "differences"), rows, numbers=2)


def run_describe(config: Path | None, *, as_json: bool) -> None:
    """Print how the topics are; exit with `FINDINGS` if one is missing or not well."""
    settings = load_settings(config)
    names = _names(settings)
    states = describe_topics(kafka_section(settings), names)
    if as_json:
        print_json({"topics": [state.to_json() for state in states]})
    else:
        offsets = ("topic", "partitions", "first", "end", "records", "state")
        print_table("", offsets, [_offsets(state) for state in states], numbers=4)
        times = ("topic", "timestamps", "retention", "oldest record", "newest record")
        print_table("", times, [_times(state) for state in states if state.exists])
    if any(not state.exists or state.problems for state in states):
        sys.exit(ExitCode.FINDINGS)


def _names(settings: Settings) -> list[str]:
    return [plan.name for plan in plan_topics(settings)]


def _offsets(state: TopicState) -> tuple[str, ...]:
    if not state.exists:
        return (state.name, "", "", "", "", "MISSING")
    return (
        state.name,
        str(len(state.partitions)),
        _range([part.first for part in state.partitions]),
        _range([part.end for part in state.partitions]),
        f"{state.records:,}",
        "; ".join(state.problems) or "good",
    )


def _range(offsets: list[int]) -> str:
    low, high = min(offsets, default=0), max(offsets, default=0)
    return str(low) if low == high else f"{low} to {high}"


def _times(state: TopicState) -> tuple[str, ...]:
    config = state.config
    return (
        state.name,
        config.get(_STAMPS, "?"),
        _retention(config.get(_RETENTION)),
        _time(state.oldest),
        _time(state.newest),
    )


def _retention(milliseconds: str | None) -> str:
    if milliseconds is None:
        return "?"
    return "forever" if int(milliseconds) < 0 else format_duration(int(milliseconds) * 10**6)


def _time(ts: int | None) -> str:
    return "" if ts is None else f"{format_time(ts)[:_SECOND_CHARACTERS]}Z"
