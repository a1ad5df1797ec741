"""`signalbox dlq`."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import typer

from dataflows.commands.terminal import print_json, print_table, progress_bar, say
from dataflows.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    Group,
    Place,
    group,
    parse_dead_letter,
    without_repeats,
)
from dataflows.redrive import Plan, Redrive
from dataflows.settings import load_settings
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.topic_scan import TopicScan
from dataflows.topics import kafka_section
from schemas.errors import ConfigError, DataError, InputError
from schemas.time import END_OF_TIME, format_time, parse_time
from schemas.wire import printable

__all__ = ["DeadLetterTopic", "dead_letter_filter", "list_dead_letters", "redrive_dead_letters", "show_dead_letter"]

_DEFAULT_LIMIT: Final = 20
_HEX_WIDTH: Final = 32
_LINE: Final = 10_000
"""Characters of a line of text that are shown."""


class DeadLetterTopic:
    """The topic of dead letters that options and configuration name.

    Parameters
    ----------
    config
        Configuration file; None for the defaults, which name no brokers.
    brokers, letters
        Take the place of the configured brokers and topic.

    Raises
    ------
    ConfigError
        No brokers, or no topic, are named.
    """

    def __init__(self, config: Path | None, brokers: str | None, letters: str | None) -> None:
        settings = load_settings(config)
        section = kafka_section(settings)
        self.config: KafkaConfig = section if brokers is None else section.model_copy(update={"brokers": brokers})
        self.name: str = letters or settings.outputs.dead_letters
        if not self.name:
            raise ConfigError(
                "expected the topic of dead letters in `outputs.dead_letters` of the configuration, found none; add "
                "it, or name it with `--dead-letters`"
            )

    @contextmanager
    def scan(self) -> Iterator[TopicScan]:
        """Open the topic as it is now."""
        with TopicScan(self.config, self.name) as scan:
            yield scan


def dead_letter_filter(
    topic: str | None, reason: str | None, start: str | None = None, stop: str | None = None
) -> DeadLetterFilter:
    """Return the filter that the options name.

    Raises
    ------
    ConfigError
        A time is none, or names no zone.
    """
    first = 0 if start is None else _time("--from", start)
    last = END_OF_TIME if stop is None else _time("--to", stop)
    return DeadLetterFilter(topic, reason, first, last)


def _time(option: str, text: str) -> int:
    try:
        return parse_time(text)
    except DataError as error:
        raise ConfigError(f"`{option}`: {error.detail}") from error


class _Read:
    """Reads the dead letters of a scan, each once, and counts what is none."""

    def __init__(self, scan: TopicScan) -> None:
        self._scan = scan
        self.foreign = 0

    def __iter__(self) -> Iterator[DeadLetter]:
        with progress_bar("dead letters", "records") as progress:
            yield from without_repeats(self._parsed(progress))

    def _parsed(self, progress: Any) -> Iterator[DeadLetter]:
        for message in self._scan.messages(progress):
            letter = parse_dead_letter(message)
            if letter is None:
                self.foreign += 1
            else:
                yield letter


def list_dead_letters(
    where: DeadLetterTopic, topic: str | None, reason: str | None, limit: int | None, *, as_json: bool
) -> None:
    """Print how many there are of each source topic and reason; with a filter or limit the newest ones too."""
    chosen = dead_letter_filter(topic, reason)
    newest = _Newest(limit if limit is not None else _DEFAULT_LIMIT)
    single = topic is not None or reason is not None or limit is not None
    with where.scan() as scan:
        letters = _Read(scan)
        groups = group(newest.keep(filter(chosen.takes, letters)))
    entries = newest.letters() if single else []
    if as_json:
        content = [_group_json(*key, found) for key, found in sorted(groups.items())]
        shown = [letter.headers() for letter in entries]
        print_json({"topic": where.name, "groups": content, "entries": shown, "foreign": letters.foreign})
        return
    rows = [
        (name, f"{found.count:,}", why, format_time(found.first), format_time(found.last))
        for (name, why), found in sorted(groups.items())
    ]
    print_table(f"Dead letters on `{where.name}`", ("topic", "records", "reason", "first", "last"), rows, numbers=1)
    if entries:
        lines = [
            (str(found.place), format_time(found.ts_recv), found.reason, found.instrument_id, printable(found.detail))
            for found in entries
        ]
        print_table("The newest", ("place", "received", "reason", "instrument", "detail"), lines)
    _say_foreign(letters.foreign)


class _Newest:
    """Keeps the dead letters that were received last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, Place, str, DeadLetter]] = []

    def keep(self, letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
        """Yield what is given."""
        for letter in letters:
            heapq.heappush(self._heap, (letter.ts_recv, letter.place, letter.id, letter))
            if len(self._heap) > self._most:
                heapq.heappop(self._heap)
            yield letter

    def letters(self) -> list[DeadLetter]:
        """Return them from the oldest to the newest."""
        return [letter for *_, letter in sorted(self._heap)]


def _group_json(topic: str, reason: str, found: Group) -> dict[str, Any]:
    return {"topic": topic, "reason": reason, "count": found.count, "first": found.first, "last": found.last}


def show_dead_letter(where: DeadLetterTopic, words: list[str], *, as_json: bool) -> None:
    """Print what is known of one refused record, and its bytes.

    Raises
    ------
    ConfigError
        The words are neither an id nor a place.
    InputError
        There is no such dead letter.
    """
    if len(words) not in (1, 3):
        raise ConfigError(f"expected an id, or a topic, partition and offset, found {' '.join(words)}")
    wanted = "/".join(words)
    with where.scan() as scan:
        found = [letter for letter in _Read(scan) if wanted in (letter.id, str(letter.place))]
    if not found:
        raise InputError(
            f"expected dead letter `{wanted}` on `{where.name}`, found none; `signalbox dlq list --limit 100` shows "
            "the newest"
        )
    if as_json:
        print_json({"dead_letters": [letter.to_json() for letter in found]})
        return
    for letter in found:
        _print_letter(letter)


def _print_letter(letter: DeadLetter) -> None:
    facts = letter.headers() | {"ts_recv": format_time(letter.ts_recv), "bytes": len(letter.payload)}
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name + ':':<15}{printable(str(value))}")
    typer.echo("")
    for line in _body(letter.payload):
        typer.echo(line)
    typer.echo("")


