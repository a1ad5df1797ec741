"""`signalbox compare` as a user runs it, by the example of its page."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataflows.comparison.compare import COMPARED_TABLES
from schemas.errors import ExitCode

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "comparing.md").read_text()


def _block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]


@pytest.fixture(scope="module")
def folder(archive, tmp_path_factory) -> Iterator[Path]:
    """Folder in which the commands of the page run."""
    folder = tmp_path_factory.mktemp("comparing")
    (folder / "archive").symlink_to(archive)
    (folder / "patient.toml").write_text(_block("toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        patch.setenv("COLUMNS", "200")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def compared(signalbox, folder) -> Any:
    """What the last command of the page printed."""
    *replays, compare = [shlex.split(line.removeprefix("$ signalbox ")) for line in _block("console").splitlines()]
    for command in replays:
        done = signalbox(*command)
        assert done.returncode == ExitCode.OK, done.stderr
    return signalbox(*compare)


def test_page_example_shows_the_key_that_differs_and_what_follows_from_it(compared):
    assert compared.returncode == ExitCode.FINDINGS, compared.stderr
    assert compared.stdout.startswith("first difference: ")
    assert '`compute.bars.grace`: "1s" in A, "5s" in B' in compared.stdout
    assert "its bar differs" in compared.stdout
    assert compared.stdout.endswith("the runs differ\n")


@pytest.mark.usefixtures("compared")
def test_python_of_the_page_gives_the_first_difference(folder, capsys):
    exec(_block("python"), {})
    first, causes = capsys.readouterr().out.splitlines()
    assert first.startswith("bars {'interval_ns': ")
    assert causes == "['the configuration of what is computed differs']"


@pytest.mark.usefixtures("compared")
def test_json_has_what_the_page_says_and_equal_runs_exit_with_ok(signalbox, folder):
    done = signalbox("replay", "--archive", "archive", "--db", "before", "--run-id", "again", "--workers", 2)
    assert done.returncode == ExitCode.OK, done.stderr
    done = signalbox("compare", "today", "again", "--db", "before", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    found = json.loads(done.stdout)
    assert (found["is_equal"], found["first"], found["causes"]) == (True, None, [])
    differing = {table["table"]: table["only_a"] + table["only_b"] + table["differing"] for table in found["tables"]}
    assert differing == dict.fromkeys(COMPARED_TABLES, 0)
    done = signalbox("compare", "today", "today", "--db", "before", "--db-b", "after", "--table", "bars", "--json")
    assert done.returncode == ExitCode.FINDINGS, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    assert (table["table"], table["examples"][0]["difference"]) == ("bars", "differs")
    assert table["digest"]["a"] != table["digest"]["b"]
    assert len(table["examples"]) == 10


@pytest.mark.usefixtures("compared")
def test_unknown_run_is_refused_with_its_near_match(signalbox, folder):
    done = signalbox("compare", "today", "toady", "--db", "before")
    assert done.returncode == ExitCode.INPUT
    assert "expected run `toady` in `" in done.stderr
    assert "did you mean `today`?" in done.stderr
    assert done.stdout == ""
