"""What a process tells of itself, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dataflows.commands.status import run_status
from dataflows.status import Observed, ProcessStatus, SourceStatus, StatusWriter, read_status
from schemas.errors import InputError
from sinks.drift_tally import StreamDrift

START = 1_700_000_000 * 10**9
DRIFT = {
    "news/score": StreamDrift(3, START + 10**9, "adwin"),
    "technical/input:rsi": StreamDrift(12, START + 2 * 10**9, "page_hinkley"),
}


def observed() -> Observed:
    return Observed("running", 1_234, {"trades/0": SourceStatus(START, 7)}, {"bars": 5}, DRIFT)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Recovery folder with what one process told of run `r`."""
    (tmp_path / "r").mkdir()
    with StatusWriter(tmp_path / "r", "r", 0, 1, observed):
        pass
    return tmp_path


def test_status_is_read_as_it_was_written(told: Path) -> None:
    (status,) = read_status(told / "r")
    assert (status.state, status.delivered, status.written) == ("stopped", 1_234, {"bars": 5})
    assert status.sources == {"trades/0": SourceStatus(START, 7)}
    assert status.drift == DRIFT


def test_status_of_an_older_version_has_no_drift(told: Path) -> None:
    path = told / "r" / "status-0.json"
    content = json.loads(path.read_text())
    del content["drift"]
    path.write_text(json.dumps(content))
    assert read_status(told / "r")[0].drift == {}


def test_status_of_a_newer_version_says_so(told: Path) -> None:
    path = told / "r" / "status-0.json"
    content = json.loads(path.read_text())
    content["drift"]["news/score"]["colour"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"expected the status of a process in .*colour.*is its run newer\?"):
        read_status(told / "r")


def show(folder: Path, *, as_json: bool = False) -> None:
    run_status(None, "r", recovery=folder, check=False, watch=False, as_json=as_json)


def test_streams_that_drifted_are_shown_the_latest_first(
    told: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(told)
    shown = capsys.readouterr().out
    words = [[word.strip() for word in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert words[-2:] == [
        ["technical/input:rsi", "12", "2023-11-14T22:13:22.000000000Z", "page_hinkley"],
        ["news/score", "3", "2023-11-14T22:13:21.000000000Z", "adwin"],
    ]
    assert "drift since the start" in shown
    assert "stopped" in shown


def test_run_without_drift_shows_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "r").mkdir()
    with StatusWriter(tmp_path / "r", "r", 0, 1, lambda: Observed("running", 1)):
        pass
    show(tmp_path)
    assert "drift since the start" not in capsys.readouterr().out


def test_drift_is_part_of_the_json(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(told, as_json=True)
    (process,) = json.loads(capsys.readouterr().out)["processes"]
    assert process["drift"] == {name: asdict(drift) for name, drift in DRIFT.items()}
    assert set(process) == set(ProcessStatus.__dataclass_fields__)
