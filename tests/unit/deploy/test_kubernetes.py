"""The Kubernetes manifests: every name resolves, the pods are confined, and the processes form one cluster."""

from __future__ import annotations

import re

import pytest

from dataflows.settings import load_settings

NAME = {"app.kubernetes.io/name": "signalbox"}


@pytest.fixture
def workload(manifests):
    return manifests["StatefulSet"]["spec"]


@pytest.fixture
def pod(workload):
    return workload["template"]["spec"]


@pytest.fixture
def container(pod):
    (found,) = pod["containers"]
    return found


def variables(container):
    """Return the variables of a container with what stands in for their values."""
    return {entry["name"]: entry.get("value", "0") for entry in container["env"]}


def words(container):
    return [re.sub(r"\$\(\w+\)", "0", word) for word in container["args"]]


def test_manifests_follow_the_schemas_of_kubernetes(manifests):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.30", "1.37"):
        for manifest in manifests.values():
            kubernetes_validate.validate(manifest, version, strict=True)
    wrong = manifests["Service"] | {"spec": manifests["Service"]["spec"] | {"clusterIp": "None"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_manifests_of_the_folder_are_all_applied(root, kustomization):
    files = {path.name for path in (root / "deploy" / "kubernetes").iterdir()}
    generated = {name for entry in kustomization["configMapGenerator"] for name in entry.get("files", [])}
    assert files == {"kustomization.yaml", *kustomization["resources"], *generated}


def test_selectors_match_the_pods(manifests, workload):
    labels = workload["template"]["metadata"]["labels"]
    selectors = [
        workload["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    (terms,) = workload["template"]["spec"]["affinity"]["podAntiAffinity"].values()
    selectors += [term["podAffinityTerm"]["labelSelector"]["matchLabels"] for term in terms]
    assert all(selector == NAME and selector.items() <= labels.items() for selector in selectors)


def test_service_gives_each_process_its_name_before_it_is_ready(manifests, workload, container):
    service = manifests["Service"]
    assert service["metadata"]["name"] == workload["serviceName"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert workload["podManagementPolicy"] == "Parallel"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [(port["targetPort"], port["port"]) for port in service["spec"]["ports"]] == list(ports.items())


def test_processes_are_as_many_as_pods_and_addressed_by_their_names(manifests, workload, container, parsed):
    run = parsed(words(container), variables(container)).params
    name, service = manifests["StatefulSet"]["metadata"]["name"], workload["serviceName"]
    port = container["ports"][0]["containerPort"]
    assert run["processes"] == workload["replicas"] > 1
    assert run["addresses"].split(",") == [f"{name}-{n}.{service}:{port}" for n in range(workload["replicas"])]
    assert "--process-id=$(POD_INDEX)" in container["args"]
    (index,) = [entry for entry in container["env"] if entry["name"] == "POD_INDEX"]
    assert "apps.kubernetes.io/pod-index" in index["valueFrom"]["fieldRef"]["fieldPath"]


def test_processes_are_replaced_together(workload):
    assert workload["updateStrategy"] == {"type": "OnDelete"}


def test_exchange_is_reached_by_the_processes_only(manifests):
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": NAME}}]
    assert rule["ports"] == [{"port": "exchange"}]


def test_references_of_the_pods_exist(pod, kustomization, manifests, root):
    maps = {entry["name"]: entry for entry in kustomization["configMapGenerator"]}
    literals = {
        (name, literal.partition("=")[0]) for name, entry in maps.items() for literal in entry.get("literals", [])
    }
    documented = (root / "docs" / "operations.md").read_text()
    for container in pod["containers"] + pod["initContainers"]:
        for source in (entry["valueFrom"] for entry in container["env"] if "valueFrom" in entry):
            if (found := source.get("configMapKeyRef")) is not None:
                assert (found["name"], found["key"]) in literals
            if (found := source.get("secretKeyRef")) is not None:
                assert found["name"] == "signalbox"
                assert f"--from-file={found['key']}" in documented
    for volume in pod["volumes"]:
        if "configMap" in volume:
            assert maps[volume["configMap"]["name"]]["files"] == ["signalbox.toml"]
        if "secret" in volume:
            assert f"secret generic {volume['secret']['secretName']} " in documented
        if "persistentVolumeClaim" in volume:
            assert (
                volume["persistentVolumeClaim"]["claimName"] == manifests["PersistentVolumeClaim"]["metadata"]["name"]
            )


def test_mounts_have_volumes_and_volumes_are_mounted(pod):
    mounted = {mount["name"] for one in pod["containers"] + pod["initContainers"] for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_snapshots_are_on_a_volume_that_all_processes_share(container, manifests, parsed):
    assert manifests["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    recovery = str(parsed(words(container), variables(container)).params["recovery"])
    assert {"name": "recovery", "mountPath": recovery} in container["volumeMounts"]


def test_pods_are_confined(pod):
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {10001}
    # otherwise the group may write to the snapshots after a restart, and start-up refuses them
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"] + pod["initContainers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}
        assert container["resources"]["limits"]["memory"]


def test_secrets_are_referred_to_and_not_made(pod, manifests):
    assert "Secret" not in manifests
    for container in pod["containers"] + pod["initContainers"]:
        for entry in container["env"]:
            if re.search("PASSWORD|USER|DB|TOKEN", entry["name"]):
                assert set(entry["valueFrom"]) == {"secretKeyRef"}


def test_environment_is_what_signalbox_reads(pod, container, root, settings_variables, option_variables):
    wanted = settings_variables(root / "deploy" / "kubernetes" / "signalbox.toml")
    # expanded by Kubernetes, and read by nobody else
    expanded = {name for word in container["args"] for name in re.findall(r"\$\((\w+)\)", word)}
    assert set(variables(container)) - expanded == wanted | option_variables
    assert expanded <= set(variables(container))
    for other in pod["initContainers"]:
        assert set(variables(other)) == wanted | {"SIGNALBOX_CONFIG"}


def test_commands_are_understood(pod, parsed):
    for container in pod["containers"] + pod["initContainers"]:
        context = parsed(words(container), variables(container))
        assert not getattr(context.command, "commands", None)


def test_probes_ask_about_the_run(container, parsed):
    run = parsed(words(container), variables(container)).params
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        program, *arguments = container[name]["exec"]["command"]
        probe = parsed(arguments, {}).params
        assert program == "signalbox"
        assert probe["check"] is True
        assert (probe["run_id"], probe["recovery"]) == (run["run_id"], run["recovery"])
    # a pod that moves to another node must not make the probes restart the rest meanwhile
    assert container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"] >= 300


def test_settings_are_good_and_drain_within_the_grace_period(pod, container, root, monkeypatch, settings_variables):
    path = root / "deploy" / "kubernetes" / "signalbox.toml"
    for name in settings_variables(path):
        monkeypatch.setenv(name, "http://collector:4318" if "ENDPOINT" in name else "kafka:9093")
    settings = load_settings(path)
    assert pod["terminationGracePeriodSeconds"] >= settings.recovery.drain.total_seconds() + 10
    assert settings.recovery.partitions >= len(container["args"][5].split(","))
    assert settings.kafka is not None
    assert settings.kafka.client["sasl.password"].get_secret_value() == "kafka:9093"
    assert settings.kafka.client["ssl.ca.location"].get_secret_value().startswith("/etc/signalbox/tls/")


def test_images_have_the_version_of_the_project(pod, kustomization, project):
    (image,) = kustomization["images"]
    assert image == {"name": "signalbox", "newTag": project["project"]["version"]}
    assert {container["image"] for container in pod["containers"] + pod["initContainers"]} == {"signalbox"}
