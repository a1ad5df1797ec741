"""The image: what it is built from, what it holds, how it runs."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

import pytest


def pins(path):
    """Return version and hashes of each package of a lock file."""
    found = {}
    for block in re.split(r"\n(?=\S)", path.read_text().strip()):
        if not block.startswith("#"):
            name, version = re.match(r"([\w.-]+)==([^\s;]+)", block).groups()
            found[name] = (version, re.findall(r"--hash=sha256:[0-9a-f]{64}", block))
    return found


def canonical(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


@pytest.fixture
def locks(root):
    return {name: pins(root / f"requirements{name}.lock") for name in ("", "-run", "-build")}


def arguments(dockerfile, name):
    return [text for instruction, text in dockerfile if instruction == name]


def test_locks_for_deployment_have_the_versions_of_the_one_for_development(locks):
    assert all(hashes for lock in locks.values() for _, hashes in lock.values())
    for name in ("-run", "-build"):
        for package, (version, hashes) in locks[name].items():
            assert locks[""][package] == (version, hashes), package


def test_lock_of_the_image_has_what_the_project_needs_and_no_tools(locks, project):
    needed = {canonical(text) for text in project["project"]["dependencies"]}
    tools = {canonical(text) for text in project["dependency-groups"]["dev"]}
    assert needed <= set(locks["-run"])
    assert not (tools - needed) & set(locks["-run"])
    assert len(locks["-run"]) < len(locks[""])


def test_lock_of_the_build_is_what_the_build_system_requires(locks, project):
    assert {canonical(text) for text in project["build-system"]["requires"]} <= set(locks["-build"])


def test_image_is_slim_and_built_in_stages(dockerfile):
    stages = arguments(dockerfile, "FROM")
    assert stages == ["python:3.12-slim AS build", "python:3.12-slim"]


def test_image_installs_hashed_packages_only(dockerfile):
    installs = [line for line in arguments(dockerfile, "RUN") if "pip" in line]
    for part in re.split(r"&&", " && ".join(installs)):
        if " install " in part or " wheel " in part:
            hashed = "--no-deps --require-hashes -r requirements-" in part and "--only-binary :all:" in part
            assert hashed or ("--no-deps" in part and "--no-index" in part), part


def test_image_copies_what_the_context_lets_in(dockerfile, root, project):
    rules = (root / ".dockerignore").read_text().split("\n")
    assert rules[1] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for line in arguments(dockerfile, "COPY") if "--from" not in line for word in line.split()[:-1]}
    assert copied == let_in
    assert all((root / name).exists() for name in copied)
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied


def test_image_takes_only_the_installed_packages_from_the_build(dockerfile):
    index = max(number for number, (name, _) in enumerate(dockerfile) if name == "FROM")
    copies = [line for name, line in dockerfile[index:] if name == "COPY"]
    assert copies == ["--from=build /opt/signalbox /opt/signalbox"]
    assert not [line for name, line in dockerfile[index:] if name == "RUN" and "pip" in line]


def test_image_runs_as_an_account_without_rights(dockerfile):
    assert arguments(dockerfile, "USER") == ["10001:10001"]
    assert dockerfile[[name for name, _ in dockerfile].index("USER") :][0] == ("USER", "10001:10001")
    after = [name for name, _ in dockerfile[[name for name, _ in dockerfile].index("USER") :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_image_stops_by_sigterm(dockerfile):
    assert arguments(dockerfile, "STOPSIGNAL") == ["SIGTERM"]


def test_image_probe_is_a_command_of_signalbox(dockerfile, parsed):
    (line,) = arguments(dockerfile, "HEALTHCHECK")
    program, *words = json.loads(line.split(" CMD ")[1])
    assert program == "signalbox"
    assert parsed(words, {}).params["check"] is True
    assert json.loads(arguments(dockerfile, "ENTRYPOINT")[0]) == ["signalbox"]


def test_image_environment_is_read_by_somebody(dockerfile, read_variables, option_variables):
    (line,) = arguments(dockerfile, "ENV")[1:]
    names = set(re.findall(r"(\w+)=", line))
    pythons = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    assert names - pythons <= read_variables | option_variables
    assert "XDG_CACHE_HOME" in names


def test_image_folders_are_those_of_the_deployments(dockerfile, compose, manifests):
    (made,) = [line for line in arguments(dockerfile, "RUN") if "--mode=0700" in line]
    folders = {word for word in made.split() if word.startswith("/var/")}
    volumes = {volume.split(":")[1] for volume in compose["services"]["signalbox"]["volumes"]}
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    for places in (volumes, mounts):
        assert {place for place in places if PurePosixPath(place).is_relative_to("/var")} <= folders


def test_image_labels_follow_the_open_container_initiative(dockerfile, project):
    (line,) = arguments(dockerfile, "LABEL")
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', line))
    assert set(labels) == {"title", "description", "licenses", "version", "revision"}
    assert labels["licenses"] == project["project"]["license"]
    assert f"VERSION={project['project']['version']}" in arguments(dockerfile, "ARG")


@pytest.mark.parametrize("path", ["scripts/setup", "Dockerfile", "benchmarks/kafka_quix.py"])
def test_installs_from_a_lock_take_nothing_else(root, path):
    # pip 23 looks for the newest release of what a locked package needs with an extra, and then misses its pin
    lines = [line for line in (root / path).read_text().splitlines() if "--require-hashes" in line]
    assert lines
    assert all("--no-deps" in line for line in lines), lines
