"""`signalbox run`: live, from the topics."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import typer

from dataflows.cluster import Cluster
from dataflows.commands.kernels import announce_compilation
from dataflows.commands.replaying import check_server
from dataflows.commands.terminal import print_json, print_run, progress_bar, say
from dataflows.live import TopicRun, run_topics
from dataflows.run_names import check_run_id, recovery_folder
from dataflows.settings import load_settings
from schemas.enums import RunStatus
from schemas.errors import ExitCode
from sinks.retry import Backoff
from sinks.store import Store

__all__ = ["run_live"]


def run_live(
    db: str,
    run_id: str,
    *,
    workers: int,
    cluster: Cluster,
    config: Path | None,
    recovery: Path | None,
    as_json: bool,
) -> None:
    """Run until SIGTERM or SIGINT, and print what came of it."""
    check_server(db, cluster)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # tells of each attempt, with the statement; our own retries are told of once
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    settings = load_settings(config)
    job = TopicRun(
        run_id=check_run_id(run_id),
        settings=settings,
        workers=workers,
        cluster=cluster,
        recovery=recovery_folder(db, run_id, recovery),
    )
    with Store.open(db, backoff=Backoff.lasting(settings.sink.patience)) as store:
        announce_compilation()
        say(f"run `{run_id}` begins; `signalbox status` shows how it is, SIGTERM or Ctrl-C ends it")
        with progress_bar(f"run {run_id}", "records") as progress:
            result = run_topics(job, store, progress=progress)
    if as_json:
        print_json(result.to_json())
    elif cluster.leads:
        typer.echo(f"run `{run_id}`: {result.status.name.lower()}{', resumed' if result.resumed else ''}\n")
        print_run(result)
    if result.status is not RunStatus.STOPPED:
        sys.exit(ExitCode.OK)
    say("stopped with everything stored; the same command goes on from here")
