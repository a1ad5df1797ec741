"""The Compose file: valid, closed, with limits, and in agreement with the program that it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import yaml

from dataflows.settings import load_settings
from schemas.time import duration_ns, parse_duration

ONCE = {"topics", "market", "publish"}
"""Services that do one thing and end."""


def seconds(text):
    return duration_ns(parse_duration(text)) / 1e9


@pytest.fixture
def ours(compose, fill):
    """Return the services that run our image."""
    image = compose["x-signalbox"]["image"]
    found = {name: fill(service) for name, service in compose["services"].items() if service["image"] == image}
    assert {"signalbox", "topics"} <= set(found)
    return found


@pytest.fixture
def settings(root, ours, monkeypatch):
    for name, value in ours["signalbox"]["environment"].items():
        monkeypatch.setenv(name, value)
    return load_settings(root / "deploy" / "signalbox.toml")


def check_schema(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_compose_file_follows_the_specification(root, tmp_path):
    done = check_schema(root / "docker-compose.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "wrong.yml").write_text("services: {kafka: {imag: kafka}}")
    assert check_schema(tmp_path / "wrong.yml").returncode == 1


def test_compose_images_are_pinned(compose):
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", service["image"]), name


def test_compose_image_has_the_version_of_the_project(compose, project):
    shared = compose["x-signalbox"]
    assert shared["image"] == f"signalbox:{project['project']['version']}"
    assert shared["build"]["args"]["VERSION"] == project["project"]["version"]


def test_compose_ports_are_on_loopback(compose):
    ports = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert sum(map(len, ports.values())) >= 4
    assert all(port.startswith("127.0.0.1:") for some in ports.values() for port in some)


def test_compose_services_with_ports_have_a_network_that_can_publish(compose):
    assert compose["networks"]["backend"]["internal"] is True
    for name, service in compose["services"].items():
        assert "backend" in service["networks"]
        assert ("loopback" in service["networks"]) == bool(service.get("ports")), name


def test_compose_services_have_limits_and_a_restart_policy(compose):
    for name, service in compose["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        assert service["restart"] == ("unless-stopped" if "profiles" not in service and name != "topics" else "no"), (
            name
        )
        assert service["logging"]["options"]["max-size"], name


def test_compose_services_that_wait_for_health_wait_for_services_that_tell_it(compose):
    services = compose["services"]
    waits = [(other, how) for one in services.values() for other, how in one.get("depends_on", {}).items()]
    for name, how in waits:
        condition = how["condition"]
        assert (condition == "service_healthy") <= ("healthcheck" in services[name]), name
        assert (condition == "service_completed_successfully") == (services[name]["restart"] == "no"), name
    assert ("topics", {"condition": "service_completed_successfully"}) in waits


def test_compose_mounts_files_that_exist_and_volumes_that_are_declared(compose, root):
    used = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            assert target.startswith("/")
            if source.startswith("./"):
                assert (root / source).exists(), source
                assert mode == ["ro"], volume
            else:
                used.add(source)
    assert used == set(compose["volumes"])


def test_compose_our_services_are_confined(ours):
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" not in service, name
        assert any(volume.endswith(":/var/cache/signalbox") for volume in service["volumes"]), name


def test_compose_environment_is_what_signalbox_reads(ours, root, settings_variables, option_variables):
    wanted = settings_variables(root / "deploy" / "signalbox.toml")
    assert set(ours["signalbox"]["environment"]) == wanted | option_variables
    assert option_variables == {"SIGNALBOX_CONFIG", "SIGNALBOX_DB"}
    for name, service in ours.items():
        given = set(service.get("environment", {}))
        assert given <= wanted | option_variables, name
        assert (wanted <= given) == ("SIGNALBOX_CONFIG" in given), name


def test_compose_commands_are_understood(ours, parsed):
    for service in ours.values():
        context = parsed(service["command"], service.get("environment", {}))
        assert context.command.name != "signalbox"


def test_compose_probe_asks_about_the_run(ours, parsed):
    service = ours["signalbox"]
    kind, program, *words = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "signalbox")
    probe, run = parsed(words, {}).params, parsed(service["command"], service["environment"]).params
    assert probe["check"] is True
    assert (probe["run_id"], probe["recovery"]) == (run["run_id"], run["recovery"])
    assert any(volume == f"recovery:{run['recovery']}" for volume in service["volumes"])


def test_compose_waits_longer_than_a_run_drains(ours, settings):
    assert seconds(ours["signalbox"]["stop_grace_period"]) >= settings.recovery.drain.total_seconds() + 10


def test_compose_settings_name_services(ours, settings, compose, root):
    assert settings.kafka is not None
    host, port = settings.kafka.brokers.split(":")
    listeners = compose["services"][host]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"//{host}:{port}" in listeners
    collector = urlsplit(settings.telemetry.endpoint)
    mounted = yaml.safe_load((root / "deploy" / "observability" / "otel-collector.yaml").read_text())
    assert collector.hostname in compose["services"]
    assert mounted["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(f":{collector.port}")
    database = urlsplit(ours["signalbox"]["environment"]["SIGNALBOX_DB"])
    assert database.hostname in compose["services"]
    assert database.path == f"/{compose['services']['clickhouse']['environment']['CLICKHOUSE_DB']}"


def test_example_of_the_environment_has_every_variable_and_no_secret(root, compose, named_variables):
    text = (root / ".env.example").read_text()
    example = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert set(example) == named_variables((root / "docker-compose.yml").read_text())
    assert {name for name, value in example.items() if not value} == {name for name in example if "PASSWORD" in name}


def test_compose_requires_what_has_no_default(root):
    for name, default in re.findall(r"\$\{(\w+)(:?[-?]?)", (root / "docker-compose.yml").read_text()):
        assert default == (":?" if name.startswith(("CLICKHOUSE", "GRAFANA")) else ":-"), name
