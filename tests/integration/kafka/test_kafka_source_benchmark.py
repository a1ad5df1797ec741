from __future__ import annotations

import pytest

from benchmarks.kafka_source import TASKS, Input, fill


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_every_task_reads_all_events_of_a_topic(kafka_broker, form):
    read = Input("quotes", form, 2_500, partitions=2)
    for _ in range(2):  # a topic that exists is left alone
        fill(kafka_broker.address, read)
    for name, task in TASKS.items():
        assert task(kafka_broker.address, read, "record") > 0, name
