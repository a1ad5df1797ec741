"""The directory of instruments: dense codes, a cap that knows the order of arrival, and an expiry."""

from __future__ import annotations

import numpy as np
import pytest

from operators.directory import REFUSED, Directory
from schemas.batches import make_batch


def batch(*rows: tuple[str, int], topic: str = "trades"):
    names, times = zip(*rows, strict=True)
    return make_batch(topic, {"instrument_id": list(names), "ts_recv": list(times)}, len(rows))


def codes_of(directory: Directory, **batches):
    return {topic: codes.tolist() for topic, codes in directory.codes(batches).items()}


def test_codes_are_dense_and_stay():
    directory = Directory(10, 1_000)
    assert codes_of(directory, trades=batch(("A", 1), ("B", 2), ("A", 3))) == {"trades": [0, 1, 0]}
    assert codes_of(directory, trades=batch(("B", 4), ("C", 5))) == {"trades": [1, 2]}
    assert directory.names == ["A", "B", "C"]
    assert len(directory) == 3


def test_codes_of_many_instruments_outgrow_the_first_rows():
    directory = Directory(1_000, 1_000)
    names = [(f"I{number}", number) for number in range(500)]
    assert codes_of(directory, trades=batch(*names)) == {"trades": list(range(500))}
    assert directory.expire(10**6).tolist() == list(range(500))


def test_codes_names_that_a_slice_does_not_use_get_none():
    directory = Directory(10, 1_000)
    directory.codes({"trades": batch(("A", 1), ("B", 2), ("C", 3)).slice(1, 1)})
    assert directory.names == ["B"]


def test_codes_cap_goes_to_who_arrives_first_whatever_its_topic():
    directory = Directory(1, 1_000)
    found = codes_of(directory, books=batch(("LATE", 5), topic="books"), trades=batch(("EARLY", 3), ("LATE", 6)))
    assert found == {"books": [REFUSED], "trades": [0, REFUSED]}
    assert directory.names == ["EARLY"]


def test_codes_cap_goes_to_who_arrives_first_whatever_the_dictionary():
    # the dictionary of the slice lists C first, the records do not
    rows = batch(("C", 0), ("A", 1), ("B", 2), ("C", 3)).slice(1)
    assert codes_of(Directory(2, 1_000), trades=rows) == {"trades": [0, 1, REFUSED]}


def test_codes_cap_at_one_moment_follows_the_topics_order():
    directory = Directory(1, 1_000)
    found = codes_of(directory, news=batch(("N", 5), topic="news"), trades=batch(("T", 5)))
    assert found == {"news": [0], "trades": [REFUSED]}


def test_expire_frees_what_was_idle_longer_than_the_expiry():
    directory = Directory(2, 10)
    directory.codes({"trades": batch(("A", 0), ("B", 5))})
    assert directory.expire(10).tolist() == []
    assert directory.expire(11).tolist() == [0]
    assert codes_of(directory, trades=batch(("C", 12), ("B", 12))) == {"trades": [0, 1]}
    assert directory.names == ["C", "B"]


def test_first_gap_no_gap_is_none():
    directory = Directory(2, 10)
    assert directory.first_gap({}) is None
    assert directory.first_gap({"trades": batch(("A", 0), ("A", 10))}) is None


def test_first_gap_within_the_records_is_the_return():
    assert Directory(2, 10).first_gap({"trades": batch(("A", 0), ("B", 5), ("A", 11), ("A", 30))}) == 11


def test_first_gap_across_topics_counts_every_record():
    records = {"news": batch(("A", 6), topic="news"), "trades": batch(("A", 0), ("A", 12))}
    assert Directory(2, 10).first_gap(records) is None


def test_first_gap_after_earlier_records_is_the_return():
    directory = Directory(2, 10)
    directory.codes({"trades": batch(("A", 0), ("B", 9))})
    assert directory.first_gap({"trades": batch(("B", 15), ("A", 17))}) == 17


def test_first_gap_full_directory_with_expired_instrument_is_the_newcomer():
    directory = Directory(1, 10)
    directory.codes({"trades": batch(("A", 0))})
    assert directory.first_gap({"trades": batch(("B", 10), ("B", 11), ("B", 12))}) == 11
    assert directory.expire(11).tolist() == [0]
    assert codes_of(directory, trades=batch(("B", 11))) == {"trades": [0]}


def test_first_gap_full_directory_of_live_instruments_is_none():
    directory = Directory(1, 10)
    directory.codes({"trades": batch(("A", 0))})
    assert directory.first_gap({"trades": batch(("B", 3), ("A", 8), ("B", 15))}) is None


def test_restored_directory_continues_the_same():
    directory = Directory(3, 10)
    directory.codes({"trades": batch(("A", 0), ("B", 8), ("C", 9))})
    directory.expire(11)
    twin = Directory(3, 10)
    twin.restore(directory.snapshot())
    later = {"trades": batch(("D", 12), ("B", 13), ("A", 14))}
    assert codes_of(directory, **later) == codes_of(twin, **later)
    assert directory.snapshot() == twin.snapshot()
    assert directory.names == twin.names


def test_restored_directory_grows():
    twin = Directory(1_000, 10)
    twin.restore(Directory(1_000, 10).snapshot())
    assert max(codes_of(twin, trades=batch(*((f"I{n}", n) for n in range(200))))["trades"]) == 199


@pytest.mark.parametrize("cap", [1, 7])
def test_size_stays_at_the_cap_while_instruments_come_and_go(cap):
    directory = Directory(cap, 10)
    for wave in range(50 * cap):
        directory.expire(100 * wave)
        directory.codes({"trades": batch((f"I{wave}", 100 * wave))})
    assert len(directory) == 1
    assert np.size(directory.snapshot()["last_seen"]) == 1
