"""The states of a shard together: which records become what, and which are refused or late."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from operators.feature_engine import FeatureEngine, FeatureFrame, feature_set
from operators.feature_groups import GROUPS
from operators.refusals import Refusals
from operators.shard_config import GROUP_NAMES, ShardConfig
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.time import END_OF_TIME

SECOND = 10**9
BARS: dict[str, Any] = {"bars": {"intervals": ["1s", "1m"], "grace": "0s"}}
CONFIG = ShardConfig.model_validate(BARS)
NAMES = feature_set(CONFIG).names


def batch(topic: str, seconds: list[float], **columns: Any) -> pa.RecordBatch:
    n = len(seconds)
    ts = [int(second * SECOND) for second in seconds]
    base = {"instrument_id": ["A"] * n, "ts_event": ts, "ts_recv": ts, "partition": [0] * n, "offset": list(range(n))}
    return make_batch(topic, base | columns, n)


def trades(seconds: list[float], **columns: Any) -> pa.RecordBatch:
    n = len(seconds)
    price = [10.0 + i for i in range(n)]
    return batch("trades", seconds, **({"price": price, "size": [2.0] * n, "side": [1] * n} | columns))


def run(
    frontier: int = END_OF_TIME, engine: FeatureEngine | None = None, **batches: pa.RecordBatch
) -> tuple[FeatureFrame, list[Any], Refusals]:
    engine = engine or FeatureEngine(CONFIG)
    engine.ensure(2)
    refusals = Refusals()
    codes = {topic: np.zeros(rows.num_rows, dtype=np.int32) for topic, rows in batches.items()}
    frame, late = engine.update(batches, codes, frontier, refusals)
    return frame, late, refusals


def column(frame: FeatureFrame, name: str) -> list[float]:
    return frame.values[:, NAMES.index(name)].tolist()


def why(frame: FeatureFrame, name: str) -> list[Missing]:
    return [Missing(code) for code in frame.missing[:, NAMES.index(name)].tolist()]


def test_feature_set_names_every_column_once():
    frame, _, _ = run(trades=trades([0.1, 1.1]))
    assert frame.values.shape == frame.missing.shape == (3, len(NAMES))
    assert len(set(NAMES)) == len(NAMES)
    assert ((frame.missing == Missing.OK) == np.isfinite(frame.values)).all()


@pytest.mark.parametrize(
    "content",
    [
        {"book": {"depth": 7}},
        {"news": {"half_life": "5m"}},
        {"social": {"min_weight": 0.5}},
        {"features": {"zscore": {"window": 30}}},
    ],
)
def test_feature_set_hash_follows_the_parameters(content):
    assert feature_set(ShardConfig.model_validate(content)).hash != feature_set(ShardConfig()).hash


def test_feature_set_hash_does_not_follow_what_features_do_not_depend_on():
    assert feature_set(ShardConfig(max_instruments=5)).hash == feature_set(ShardConfig()).hash


def test_trades_become_bars_of_every_interval():
    frame, late, refusals = run(trades=trades([0.1, 0.9, 1.5]))
    assert late == []
    assert list(zip(frame.bars.interval_ns.tolist(), frame.bars.close.tolist(), strict=True)) == [
        (SECOND, 11.0),
        (SECOND, 12.0),
        (60 * SECOND, 12.0),
    ]
    assert refusals.counts == {("decoded", "trades", ""): 3}


def test_features_of_an_interval_see_the_bars_of_that_interval_only():
    frame, _, _ = run(trades=trades([0.1, 1.1, 2.1], price=[10.0, 20.0, 40.0]))
    assert column(frame, "log_return")[1:3] == pytest.approx([np.log(2)] * 2)
    assert why(frame, "log_return") == [Missing.WARMING_UP, Missing.OK, Missing.OK, Missing.WARMING_UP]


def test_trade_seen_before_is_refused_and_in_no_bar():
    frame, _, refusals = run(trades=trades([0.1, 0.2, 0.3], trade_id=[7, 7, 8]))
    assert frame.bars.trade_count.tolist() == [2, 2]
    assert refusals.counts == {("decoded", "trades", ""): 2, ("dead_lettered", "trades", "duplicate"): 1}
    [letters] = refusals.rows
    assert letters.batch.column("offset").to_pylist() == [1]


def test_trade_after_its_bar_closed_is_late_once_for_each_bar():
    recv = [int(t * SECOND) for t in (0.5, 90.0)]
    frame, late, refusals = run(trades=trades([0.5, 0.6], ts_recv=recv))
    [rows] = late
    assert rows.table == "late_events"
    assert rows.batch.column("interval_ns").to_pylist() == [SECOND, 60 * SECOND]
    assert frame.bars.trade_count.tolist() == [1, 1]
    assert refusals.counts == {("decoded", "trades", ""): 2, ("late", "trades", "bar_closed"): 1}


def test_bars_close_without_trades_once_the_frontier_passes():
    engine = FeatureEngine(CONFIG)
    first, _, _ = run(SECOND // 2, engine, trades=trades([0.1]))
    second, _, _ = run(5 * SECOND, engine)
    assert len(first.bars) == 0
    assert second.bars.ts.tolist() == [SECOND]


def quotes(seconds: list[float], bid: list[float]) -> pa.RecordBatch:
    n = len(seconds)
    return batch(
        "quotes", seconds, bid_price=bid, bid_size=[1.0] * n, ask_price=[b + 2 for b in bid], ask_size=[1.0] * n
    )


def test_book_is_sampled_before_the_decision_not_at_it():
    frame, _, _ = run(trades=trades([0.1]), quotes=quotes([0.5, 1.0, 1.5], [10.0, 20.0, 30.0]))
    assert column(frame, "mid_price") == [11.0, 31.0]


def test_book_that_never_came_is_missing_and_says_so():
    frame, _, _ = run(trades=trades([0.1]))
    assert why(frame, "mid_price") == [Missing.NO_INPUT] * 2
    assert np.isnan(column(frame, "mid_price")).all()


def test_book_that_is_old_is_stale():
    config = ShardConfig.model_validate({"bars": {"intervals": ["1s", "1m"], "grace": "0s"}, "book": {"max_age": "1s"}})
    frame, _, _ = run(engine=FeatureEngine(config), trades=trades([0.1]), quotes=quotes([0.5], [10.0]))
    assert why(frame, "mid_price") == [Missing.OK, Missing.STALE]


def test_news_counts_from_its_arrival():
    news = batch("news", [0.5, 30.0], news_id=["a", "b"], source=["x"] * 2, headline=["profit beats forecast"] * 2)
    frame, _, refusals = run(trades=trades([0.1]), news=news)
    assert column(frame, "news_intensity")[0] < column(frame, "news_intensity")[1]
    assert why(frame, "social_sentiment") == [Missing.NO_INPUT] * 2
    assert refusals.counts["decoded", "news", ""] == 2


@pytest.mark.parametrize(("topic", "ident", "text"), [("news", "news_id", "headline"), ("social", "post_id", "text")])
def test_text_seen_before_is_refused(topic, ident, text):
    items = batch(topic, [0.1, 0.2], **{ident: ["a", "a"], text: ["$A profit beats forecast"] * 2})
    frame, _, refusals = run(trades=trades([0.3]), **{topic: items})
    assert refusals.counts["dead_lettered", topic, "duplicate"] == 1
    assert column(frame, f"{topic}_intensity")[0] < 1.0


@pytest.mark.parametrize("topic", ["earnings", "options"])
def test_topic_that_no_feature_reads_is_counted(topic):
    _, _, refusals = run(**{topic: batch(topic, [0.1, 0.2])})
    assert refusals.counts == {("decoded", topic, ""): 2}


def test_every_record_is_counted_once():
    books = batch(
        "books", [0.1, 0.2, 0.3], kind=[1, 0, 1], last_sequence=[1, 5, 9], previous_sequence=[None, None, 7],
        bid_prices=[[1.0]] * 3, bid_sizes=[[1.0]] * 3, ask_prices=[[2.0]] * 3, ask_sizes=[[1.0]] * 3,
    )  # fmt: skip
    _, _, refusals = run(books=books, quotes=quotes([0.1], [1.0]), trades=trades([0.4, 0.5], trade_id=[1, 1]))
    total: Counter[str] = Counter()
    for (kind, topic, _), n in refusals.counts.items():
        if kind != "late":
            total[topic] += n
    assert total == {"books": 3, "quotes": 1, "trades": 2}


def test_restored_engine_continues_the_same():
    first, twin = FeatureEngine(CONFIG), FeatureEngine(CONFIG)
    run(5 * SECOND, first, trades=trades([0.1, 1.1, 4.9]), quotes=quotes([0.5, 4.0], [10.0, 11.0]))
    twin.restore(first.snapshot(2))
    later = {"trades": trades([5.1, 6.5], trade_id=[3, 3]), "quotes": quotes([5.5], [12.0])}
    found = [run(END_OF_TIME, engine, **later) for engine in (first, twin)]
    np.testing.assert_array_equal(found[0][0].values, found[1][0].values)
    assert found[0][2].counts == found[1][2].counts


def test_forgotten_instrument_starts_anew():
    engine = FeatureEngine(CONFIG)
    run(120 * SECOND, engine, trades=trades([0.1, 1.1], trade_id=[1, 2]), quotes=quotes([0.5], [10.0]))
    engine.reset(np.zeros(1, dtype=np.int32))
    frame, _, refusals = run(END_OF_TIME, engine, trades=trades([130.0], trade_id=[2]))
    assert why(frame, "mid_price") == [Missing.NO_INPUT] * 2
    assert why(frame, "log_return") == [Missing.WARMING_UP] * 2
    assert refusals.counts == {("decoded", "trades", ""): 1}


def test_groups_of_the_configuration_are_those_registered_in_order():
    assert tuple(GROUPS) == GROUP_NAMES == ShardConfig().features.groups


@pytest.mark.parametrize("left_out", GROUP_NAMES)
def test_group_that_is_left_out_has_no_columns_and_changes_no_other(left_out):
    groups = [name for name in reversed(GROUP_NAMES) if name != left_out]
    bar_strategies: dict[str, Any] = {"enabled": ["mean_reversion"]}
    config = ShardConfig.model_validate(BARS | {"features": {"groups": groups}, "strategies": bar_strategies})
    own = {spec.name for spec in GROUPS[left_out](CONFIG).specs()}
    kept = [n for n, name in enumerate(NAMES) if name not in own]
    assert own
    assert feature_set(config).names == tuple(NAMES[n] for n in kept)
    records = {"trades": trades([0.1, 1.1, 2.2]), "quotes": quotes([0.2, 0.9], [9.0, 9.5])}
    frame, _, _ = run(engine=FeatureEngine(config), **records)
    expected, _, _ = run(**records)
    np.testing.assert_array_equal(frame.values, expected.values[:, kept])
    np.testing.assert_array_equal(frame.missing, expected.missing[:, kept])
