"""The catalogue: everything registered is shown by the command and on a page with a plot, from one source."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataflows import catalogue as package
from dataflows.catalogue import FeatureEntry, StrategyEntry, collect
from dataflows.catalogue.keys import every_key
from dataflows.commands.catalogue import run_catalogue
from models.specialists import ENSEMBLE, SPECIALISTS
from operators.cross_section import CrossSectionConfig, cross_section_set
from operators.feature_engine import feature_set
from operators.feature_groups import GROUPS
from operators.features import BAR_FEATURES
from operators.shard_config import ShardConfig
from operators.strategies import STRATEGIES
from operators.strategies.universe_registry import UNIVERSE_STRATEGIES
from schemas.config import ComponentConfig
from schemas.enums import Missing
from schemas.errors import ConfigError, ExitCode
from scripts import catalogue_pages
from scripts.generate_plots import same, stale
from scripts.plots.day import Day
from scripts.plots.draw import draw
from scripts.plots.figure import Figure, Line, Mark, Panel
from scripts.plots.places import FOLDER, caption, feature_plots

SVG = "{http://www.w3.org/2000/svg}"
DOCS = Path(__file__).resolve().parents[3] / "docs"
CATALOGUE = collect()
REGISTERED = {
    "features": [*feature_set(ShardConfig()).names, *cross_section_set(CrossSectionConfig()).names],
    "strategies": [*STRATEGIES, *UNIVERSE_STRATEGIES],
    "specialists": [*SPECIALISTS, ENSEMBLE],
}
KINDS = pytest.mark.parametrize("kind", REGISTERED)
ITEMS = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in REGISTERED.items() for name in names]
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A terminal of the usual width, in which names must not be broken."""
    monkeypatch.setenv("COLUMNS", "80")


def printed(capsys, *arguments: str | None) -> str:
    run_catalogue(*(*arguments, None, None)[:2], as_json=False)
    return capsys.readouterr().out


def as_json(capsys, kind: str | None = None, name: str | None = None) -> dict:
    run_catalogue(kind, name, as_json=True)
    return json.loads(capsys.readouterr().out)


# --- what is collected


@KINDS
def test_catalogue_has_everything_registered_in_order(kind):
    assert list(CATALOGUE.kinds()[kind]) == REGISTERED[kind]


def test_families_are_those_registered():
    assert list(CATALOGUE.families) == [*BAR_FEATURES, *GROUPS, "cross_section"]


@pytest.mark.parametrize("family", CATALOGUE.families.values(), ids=lambda family: family.name)
def test_family_says_what_it_is_and_when_a_value_is_missing(family):
    assert family.summary
    assert family.text
    assert family.notes
    assert all(key.meaning and key.bounds for key in family.keys)
    assert all(spec.formula and spec.unit and spec.reference for spec in family.specs)


@pytest.mark.parametrize("entry", CATALOGUE.strategies.values(), ids=lambda entry: entry.name)
def test_strategy_says_its_rule_and_reasons(entry):
    assert entry.summary
    assert entry.text
    assert entry.reasons
    assert entry.keys
    assert all(key.meaning for key in entry.keys)


def test_strategy_that_can_not_decide_at_first_says_why():
    assert CATALOGUE.strategies["pairs_trading"].inactive == "no pairs are configured"
    assert CATALOGUE.strategies["mean_reversion"].inactive is None


def test_specialist_input_is_its_formula():
    inputs = dict(CATALOGUE.specialists["technical"].inputs)
    assert inputs["zscore_in_trend"] == "tanh(zscore / 2) * tanh((adx - 25) / 15)"
    assert inputs["ewma_volatility"] == "tanh((ln(ewma_volatility) + 7) / 1.5)"


def test_key_without_default_is_not_set():
    class Section(ComponentConfig):
        least: float | None = None

    (key,) = every_key(Section)
    assert (key.written, key.bounds) == ("not set", "number or not set")


def test_new_strategy_is_picked_up_from_the_registry(monkeypatch):
    class Again(STRATEGIES["breakout"]):
        """Another."""

        name = "again"

    monkeypatch.setitem(STRATEGIES, "again", Again)
    found = package.collect().strategies["again"]
    assert isinstance(found, StrategyEntry)
    assert found.section == "compute.strategies.again"
    assert "## again\n" in catalogue_pages.strategies()


# --- the command


def test_overview_names_everything(capsys):
    words = set(re.findall(r"\w+", printed(capsys)))
    assert words >= {name for names in REGISTERED.values() for name in names}


@KINDS
def test_list_of_a_kind_has_a_row_for_each(capsys, kind):
    rows = {line.split(" ")[0] for line in printed(capsys, kind).splitlines()}
    assert rows >= set(REGISTERED[kind])


