"""What the pages say holds: generated ones are current, examples run, commands and links exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dataflows.cli import app
from dataflows.importers.table_map import load_map
from dataflows.settings import Settings, load_settings
from dataflows.sources.kafka_config import KafkaConfig, KafkaTopic, SchemaRegistryConfig
from operators.feature_engine import feature_set
from operators.shard_config import ShardConfig
from operators.strategies import STRATEGIES
from schemas.metrics import CATALOGUE
from scripts import generate_docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EVERY = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(page: Path, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Return the command lines of `signalbox` in a page's blocks, without what a shell takes from them."""
    lines = [line.removeprefix("$ ") for block in blocks(page) for line in block.splitlines()]
    found = [shlex.split(line.split(" > ")[0], comments=True) for line in lines if re.match(r"(\S*/)?signalbox ", line)]
    return [words[1:] for words in found]


# --- generated pages


def test_generated_pages_and_migrations_are_current():
    assert not generate_docs.stale(generate_docs.generated(migrations=True)), "run `make docs`"


def keys(content: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield section, name and value of every key."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from keys(value, f"{path}.{name}".removeprefix("."))
        elif value is not None:
            yield path, name, value


@pytest.mark.parametrize(("section", "name", "value"), list(keys(Settings().content())))
def test_configuration_page_has_the_key_with_its_default_and_meaning(section, name, value):
    page = (ROOT / "docs" / "configuration.md").read_text()
    text = page.split(f"\n## `[{section}]`\n" if section else "\n## Top level\n")[1].split("\n## ")[0]
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    _, default, bounds, meaning = row.strip("| ").split(" | ", 3)
    assert tomllib.loads(f"x = {default.strip('`')}")["x"] == ("0s" if value == "0ns" else value)
    assert bounds
    assert meaning


@pytest.mark.parametrize(
    ("section", "config"),
    [("kafka", KafkaConfig), ("kafka.topics.NAME", KafkaTopic), ("kafka.schema_registry", SchemaRegistryConfig)],
)
def test_configuration_page_has_every_key_of_sections_without_default(section, config):
    text = (ROOT / "docs" / "configuration.md").read_text().split(f"\n## `[{section}]`\n")[1].split("\n## ")[0]
    rows = {
        line.split("`")[1]: line.strip("| ").split(" | ", 3) for line in text.splitlines() if line.startswith("| `")
    }
    fields = {name: field for name, field in config.model_fields.items() if name != "schema_registry"}
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        assert (rows[name][1] == "required") == field.is_required()
        assert all(rows[name])


def test_metrics_page_has_every_metric_with_its_unit_and_attributes():
    page = (ROOT / "docs" / "metrics.md").read_text()
    for name, metric in CATALOGUE.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`{metric.unit}`" in row
        assert all(f"`{attribute.name}`" in row for attribute in metric.attributes)


def test_feature_page_has_every_column_with_its_formula():
    page = (ROOT / "docs" / "features.md").read_text()
    for spec in feature_set(ShardConfig()).specs:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{spec.name}` |"))
        assert spec.formula.replace("|", "\\|") in row
        assert f"| {spec.unit} |" in row


def test_strategy_page_has_every_strategy_with_its_parameters():
    page = (ROOT / "docs" / "strategies.md").read_text()
    for name, strategy in STRATEGIES.items():
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        assert all(reason in section for reason in strategy.reasons)
        assert all(f"| `{key}` |" in section or f"| `{key}." in section for key in strategy.Config.model_fields)


# --- commands, links, examples


@EVERY
def test_commands_are_understood_by_the_command_line(page):
    group: Any = typer.main.get_command(app)
    for words in commands(page):
        command = group
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        command.make_context("signalbox", words)


def test_readme_shows_commands():
    assert len(commands(ROOT / "README.md")) >= 4


@EVERY
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@EVERY
def test_python_compiles_and_its_imports_exist(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_configuration_example_is_good(tmp_path):
    (example,) = blocks(ROOT / "docs" / "configuration.md", "toml")
    (tmp_path / "c.toml").write_text(example)
    assert load_settings(tmp_path / "c.toml").shards == 8


MAPS = dict(re.findall(r"^```toml\n# (\S+)\n(.*?)^```", (ROOT / "docs/importing.md").read_text(), re.M | re.S))


@pytest.mark.parametrize("name", MAPS)
def test_column_map_of_the_importing_page_is_good(tmp_path, name):
    (tmp_path / name).write_text(MAPS[name])
    assert load_map(tmp_path / name).topic


def test_importing_example_runs(tmp_path, monkeypatch):
    folder = tmp_path / "equity" / "usa" / "tick" / "spy"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "20131007_trade.zip", "w") as file:
        file.writestr("20131007_spy_Trade_Tick.csv", "34200000,1674100,100,P,0,0\n")
    post = '{"ts": "2014-01-01T10:00:00Z", "user": "a", "ticker": "T", "tokens": ["good"]}\n'
    (tmp_path / "tweets.jsonl.gz").write_text(post)
    (tmp_path / "stocknet.toml").write_text(MAPS["stocknet.toml"])
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(ROOT / "docs" / "importing.md", "python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["report"].accepted == 1
    assert names["archive"].topics() == ("social", "trades")


def test_simulator_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(ROOT / "docs" / "simulator.md", "python")
    assert 'duration="30m"' in example
    names: dict[str, Any] = {}
    exec(example.replace('duration="30m"', 'duration="1m"'), names)
    assert names["report"].expected_dead_letters["trades"]["duplicate"] == 50
