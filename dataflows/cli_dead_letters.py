"""The `signalbox dlq` commands. They parse and hand over, as `dataflows.cli` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["dlq_app"]

dlq_app = typer.Typer(help="List, show and redrive refused records.", no_args_is_help=True, rich_markup_mode=None)

_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="SIGNALBOX_CONFIG",
        help="Configuration, TOML: `[kafka]`, and `dead_letters` in `[outputs]`.",
    ),
]
_Brokers = Annotated[
    str | None, typer.Option(metavar="HOST:PORT,...", help="Brokers, instead of those of the configuration.")
]
_Letters = Annotated[
    str | None,
    typer.Option("--dead-letters", metavar="NAME", help="Topic of dead letters, instead of that of the configuration."),
]
_Topic = Annotated[str | None, typer.Option(metavar="NAME", help="Only records of this source topic, such as trades.")]
_Reason = Annotated[
    str | None, typer.Option(metavar="REASON", help="Only records refused for this, such as malformed.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON for machines.")]


@dlq_app.command("list", short_help="Count dead letters by topic and reason.")
def dlq_list(
    config: _Config = None,
    brokers: _Brokers = None,
    letters: _Letters = None,
    topic: _Topic = None,
    reason: _Reason = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=100_000, help="Show this many of the newest; 20 with a filter."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Count dead letters by source topic and reason; with a filter or `--limit`, show the newest ones too."""
    from dataflows.commands.dead_letters import DeadLetterTopic, list_dead_letters

    list_dead_letters(DeadLetterTopic(config, brokers, letters), topic, reason, limit, as_json=as_json)


@dlq_app.command("show", short_help="Show one refused record with its bytes.")
def dlq_show(
    words: Annotated[
        list[str], typer.Argument(metavar="ID | TOPIC PARTITION OFFSET", help="The header `id`, or the record's place.")
    ],
    config: _Config = None,
    brokers: _Brokers = None,
    letters: _Letters = None,
    as_json: _Json = False,
) -> None:
    """Show what is known of one refused record, and its bytes: as text, or in hexadecimal where they are none."""
    from dataflows.commands.dead_letters import DeadLetterTopic, show_dead_letter

    show_dead_letter(DeadLetterTopic(config, brokers, letters), words, as_json=as_json)


@dlq_app.command("redrive", short_help="Publish refused records back to their topics.")
def dlq_redrive(
    config: _Config = None,
    brokers: _Brokers = None,
    letters: _Letters = None,
    topic: _Topic = None,
    reason: _Reason = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Only records received from this time on: 2024-08-08T14:00:00Z."),
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Only records received before this time.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Publish at most this many.")] = None,
    most_times: Annotated[
        int, typer.Option("--most-times", metavar="N", min=1, max=100, help="Leave records redriven this often.")
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be published.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: _Json = False,
) -> None:
    """Publish refused records back to the topics that they came from, with their own bytes.

    No record is published twice, however often the command is run; one that is refused again may be redriven again,
    up to `--most-times`. See docs/kafka.md.
    """
    from dataflows.commands.dead_letters import DeadLetterTopic, dead_letter_filter, redrive_dead_letters

    where = DeadLetterTopic(config, brokers, letters)
    chosen = dead_letter_filter(topic, reason, start, stop)
    redrive_dead_letters(where, chosen, limit=limit, most_times=most_times, dry_run=dry_run, yes=yes, as_json=as_json)