@ITEMS
def test_item_is_shown_with_its_parameters(capsys, kind, name):
    text = printed(capsys, kind, name)
    (item,) = CATALOGUE.named(kind, name)
    assert text.startswith(name)
    described = item.family if isinstance(item, FeatureEntry) else item
    assert f"[{described.section}]" in text or not described.keys
    words = re.findall(r"[\w.]+", text)
    assert {key.name for key in described.keys} <= set(words)


def test_family_shows_each_of_its_features(capsys):
    text = printed(capsys, "features", "bollinger")
    assert all(f"\n{spec.name} " in f"\n{text}" for spec in CATALOGUE.families["bollinger"].specs)


def test_strategy_shows_reasons_and_what_it_reads(capsys):
    text = printed(capsys, "strategies", "breakout")
    assert all(reason in text for reason in STRATEGIES["breakout"].reasons)
    assert all(need in text for need in STRATEGIES["breakout"].needs)


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("features", "rsj", "rsi"), ("features", "bolinger", "bollinger"), ("strategies", "brakeout", "breakout"),
     ("specialists", "new", "news")],
)  # fmt: skip
def test_unknown_name_is_refused_with_near_names(kind, name, near):
    with pytest.raises(
        ConfigError, match=rf"expected the name of one of the {kind}, found `{name}`; .*`{near}`"
    ) as error:
        CATALOGUE.named(kind, name)
    assert error.value.exit_code == ExitCode.CONFIG


def test_name_that_is_near_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"found `qqqqqq`; `signalbox catalogue strategies` lists them"):
        CATALOGUE.named("strategies", "qqqqqq")


KEY = {"name", "default", "bounds", "meaning"}
SCHEMA = {
    "features": {
        "name", "unit", "formula", "reference", "inputs", "values", "warm_up", "family", "source", "summary",
    },
    "families": {
        "name", "source", "section", "summary", "text", "notes", "references", "keys", "features",
    },
    "strategies": {
        "name", "on", "decides_on", "section", "summary", "text", "notes", "needs", "derived", "compares", "reasons",
        "warm_up", "inactive", "references", "keys",
    },
    "specialists": {
        "name", "section", "summary", "text", "notes", "needs", "inputs", "required", "answers", "warm_up",
        "references", "keys",
    },
}  # fmt: skip


def test_json_overview_names_everything(capsys):
    assert as_json(capsys) == REGISTERED


@KINDS
def test_json_of_a_kind_has_everything_with_stable_keys(capsys, kind):
    content = as_json(capsys, kind)
    assert [item["name"] for item in content[kind]] == REGISTERED[kind]
    assert content.keys() == ({"features", "families"} if kind == "features" else {kind})
    for part, items in content.items():
        assert all(item.keys() == SCHEMA[part] for item in items)
        assert all(key.keys() == KEY for item in items for key in item.get("keys", ()))


@pytest.mark.parametrize("name", ["rsi", "vpin", "market_beta"])
def test_json_of_one_feature_has_its_family(capsys, name):
    content = as_json(capsys, "features", name)
    assert [item["name"] for item in content["features"]] == [name]
    assert [name in family["features"] for family in content["families"]] == [True]


# --- the pages and their plots


@ITEMS
def test_page_names_the_item(kind, name):
    page = (DOCS / f"{kind}.md").read_text()
    assert f"| `{name}` |" in page if kind == "features" else f"\n## {name}\n" in page


PLOTS = [
    *(plot.path for family in CATALOGUE.families.values() for plot in feature_plots(family)),
    *(f"strategies/{name}.svg" for name in CATALOGUE.strategies),
    *(f"specialists/{name}.svg" for name in CATALOGUE.specialists),
]


def test_pages_show_exactly_the_plots_that_there_are():
    shown = [
        path for kind in REGISTERED for path in re.findall(r"\]\(plots/(\S+)\)", (DOCS / f"{kind}.md").read_text())
    ]
    assert shown == PLOTS
    assert sorted(shown) == sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.*"))


@pytest.mark.parametrize("path", PLOTS)
def test_plot_is_small_well_formed_and_described(path):
    text = (FOLDER / path).read_text()
    root = ET.fromstring(text)
    assert root.find("{*}title").text.endswith("on the synthetic day")
    assert root.find("{*}desc").text == caption(path)
    assert len(text) < 24_000
    assert "time, UTC" in text
    points = [element.get("d").count("l") for element in root.iter(SVG + "path")]
    assert 200 < max(points) <= 300


@pytest.mark.parametrize("family", CATALOGUE.families.values(), ids=lambda family: family.name)
def test_each_feature_of_a_family_is_in_one_plot_by_name(family):
    plots = feature_plots(family)
    assert [spec for plot in plots for spec in plot.specs] == list(family.specs)
    for plot in plots:
        assert all(re.search(rf"\b{spec.name}\b", caption(plot.path)) for spec in plot.specs)


