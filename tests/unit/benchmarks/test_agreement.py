from __future__ import annotations

import polars as pl
import pytest

from benchmarks import ours, peer_polars
from benchmarks.agreement import Difference, compare, compare_frames
from benchmarks.peer_polars_features import LEFT_OUT, PEER_FEATURES
from benchmarks.workload import SMOKE, archive_of
from operators.features import BAR_FEATURES

_KEY = ("instrument_id", "ts")


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> list[Difference]:
    folder = tmp_path_factory.mktemp("agreement")
    archive = archive_of(SMOKE, folder / "cache")
    ours.run(archive, folder / "ours", workers=1)
    peer_polars.run(archive, folder / "polars")
    return compare(folder / "ours" / "database", folder / "polars")


def test_polars_and_the_graph_have_the_same_rows(differences: list[Difference]) -> None:
    rows = {difference.table: difference.count for difference in differences if difference.column == "rows"}
    assert rows == {"bars": 0, "features": 0, "signals": 0}


def test_polars_and_the_graph_agree_on_every_value(differences: list[Difference]) -> None:
    assert [difference for difference in differences if difference.count] == []
    columns = {difference.column for difference in differences if difference.table == "features"}
    computed = {spec.name for name in PEER_FEATURES for spec in BAR_FEATURES[name].specs(BAR_FEATURES[name].Config())}
    assert columns == {"rows", *computed, *peer_polars.BOOK_AND_TEXT}


def test_peer_computes_or_leaves_out_every_bar_feature() -> None:
    assert {*PEER_FEATURES, *LEFT_OUT} == set(BAR_FEATURES)
    assert not set(PEER_FEATURES) & set(LEFT_OUT)


@pytest.mark.parametrize(
    "column", ["open", "close", "volume", "trade_count", "buy_volume", "bid_price", "weighted_mid"]
)
def test_polars_and_the_graph_agree_exactly_where_nothing_is_accumulated(
    column: str, differences: list[Difference]
) -> None:
    assert [difference.relative for difference in differences if difference.column == column] == [0.0]


def _frame(values: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame({"instrument_id": ["A"] * len(values), "ts": range(len(values)), "x": values})


@pytest.mark.parametrize(
    ("theirs", "count"),
    [
        ([1.0, 2.0, None], 0),
        ([1.0 + 1e-12, 2.0, None], 0),
        ([1.0 + 1e-6, 2.0, None], 1),
        ([1.0, None, None], 1),
        ([1.0, 2.0, 0.0], 1),
        ([1.0, 2.0, float("nan")], 0),
    ],
)
def test_compare_frames_counts_values_beyond_the_tolerance(theirs: list[float | None], count: int) -> None:
    found = compare_frames("t", _frame([1.0, 2.0, None]), _frame(theirs), _KEY, ("instrument_id", "ts", "x"))
    assert {difference.column: difference.count for difference in found} == {"rows": 0, "x": count}


def test_compare_frames_row_on_one_side_is_a_difference() -> None:
    for ours_, theirs in (([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])):
        found = compare_frames("t", _frame(ours_), _frame(theirs), _KEY, ("x",))
        assert found[0] == Difference("t", "rows", 1, 0.0)


def test_compare_frames_doubled_row_is_a_difference() -> None:
    doubled = pl.concat([_frame([1.0]), _frame([1.0])])
    assert compare_frames("t", _frame([1.0]), doubled, _KEY, ("x",))[0].count == 1
    assert compare_frames("t", doubled, _frame([1.0]), _KEY, ("x",))[0].count == 1
