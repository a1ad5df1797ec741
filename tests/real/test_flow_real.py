"""Trade flow on a captured feed: the flags of the venue, and the batch twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dataflows.importers import ImportOptions
from dataflows.importers.binance_capture import BinanceCaptureImporter
from operators.book_features import NAMES, BookFeatureColumns, BookFeatureState
from operators.book_intake import BookIntake
from operators.flow import FlowConfig, FlowGroup, TradeEvents
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from operators.shard_config import BookConfig
from schemas.batches import concat_batches, floats, int8s, times
from schemas.enums import Missing
from schemas.time import END_OF_TIME
from tests.twins.flow import flow_twin

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["spot", "usdm"])
def feed(request: pytest.FixtureRequest, real_data: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of a market and its batches by topic."""
    found: dict[str, list[Any]] = {}
    for path in sorted((real_data / "binance_capture" / request.param).glob("*.gz")):
        for chunk in BinanceCaptureImporter().read(path, ImportOptions()):
            found.setdefault(chunk.topic, []).append(chunk.batch)
    return request.param, {topic: concat_batches(batches) for topic, batches in found.items()}


def frame_of(batches: dict[str, Any], topics: tuple[str, ...], *, flags: bool = True) -> FrameInputs:
    """Return one frame with the book that these topics give, and the trades, with the venue's flags or without."""
    intake, features = BookIntake(BookConfig()), BookFeatureState()
    intake.ensure(1)
    features.ensure(1)
    codes = {topic: np.zeros(batch.num_rows, dtype=np.int32) for topic, batch in batches.items()}
    taken = {topic: batches[topic] for topic in topics}
    book = features.update(intake.update(taken, codes, END_OF_TIME, Refusals()))
    trades = batches["trades"]
    if not flags:
        at = trades.schema.get_field_index("side")
        trades = trades.set_column(at, trades.schema.field(at), pa.nulls(trades.num_rows, pa.int8()))
    return FrameInputs({"trades": trades}, {"trades": codes["trades"]}, END_OF_TIME, book, Refusals())


def events_of(frame: FrameInputs) -> TradeEvents:
    group = FlowGroup(FlowConfig(), 1)
    for state in group.states().values():
        state.ensure(1)
    nothing = np.zeros(0, dtype=np.int32)
    group.update(frame, DecisionColumns(nothing, nothing, np.zeros(0, dtype=np.int64)))
    return group.events


@pytest.mark.parametrize(("topics", "shares"), [(("books",), (0.9432, 0.9596)), (("quotes",), (0.5165, 0.8656))])
def test_lee_ready_agrees_with_the_flags_of_the_venue_where_trades_come_before_the_quotes_that_they_made(
    feed: tuple[str, dict[str, Any]], topics: tuple[str, ...], shares: tuple[float, float]
) -> None:
    """The book comes every 100 ms, behind the trades; best prices come with the trade, and often before it."""
    market, batches = feed
    events = events_of(frame_of(batches, topics, flags=False))
    flags = int8s(batches["trades"], "side")
    share = np.mean(events.sign == flags)
    assert share == pytest.approx(shares[market == "usdm"], abs=1e-4)
    flagged = events_of(frame_of(batches, topics))
    np.testing.assert_array_equal(flagged.sign, flags)


def test_tick_test_alone_agrees_with_the_flags_of_the_venue(feed: tuple[str, dict[str, Any]]) -> None:
    market, batches = feed
    frame = frame_of(batches, ("books",), flags=False)
    nothing = frame.book.take(slice(0, 0))
    events = events_of(FrameInputs(frame.batches, frame.codes, END_OF_TIME, nothing, Refusals()))
    share = np.mean(events.sign == int8s(batches["trades"], "side"))
    assert share == pytest.approx({"spot": 0.9638, "usdm": 0.9685}[market], abs=1e-4)


@pytest.mark.parametrize("classification", ["sign", "bulk"])
def test_flow_of_a_captured_feed_equals_the_batch_twin(feed: tuple[str, dict[str, Any]], classification: str) -> None:
    _, batches = feed
    config = FlowConfig(
        vpin={"classification": classification, "buckets": 10, "bucket_size": 3.1, "bar": "2s", "bars": 20},
        intensity={"baseline_half_life": "30s"},
    )
    frame = frame_of(batches, ("books",), flags=classification == "bulk")
    trades = trade_table(frame)
    quotes = quote_table(frame.book)
    begin, end = int(trades.ts.iloc[0]), int(trades.ts.iloc[-1])
    at = np.linspace(begin, end, 9).astype(np.int64)[1:]
    codes = np.zeros(len(at), dtype=np.int32)
    group = FlowGroup(config, 1)
    for state in group.states().values():
        state.ensure(1)
    values, missing = group.update(frame, DecisionColumns(codes, codes, at))
    expected, names = flow_twin(trades, quotes, pd.DataFrame({"ts": at, "interval": 0}), config)
    assert names == [spec.name for spec in group.specs()]
    for k, name in enumerate(names):
        scale = 1e-9 * np.nanmax(np.abs(expected[:, k]), initial=1e-12)
        np.testing.assert_allclose(values[:, k], expected[:, k], rtol=1e-7, atol=scale, err_msg=name)
    assert (missing == Missing.OK).any(axis=0).all()


def trade_table(frame: FrameInputs) -> pd.DataFrame:
    batch = frame.batches["trades"]
    columns = {"ts": times(batch, "ts_recv"), "ts_event": times(batch, "ts_event")}
    columns |= {name: floats(batch, name) for name in ("price", "size")}
    return pd.DataFrame(columns | {"side": int8s(batch, "side")})


def quote_table(book: BookFeatureColumns) -> pd.DataFrame:
    return pd.DataFrame({"ts": book.ts, "mid": book.values[:, NAMES.index("mid_price")]})
