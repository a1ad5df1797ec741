"""The configuration: checked once, every fault named by its key, and no key without an effect."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bytewax.run import cli_main

from dataflows.graph import build_graph
from dataflows.settings import Settings, load_settings, parse_settings, settings_schema
from dataflows.simulator import FaultConfig, SimulatorConfig, simulate
from dataflows.sources.archive import ArchiveSource
from operators.arrival import Frame
from operators.decode import validate
from operators.shard import ShardState
from schemas.batches import concat_batches, int8s, make_batch, take, times
from schemas.enums import BookKind
from schemas.errors import ConfigError, InputError
from schemas.tables import PUBLISHED
from schemas.time import END_OF_TIME
from sinks.archive import Archive
from sinks.memory import MemoryWriter
from sinks.tables import TableSink
from tests.property.test_strategies_contract import PARAMETERS
from tests.twins import across

DEFAULT = Settings().content()


def leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        path = f"{prefix}.{key}".removeprefix(".")
        if isinstance(value, dict):
            yield from leaves(value, path)
        else:
            yield path, value


def changed(content: dict[str, Any], path: str, value: Any, *, rename: str | None = None) -> dict[str, Any]:
    """Return the content with another value at a path, or with another name for it."""
    content = deepcopy(content)
    *parents, key = path.split(".")
    inner = content
    for parent in parents:
        inner = inner.setdefault(parent, {})
    if rename is not None:
        inner[rename] = inner.pop(key)
    else:
        inner[key] = value
    return content


LEAVES = {path: value for path, value in leaves(DEFAULT) if path != "kafka"}
"""Every key but the optional section of the brokers, which tests/integration/kafka/test_kafka_config.py has."""
EVERY = pytest.mark.parametrize("path", LEAVES)
SCHEMA = settings_schema()


def definition(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a key, and of the section that it is in."""
    section = SCHEMA
    *parents, key = path.split(".")
    for parent in parents:
        inner = section["properties"][parent]
        section = SCHEMA["$defs"][inner["$ref"].rsplit("/", 1)[-1]] if "$ref" in inner else inner
    schema = section["properties"][key]
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            schema = schema | choice | {"nullable": True}
    return schema, section


def refusal(content: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_settings(content, "test.toml")
    return str(caught.value)


def is_duration(path: str) -> bool:
    return "ns|us|ms" in definition(path)[0].get("pattern", "")


OTHER_TYPES: dict[str, list[Any]] = {
    "integer": [None, True, [], {}, "text", "5", 1.5],
    "number": [None, True, [], {}, "text", "5"],
    "string": [None, True, [], {}, 5, 1.5],
    "boolean": [None, 1, [], {}, "true"],
    "array": [None, True, {}, "text", 5, [1], ["text"]],
}


ANY_NAMES = ("universe.members.filters.allow", "universe.members.filters.deny", "universe.cross_section.ranked")
"""Lists of any texts: names of instruments, and of features, which are known only where slices are cut."""


def of_other_types(path: str) -> list[Any]:
    """Return values that a key refuses for their type; a duration refuses most texts too."""
    schema = definition(path)[0]
    found = OTHER_TYPES[schema["type"]]
    if schema.get("items", {}).get("type") == "integer":
        found = [value if value != [1] else [1.5] for value in found]
    if schema.get("items", {}).get("type") == "number":
        found = [value for value in found if value != [1]]
    if path in ANY_NAMES:
        found = [value for value in found if value != ["text"]]
    if schema.get("nullable"):
        found = [value for value in found if value is not None]
    return [*found, "text", "5"] if is_duration(path) else found


@pytest.mark.parametrize(("path", "wrong"), [(path, wrong) for path in LEAVES for wrong in of_other_types(path)])
def test_key_of_another_type_is_refused_and_named(path, wrong):
    message = refusal(changed(DEFAULT, path, wrong))
    assert f"`{path}" in message or f"`{path.rsplit('.', 1)[-1]}`" in message
    assert message.startswith("in `test.toml`: ")
    assert message.endswith("`signalbox config schema` lists every key")


@EVERY
def test_key_misspelt_is_refused_and_named(path):
    wrong = f"{path.rsplit('.', 1)[-1]}x"
    full = ".".join([*path.split(".")[:-1], wrong])
    assert f"expected a known key, found `{full}`" in refusal(changed(DEFAULT, path, None, rename=wrong))


def out_of_range(path: str) -> list[Any]:
    schema = definition(path)[0]
    step = 1 if schema.get("type") == "integer" else 1e-3
    found: list[Any] = []
    if "minimum" in schema:
        found.append(schema["minimum"] - step)
    if "exclusiveMinimum" in schema:
        found.append(schema["exclusiveMinimum"])
    if "maximum" in schema:
        found.append(schema["maximum"] + max(step, abs(schema["maximum"]) / 1024))
    if is_duration(path):
        found += ["-1s", "40000d", "1e9999s", "1ns"]
    return found


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in LEAVES for value in out_of_range(path)])
def test_key_out_of_range_is_refused_and_named(path, value):
    assert path.rsplit(".", 1)[-1] in refusal(changed(DEFAULT, path, value))


def test_key_of_a_number_has_bounds_on_both_sides():
    for path in LEAVES:
        schema = definition(path)[0]
        if schema.get("type") in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & set(schema), f"`{path}` has no lower bound"
            assert {"maximum", "exclusiveMaximum"} & set(schema), f"`{path}` has no upper bound"


