"""``meshgauge plan check --reach``: a plan held against the cluster it names, before anything is submitted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_charts
import yaml
from fake_api import FakeCluster
from fake_rights import Rule
from plain_client import PlainClient
from typer.testing import CliRunner

from adapters.kubernetes.preflight.permissions import OPTIONAL, PROVIDER
from coordinator.cli import app
from coordinator.commands.failures import CONFIGURATION

LINKERD = "linkerd-"


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """An API server with one node that has room."""
    with FakeCluster() as server:
        server.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        allocatable = {"cpu": "8", "memory": "16Gi", "pods": "50"}
        status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
        client = PlainClient(server.kubeconfig)
        client.patch("/api/v1/nodes/n1/status", {"status": status})
        client.close()
        yield server


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan of two meshes whose charts are in a folder."""
    monkeypatch.setenv("MESHGAUGE_DATA_DIR", str(tmp_path / "data"))
    charts = tmp_path / "charts"
    stand_in_charts.write(charts)
    document = {
        "name": "reached",
        "meshes": ["none", "linkerd"],
        "profiles": ["mtls"],
        "workloads": {"name": "small", "app": "fixed-reply", "reply_bytes": 64},
        "infrastructures": {"name": "cluster", "provider": "kubernetes", "cluster": {"charts": str(charts)}},
        "loads": {"rate_rps": 100, "window_s": 120},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def reach(plan: Path, kubeconfig: Path) -> tuple[int, dict[str, list[str]]]:
    answer = CliRunner().invoke(
        app, ["plan", "check", str(plan), "--reach", "--json"], env={"KUBECONFIG": str(kubeconfig)}
    )
    assert answer.stdout, answer.output
    return answer.exit_code, json.loads(answer.stdout)["preflight"]


def test_a_cluster_that_fits_has_nothing_in_the_way(fake: FakeCluster, plan: Path) -> None:
    code, found = reach(plan, fake.kubeconfig)
    assert code == 0, found
    assert [name.split("/")[0].startswith(LINKERD) for name in found] == [False, True]
    assert all(problems == [] for problems in found.values())


def test_missing_rights_are_named_before_anything_is_submitted(fake: FakeCluster, plan: Path) -> None:

    already = len(fake.requests)
    held = [Rule(one.group, one.resource, tuple(one.verbs)) for one in (*PROVIDER, *OPTIONAL)]
    code, found = reach(plan, fake.kubeconfig_of("poor", *held))
    assert code == CONFIGURATION
    baseline, linkerd = found.values()
    assert baseline == []
    assert "mutatingwebhookconfigurations.admissionregistration.k8s.io" in linkerd[0]
    assert {method for method, path in fake.requests[already:] if "selfsubject" not in path} == {"GET"}


def test_a_user_who_may_nothing_is_told_all_of_it_at_once(fake: FakeCluster, plan: Path) -> None:
    code, found = reach(plan, fake.kubeconfig_of("nobody"))
    assert code == CONFIGURATION
    for (problem,) in found.values():
        assert "nodes" in problem
        assert "namespaces" in problem


def test_without_reach_no_cluster_is_asked(plan: Path) -> None:
    answer = CliRunner().invoke(app, ["plan", "check", str(plan)], env={"KUBECONFIG": "/nowhere"})
    assert answer.exit_code == 0, answer.output
    assert "Clusters" not in answer.stdout
