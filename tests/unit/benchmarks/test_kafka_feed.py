from __future__ import annotations

import json

from benchmarks.kafka_feed import Feed, Universe
from schemas.enums import DeadLetterReason

SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND


def records(feed: Feed, count: int, interval: int = SECOND // 100) -> list[tuple[str, int, dict[str, object]]]:
    made = (feed.record(n, BEGIN + n * interval, n * interval) for n in range(count))
    return [(topic, partition, json.loads(value)) for topic, partition, value in made]


def test_instruments_come_and_go_and_never_come_back():
    universe = Universe(slots=4, life=8 * SECOND)
    found = records(Feed(universe, partitions=2), 4_000)
    last: dict[object, int] = {}
    first: dict[object, int] = {}
    for number, (_, _, message) in enumerate(found):
        first.setdefault(message["instrument_id"], number)
        last[message["instrument_id"]] = number
    assert len(first) == universe.seen(40 * SECOND - 1)
    assert all(last[name] - first[name] <= 800 for name in first)
    alive = [sum(first[name] <= n <= last[name] for name in first) for n in range(100, 3_900)]
    assert set(alive) == {3, 4}  # one that goes and the one that comes need not meet


def test_instrument_without_a_life_stays():
    found = records(Feed(Universe(slots=3, life=0), partitions=2), 300)
    assert {message["instrument_id"] for _, _, message in found} == {"I0000.0", "I0001.0", "I0002.0"}


def test_records_alternate_between_topics_and_an_instrument_keeps_to_a_partition():
    found = records(Feed(Universe(slots=10, life=0), partitions=4), 200)
    assert [topic for topic, _, _ in found[:4]] == ["quotes", "trades", "quotes", "trades"]
    places = {(message["instrument_id"], partition) for _, partition, message in found}
    assert len(places) == 10


def test_records_are_admitted_as_the_graph_admits_them():
    import numpy as np

    from operators.decode import DecodeLimits, validate
    from schemas.wire import decode

    feed = Feed(Universe(slots=10, life=SECOND), partitions=2)
    made = [feed.record(n, BEGIN + n * 10**6, n * 10**6) for n in range(20_000)]
    for topic in ("quotes", "trades"):
        values = [value for name, _, value in made if name == topic]
        n = len(values)
        stamps = BEGIN + np.arange(n) * 2 * 10**6
        decoded = decode(topic, values, stamps, np.zeros(n, dtype=np.int32), np.arange(n))
        refused = validate(topic, decoded.batch, DecodeLimits()).rejected
        assert not decoded.errors
        assert refused.num_rows == 0, DeadLetterReason