@EVERY
def test_key_is_described(path):
    """On the key itself, or in the parameters of its section."""
    own, section = definition(path)
    key = path.rsplit(".", 1)[-1]
    assert own.get("description") or f"\n{key}\n" in section["description"]


def test_sections_are_described():
    for name, section in settings_schema()["$defs"].items():
        assert section.get("description"), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"compute": {"bars": {"intervals": ["1s", "1000ms"]}}}, "expected distinct `intervals` above zero"),
        ({"compute": {"bars": {"intervals": ["0s"]}}}, "expected distinct `intervals` above zero"),
        ({"compute": {"bars": {"intervals": []}}}, "`compute.bars.intervals`"),
        ({"compute": {"bars": {"grace": "-1s"}}}, "`grace` of zero or more"),
        ({"compute": {"bars": {"intervals": ["1ms", "1m"]}}}, "expected at most 4096 bars of an interval open at once"),
        ({"compute": {"bars": {"intervals": ["1m", "400d"]}, "idle_expiry": "900d"}}, "expected bar intervals in"),
        ({"compute": {"bars": {"intervals": ["1s"]}}}, "expected `strategies.mean_reversion.interval` among"),
        ({"compute": {"strategies": {"enabled": ["nothing"]}}}, "expected distinct names among"),
        ({"compute": {"strategies": {"enabled": ["breakout", "breakout"]}}}, "expected distinct names among"),
        ({"compute": {"features": {"groups": ["depth"]}}}, "expected distinct names among ['book', 'flow', 'news',"),
        ({"compute": {"features": {"groups": ["book", "book"]}}}, "in `groups`, was ['book', 'book']"),
        ({"compute": {"features": {"groups": ["book"]}}}, "expected `news` among `features.groups` for the strategies"),
        ({"compute": {"idle_expiry": "66s"}}, "expected `idle_expiry` above 66s"),
        ({"compute": {"bars": {"intervals": ["1m", "7d"]}}}, "expected `idle_expiry` above 604806s"),
        ({"compute": {"book": {"max_age": "0s"}}}, "`compute.book.max_age`"),
        ({"compute": {"news": {"half_life": "0s"}}}, "`compute.news.half_life`"),
        ({"recovery": {"snapshot_interval": "0s"}}, "`recovery.snapshot_interval`"),
        ({"compute": {"strategies": {"mean_reversion": {"exit_zscore": 2.0}}}}, "expected `exit_zscore` below"),
        ({"compute": {"strategies": {"breakout": {"max_holding": "-1s"}}}}, "`strategies.breakout.max_holding`"),
        ({"outputs": {"signals": "t", "predictions": "t"}}, "`outputs`: expected a topic of its own for each table"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(content, message):
    assert message in refusal(content)


def test_every_table_that_can_be_published_has_a_key_for_its_topic():
    assert {path.partition(".")[2] for path in LEAVES if path.startswith("outputs.")} - {
        "max_dead_letters", "dead_letter_window",
    } == {schema.name for schema in PUBLISHED}  # fmt: skip
    named = {schema.name: f"out.{schema.name}" for schema in PUBLISHED}
    assert parse_settings({"outputs": named}, "x").outputs.topics == named
    assert parse_settings({"outputs": {"drift_events": "d"}}, "x").outputs.topics == {"drift_events": "d"}
    assert parse_settings({}, "x").outputs.topics == {}


def test_idle_expiry_just_long_enough_is_taken():
    assert parse_settings({"compute": {"idle_expiry": "66001ms"}}, "x").compute.idle_expiry > timedelta(seconds=66)


def test_several_faults_are_all_named():
    message = refusal({"shards": 0, "sink": {"rows": 1}})
    assert "`shards`" in message
    assert "`sink.rows`" in message


def test_long_wrong_value_is_shown_in_part():
    assert len(refusal({"shards": "x" * 10_000})) < 400


@pytest.mark.parametrize(
    "kafka",
    [
        {"client": {"sasl": {"password": "hunter2"}}, "topics": {"trades": {}}},
        ["hunter2"],
        "hunter2",
        {"brokers": "b:1", "topics": {"trades": {}}, "client": ["hunter2"]},
        {"brokers": "b:1", "topics": {"trades": {}}, "client": {"sasl.password": ["hunter2"]}},
        {"brokers": "b:1", "topics": {"trades": {}}, "client": {"sasl.password": "hunter2"}, "start": "x"},
        {"brokers": "b:1", "topics": {"trades": {}}, "schema_registry": {"password": "hunter2"}},
        {"brokerz": "b:1", "client": {"sasl.password": "hunter2"}},
    ],
)
def test_secret_is_in_no_message(kafka):
    assert "hunter2" not in refusal({"kafka": kafka})


@pytest.mark.parametrize("telemetry", ["hunter2", {"headers": "hunter2"}, {"headers": {"authorization": ["hunter2"]}}])
def test_secret_of_telemetry_is_in_no_message(telemetry):
    assert "hunter2" not in refusal({"telemetry": telemetry})


def test_content_read_again_is_the_same():
    again = parse_settings(DEFAULT, "x")
    assert again == Settings()
    assert again.content_hash() == Settings().content_hash()
    assert json.loads(json.dumps(DEFAULT)) == DEFAULT


@EVERY
def test_content_of_each_section_alone_is_the_default(path):
    section = path.split(".")[0]
    assert parse_settings({section: DEFAULT[section]}, "x") == Settings()


TOML = """
shards = 16

[compute]
max_instruments = 5000
idle_expiry = "36h"

[compute.bars]
intervals = ["250ms", "1m", "1.5h"]
grace = "500ms"

[compute.features.zscore]
window = 30

[compute.strategies]
enabled = ["mean_reversion"]

[compute.strategies.mean_reversion]
entry_zscore = 3          # an integer where a number is expected

[recovery]
snapshot_interval = "10s"
"""


def test_file_is_read(tmp_path):
    path = tmp_path / "signalbox.toml"
    path.write_text(TOML)
    found = load_settings(path)
    assert found.shards == 16
    assert found.compute.bars.content() == {"intervals": ["250ms", "1m", "90m"], "grace": "500ms"}
    assert found.compute.strategies.enabled == ("mean_reversion",)
    assert found.content()["compute"]["strategies"]["mean_reversion"]["entry_zscore"] == 3.0
    assert found.compute.features.zscore.window == 30
    assert parse_settings(found.content(), "x") == found


def test_file_that_is_not_given_means_the_defaults():
    assert load_settings(None) == Settings()


def test_file_that_is_empty_means_the_defaults(tmp_path):
    path = tmp_path / "empty.toml"
    path.touch()
    assert load_settings(path) == Settings()


def test_file_that_is_missing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected a configuration file at .*none.toml"):
        load_settings(tmp_path / "none.toml")


def test_file_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a configuration file at"):
        load_settings(tmp_path)


@pytest.mark.parametrize("content", [b"shards = ", b"\xff\xfe", b"shards = 1\nshards = 2", b"[compute]\n[compute]"])
def test_file_that_is_no_toml_is_refused(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"expected TOML in .*bad.toml"):
        load_settings(path)


@pytest.mark.parametrize("value", ["nan", "inf", "2024-01-01", "1979-05-27T07:32:00Z", "07:32:00", "{}", "[[]]"])
def test_file_with_a_value_that_only_toml_knows_is_refused_by_key(value):
    assert "`compute.book.depth" in refusal(tomllib.loads(f"compute.book.depth = {value}"))
    assert "`compute.news.min_weight" in refusal(tomllib.loads(f"compute.news.min_weight = {value}"))


# --- every key changes something

BASE: dict[str, Any] = {
    "compute": {
        "bars": {"intervals": ["1s", "10s"]},
        "features": {
            "enabled": ["log_return", "zscore", "channel", "relative_volume"],
            "zscore": {"window": 5}, "channel": {"window": 5}, "relative_volume": {"window": 5},
        },
        "flow": {
            "kyle": {"bucket": "1s", "buckets": 20, "min_buckets": 10}, "sweep": {"levels": 2},
            "vpin": {
                "classification": "bulk", "buckets": 5, "bucket_share": 2e-5, "volume_half_life": "20s",
                "volume_warm_up": "5s", "bar": "1s", "bars": 10,
            },
        },
        "news": {"buzz": {"interval": "2s", "half_life": "20s", "min_intervals": 2}},
        "social": {"buzz": {"interval": "2s", "half_life": "20s", "min_intervals": 2}},
        "event_bars": {"ticks": [3], "volumes": [5.0], "notionals": [1e3], "imbalances": [4]},
        "earnings": {"max_reports": 8},
        "options": {"min_sessions": 2, "min_volume_sessions": 2},
        "strategies": {
            "enabled": ["mean_reversion", "breakout", "microstructure_alpha"],
            "mean_reversion": {"interval": "1s", "entry_zscore": 1.0, "exit_zscore": 0.2},
            "breakout": {"interval": "1s", "min_relative_volume": 0.5},
            "microstructure_alpha": {"entry_zscore": 1.0, "warm_up": 20, "half_life": 50, "cooldown": "1s"},
        },
    },
    "universe": {"enabled": False},
}  # fmt: skip
CHANGES: dict[str, Any] = {
    "compute.max_instruments": 2,
    "compute.idle_expiry": "20s",
    "compute.decode.max_ahead": "0s",
    "compute.decode.max_text_bytes": 8,
    "compute.decode.max_symbol_bytes": 3,
    "compute.decode.max_levels": 2,
    "compute.bars.intervals": ["1s", "5s"],
    "compute.bars.grace": "0s",
    "compute.book.depth": 1,
    "compute.book.max_levels": 16,
    "compute.book.max_pending": 1,
    "compute.book.max_age": "50ms",
    "compute.book.features.tick_warm_up": 200,
    "compute.book.features.resiliency_half_life": 400,
    "compute.book.features.imbalance_states": 20,
    "compute.book.features.spread_states": 4,
    "compute.book.features.microprice_refresh": 1000,
    "compute.book.features.microprice_half_life": 100_000,
    "compute.book.features.microprice_min_visits": 20,
    "compute.news.half_life": "1s",
    "compute.news.min_weight": 1.0,
    "compute.social.half_life": "1s",
    "compute.social.min_weight": 1.0,
    "compute.flow.max_quote_age": "1s",
    "compute.flow.max_trade_age": "1s",
    "compute.flow.half_life": "5s",
    "compute.flow.spread.half_life": "5s",
    "compute.flow.spread.horizon": "1s",
    "compute.flow.spread.horizon_steps": 40,
    "compute.flow.vpin.classification": "sign",
    "compute.flow.vpin.buckets": 8,
    "compute.flow.vpin.bucket_size": 5.0,
    "compute.flow.vpin.bucket_share": 4e-5,
    "compute.flow.vpin.volume_half_life": "5s",
    "compute.flow.vpin.volume_warm_up": "20s",
    "compute.flow.vpin.bar": "2s",
    "compute.flow.vpin.bars": 20,
    "compute.flow.kyle.price": "trade",
    "compute.flow.kyle.bucket": "2s",
    "compute.flow.kyle.buckets": 30,
    "compute.flow.kyle.min_buckets": 15,
    "compute.flow.roll.trades": 128,
    "compute.flow.intensity.half_life": "1s",
    "compute.flow.intensity.baseline_half_life": "20s",
    "compute.flow.sweep.window": "1s",
    "compute.flow.sweep.levels": 3,
    "compute.flow.sweep.half_life": "10s",
    "compute.news.story.similarity": 0.1,
    "compute.news.story.window": "1s",
    "compute.news.story.repeat_factor": 0.1,
    "compute.news.story.repeat_half_life": "1s",
    "compute.news.buzz.interval": "5s",
    "compute.news.buzz.half_life": "6s",
    "compute.news.buzz.min_intervals": 4,
    "compute.news.buzz.min_deviation": 5.0,
    "compute.social.story.similarity": 0.1,
    "compute.social.story.window": "1s",
    "compute.social.story.repeat_factor": 0.1,
    "compute.social.story.repeat_half_life": "1s",
    "compute.social.buzz.interval": "5s",
    "compute.social.buzz.half_life": "6s",
    "compute.social.buzz.min_intervals": 4,
    "compute.social.buzz.min_deviation": 5.0,
    "compute.social.damping.window": "1m",
    "compute.social.damping.copies": 3,
    "compute.social.damping.author_share": 0.2,
    "compute.social.damping.min_posts": 64,
    "compute.social.damping.author_rate": 0.5,
    "compute.social.damping.instrument_rate": 1.0,
    "compute.social.damping.retweet_factor": 0.1,
    "compute.social.damping.max_cashtags": 1,
    "compute.social.damping.ambiguous": ["F"],
    "compute.social.damping.ambiguous_factor": 0.5,
    "compute.event_bars.ticks": [4],
    "compute.event_bars.volumes": [9.0],
    "compute.event_bars.notionals": [10000.0],
    "compute.event_bars.imbalances": [5],
    "compute.event_bars.imbalance_span": 5,
    "compute.event_bars.imbalance_bound": 2.0,
    "compute.earnings.window": "1d",
    "compute.earnings.n_reports": 1,
    "compute.earnings.max_reports": 2,
    "compute.earnings.min_estimate": 0.001,
    "compute.earnings.max_age": "1d",
    "compute.earnings.max_overdue": "1d",
    "compute.earnings.calendar": "24/7",
    "compute.options.maturity": "45d",
    "compute.options.far_maturity": "70d",
    "compute.options.maturity_tolerance": 0.05,
    "compute.options.moneyness_band": 0.01,
    "compute.options.rate": 0.05,
    "compute.options.window": 2,
    "compute.options.min_sessions": 4,
    "compute.options.volume_span": 2,
    "compute.options.min_volume_sessions": 4,
    "compute.options.max_contracts": 4,
    "compute.options.max_age": "1h",
    "compute.options.calendar": "24/7",
    "compute.features.enabled": ["zscore", "channel", "relative_volume"],
    "compute.features.groups": ["book", "news"],
    "compute.strategies.enabled": ["breakout"],
    "compute.strategies.mean_reversion.interval": "10s",
    "compute.strategies.mean_reversion.entry_zscore": 1.6,
    "compute.strategies.mean_reversion.exit_zscore": 0.9,
    "compute.strategies.mean_reversion.max_holding": "1s",
    "compute.strategies.mean_reversion.cooldown": "20s",
    "compute.strategies.breakout.interval": "10s",
    "compute.strategies.breakout.max_range": 1e-6,
    "compute.strategies.breakout.min_relative_volume": 3.0,
    "compute.strategies.breakout.max_holding": "1s",
    "compute.strategies.breakout.cooldown": "30s",
    "compute.strategies.microstructure_alpha.entry_zscore": 1.5,
    "compute.strategies.microstructure_alpha.half_life": 5,
    "compute.strategies.microstructure_alpha.warm_up": 200,
    "compute.strategies.microstructure_alpha.min_deviation": 1.0,
    "compute.strategies.microstructure_alpha.max_spread_bps": 0.01,
    "compute.strategies.microstructure_alpha.max_holding": "100ms",
    "compute.strategies.microstructure_alpha.cooldown": "40s",
}
ACROSS: dict[str, Any] = {
    "compute": {
        "bars": {"intervals": ["1m", "2m"]},
        "strategies": {"mean_reversion": {"interval": "1m"}, "breakout": {"interval": "1m"}},
    },
    "universe": {
        "members": {"live_within": "5m", "half_life": "5m", "max_instruments": 12, "idle_expiry": "30m"},
        "cross_section": {
            "weighting": "notional",
            "window": 80, "min_overlap": 20, "max_correlated": 14, "select_every": 40, "correlate_every": 5,
            "min_instruments": 5, "average_span": 10, "half_life": 40, "notional_half_life": 20,
            "sectors": {f"S{number:03}": "odd" if number % 2 else "even" for number in range(14)},
        },
        "strategies": {
            "pairs_trading": {"pairs": [["S000", "S001"], ["S002", "S003"]], "window": 30, "entry_zscore": 1.5},
            "statistical_arbitrage": {
                "window": 80, "min_obs": 60, "test_every": 20, "min_correlation": 0.1, "significance": 0.45,
                "drop_significance": 0.6, "entry_zscore": 1.2, "min_half_life": 0.1, "max_candidates": 100,
            },
            "correlation": {"min_peer_correlation": 0.3, "entry_zscore": 1.5},
        },
    },
    "specialists": {
        "enabled": ["technical", "news"], "horizon": "2m", "tolerance": "1m",
        "learning": {"min_outcomes": 5.0, "min_coverage": 0.2, "half_life": 50},
        "ensemble": {"quorum": 1, "half_life": 50},
    },
    "drift": {"min_instances": 60, "threshold": 10.0, "cooldown": "10m", "delta": 0.01},
}  # fmt: skip
"""Short windows, so that a few hundred minutes have decisions, answers and drifts of every kind."""
ACROSS_KALMAN = "universe.strategies.pairs_trading.process_variance"
"""Only the Kalman filter reads it."""
CHANGES |= {
    "universe.members.interval": "2m",
    "universe.members.live_within": "1s",
    "universe.members.min_coverage": 0.08,
    "universe.members.max_instruments": 7,
    "universe.members.half_life": "1m",
    "universe.members.idle_expiry": "10m",
    "universe.members.max_known": 2,
    "universe.members.filters.min_price": 50.0,
    "universe.members.filters.max_price": 50.0,
    "universe.members.filters.min_volume": 50.0,
    "universe.members.filters.min_notional": 5000.0,
    "universe.members.filters.max_spread_bps": 1.0,
    "universe.members.filters.min_listing_age": "1s",
    "universe.members.filters.allow": ["S000", "S001", "S002", "S003", "S004"],
    "universe.members.filters.deny": ["S005"],
    "universe.cross_section.weighting": "equal",
    "universe.cross_section.notional_half_life": 2,
    "universe.cross_section.half_life": 80,
    "universe.cross_section.min_overlap": 40,
    "universe.cross_section.min_instruments": 30,
    "universe.cross_section.min_sector_instruments": 6,
    "universe.cross_section.max_abs_return": 0.25,
    "universe.cross_section.min_deviation": 0.01,
    "universe.cross_section.average_span": 20,
    "universe.cross_section.ranked": ["bar_return", "rsi"],
    "universe.cross_section.max_correlated": 8,
    "universe.cross_section.window": 160,
    "universe.cross_section.correlate_every": 10,
    "universe.cross_section.select_every": 20,
    "universe.cross_section.shrinkage": "identity",
    "universe.strategies.pairs_trading.spread": "price",
    "universe.strategies.pairs_trading.entry_zscore": 3.0,
    "universe.strategies.pairs_trading.exit_zscore": 1.0,
    "universe.strategies.pairs_trading.stop_zscore": 8.0,
    "universe.strategies.pairs_trading.max_holding": "1s",
    "universe.strategies.pairs_trading.cooldown": "10m",
    "universe.strategies.pairs_trading.max_price_age": "1s",
    "universe.strategies.pairs_trading.max_abs_return": 0.05,
    "universe.strategies.pairs_trading.min_hedge_ratio": 0.5,
    "universe.strategies.pairs_trading.max_hedge_ratio": 0.5,
    "universe.strategies.pairs_trading.pairs": [["S000", "S001"]],
    "universe.strategies.pairs_trading.hedge": "kalman",
    "universe.strategies.pairs_trading.window": 60,
    "universe.strategies.statistical_arbitrage.spread": "price",
    "universe.strategies.statistical_arbitrage.entry_zscore": 2.4,
    "universe.strategies.statistical_arbitrage.exit_zscore": 1.0,
    "universe.strategies.statistical_arbitrage.stop_zscore": 2.0,
    "universe.strategies.statistical_arbitrage.max_holding": "1s",
    "universe.strategies.statistical_arbitrage.cooldown": "3h",
    "universe.strategies.statistical_arbitrage.max_price_age": "1s",
    "universe.strategies.statistical_arbitrage.max_abs_return": 0.01,
    "universe.strategies.statistical_arbitrage.min_hedge_ratio": 1.0,
    "universe.strategies.statistical_arbitrage.max_hedge_ratio": 0.5,
    "universe.strategies.statistical_arbitrage.window": 70,
    "universe.strategies.statistical_arbitrage.min_obs": 79,
    "universe.strategies.statistical_arbitrage.test_every": 10,
    "universe.strategies.statistical_arbitrage.lags": 2,
    "universe.strategies.statistical_arbitrage.min_correlation": 0.8,
    "universe.strategies.statistical_arbitrage.max_candidates": 5,
    "universe.strategies.statistical_arbitrage.significance": 0.01,
    "universe.strategies.statistical_arbitrage.correction": "benjamini_hochberg",
    "universe.strategies.statistical_arbitrage.drop_significance": 0.46,
    "universe.strategies.statistical_arbitrage.max_pairs": 1,
    "universe.strategies.statistical_arbitrage.half_life": 240,
    "universe.strategies.statistical_arbitrage.min_half_life": 5.0,
    "universe.strategies.statistical_arbitrage.max_half_life": 0.5,
    "universe.strategies.statistical_arbitrage.max_half_lives": 2.0,
    "universe.strategies.correlation.lookback": 10,
    "universe.strategies.correlation.min_instruments": 20,
    "universe.strategies.correlation.min_peer_correlation": 0.6,
    "universe.strategies.correlation.min_peers": 10,
    "universe.strategies.correlation.max_peers": 20,
    "universe.strategies.correlation.entry_zscore": 3.0,
    "universe.strategies.correlation.exit_zscore": 1.0,
    "universe.strategies.correlation.stop_zscore": 3.0,
    "universe.strategies.correlation.max_holding": "1s",
    "universe.strategies.correlation.cooldown": "2m",
    "universe.strategies.correlation.max_price_age": "1s",
    "universe.strategies.enabled": ["correlation"],
    "specialists.enabled": ["technical"],
    "specialists.horizon": "1s",
    "specialists.tolerance": "1s",
    "specialists.cost_band_bps": 10.0,
    "specialists.max_pending": 2,
    "specialists.explained_inputs": 10,
    "specialists.learning.half_life": 100,
    "specialists.learning.label_correlation": 0.4,
    "specialists.learning.prior_outcomes": 100.0,
    "specialists.learning.convincing_outcomes": 400.0,
    "specialists.learning.tolerated_error": 0.2,
    "specialists.learning.learning_rate": 0.1,
    "specialists.learning.l2": 0.0002,
    "specialists.learning.max_deviations": 10.0,
    "specialists.learning.min_coverage": 0.4,
    "specialists.learning.min_outcomes": 10.0,
    "specialists.ensemble.half_life": 100,
    "specialists.ensemble.label_correlation": 0.4,
    "specialists.ensemble.prior_outcomes": 100.0,
    "specialists.ensemble.convincing_outcomes": 400.0,
    "specialists.ensemble.tolerated_error": 0.2,
    "specialists.ensemble.quorum": 2,
    "specialists.ensemble.weight_floor": 0.1,
    "specialists.ensemble.skill_outcomes": 200.0,
    "drift.delta": 0.02,
    "drift.cap": 100,
    "drift.allowance": 0.5,
    "drift.threshold": 20.0,
    "drift.min_instances": 120,
    "drift.clip": 8.0,
    "drift.cooldown": "2h",
    ACROSS_KALMAN: 0.1,
}
NO_EFFECT_ON_ROWS = {
    "universe.enabled": "whether anything is computed across instruments; test_universe_switched_off_has_no_rows",
    "universe.members.max_held_rows": "when a run stops, not which rows it has; tests/property/test_universe_laws.py",
    "shards": "which rows come out must not depend on it; tests/laws",
    "sink.batch_rows": "how rows are written, not which",
    "recovery.snapshot_interval": "how often the state is saved",
    "recovery.partitions": "where the state is saved; tests/integration/kafka",
    "recovery.drain": "how long a stop may take; tests/integration/kafka",
    "sink.max_age": "when rows are written, not which",
    "sink.patience": "when a run ends without a database; tests/integration/kafka/test_live_faults.py",
    "outputs.signals": "what is published; tests/integration/kafka/test_live_faults.py",
    "outputs.predictions": "what is published; tests/integration/kafka/test_live_faults.py",
    "outputs.drift_events": "what is published; tests/integration/kafka/test_live_faults.py",
    "outputs.dead_letters": "what is published; tests/integration/kafka/test_live_faults.py",
    "outputs.max_dead_letters": "when a run stops; tests/unit/sinks/test_dead_letter_limit.py",
    "outputs.dead_letter_window": "when a run stops; tests/unit/sinks/test_dead_letter_limit.py",
    "telemetry.endpoint": "where telemetry goes; tests/integration/test_telemetry.py",
    "telemetry.traces": "what is traced; tests/integration/test_telemetry.py",
    "telemetry.metrics_interval": "when metrics are exported; tests/integration/test_telemetry.py",
    "telemetry.logs": "whether logs are exported; tests/integration/test_telemetry.py",
    "telemetry.service_name": "name in the telemetry; tests/integration/test_telemetry.py",
}
NO_EFFECT_ON_ROWS |= {
    path: "tests/property/test_feature_parameters.py has the parameters of every bar feature"
    for path in LEAVES
    if path.startswith("compute.features.") and path not in CHANGES
}
NO_EFFECT_ON_ROWS |= {
    path: "tests/property/test_strategies_contract.py changes every parameter of these"
    for path in LEAVES
    if path.startswith("compute.strategies.") and path.split(".")[2] in PARAMETERS
}
MARKS = ("parameters_hash", "feature_set", "signal_id", "thresholds", "model_version")
"""Columns that only repeat the configuration."""


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, pa.RecordBatch]:
    """A minute and a half of four instruments and a deep book, with what makes every bound count."""
    config = SimulatorConfig(
        seed=5, instruments=4, duration="90s", trade_rate=2.0, book_rate=3.0, snapshot_interval="20s",
        news_rate=400.0, social_rate=400.0, clock_skew="400ms", volatility=2.0,
        faults=FaultConfig(late_trades=4, late_by="5s", sequence_gaps=3),
    )  # fmt: skip
    archive = Archive.create(tmp_path_factory.mktemp("settings") / "archive")
    simulate(config, archive)
    start = int(config.start.timestamp() * 1e9)
    found = {}
    for topic in archive.topics():
        table = pa.concat_tables(pq.read_table(path) for path in archive.files(topic))
        batch = table.unify_dictionaries().combine_chunks().to_batches()[0]
        found[topic] = validate(topic, batch, Settings().compute.decode).accepted
        found[topic] = found[topic].filter(pa.array(~_left_out(topic, found[topic], start)))
    for topic, batch in (*_deep_book(start).items(), *_posts(start).items(), *_week(start + 600 * 10**9).items()):
        both = concat_batches([found[topic], batch]) if topic in found else batch
        found[topic] = take(both, np.argsort(times(both, "ts_recv"), kind="stable"))
    return found


