"""`signalbox dlq`: what was refused is listed, shown, and published back once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Message, Producer

from dataflows import cli
from dataflows.dead_letters import DeadLetterFilter
from dataflows.redrive import Redrive, ledger_topic
from dataflows.settings import load_settings
from dataflows.sources.kafka_client import open_producer
from dataflows.sources.kafka_config import KafkaTopic
from dataflows.sources.kafka_decode import ROWS_PER_RECORD, RecordDecoder
from dataflows.topic_scan import TopicScan
from operators.decode import DecodeLimits, validate
from schemas.errors import ExitCode, InputError, TransientError
from schemas.tables import DEAD_LETTERS
from sinks.topics import TopicWriter

BASE = 1_700_000_000_000_000_000
GOOD = b'{"instrument_id":"A","ts_event":1700000000000000000,"price":9.5,"size":1.0,"side":"buy"}'
QUIET = {"log_level": 0, "log.connection.close": False}
Letter = tuple[str, int, str, bytes]
"""Source topic, offset, reason and bytes of a refused record."""


@dataclass
class World:
    """A topic of trades, one of news in Arrow, one of dead letters, and a configuration that names them."""

    config: Path
    trades: str
    news: str
    letters: str

    @property
    def kafka(self):
        return load_settings(self.config).kafka

    def refuse(self, *letters: Letter, run_id: str = "r1", partition: int = 0) -> None:
        """Publish dead letters as a run does."""
        names = [field.name for field in DEAD_LETTERS.computed]
        rows = [
            {
                "topic": topic, "partition": partition, "offset": offset, "reason": reason, "payload": payload,
                "detail": f"refused {reason}", "instrument_id": "A" if b'"A"' in payload else None,
                "ts_recv": BASE + offset,
            }
            for topic, offset, reason, payload in letters
        ]  # fmt: skip
        columns = {name: [row[name] for row in rows] for name in names}
        columns["instrument_id"] = pa.array(columns["instrument_id"], pa.string())
        columns["ts_recv"] = pa.array(columns["ts_recv"]).cast(pa.timestamp("ns", "UTC"))
        writer = TopicWriter.open(partial(open_producer, self.kafka), {"dead_letters": self.letters}, run_id=run_id)
        writer.write("dead_letters", pa.RecordBatch.from_pydict(columns))
        writer.flush()
        writer.close()

    def read(self, name: str) -> list[Message]:
        with TopicScan(self.kafka, name) as scan:
            return list(scan.messages())

    def redrive(self, **options: Any):
        with TopicScan(self.kafka, self.letters) as scan:
            return Redrive(self.kafka, self.letters, scan, **options).run()


@pytest.fixture
def world(kafka_broker, topic, tmp_path) -> World:
    trades, news, letters = topic(2), topic(), topic(3)
    config = tmp_path / "c.toml"
    config.write_text(
        f"""
        [kafka]
        brokers = "{kafka_broker.address}"
        topics.trades = {{ name = "{trades}", clock = "header" }}
        topics.news = {{ name = "{news}", format = "arrow" }}
        [outputs]
        dead_letters = "{letters}"
        """
    )
    return World(config, trades, news, letters)


@pytest.fixture
def dlq(world, capsys) -> Callable[..., str]:
    """Return a function that runs a `dlq` command and gives what it prints."""

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as done:
            cli.main(["dlq", *arguments, "--config", str(world.config)])
        shown = capsys.readouterr()
        assert done.value.code == code, shown.err
        return shown.out + shown.err

    return run


MIXED: tuple[Letter, ...] = (
    ("trades", 5, "malformed", b"\xff\x00"),
    ("trades", 6, "malformed", b"{"),
    ("trades", 7, "duplicate", GOOD),
    ("books", 1, "malformed", b""),
)


def test_list_counts_by_topic_and_reason_without_repeats(world, dlq):
    world.refuse(*MIXED)
    world.refuse(*MIXED[:2])
    shown = json.loads(dlq("list", "--json"))
    assert [(group["topic"], group["reason"], group["count"]) for group in shown["groups"]] == [
        ("books", "malformed", 1),
        ("trades", "duplicate", 1),
        ("trades", "malformed", 2),
    ]
    assert (shown["groups"][2]["first"], shown["groups"][2]["last"]) == (BASE + 5, BASE + 6)
    assert shown["entries"] == []
    assert "malformed" in dlq("list")


def test_list_shows_the_newest_of_a_filter(world, dlq):
    world.refuse(*MIXED)
    shown = json.loads(dlq("list", "--json", "--topic", "trades", "--reason", "malformed", "--limit", "1"))
    assert [(entry["offset"], entry["detail"]) for entry in shown["entries"]] == [(6, "refused malformed")]
    assert shown["groups"][0]["count"] == 2
    assert "trades/0/6" in dlq("list", "--limit", "2")


def test_list_tells_of_records_that_are_no_dead_letters(world, dlq, kafka_broker):
    kafka_broker.produce(world.letters, [(b"hello", {}), (b"x", {"headers": [("table", b"dead_letters")]})])
    assert "2 records on the topic are no dead letters" in dlq("list")


def test_show_prints_text_or_bytes_and_cannot_touch_the_terminal(world, dlq):
    world.refuse(*MIXED, ("trades", 8, "malformed", b"\x1b[2Jred"))
    assert "ff00" in dlq("show", "trades", "0", "5")
    assert '{"instrument_id":"A"' in dlq("show", "trades/0/7")
    assert "\\x1b[2Jred" in dlq("show", "trades", "0", "8")
    (found,) = json.loads(dlq("show", "trades/0/5", "--json"))["dead_letters"]
    assert (found["payload_hex"], found["reason"], found["run_id"]) == ("ff00", "malformed", "r1")
    assert found["id"] in dlq("show", found["id"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trades", "0"], ExitCode.CONFIG, "expected an id, or a topic, partition and offset, found trades 0"),
        (["trades", "0", "99"], ExitCode.INPUT, "expected dead letter `trades/0/99`"),
    ],
)
def test_show_of_nothing_says_so(world, dlq, words, code, message):
    world.refuse(*MIXED)
    assert message in dlq("show", *words, code=code)


def test_redrive_publishes_the_bytes_back_once(world, dlq):
    world.refuse(*MIXED[:3])
    before = time.time_ns()
    first = json.loads(dlq("redrive", "--yes", "--json"))
    assert (first["done"], first["redriven"], first["already_redriven"]) == (True, 3, 0)
    found = world.read(world.trades)
    assert [message.value() for message in found] == [b"\xff\x00", b"{", GOOD]
    assert [message.key() for message in found] == [None, None, b"A"]
    assert {message.partition() for message in found} == {0}
    headers = [dict(message.headers()) for message in found]
    assert [header["redriven"] for header in headers] == [b"1"] * 3
    assert all(before - 10**9 < int(header["ts_recv"]) <= time.time_ns() for header in headers)
    assert headers[0]["dead_letter_id"].decode() in dlq("show", "trades/0/5")
    second = json.loads(dlq("redrive", "--yes", "--json"))
    assert (second["done"], second["redriven"], second["already_redriven"]) == (False, 0, 3)
    assert len(world.read(world.trades)) == 3


def test_redriven_record_is_taken_with_its_header_clock(world):
    """Without a time of its own, a record of a topic with header clocks would be refused again."""
    world.refuse(MIXED[2])
    world.redrive()
    decoder = RecordDecoder("trades", 0, KafkaTopic(clock="header"), header_ahead_ns=0, limits=DecodeLimits())
    delivery = decoder.decode(world.read(world.trades), 0)
    assert validate("trades", delivery.batch, DecodeLimits()).accepted.num_rows == 1


def test_dry_run_and_nobody_to_ask_publish_nothing(world, dlq):
    world.refuse(*MIXED[:3])
    assert "nothing was published" in dlq("redrive", "--dry-run")
    assert "expected an answer whether to redrive 3 records, found nobody to ask" in dlq(
        "redrive", code=ExitCode.CONFIG
    )
    assert world.read(world.trades) == []


def test_filters_choose_and_the_rest_is_redriven_later(world, dlq):
    world.refuse(*MIXED[:3])
    assert json.loads(dlq("redrive", "--yes", "--json", "--reason", "duplicate"))["redriven"] == 1
    moment = "2023-11-14T22:13:20.000000006Z"
    assert json.loads(dlq("redrive", "--yes", "--json", "--to", moment))["redriven"] == 1
    assert json.loads(dlq("redrive", "--yes", "--json", "--topic", "news"))["redriven"] == 0
    assert [message.value() for message in world.read(world.trades)] == [GOOD, b"\xff\x00"]
    assert json.loads(dlq("redrive", "--yes", "--json"))["redriven"] == 1
    assert "expected a time with its zone" in dlq("redrive", "--from", "2023-11-14T22:13:20", code=ExitCode.CONFIG)


def test_limit_goes_on_where_it_ended(world):
    world.refuse(*(("trades", number, "malformed", b"%d" % number) for number in range(10)))
    for _ in range(4):
        world.redrive(limit=4)
    assert sorted(int(message.value()) for message in world.read(world.trades)) == list(range(10))


def test_record_refused_by_several_runs_is_redriven_once(world):
    for run_id in ("r1", "r2", "r2"):
        world.refuse(MIXED[0], run_id=run_id)
    plan = world.redrive()
    assert (plan.count, plan.repeated) == (1, 2)
    assert len(world.read(world.trades)) == 1


def test_records_go_back_in_the_order_of_their_offsets(world):
    world.refuse(*(("trades", number, "malformed", b"%d" % number) for number in range(450)))
    world.redrive()
    assert [int(message.value()) for message in world.read(world.trades)] == list(range(450))


def test_record_that_is_refused_again_and_again_is_left(world):
    world.refuse(("trades", 5, "malformed", b"{"))
    for times in (1, 2):
        assert world.redrive(most_times=2).count == 1
        copy = world.read(world.trades)[-1]
        assert dict(copy.headers())["redriven"] == b"%d" % times
        world.refuse(("trades", copy.offset(), "malformed", b"{"))
    plan = world.redrive(most_times=2)
    assert (plan.count, dict(plan.refused)) == (0, {"redriven 2 times already": 1})
    assert world.redrive(most_times=3).count == 1


def test_what_cannot_go_back_is_named(world):
    world.refuse(MIXED[3], ("news", 3 * ROWS_PER_RECORD, "duplicate", b"{}"), ("news", 5, "duplicate", b"{}"))
    world.refuse(("trades", 1, "malformed", b"{"), partition=2)
    world.refuse(("news", 4 * ROWS_PER_RECORD, "malformed", b"\xff\xff\xff\xff"))
    plan = world.redrive()
    assert dict(plan.redriven) == {("news", "malformed"): 1}
    assert dict(plan.refused) == {
        "the configuration has no topic `books`": 1,
        "a row of an Arrow record stands for itself; its publisher has to send the record anew": 2,
        "there is no partition 2 of `trades`": 1,
    }


def test_command_that_died_in_a_transaction_leaves_nothing_and_is_repeated(world):
    world.refuse(*MIXED[:3])
    died = _open_transaction(world)
    died.produce(world.trades, b"half", partition=0)
    assert died.flush(30) == 0
    assert world.redrive().count == 3
    assert len(world.read(world.trades)) == 3
    assert len(world.read(ledger_topic(world.letters))) == 3


def test_second_command_takes_over_from_the_first(world, monkeypatch):
    world.refuse(*(("trades", number, "malformed", b"%d" % number) for number in range(450)))
    published: list[int] = []
    original = Redrive._publish

    def publish(job, producer, batch):
        if len(published) == 1:
            published.append(0)
            assert world.redrive().count == 250
        published.append(len(batch))
        return original(job, producer, batch)

    monkeypatch.setattr(Redrive, "_publish", publish)
    with pytest.raises(TransientError, match="another one took over"):
        world.redrive()
    assert sorted(int(message.value()) for message in world.read(world.trades)) == list(range(450))


def test_ledger_that_somebody_else_wrote_to_is_named(world, kafka_broker):
    world.refuse(MIXED[0])
    world.redrive()
    kafka_broker.produce(ledger_topic(world.letters), [(b"hello", {"key": b"x"})])
    with pytest.raises(InputError, match="nobody else may write there"):
        world.redrive()


def test_dead_letters_behind_the_end_are_left_for_the_next_time(world):
    world.refuse(MIXED[0])
    with TopicScan(world.kafka, world.letters) as scan:
        world.refuse(MIXED[1])
        assert Redrive(world.kafka, world.letters, scan, chosen=DeadLetterFilter(topic="trades")).run().count == 1
    assert world.redrive().count == 1


def test_brokers_of_the_command_line_take_the_place_of_the_configured(world, dlq, monkeypatch):
    text = world.config.read_text().replace("[outputs]", 'timeout = "1s"\n[outputs]')
    world.config.write_text(text)
    shown = dlq("list", "--brokers", "127.0.0.1:1", code=ExitCode.STORAGE)
    assert "from brokers `127.0.0.1:1`" in shown


def test_topic_of_dead_letters_has_to_be_named(world, dlq):
    world.config.write_text(world.config.read_text().replace("dead_letters =", "signals ="))
    assert "name it with `--dead-letters`" in dlq("list", code=ExitCode.CONFIG)
    assert "Dead letters on" in dlq("list", "--dead-letters", world.letters)


def _open_transaction(world: World) -> Producer:
    """Return a producer in the middle of a transaction, as a redrive that was killed leaves it."""
    brokers = {"bootstrap.servers": world.kafka.brokers}
    producer = Producer({**brokers, "transactional.id": f"signalbox-redrive-{world.letters}", **QUIET})
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer
