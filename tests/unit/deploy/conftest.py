"""What the files of the deployment say, and what Signalbox reads."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from dataflows.cli import app

_ROOT = Path(__file__).resolve().parents[3]
_PLACEHOLDER = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@pytest.fixture(scope="session")
def root() -> Path:
    return _ROOT


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
    return content


@pytest.fixture(scope="session")
def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: name and arguments, continued lines joined."""
    lines = [line for line in (_ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(words[0], words[1]) for line in text.splitlines() if (words := line.split(maxsplit=1))]


@pytest.fixture(scope="session")
def kustomization() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_ROOT / "deploy" / "kubernetes" / "kustomization.yaml").read_text())
    return content


@pytest.fixture(scope="session")
def manifests(kustomization: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the Kubernetes objects by kind; there is one of each."""
    folder = _ROOT / "deploy" / "kubernetes"
    found = [item for name in kustomization["resources"] for item in yaml.safe_load_all((folder / name).read_text())]
    assert len({item["kind"] for item in found}) == len(found)
    return {item["kind"]: item for item in found}


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    return content


def filled(value: Any) -> Any:
    """Return what Compose makes of a value: defaults for variables that have one, `x` for the others."""
    if isinstance(value, dict):
        return {key: filled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner) for inner in value]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: match[3] if match[2] == "-" else "x", value)
    return value


@pytest.fixture(scope="session")
def fill() -> Callable[[Any], Any]:
    return filled


@pytest.fixture(scope="session")
def named_variables() -> Callable[[str], set[str]]:
    """Return a function that gives the variables which a text names as `${NAME}`."""
    return lambda text: {match[1] for match in _PLACEHOLDER.finditer(text)}


def commands(command: Any) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands(inner)


@pytest.fixture(scope="session")
def settings_variables() -> Callable[[Path], set[str]]:
    """Return a function that gives the variables which a configuration names."""
    return lambda path: {match[1] for match in _PLACEHOLDER.finditer(json.dumps(tomllib.loads(path.read_text())))}


@pytest.fixture(scope="session")
def option_variables() -> set[str]:
    """Return the variables that an option may come from."""
    parameters = [parameter for command in commands(typer.main.get_command(app)) for parameter in command.params]
    names = [[found] if isinstance(found := parameter.envvar, str) else found or [] for parameter in parameters]
    return {name for some in names for name in some}


@pytest.fixture(scope="session")
def read_variables() -> set[str]:
    """Return the variables that our code asks for by name."""
    found: set[str] = set()
    for package in ("schemas", "models", "operators", "sinks", "dataflows"):
        for path in (_ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
                    found |= {word.value for word in node.args[:1] if isinstance(word, ast.Constant)}
                if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
                    found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
    return found


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], dict[str, Any]], Any]:
    """Return a function that parses a command line of `signalbox` in an environment and gives the command's context."""

    def parse(words: list[str], environment: dict[str, Any]) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        return command.make_context("signalbox", list(words))

    return parse