def _left_out(topic: str, batch: pa.RecordBatch, start: int) -> np.ndarray:
    """Return which records are lost: half a minute of one instrument, the first snapshots of another."""
    name = np.array(batch.column("instrument_id").to_pylist())
    seconds = (times(batch, "ts_recv") - start) / 1e9
    lost = (name == "SIM000") & (seconds > 30) & (seconds < 65)
    if topic == "books":
        lost |= (name == "SIM001") & (seconds < 15) & (int8s(batch, "kind") == BookKind.SNAPSHOT)
    return lost


def _deep_book(start: int) -> dict[str, pa.RecordBatch]:
    """Return a book of twenty levels that loses its best sixteen bids, with trades around it."""
    bids, asks = [100.0 - n for n in range(20)], [101.0 + n for n in range(20)]
    ts = [start + 10**9, start + 3 * 10**9]
    common = {"instrument_id": ["DEEP"] * 2, "ts_event": ts, "ts_recv": ts, "partition": [9] * 2, "offset": [0, 1]}
    books = common | {
        "kind": [0, 1], "last_sequence": [1, 2], "bid_prices": [bids, bids[:16]], "bid_sizes": [[1.0] * 20, [0.0] * 16],
        "ask_prices": [asks, []], "ask_sizes": [[1.0] * 20, []],
    }  # fmt: skip
    later = {name: [value + 10**9 for value in ts] for name in ("ts_event", "ts_recv")}
    trades = common | later | {"price": [100.5, 100.5], "size": [1.0, 1.0], "side": [1, 1]}
    return {"books": make_batch("books", books, 2), "trades": make_batch("trades", trades, 2)}


