"""What goes wrong on the way, in a cluster: killed workers, and users who may too little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_oracle import everything
from ground import Ground
from live_instance import ENDED, LEASE_S, LiveInstance
from live_processes import eventually

from adapters import registry
from adapters.kubernetes.preflight.judgement import Ask, preflight
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.traces.ledger import Owner
from meshgauge.infrastructures import Cluster as ClusterPlan
from meshgauge.infrastructures import Infrastructure, cluster_site


@pytest.fixture
def live(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, wheel_cache: Path
) -> Iterator[LiveInstance]:
    """Return a whole instance whose workers reach the ground."""
    monkeypatch.setenv("KUBECONFIG", str(ground.kubeconfig))
    instance = LiveInstance(LiveInstance.settings_in(tmp_path_factory.mktemp("live"), wheel_cache))
    yield instance
    instance.close()


def test_a_worker_killed_in_mid_install_leaves_nothing_after_the_reconcilers_next_tick(
    ground: Ground, live: LiveInstance
) -> None:
    before = everything(ground.client)
    if ground.puppet:  # the control plane never comes up: whenever the worker dies, it dies in the middle
        ground.puppet.hold("istio-system/*", "ContainerCreating")
    wanted = {"action": "install", "adapter": "istio", "cluster": {"context": ground.context, "charts": ground.charts}}
    made = live.http.post("/api/v1/operations", json=wanted)
    assert made.status_code == 202, made.text
    address = made.json()["links"]["self"]

    def operation() -> dict[str, Any]:
        found: dict[str, Any] = live.http.get(address).json()["operation"]
        return found

    istiod = "/apis/apps/v1/namespaces/istio-system/deployments/istiod"
    eventually(lambda: ground.client.get(istiod) or operation()["state"] in ENDED, 120, "istiod is being installed")
    assert operation()["state"] not in ENDED, operation()
    (held,) = live.rows("SELECT holder AS worker, epoch FROM site WHERE name = :s", s=cluster_site(ground.context))
    service, _ = live.holder(held)
    live.kill(service)
    eventually(lambda: operation()["state"] in ENDED, LEASE_S + 20, "it is told as lost")
    assert operation()["state"] == "failed"
    eventually(lambda: everything(ground.client) == before, 180, "the cluster is as it was")


@pytest.mark.parametrize("name", sorted(registry.kubernetes_meshes()))
def test_who_may_too_little_is_told_every_right_that_is_missing(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = everything(ground.client)
    monkeypatch.setenv("KUBECONFIG", str(ground.poor))
    mesh = registry.kubernetes_mesh(name)
    infrastructure = Infrastructure(
        name="there", provider="kubernetes", cluster=ClusterPlan(context=ground.context, charts=ground.charts)
    )
    cluster = connect(ground.context)
    try:
        verdict = preflight(cluster, Ask(Owner("test", 1, "poor"), infrastructure, mesh))
    finally:
        cluster.close()
    (problem,) = verdict.problems
    for permission in mesh.permissions():
        assert permission.resource in problem
    assert "namespaces" in problem
    assert everything(ground.client) == before
