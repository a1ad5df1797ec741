"""Where a database is."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from sinks.locations import FolderLocation, ServerLocation, parse_location


def test_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_location("here/../db") == FolderLocation(tmp_path.resolve() / "db")
    assert parse_location("db") == parse_location(f"{tmp_path}/db/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host", ServerLocation("http", "host", 8123, "default")),
        ("https://host/db", ServerLocation("https", "host", 8443, "db")),
        ("clickhouse://u:p%40ss@host:9123/db", ServerLocation("http", "host", 9123, "db", "u", "p@ss")),
        ("https://h/db?verify=false", ServerLocation("https", "h", 8443, "db", options={"verify": "false"})),
    ],
)
def test_url_is_taken_apart(url: str, expected: ServerLocation) -> None:
    assert parse_location(url) == expected


def test_text_of_a_server_holds_no_user_or_password() -> None:
    location = parse_location("http://someone:hunter2@host:1234/db")
    assert str(location) == "http://host:1234/db"
    assert "hunter2" not in repr(location)
    assert location.secrets == ("hunter2",)


@pytest.mark.parametrize(
    "url", ["ftp://host/db", "http:///db", "http://host:x/db", "http://host/a b", "http://h/d?x=1"]
)
def test_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_location(url)