def _posts(start: int) -> dict[str, pa.RecordBatch]:
    """Return posts of which each rule of damping touches some, and trades among them."""
    texts = [
        ("ann", "$CAT profit beats every forecast"), ("bob", "$CAT profit beats every forecast"),
        ("cem", "RT @ann $CAT wins a great contract"), ("dee", "$CAT $F $GM $T $X $Y great profit"),
        ("eva", "my CAT had a terrible loss"), *[("fay", f"$CAT loss number {n} is bad") for n in range(8)],
    ]  # fmt: skip
    n = len(texts)
    ts = [start + (10 + 6 * number) * 10**9 for number in range(n)]
    common = {
        "instrument_id": ["CAT"] * n,
        "ts_event": ts,
        "ts_recv": ts,
        "partition": [9] * n,
        "offset": list(range(n)),
    }
    social = {"post_id": [f"cat-{number}" for number in range(n)], "platform": ["x"] * n}
    social |= {"author": [author for author, _ in texts], "text": [text for _, text in texts]}
    later = {name: [value + 10**8 for value in ts] for name in ("ts_event", "ts_recv")}
    trades = {"price": [50.0] * n, "size": [1.0] * n, "side": [1] * n, "offset": [100 + number for number in range(n)]}
    return {
        "social": make_batch("social", common | social, n),
        "trades": make_batch("trades", common | later | trades, n),
    }


