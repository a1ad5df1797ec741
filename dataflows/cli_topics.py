"""The commands that make, show and fill Kafka topics. They parse and hand over, as `dataflows.cli` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["publish", "topics_app"]

topics_app = typer.Typer(
    help="Make and describe the topics of the configuration.", no_args_is_help=True, rich_markup_mode=None
)

_Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", envvar="SIGNALBOX_CONFIG", help="Configuration, TOML: `[kafka]` and `[outputs]`."
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON for machines.")]


@topics_app.command("create", short_help="Make the topics that are missing.")
def topics_create(
    config: _Config = None,
    partitions: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Partitions of each topic.")] = 4,
    replication: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=100, help="Copies of each partition; by default what the brokers say."),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long records are kept, such as 7d, or `forever`. By default 7d, and `forever` for topics with "
            "clock = record: the brokers would delete history as too old.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the brokers check what would be made; nothing is.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make the input topics of `[kafka]` and the topics of `[outputs]` that are missing.

    A topic that exists is left as it is, and what differs is told. Nothing is ever deleted.
    """
    from dataflows.commands.topics import run_create

    run_create(
        config, partitions=partitions, replication=replication, retention=retention, dry_run=dry_run, as_json=as_json
    )


@topics_app.command("describe", short_help="Show how the topics are.")
def topics_describe(config: _Config = None, as_json: _Json = False) -> None:
    """Show partitions, offsets, records, settings and times of the topics, and what is wrong with them.

    The exit code is 8 if a topic is missing, or a partition has no leader or too few copies.
    """
    from dataflows.commands.topics import run_describe

    run_describe(config, as_json=as_json)


def publish(
    archive: Annotated[Path, typer.Option(metavar="FOLDER", help="The archive.")],
    config: _Config = None,
    speed: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=0.0,
            max=1e9,
            help="Multiple of the speed at which records arrived; 0: as fast as possible.",
        ),
    ] = 0.0,
    shift_times: Annotated[
        bool,
        typer.Option(
            "--shift-times",
            help="Move all times of a record so that it arrives when it is sent, and keeps its latency; needs a speed.",
        ),
    ] = False,
    heartbeat: Annotated[
        str, typer.Option(metavar="DURATION", help="Time of the records between heartbeats, with clock = record.")
    ] = "1s",
    final_heartbeat: Annotated[
        bool,
        typer.Option(
            "--final-heartbeat/--no-final-heartbeat",
            help="With clock = record, end with a heartbeat that lets readers close everything. Nothing can be "
            "published to these topics afterwards.",
        ),
    ] = True,
    rows_per_record: Annotated[
        int, typer.Option(metavar="N", min=1, max=2**20, help="Most rows of an Arrow record.")
    ] = 1_000,
    as_json: _Json = False,
) -> None:
    """Publish the records of an archive to the topics of the configuration, in the order of their arrival.

    With clock = header, records carry their recorded time, or with a speed the time at which they are sent.
    A signal stops it once what was sent is stored, and it says how far it came; it cannot be resumed.
    """
    from dataflows.commands.publishing import publish_options, run_publish

    options = publish_options(
        speed=speed, heartbeat=heartbeat, final_heartbeat=final_heartbeat, rows_per_record=rows_per_record,
        shift_times=shift_times,
    )  # fmt: skip
    run_publish(archive, config, options, as_json=as_json)
