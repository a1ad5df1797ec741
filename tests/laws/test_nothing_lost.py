"""Every record read is decoded or refused, every injected fault is found with its bytes, and nothing else is."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from operators.feature_engine import feature_set
from operators.feature_groups import make_groups
from schemas.wire import encode


def test_counts_add_up_by_topic(expected):
    counts: Counter = Counter()
    for row in expected["run_counts"]:
        counts[row["kind"], row["subject"]] += row["count"]
    topics = {subject for kind, subject in counts if kind == "read"}
    assert len(topics) == 7
    for topic in topics:
        assert counts["read", topic] == counts["decoded", topic] + counts["dead_lettered", topic]


def test_faults_injected_equal_faults_found(market, expected):
    found = Counter((row["topic"], row["reason"]) for row in expected["dead_letters"])
    injected = {
        (topic, reason): count
        for topic, reasons in market.report.expected_dead_letters.items()
        for reason, count in reasons.items()
        if count
    }
    assert dict(found) == injected
    late = {(row["partition"], row["offset"]) for row in expected["late_events"]}
    assert len(late) == sum(market.report.expected_late.values())


def test_faults_are_found_one_by_one_at_their_place(market, expected):
    found = {(row["topic"], row["partition"], row["offset"]): row["reason"] for row in expected["dead_letters"]}
    late = {("trades", row["partition"], row["offset"]): row["reason"] for row in expected["late_events"]}
    placed = {(fault.topic, fault.partition, fault.offset): fault.reason for fault in market.report.faults}
    assert placed == found | late


def test_dead_letters_and_late_events_keep_their_bytes(market, expected):
    for topic in market.archive.topics():
        batch = market.records(topic)
        raw = batch.column("raw").to_pylist()
        places = list(zip(batch.column("partition").to_pylist(), batch.column("offset").to_pylist(), strict=True))
        row_of = {place: row for row, place in enumerate(places)}
        for letter in [*expected["dead_letters"], *expected["late_events"]]:
            if letter["topic"] != topic:
                continue
            row = row_of[letter["partition"], letter["offset"]]
            kept = raw[row] if raw[row] is not None else encode(topic, batch.slice(row, 1))[0]
            assert letter["payload"] == kept


def test_faults_do_not_touch_good_rows(run, market, expected, make_settings, tmp_path):
    """Without its faulty records the market gives the same bars, features and signals."""
    refused = {(row["topic"], row["partition"], row["offset"]) for row in expected["dead_letters"]}
    refused |= {("trades", row["partition"], row["offset"]) for row in expected["late_events"]}
    # a lost book is known to be lost by the records after the gap: they stay
    gaps = {
        (row["topic"], row["partition"], row["offset"])
        for row in expected["dead_letters"]
        if row["reason"] == "sequence_gap"
    }

    def without_faults(topic, batch):
        places = zip(batch.column("partition").to_pylist(), batch.column("offset").to_pylist(), strict=True)
        return [batch.filter(pa.array([(topic, *place) not in refused - gaps for place in places]))]

    clean = run(market.copy(tmp_path / "clean", without_faults))
    for table in ("bars", "signals"):
        assert clean[table] == expected[table]
    # a trade that came too late for its bar is flow, and a price, at the moment that it came
    config = make_settings().compute
    groups = make_groups(config)
    apart = {spec.name for name in ("flow", "earnings", "options") for spec in groups[name].specs()}
    columns = [number for number, name in enumerate(feature_set(config).names) if name not in apart]

    def rest(rows):
        return [
            {name: value for name, value in row.items() if name not in apart}
            | {"missing": [row["missing"][number] for number in columns]}
            for row in rows
        ]

    assert rest(clean["features"]) == rest(expected["features"])
