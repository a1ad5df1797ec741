"""A live run that is killed again and again, with broker and database disturbed, ends as if nothing had happened.

`python -m scripts.live_crash_test --kills 50` is the long version.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from scripts.live_crash_test import Broker, Scene, run_scene
from tests.services.live_topics import DatabaseProcess

KILLS = 8


@pytest.mark.slow
def test_killed_run_ends_with_the_tables_and_topics_of_one_left_alone(kafka_broker: Any, tmp_path: Path):
    seed = random.SystemRandom().randrange(2**32)
    broker = Broker(kafka_broker.folder, kafka_broker.address)
    database = DatabaseProcess(tmp_path / "database")
    try:
        database.ensure()
        scene = Scene(tmp_path, broker, database, seconds=4.0 * KILLS, minutes=4)
        outcome = run_scene(scene, KILLS, random.Random(seed), lambda _: None)
    finally:
        database.kill()
    assert outcome.kills.total() == KILLS
    assert not outcome.faults, f"seed {seed}: {outcome}"
