"""The page about operations, and that no file of the deployment holds a secret."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest

from schemas import errors
from schemas.errors import ExitCode, SignalboxError
from sinks.locations import parse_location

SECRET = re.compile(r"password|passwd|secret|token|api_?key", re.IGNORECASE)
"""What the name of a key or variable with a secret has in it."""


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "operations.md").read_text()


def sections(page, level):
    return dict(re.findall(rf"^{level} ([^\n]+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))


def test_page_has_a_section_for_every_exit_code(page):
    found = sections(page, "###")
    assert [name for name in found if name.startswith("Exit code")] == [f"Exit code {code.value}" for code in ExitCode]
    assert all(len(found[f"Exit code {code.value}"]) > 60 for code in ExitCode)


def test_page_names_every_class_of_error_under_its_exit_code(page):
    found = sections(page, "###")
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, SignalboxError) and name != "DataError":
            assert f"`{name}`" in found[f"Exit code {kind.exit_code.value}"], name


def test_page_names_the_variables_and_no_other(page, root, settings_variables, option_variables):
    section = sections(page, "##")["Variables and secrets"]
    wanted = option_variables.union(*map(settings_variables, (root / "deploy").rglob("*.toml")))
    assert set(re.findall(r"SIGNALBOX_\w+", section)) == wanted


def test_page_commands_in_containers_are_understood(page, parsed):
    lines = re.findall(r"docker compose exec signalbox signalbox (.+)", page)
    assert len(lines) >= 2
    for line in lines:
        parsed(shlex.split(line), {"SIGNALBOX_DB": "http://clickhouse/signalbox"})


def test_page_names_options_that_a_url_takes(page):
    section = sections(page, "##")["TLS and accounts"]
    names = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", section.split("**ClickHouse.**")[1], re.M)))
    assert names
    for name in names:
        assert parse_location(f"https://host/db?{name}=1").options == {name: "1"}
    (example,) = re.findall(r"^`(https://\S+)`$", section, re.MULTILINE)
    assert parse_location(example).options["ca_cert"] == "/etc/signalbox/tls/ca.crt"


def test_page_links_to_alerts_and_ports_that_are(page, compose):
    named = set(re.findall(r"^\| `(?:http://)?localhost:(\d+)`", page, re.MULTILINE))
    assert named == {port.split(":")[1] for one in compose["services"].values() for port in one.get("ports", [])}


def literal_secrets(text):
    """Return the lines that give something with the name of a secret a value of its own."""
    pair = re.compile(r"""^\s*-?\s*["']?(?P<name>[\w.-]+)["']?\s*[:=]\s*["']?(?P<value>[^\s"'#{]*)""")
    found = []
    for line in text.splitlines():
        match = pair.match(line)
        if match and SECRET.search(match["name"]) and match["value"] not in ("", "$", "true", "false"):
            found.append(line)
        found += [line for user in re.findall(r"://[^/\s:@]*:([^/\s@]+)@", line) if not user.startswith("${")]
    return found


def deployed_files(root):
    single = [root / name for name in ("docker-compose.yml", "Dockerfile", ".env.example")]
    return single + [path for path in (root / "deploy").rglob("*") if path.is_file()]


def test_no_file_holds_a_secret(root):
    for path in deployed_files(root):
        assert not literal_secrets(path.read_text()), path


@pytest.mark.parametrize(
    "line",
    ["PASSWORD=hunter2", '  "sasl.password" = "hunter2"', "  GF_SECURITY_ADMIN_PASSWORD: hunter2",
     "url: http://user:hunter2@host", "- api_key: abc"],
)  # fmt: skip
def test_search_for_secrets_finds_one(line):
    assert literal_secrets(line)
    assert not literal_secrets("PASSWORD=\nPASSWORD: ${PASSWORD:?set it}\nhttp://${USER}:${PASSWORD}@host")


def test_settings_take_no_secret_but_from_variables(root):
    for path in (root / "deploy").rglob("*.toml"):
        client = tomllib.loads(path.read_text())["kafka"].get("client", {})
        assert all(value.startswith("${") for key, value in client.items() if SECRET.search(key) or "username" in key)
