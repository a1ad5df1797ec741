from __future__ import annotations

import pytest
from pydantic import ValidationError

from dataflows.simulator import SimulatorConfig
from dataflows.simulator.payloads import BAD_REASONS, bad_payload
from dataflows.simulator.streams import PURPOSES, random_stream
from schemas.enums import DeadLetterReason
from schemas.records import TOPICS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "2026-01-05T14:30:00"}, "timezone"),
        ({"duration": 60}, "expected a duration as text"),
        ({"instruments": 4, "pairs": 3}, "`pairs`: expected at most 2 with 4 instruments, was 3"),
        ({"instruments": 4, "earnings": 5}, "`earnings`: expected at most 4"),
        ({"instruments": 4, "l2_instruments": 5}, "`l2_instruments`: expected at most 4"),
        ({"instruments": 4, "option_instruments": 5}, "`option_instruments`: expected at most 4"),
        ({"duration": "2m", "faults": {"late_trades": 1}}, "expected less than 80 % of `duration`"),
        ({"l2_instruments": 0, "faults": {"sequence_gaps": 1}}, "expected `l2_instruments` above 0"),
        ({"faults": {"late": 1}}, "Extra inputs are not permitted"),
        ({"volatility": float("nan")}, "finite number"),
        ({"clock_skew": "1s"}, "less than or equal to"),
    ],
)
def test_config_inconsistent_refused(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        SimulatorConfig.model_validate(settings)


def test_config_content_reads_back() -> None:
    config = SimulatorConfig(news_lead="-3s", pairs=1, start="2026-03-02T10:00:00+01:00")
    assert SimulatorConfig.model_validate(config.content()) == config
    assert config.start_ns == 1_772_442_000 * 10**9


def test_config_slices_bounded_by_events() -> None:
    assert SimulatorConfig(instruments=2, pairs=0).slice_steps == 600
    assert SimulatorConfig(instruments=10_000).slice_steps == 10
    assert SimulatorConfig(instruments=1000).slice_steps == 90


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("reason", BAD_REASONS)
def test_bad_payload_variants_differ_from_each_other_only_by_intent(topic, reason) -> None:
    first = bad_payload(topic, reason, "SIM001", 5, 0)
    assert first == bad_payload(topic, reason, "SIM001", 5, 6)
    assert first != bad_payload(topic, reason, "SIM002", 5, 0) or reason is DeadLetterReason.MALFORMED


def test_bad_payload_unknown_reason_refused() -> None:
    with pytest.raises(ValueError, match="expected a reason among"):
        bad_payload("trades", DeadLetterReason.DUPLICATE, "SIM001", 5, 0)


def test_random_streams_differ_by_purpose_and_seed() -> None:
    draws = {(seed, purpose): random_stream(seed, purpose).integers(2**62) for seed in (1, 2) for purpose in PURPOSES}
    assert len(set(draws.values())) == len(draws)
