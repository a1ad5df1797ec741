"""Static rules of the five packages: what a review would otherwise have to look for."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from schemas.records import TOPICS, archive_schema
from schemas.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "models", "operators", "sinks", "dataflows")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]
EVERY = pytest.mark.parametrize("path", SOURCES, ids=MODULES)
PURE = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("schemas", "models", "operators")]

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
CLOCK_CALLS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
RANDOM_MODULES = {"random", "uuid", "secrets"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` of a chain of attributes, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def calls(tree: ast.Module) -> Iterator[str]:
    yield from (dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def names_used(tree: ast.Module) -> Iterator[str]:
    yield from (dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name))


def test_packages_are_found():
    assert len(SOURCES) > 80
    walked = {
        info.name
        for package in PACKAGES
        for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
    }  # fmt: skip
    assert walked | set(PACKAGES) == set(MODULES), "a folder without `__init__.py` is not installed"


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_resolves(name):
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    assert not [item for item in public if not hasattr(module, item)]


@EVERY
def test_module_with_definitions_says_what_is_public(path):
    tree = tree_of(path)
    defines = any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") for node in tree.body
    )
    names = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
             if isinstance(target, ast.Name)}  # fmt: skip
    assert not defines or "__all__" in names


@EVERY
def test_module_has_a_docstring(path):
    text = ast.get_docstring(tree_of(path))
    assert text
    assert text[0].isupper() or not text[0].isalpha()


@EVERY
def test_module_is_not_above_500_lines(path):
    assert len(path.read_text().splitlines()) <= 500


def unsafe(tree: ast.Module) -> set[str]:
    """Return what could run data as code."""
    found = {name for name in imported(tree) if name.split(".")[0] in UNSAFE_MODULES}
    found |= {name for name in calls(tree) if name in UNSAFE_CALLS or name.endswith((".read_pickle", ".to_pickle"))}
    for node in ast.walk(tree):
        risky = isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell")
        if risky and not (isinstance(node.value, ast.Constant) and node.value.value is False):
            found.add(str(node.arg))
    return found


def wall_clock(tree: ast.Module) -> set[str]:
    direct = {name for name in imported(tree) if name in ("time.time", "time.time_ns")}
    return direct | {
        name for name in names_used(tree) for clock in CLOCK_CALLS if name == clock or name.endswith(f".{clock}")
    }


def chance(tree: ast.Module) -> set[str]:
    found = {name for name in imported(tree) if name.split(".")[0] in RANDOM_MODULES or name == "numpy.random"}
    return found | {
        name for name in names_used(tree) if re.search(r"\b(np|numpy)\.random\b|\bos\.urandom\b|\bdefault_rng\b", name)
    }


@EVERY
def test_module_runs_no_data_as_code(path):
    assert not unsafe(tree_of(path))


@pytest.mark.parametrize("path", PURE, ids=[str(path.relative_to(ROOT)) for path in PURE])
def test_module_of_the_computation_knows_no_wall_clock_and_no_chance(path):
    assert not wall_clock(tree_of(path))
    assert not chance(tree_of(path))


@EVERY
def test_module_outside_the_simulator_draws_no_random_numbers(path):
    if "simulator" not in path.parts:
        assert not chance(tree_of(path))


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (unsafe, "import pickle"),
        (unsafe, "from joblib import load"),
        (unsafe, "x = eval('1')"),
        (unsafe, "np.load(path, allow_pickle=True)"),
        (unsafe, "pd.read_pickle(path)"),
        (unsafe, "subprocess.run(line, shell=True)"),
        (wall_clock, "time.time()"),
        (wall_clock, "from time import time"),
        (wall_clock, "datetime.datetime.now(UTC)"),
        (wall_clock, "datetime.utcnow()"),
        (wall_clock, "clock = time.time_ns"),
        (chance, "import random"),
        (chance, "from uuid import uuid4"),
        (chance, "np.random.default_rng(1)"),
        (chance, "from numpy.random import default_rng"),
    ],
)
def test_gate_finds_what_it_looks_for(gate, code):
    assert gate(ast.parse(code))
    assert not gate(ast.parse("import numpy as np\nx = np.load(path, allow_pickle=False)\ny = re.compile('eval')"))


@EVERY
def test_module_times_of_the_wall_are_in_utc(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and dotted(node.func).endswith(("datetime.now", "datetime.fromtimestamp")):
            assert node.args or node.keywords, f"line {node.lineno}"
        assert not (isinstance(node, ast.Call) and dotted(node.func).endswith("utcnow"))


READS_ENVIRONMENT = {"operators/kernel_cache.py": "names the folder of compiled kernels before numba is imported"}


@EVERY
def test_module_reads_no_environment_below_the_edge(path):
    where = path.relative_to(ROOT)
    if where.parts[0] == "dataflows" or str(where) in READS_ENVIRONMENT:
        return
    assert not {name for name in names_used(tree_of(path)) if name in ("os.environ", "os.getenv")}


@EVERY
def test_module_validates_nothing_with_assert(path):
    """An assertion narrows a type or states an invariant; a message would mean that somebody is to read it."""
    found = [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert) and node.msg is not None]
    assert not found


@EVERY
def test_module_prints_nothing(path):
    assert "print" not in set(calls(tree_of(path)))


LOCAL = re.compile(r"(?<![\w.])/(?:home|root|work|Users|mnt|tmp|var|opt)/\w+|[A-Z]:\\\\")
HOSTS = re.compile(
    r"https?://(?!(?:[\w:]+@)?(?:host|localhost|127\.0\.0\.1|[\w.-]*\.?example(?:\.\w+)?)[:/\"'`\s).]?)[\w.-]+"
)


@EVERY
def test_module_names_no_local_path_and_no_host(path):
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        assert not LOCAL.search(line), f"line {number}: {line.strip()}"
        assert not HOSTS.search(line), f"line {number}: {line.strip()}"


@EVERY
def test_module_leaves_no_work_behind(path):
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError", path.read_text())


@pytest.mark.parametrize("schema", [*TOPICS.values(), *TABLES.values()], ids=[*TOPICS, *TABLES])
def test_every_key_field_exists(schema):
    assert set(schema.key) <= set(schema.names)
    for name in schema.key:
        assert schema.field(name).doc


@pytest.mark.parametrize("name", TOPICS)
def test_every_record_has_its_place_in_the_log(name):
    assert {"ts_recv", "partition", "offset"} <= set(archive_schema(name).names)


def test_every_table_has_a_key():
    assert all(schema.key for schema in TABLES.values())