HOUR = 3600 * 10**9


def _week(start: int) -> dict[str, pa.RecordBatch]:
    """Return five sessions of one instrument: a trade every four hours, reports of each kind, a chain of options."""
    hours = np.arange(0, 100, 4)
    price = 100 * np.exp(0.01 * np.sin(hours))
    trades = {"ts_recv": start + hours * HOUR, "price": price, "size": 1.0 + hours % 3, "side": 1 - 2 * (hours % 8 > 0)}
    reports = [
        # hour, id, hour due, estimate, actual
        (0, "past", 1, 2.0, None), (2, "past", 1, 2.0, 2.2), (3, "small", 20, 0.005, None),
        (21, "small", 20, None, 0.02), (22, "slow", 24, 1.0, None), (70, "slow", 24, None, 0.8),
        (23, "soon", 150, 1.0, None),
        (40, "soon", 150, 1.1, None), (41, "later", 800, 1.0, None), (42, "last", 900, 1.0, None),
        (43, "next", 120, 1.5, None), (60, "soon", 150, 1.2, None),
    ]  # fmt: skip
    hour, ids, due, estimate, actual = zip(*reports, strict=True)
    earnings = {
        "ts_recv": start - HOUR // 2 + np.array(hour) * HOUR, "report_id": list(ids),
        "ts_report": start + np.array(due) * HOUR, "eps_estimate": list(estimate), "eps_actual": list(actual),
    }  # fmt: skip
    options = [
        {
            "ts_recv": start + at * HOUR - 10**9, "contract_id": f"EVT-{days}-{strike}-{right}",
            "ts_expiry": start + days * 24 * HOUR, "strike": float(strike), "right": right,
            "price": max(right * (100.0 - strike), 0.0) + 0.02 * days * (1 + 0.1 * np.cos(at)),
            "volume": float(1 + (7 * at + strike + 3 * right) % 19 * (1 + at % 12)),
            "open_interest": float(50 + at + strike % 7),
            "implied_volatility": None if days == 34 else 0.2 + 0.05 * np.sin(at / 5) + 0.001 * abs(strike - 98),
            "delta": None, "underlying_price": float(price[at // 4]),
        }
        for at in hours.tolist() if at != 48
        for days in (34, 60, 120) for strike in (92, 97, 104, 109) for right in (-1, 1)
    ]  # fmt: skip
    chain = {name: [option[name] for option in options] for name in options[0]}
    found = {}
    for topic, columns in (("trades", trades), ("earnings", earnings), ("options", chain)):
        n = len(columns["ts_recv"])
        common = {"instrument_id": ["EVT"] * n, "ts_event": columns["ts_recv"], "partition": [9] * n}
        plain = {name: list(column) for name, column in (common | columns).items()}
        found[topic] = make_batch(topic, plain | {"offset": list(range(500, 500 + n))}, n)
    return found


def rows_of(content: dict[str, Any], records: dict[str, pa.RecordBatch]) -> dict[str, list[str]]:
    """Return the rows of every table, without what only repeats the configuration."""
    compute = parse_settings(content, "x").compute
    state = ShardState(compute)
    found: dict[str, list[str]] = {}
    first = min(int(times(batch, "ts_recv")[0]) for batch in records.values())
    bounds = [-1, *(first + n * 20 * 10**9 for n in range(1, 5)), END_OF_TIME]
    for low, high in pairwise(bounds):
        batches = {}
        for topic, batch in records.items():
            cut = slice(*np.searchsorted(times(batch, "ts_recv"), [low, high]).tolist())
            part = validate(topic, batch.slice(cut.start, cut.stop - cut.start), compute.decode)
            found.setdefault("dead_letters", []).extend(map(str, part.rejected.to_pylist()))
            if part.accepted.num_rows:
                batches[topic] = part.accepted
        for output in state.update(Frame(high, batches)):
            if not isinstance(output, dict):
                rows = output.batch.drop_columns([name for name in MARKS if name in output.batch.schema.names])
                found.setdefault(output.table, []).extend(map(str, rows.to_pylist()))
    return {table: sorted(rows) for table, rows in found.items()}


@pytest.fixture(scope="module")
def base_rows(records) -> dict[str, list[str]]:
    return rows_of(BASE, records)


def test_every_key_is_changed_or_excused():
    assert set(CHANGES) | set(NO_EFFECT_ON_ROWS) == set(LEAVES)
    assert not set(CHANGES) & set(NO_EFFECT_ON_ROWS)


def test_base_market_reaches_every_table(base_rows):
    filled = {name for name, rows in base_rows.items() if rows}
    assert filled == {"bars", "event_bars", "features", "signals", "dead_letters", "late_events"}


ACROSS_ROWS = {
    "universe": across.universe_rows,
    "specialists": across.specialist_rows,
    "drift": across.drifts,
}


def across_rows(content: dict[str, Any], section: str) -> dict[str, list[str]]:
    """Return the rows that a section decides, without what only repeats the configuration."""
    found: dict[str, list[str]] = {}
    for rows in ACROSS_ROWS[section](parse_settings(content, "x")):
        own = rows.batch.drop_columns([name for name in MARKS if name in rows.batch.schema.names])
        found.setdefault(rows.table, []).extend(map(str, own.to_pylist()))
    return found


@pytest.fixture(scope="module")
def across_base_rows() -> dict[str, dict[str, list[str]]]:
    return {section: across_rows(ACROSS, section) for section in ACROSS_ROWS}


def test_base_universe_reaches_every_table(across_base_rows):
    assert {section: set(rows) for section, rows in across_base_rows.items()} == {
        "universe": {"cross_section", "signals"},
        "specialists": {"predictions", "outcomes"},
        "drift": {"drift_events"},
    }


def _is_across(path: str) -> bool:
    return path.split(".")[0] in ACROSS_ROWS


@pytest.mark.parametrize("path", [path for path in CHANGES if _is_across(path)])
def test_key_changes_the_rows_across_instruments(path, across_base_rows):
    section = path.split(".")[0]
    base, expected = ACROSS, across_base_rows[section]
    if path == ACROSS_KALMAN:
        base = changed(ACROSS, "universe.strategies.pairs_trading.hedge", "kalman")
        expected = across_rows(base, section)
    assert across_rows(changed(base, path, CHANGES[path]), section) != expected


def test_base_universe_twice_gives_the_same_rows(across_base_rows):
    assert {section: across_rows(ACROSS, section) for section in ACROSS_ROWS} == across_base_rows


@pytest.mark.parametrize("enabled", [True, False])
def test_universe_switched_off_has_no_rows(enabled, tmp_path):
    archive = Archive.create(tmp_path / "archive")
    simulate(SimulatorConfig(instruments=2, duration="5s", book_rate=1.0), archive)
    writer = MemoryWriter()
    source = ArchiveSource(archive, batch_rows=100_000)
    content = changed(ACROSS, "universe.enabled", enabled)
    content["compute"]["bars"]["intervals"] = ["1s", "1m"]
    flow = build_graph(parse_settings(content, "x"), source, source.sources, TableSink(lambda: writer, lambda: 0))
    cli_main(flow)
    writer.flush()
    assert len(writer.rows("bars")) > 0
    assert bool(writer.rows("cross_section")) is enabled


@pytest.mark.parametrize("path", [path for path in CHANGES if not _is_across(path)])
def test_key_changes_the_rows(path, records, base_rows):
    assert rows_of(changed(BASE, path, CHANGES[path]), records) != base_rows


def test_base_twice_gives_the_same_rows(records, base_rows):
    assert rows_of(BASE, records) == base_rows
