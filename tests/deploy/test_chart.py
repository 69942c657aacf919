"""The Helm chart: what it renders is valid for Kubernetes, restricted, and no wider than it says."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from adapters import registry
from adapters.kubernetes.preflight.roles import cluster_role
from meshgauge.queue import QUEUES
from meshgauge.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart" / "meshgauge"
KUBERNETES_VERSIONS = ("1.29", "1.33", "1.37")

Manifest = dict[str, Any]
Render = Callable[[Mapping[str, Any]], list[Manifest]]

PASSWORDS = {"secrets": {"postgresPassword": "one", "valkeyPassword": "two"}}
OWN_SERVERS = {"database": {"existingSecret": "our-database"}, "broker": {"existingSecret": "our-broker"}}
EVERYTHING = {
    **PASSWORDS,
    "imagePullSecrets": [{"name": "registry"}],
    "kubeconfigSecret": "clusters",
    "settings": {"MESHGAUGE_MAX_CELLS": "20000"},
    "postgres": {"storageClass": "fast"},
    "coordinator": {
        "publicUrl": "https://mesh.example",
        "service": {"type": "LoadBalancer", "port": 8080},
        "allowedFrom": [{"namespaceSelector": {"matchLabels": {"team": "mesh"}}}],
    },
    "workers": {"load": {"replicas": 3, "nodeSelector": {"role": "load"}, "tolerations": [{"operator": "Exists"}]}},
    "rbac": {"adapters": ["istio", "linkerd"]},
}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm_python.Chart]:
    """The chart, loaded once."""
    loaded = helm_python.Chart.load(str(CHART))
    yield loaded
    loaded.close()


@pytest.fixture
def render(chart: helm_python.Chart) -> Render:
    """Renders the chart with values and returns its objects."""

    def rendered(values: Mapping[str, Any]) -> list[Manifest]:
        files = chart.render(dict(values), name="bench", namespace="meshgauge")
        texts = (text for path, text in files.items() if not path.endswith(".txt"))
        return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]

    return rendered


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {
        name: manifest["spec"]["template"]["spec"]
        for kind in ("Deployment", "StatefulSet")
        for name, manifest in of_kind(manifests, kind).items()
    }


@pytest.mark.parametrize("values", [PASSWORDS, OWN_SERVERS, EVERYTHING], ids=["plain", "own servers", "everything"])
def test_every_object_is_valid_for_kubernetes(render: Render, values: Mapping[str, Any]) -> None:
    manifests = render(values)
    assert manifests
    for manifest in manifests:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)


def test_helm_finds_nothing_to_say_against_it() -> None:
    report = helm_python.lint(str(CHART), dict(EVERYTHING), strict=True)
    told = [message for message in report["messages"] if message["severity"] >= 2]
    assert report["errors"] == []
    assert told == []


def test_every_pod_is_restricted(render: Render) -> None:
    """The restricted profile of the pod security standards, and a root file system nobody writes to."""
    found = pods(render(EVERYTHING))
    assert len(found) == 7
    for name, pod in found.items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert not any("hostPath" in volume for volume in pod["volumes"]), name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert "memory" in container["resources"]["limits"], name


def test_only_those_who_touch_clusters_hold_a_token(render: Render) -> None:
    tokens = {name: pod["automountServiceAccountToken"] for name, pod in pods(render(EVERYTHING)).items()}
    assert {name for name, mounted in tokens.items() if mounted} == {"bench-control", "bench-lifecycle"}


def test_no_password_is_in_an_argument_or_a_plain_variable(render: Render) -> None:
    for name, pod in pods(render(PASSWORDS)).items():
        text = json.dumps(pod)
        assert '"one"' not in text, name
        assert '"two"' not in text, name
        assert ":one@" not in text, name


def test_passwords_are_asked_for_where_no_secret_is_given(render: Render) -> None:
    with pytest.raises(helm_python.HelmError, match=r"set secrets\.postgresPassword"):
        render({})


def test_an_unknown_value_is_refused(render: Render) -> None:
    with pytest.raises(helm_python.HelmError, match="wrokers"):
        render({**PASSWORDS, "wrokers": {}})


def test_own_servers_bring_none_of_ours(render: Render) -> None:
    manifests = render(OWN_SERVERS)
    assert not of_kind(manifests, "StatefulSet")
    assert not of_kind(manifests, "Secret")
    environment = pods(manifests)["bench-coordinator"]["containers"][0]["env"]
    source = next(entry for entry in environment if entry["name"] == "MESHGAUGE_DATABASE_URL")
    assert source["valueFrom"]["secretKeyRef"] == {"name": "our-database", "key": "url"}


def test_each_queue_has_a_worker_and_every_setting_exists(render: Render) -> None:
    found = pods(render(EVERYTHING))
    queues = {
        container["command"][container["command"].index("-Q") + 1]
        for pod in found.values()
        for container in pod["containers"]
        if "-Q" in container.get("command", [])
    }
    assert queues == set(QUEUES)
    known = {f"MESHGAUGE_{name.upper()}" for name in Settings.model_fields} | {"MESHGAUGE_READY_FILE"}
    for pod in found.values():
        for container in pod["containers"]:
            named = {entry["name"] for entry in container.get("env", []) if entry["name"].startswith("MESHGAUGE_")}
            assert named <= known


def test_the_rights_of_the_chart_are_those_the_command_prints() -> None:
    shipped = {path.stem: path.read_text() for path in (CHART / "files" / "rbac").glob("*.yaml")}
    meant = {name: cluster_role("meshgauge", [mesh]) for name, mesh in registry.kubernetes_meshes().items()}
    assert shipped == meant, "write them again with: make rights"


def test_without_meshes_nothing_cluster_wide_is_granted(render: Render) -> None:
    manifests = render(PASSWORDS)
    assert not of_kind(manifests, "ClusterRole")
    assert not of_kind(manifests, "ClusterRoleBinding")


def test_an_unknown_mesh_is_refused_with_those_there_are(render: Render) -> None:
    with pytest.raises(helm_python.HelmError, match=r"no mesh is called .*isto.*there are: .*istio.*linkerd"):
        render({**PASSWORDS, "rbac": {"adapters": ["isto"]}})


def test_everything_of_ours_is_closed_but_for_what_is_named(render: Render) -> None:
    policies = of_kind(render(EVERYTHING), "NetworkPolicy")
    assert set(policies) == {f"bench-{part}" for part in ("closed", "coordinator", "load", "postgres", "valkey")}
    assert "ingress" not in policies["bench-closed"]["spec"]
    peers = policies["bench-coordinator"]["spec"]["ingress"][0]["from"]
    assert peers == [{"namespaceSelector": {"matchLabels": {"team": "mesh"}}}]


def test_the_chart_is_of_this_release_and_names_commands_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == project["version"]
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    for plan in re.findall(r"plans/[a-z-]+\.yaml", notes):
        assert (ROOT / plan).is_file()
