from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.kafka import WORKS, write
from benchmarks.kafka_scene import Topics
from dataflows.settings import load_settings
from scripts.soak import Sample, Soak, judge

SOAK = Soak(minutes=10, rate=100.0)


def samples(growth: float = 0.0, lag: float = 0.0) -> list[Sample]:
    return [Sample(s, 400 + growth * s / 3600, 0.0, int(lag * s), 0.1, 2.0, 100 * s) for s in range(600)]


def ended(**facts: Any) -> dict[str, Any]:
    counts = [{"kind": kind, "subject": "trades", "count": 60_000} for kind in ("read", "decoded")]
    whole = {"producer": {"records": 60_000}, "caught_up_s": 0.5, "exit_code": 0, "counts": counts, "warnings": []}
    return whole | facts


def test_write_keeps_other_works_of_the_day(tmp_path: Path):
    write([{"work": "json", "ratio": 1}, {"work": "quix", "ratio": 2}], "2024-01-02", tmp_path)
    path = write([{"work": "json", "ratio": 3}], "2024-01-02", tmp_path)
    assert [(entry["work"], entry["ratio"]) for entry in json.loads(path.read_text())] == [("quix", 2), ("json", 3)]
    assert path.name == "2024-01-02-kafka.json"


def test_works_are_named_and_titled():
    assert set(WORKS) == {"json", "arrow", "quix", "latency", "processes", "telemetry"}
    assert all(title for title, _ in WORKS.values())


def test_topics_survive_their_text_and_are_a_configuration(tmp_path: Path):
    topics = Topics("localhost:9092", {"trades": "t", "quotes": "q"}, "arrow", "header", 2, 10)
    assert Topics.from_json(topics.to_json()) == topics
    kafka = load_settings(topics.write_config(tmp_path / "a.toml", "shards = 2\n")).kafka
    assert kafka is not None
    assert {name: (topic.name, topic.format, topic.clock) for name, topic in kafka.topics.items()} == {
        "trades": ("t", "arrow", "header"),
        "quotes": ("q", "arrow", "header"),
    }


def test_soak_without_fault_has_none():
    assert judge(SOAK, samples(), ended())["faults"] == []
    assert judge(SOAK, samples(growth=SOAK.bound / 2), ended())["faults"] == []


def test_soak_names_what_is_wrong():
    faults = {
        "memory grows": judge(SOAK, samples(growth=100.0), ended()),
        "the lag grows": judge(SOAK, samples(lag=2.0), ended()),
        "not everything was read": judge(SOAK, samples(), ended(caught_up_s=None)),
        "exit code 7": judge(SOAK, samples(), ended(exit_code=7)),
        "1 warnings": judge(SOAK, samples(), ended(warnings=["WARNING of something"])),
        "60,001 records were appended": judge(SOAK, samples(), ended(producer={"records": 60_001})),
        "too few samples": judge(SOAK, samples()[:3], ended()),
    }
    for expected, judged in faults.items():
        assert len(judged["faults"]) == 1, expected
        assert expected in judged["faults"][0]
