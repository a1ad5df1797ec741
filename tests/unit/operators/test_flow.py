"""Trade flow by hand: small cases with known answers, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from operators.book_features import NAMES, BookFeatureColumns
from operators.flow import FlowConfig, FlowGroup
from operators.flow.quotes import PrevailingQuoteState
from operators.refusals import Refusals
from operators.sampled import DecisionColumns, FrameInputs
from schemas.batches import make_batch
from schemas.enums import Missing
from schemas.errors import InvariantError

SECOND = 10**9
START = 1_000 * SECOND


def book(*rows: tuple[float, float]) -> BookFeatureColumns:
    """Return updates `(second, mid)` of one instrument."""
    values = np.full((len(rows), len(NAMES)), np.nan)
    values[:, NAMES.index("mid_price")] = [mid for _, mid in rows]
    ts = np.array([START + int(second * SECOND) for second, _ in rows], dtype=np.int64)
    return BookFeatureColumns(np.zeros(len(rows), np.int32), ts, values, np.isnan(values).astype(np.uint8))


def trades(*rows: tuple[float, float, float, int]) -> pa.RecordBatch:
    """Return trades `(second, price, size, side)` of one instrument."""
    second, price, size, side = zip(*rows, strict=True)
    ts = np.array([START + int(value * SECOND) for value in second], dtype=np.int64)
    columns = {"ts_recv": ts, "ts_event": ts, "price": price, "size": size, "side": side}
    return make_batch("trades", columns, len(rows))


def sample(
    group: FlowGroup, batch: pa.RecordBatch, updates: BookFeatureColumns, *seconds: float
) -> list[dict[str, float | str]]:
    """Return the value of each feature, or why there is none, at these seconds."""
    for state in group.states().values():
        state.ensure(1)
    code, at = np.zeros(len(seconds), np.int32), np.array([START + int(s * SECOND) for s in seconds], dtype=np.int64)
    codes = {"trades": np.zeros(batch.num_rows, np.int32)}
    frame = FrameInputs({"trades": batch}, codes, int(at[-1]), updates, Refusals())
    values, missing = group.update(frame, DecisionColumns(code, code, at))
    names = [spec.name for spec in group.specs()]
    return [
        {n: float(v) if m == 0 else Missing(m).name for n, v, m in zip(names, row, why, strict=True)}
        for row, why in zip(values, missing, strict=True)
    ]


def test_trade_events_have_quote_and_sign():
    group = FlowGroup(FlowConfig(), 1)
    assert len(group.events) == 0
    sample(group, trades((1, 10.0, 1, 0), (1, 10.1, 2, 0), (2, 9.9, 1, 1)), book((1, 10.05), (2, 10.0)), 3)
    assert group.events.mid.tolist() == [10.05, 10.05, 10.0]
    assert group.events.sign.tolist() == [-1, 1, 1], "the flag of the exchange goes before the quote"


def test_effective_spread_is_realised_spread_and_impact():
    """Bought at 10.05, mid 10 then and 10.02 at the horizon: of 100 bps, 60 were kept and 40 moved the market."""
    updates = book((0, 10.0), (4, 10.02))
    rows = sample(FlowGroup(FlowConfig(), 1), trades((1, 10.05, 3, 0)), updates, 2, 6.25, 6.3)
    assert rows[0]["effective_spread_bps"] == pytest.approx(100.0)
    assert rows[0]["realized_spread_bps"] == rows[1]["realized_spread_bps"] == "WARMING_UP"
    assert rows[2]["realized_spread_bps"] == pytest.approx(60.0)
    assert rows[2]["price_impact_bps"] == pytest.approx(40.0)


def test_vpin_splits_a_trade_over_buckets():
    config = FlowConfig(vpin={"buckets": 3, "bucket_size": 10.0})
    batch = trades((1, 10.0, 4, 1), (2, 10.0, 16, -1), (3, 10.0, 12, 1))
    rows = sample(FlowGroup(config, 1), batch, book(), 3, 4)
    assert rows[0]["vpin"] == "WARMING_UP"
    assert rows[1]["vpin"] == pytest.approx((2 + 10 + 10) / 30)


def test_sweep_is_made_by_its_last_level_and_grows_with_its_run():
    batch = trades(
        (1, 10.0, 2, -1), (5, 10.0, 1, 1), (5, 10.1, 1, 1), (5, 10.1, 1, 1), (5, 10.2, 2, 1), (5.04, 10.2, 3, 1)
    )
    rows = sample(FlowGroup(FlowConfig(), 1), batch, book(), 5, 5.02, 7)
    assert rows[0]["sweep_direction"] == "NO_INPUT"
    assert (rows[1]["sweep_count_decayed"], rows[1]["sweep_direction"]) == (pytest.approx(1.0, abs=1e-4), 1.0)
    assert (rows[1]["sweep_size"], rows[2]["sweep_size"]) == (pytest.approx(2.5), pytest.approx(4.0))
    assert rows[2]["sweep_age"] == pytest.approx(2.0)


def test_kyle_lambda_of_exact_impact_is_that_impact():
    """The mid moves 0.01 for a unit of signed volume: lambda is exact, and a perfect fit has no t-statistic."""
    sizes = [1, -2, 3, -1, 2, -3]
    mids = 10.0 + 0.01 * np.cumsum(sizes)
    updates = book((0, 10.0), *((k + 1.5, mid) for k, mid in enumerate(mids)))
    batch = trades(*((k + 1.25, 10.0, abs(size), int(np.sign(size))) for k, size in enumerate(sizes)))
    config = FlowConfig(kyle={"bucket": "1s", "buckets": 6, "min_buckets": 5})
    row = sample(FlowGroup(config, 1), batch, updates, 7)[0]
    assert row["kyle_lambda"] == pytest.approx(0.01)
    assert row["kyle_lambda_t"] == "DEGENERATE"


def test_flow_goes_stale_and_comes_back():
    batch = trades((1, 10.0, 1, 1), (1_000, 10.0, 1, -1))
    rows = sample(FlowGroup(FlowConfig(), 1), batch, book((0, 9.0)), 2, 950, 1_001)
    assert [row["volume_imbalance_decayed"] for row in rows] == [1.0, "STALE", pytest.approx(-1.0, abs=1e-4)]
    assert rows[1]["signed_volume"] == "NO_INPUT"
    assert rows[2]["effective_spread_bps"] == "STALE", "the quote was too old for the second trade"


def test_decision_behind_a_record_is_refused():
    group = FlowGroup(FlowConfig(), 1)
    sample(group, trades((5, 10.0, 1, 1)), book(), 6)
    with pytest.raises(InvariantError, match=r"expected the decision of instrument code 0 at .* before its records"):
        sample(group, trades((7, 10.0, 1, 1)), book(), 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"spread": {"horizon": "1us", "horizon_steps": 3}}, "expected `horizon_steps` that divide `horizon`"),
        ({"kyle": {"buckets": 10, "min_buckets": 11}}, "expected `min_buckets` of at most 10"),
        ({"intensity": {"half_life": "10m"}}, "expected `baseline_half_life` above 10m"),
        ({"half_life": "1s"}, "expected `max_trade_age` of at most 400 times `half_life`, was 15m"),
    ],
)
def test_flow_config_refuses_what_does_not_fit(content, message):
    with pytest.raises(ValidationError, match=message):
        FlowConfig.model_validate(content)


def test_quote_age_below_a_nanosecond_is_refused():
    with pytest.raises(ValueError, match="expected `max_age_ns` of at least 1, was 0"):
        PrevailingQuoteState(0)