@pytest.mark.parametrize("name", REGISTERED["strategies"])
def test_plot_of_a_strategy_says_its_signals_or_that_there_is_none(name):
    assert re.search(r"\d+ entries .* \d+ exits|No signal on this day", caption(f"strategies/{name}.svg"))


def test_missing_plot_says_so_on_the_page(tmp_path):
    assert caption("features/x.svg", tmp_path) == "expected a plot here, found none; run `make docs`"


def test_day_without_values_signals_and_answers_is_drawn_and_says_so():
    names = ["close", *REGISTERED["features"]]
    ts = np.arange(3) * 60 * 10**9
    columns = {name: np.full((1, 3), 20.0 if name == "close" else np.nan) for name in names}
    missing = {name: np.full((1, 3), Missing.STALE, np.uint8) for name in names}
    plots = draw(CATALOGUE, Day(ts, ("A",), columns, missing, [], [], []))
    assert list(plots) == PLOTS
    assert "No signal on this day." in plots["strategies/breakout.svg"]
    assert "No answer on this day." in plots["specialists/news.svg"]
    assert "No value on this day: rsi." in plots["features/rsi.svg"]
    assert ">no value on this day: stale</text>" in plots["features/rsi.svg"]


def test_signals_and_outcomes_are_marked_and_counted():
    names = ["close", *REGISTERED["features"]]
    ts = np.arange(3) * 60 * 10**9
    columns = {name: np.full((2, 3), 20.0) for name in names}
    missing = {name: np.zeros((2, 3), np.uint8) for name in names}
    signals = [("breakout", "B", 0, "long", "enter", 20.0), ("breakout", "B", int(ts[1]), "long", "exit", 21.0)]
    answers = [("news", "B", 0, 0.6), ("news", "B", int(ts[1]), 0.7)]
    outcomes = [("news", "B", 0, "rise", 0.6), ("news", "B", int(ts[1]), "within_cost", 0.7)]
    plots = draw(CATALOGUE, Day(ts, ("A", "B"), columns, missing, signals, answers, outcomes))
    assert "instrument B: 1 entries" in plots["strategies/breakout.svg"]
    assert "and 1 exits" in plots["strategies/breakout.svg"]
    assert "2 answers, of which 1 were followed by a rise" in plots["specialists/news.svg"]
    assert plots["specialists/news.svg"].count("v-80") == 1


FIGURE = Figure(
    "a < b", "d", np.array([0, 60, 120]) * 10**9,
    [Panel("p", [Line("p", np.array([1.0, np.nan, 2.0])), Line("q", np.array([1.0, 1.5, 2.0]))],
           [Mark(60 * 10**9, 1.5, "up", "#000")]),
     Panel("q", [Line("q", np.full(3, np.nan))], note="no value on this day: stale")],
)  # fmt: skip


def test_figure_is_the_same_bytes_each_time_and_escapes_text():
    assert FIGURE.svg() == FIGURE.svg()
    root = ET.fromstring(FIGURE.svg())
    assert root.find("{*}title").text == "a < b"


def test_figure_breaks_a_line_where_there_is_no_value_and_says_what_is_absent():
    root = ET.fromstring(FIGURE.svg())
    lines = [element.get("d") for element in root.iter(SVG + "path") if element.get("class") != "f"]
    assert lines[0].count("M") == 2
    assert lines[1].count("M") == 1
    assert "no value on this day: stale" in [element.text for element in root.iter(SVG + "text")]


def test_plots_are_the_same_within_a_fifth_of_a_pixel_only():
    moved = replace(FIGURE, panels=[replace(FIGURE.panels[0], height=71), FIGURE.panels[1]])
    assert same(FIGURE.svg(), FIGURE.svg())
    assert not same(FIGURE.svg(), moved.svg())
    assert same('<path d="M10 5l2-3"/>', '<path d="M11 5l2 1"/>') is False
    assert same('<path d="M10 5l2-3"/>', '<path d="M12 4l2-1"/>')
    assert same('<path d="M10 5l2 0"/>', '<path d="M10 5l2-1"/>')
    assert not same('<path d="M10 5l2 0"/>', '<path d="M10 5l2 0l1 1"/>')
    assert not same("<desc>3 exits</desc>", "<desc>4 exits</desc>")


def test_stale_plots_are_those_missing_too_many_or_differing(tmp_path):
    for name, text in {"a": "1", "b": "2", "d": "4"}.items():
        (tmp_path / f"{name}.svg").write_text(text)
    assert stale({"a.svg": "1", "b.svg": "3", "c.svg": "5"}, tmp_path) == ["b.svg", "c.svg", "d.svg"]