def _body(payload: bytes) -> Iterator[str]:
    """Yield the lines of a text, or of a table of bytes where it is none."""
    try:
        for line in payload.decode().splitlines():
            yield printable(line, _LINE)
    except UnicodeDecodeError:
        for start in range(0, len(payload), _HEX_WIDTH):
            yield f"{start:08x}  {payload[start : start + _HEX_WIDTH].hex(' ', 4)}"


def redrive_dead_letters(
    where: DeadLetterTopic,
    chosen: DeadLetterFilter,
    *,
    limit: int | None,
    most_times: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Publish refused records back to their topics, after a question unless `yes`, and print what was done.

    Raises
    ------
    ConfigError
        There is nobody to ask.
    """
    with where.scan() as scan:
        job = Redrive(where.config, where.name, scan, chosen=chosen, limit=limit, most_times=most_times)
        with progress_bar("look", "records") as progress:
            plan = job.plan(progress)
        done = not dry_run and plan.count > 0 and (yes or _agreed(plan))
        if done:
            with progress_bar("redrive", "records") as progress:
                plan = job.run(progress)
    if as_json:
        print_json({"topic": where.name, "done": done, **plan.to_json()})
    else:
        _print_plan(plan, done=done)


def _agreed(plan: Plan) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"expected an answer whether to redrive {plan.count} records, found nobody to ask; add `--yes`"
        )
    topics = sorted({topic for topic, _ in plan.redriven})
    try:
        return typer.confirm(f"publish {plan.count:,} records to {', '.join(topics)}?", err=True)
    except typer.Abort:
        return False


def _print_plan(plan: Plan, *, done: bool) -> None:
    rows = [(topic, f"{count:,}", reason) for (topic, reason), count in sorted(plan.redriven.items())]
    print_table("Redriven" if done else "To redrive", ("topic", "records", "reason"), rows, numbers=1)
    lines = {
        "redriven before": plan.done,
        "named more than once": plan.repeated,
        **{f"left: {obstacle}": count for obstacle, count in sorted(plan.refused.items())},
    }
    for text, count in lines.items():
        if count:
            typer.echo(f"{count:,} {text}")
    if not done:
        say("nothing was published")
    _say_foreign(plan.foreign)


def _say_foreign(count: int) -> None:
    if count:
        say(f"{count:,} records on the topic are no dead letters of signalbox")
