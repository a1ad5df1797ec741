"""When records are due, how topics are merged, how topics are planned, and which options are refused."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
import pytest

from dataflows.commands.publishing import publish_options
from dataflows.commands.topics import parse_retention
from dataflows.publishing import PublishOptions
from dataflows.publishing_messages import Messages
from dataflows.publishing_slices import Schedule, merge
from dataflows.settings import Settings
from dataflows.sources.kafka_config import KafkaConfig
from dataflows.topics import FOR_EVER, PartitionState, TopicState, kafka_section, plan_topics
from schemas.errors import ConfigError
from schemas.time import END_OF_TIME

TOPICS = {"trades": {"clock": "record"}, "quotes": {"name": "prod.quotes"}, "news": {"clock": "header"}}
OUTPUTS = {"signals": "s", "predictions": "p", "drift_events": "e", "dead_letters": "d"}
SETTINGS = Settings.model_validate({"kafka": KafkaConfig(brokers="localhost:9092", topics=TOPICS), "outputs": OUTPUTS})


def messages(ts, name: bytes) -> Messages:
    count = len(ts)
    ones = np.ones(count, dtype=np.int64)
    return Messages(np.array(ts), ones, [name] * count, [None] * count, ones, 0)


def test_merge_puts_topics_in_arrival_order_and_equal_times_in_that_of_the_topics():
    merged = merge({0: messages([1, 5, 5, 9], b"a"), 2: messages([0, 5, 7], b"b")})
    assert merged.ts.tolist() == [0, 1, 5, 5, 5, 7, 9]
    assert merged.values == [b"b", b"a", b"a", b"a", b"b", b"b", b"a"]
    assert merged.topics == [2, 0, 0, 0, 2, 2, 0]
    assert merge({}).values == []


def test_schedule_goes_at_the_speed_and_without_one_everything_is_due():
    schedule = Schedule(1_000, 50.0)
    began = time.monotonic_ns()
    time.sleep(0.02)
    passed = schedule.now() - 1_000
    assert passed >= 50 * 20_000_000
    assert passed <= 50 * (time.monotonic_ns() - began + 10_000_000)
    assert schedule.seconds(50 * 10**9) == 1.0
    assert Schedule(1_000, 0.0).now() == END_OF_TIME


def test_topics_are_planned_by_their_clock_and_their_role():
    plans = {plan.name: plan for plan in plan_topics(SETTINGS, partitions=6, replication=3)}
    assert list(plans) == ["trades", "prod.quotes", "news", *OUTPUTS.values()]
    assert {name: plan.config["message.timestamp.type"] for name, plan in plans.items()} == {
        "trades": "CreateTime", "prod.quotes": "LogAppendTime", "news": "CreateTime",
        **dict.fromkeys(OUTPUTS.values(), "CreateTime"),
    }  # fmt: skip
    week = str(7 * 86_400_000)
    assert [plan.config["retention.ms"] for plan in plans.values()] == ["-1", *[week] * (2 + len(OUTPUTS))]
    assert {plan.config["min.insync.replicas"] for plan in plans.values()} == {"2"}
    assert {plan.partitions for plan in plans.values()} == {6}


def test_replication_of_the_brokers_leaves_the_copies_in_sync_to_them():
    assert all("min.insync.replicas" not in plan.config for plan in plan_topics(SETTINGS))
    assert plan_topics(SETTINGS, replication=1)[0].config["min.insync.replicas"] == "1"


@pytest.mark.parametrize(("text", "found"), [("forever", "-1"), ("36h", str(36 * 3_600_000)), ("1ms", "1")])
def test_retention_named_holds_for_every_topic(text, found):
    plans = plan_topics(SETTINGS, retention=parse_retention(text))
    assert {plan.config["retention.ms"] for plan in plans} == {found}


@pytest.mark.parametrize("retention", [timedelta(0), timedelta(microseconds=1500), timedelta(days=-1)])
def test_retention_below_or_between_milliseconds_is_refused(retention):
    assert retention != FOR_EVER
    with pytest.raises(ConfigError, match="expected a retention of one or more whole milliseconds"):
        plan_topics(SETTINGS, retention=retention)


def test_retention_that_is_no_duration_is_refused():
    with pytest.raises(ConfigError, match=r"`--retention`: expected a number and one of .*; or `forever`"):
        parse_retention("long")


def test_settings_without_brokers_are_refused():
    with pytest.raises(ConfigError, match=r"expected brokers and topics in section `\[kafka\]`"):
        kafka_section(Settings())


def test_state_of_a_topic_adds_up_its_partitions():
    parts = (PartitionState(0, 5, 9, 100, 300), PartitionState(1, 0, 0, None, None, "no leader"))
    state = TopicState("t", True, 1, parts)
    assert (state.records, state.oldest, state.newest) == (4, 100, 300)
    assert state.problems == ("partition 1: no leader",)
    assert state.to_json()["partitions"][0]["end"] == 9
    assert TopicState("t", exists=False).newest is None


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"speed": -1.0}, "expected a speed of 0 to 1e9"),
        ({"speed": float("nan")}, "expected a speed of 0 to 1e9"),
        ({"heartbeat": timedelta(0)}, "expected a heartbeat every 1ms to 1d"),
        ({"shift_times": True}, "expected a speed where times are shifted"),
    ],
)
def test_options_out_of_bounds_are_refused(options, found):
    with pytest.raises(ConfigError, match=found):
        PublishOptions(**options)


def test_heartbeat_that_is_no_duration_is_refused():
    with pytest.raises(ConfigError, match="`--heartbeat`: expected a number and one of"):
        publish_options(speed=0.0, heartbeat="often", final_heartbeat=True, rows_per_record=1, shift_times=False)
