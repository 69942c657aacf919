"""How long a plan takes: clusters cost more than processes, and sites work side by side."""

from __future__ import annotations

import pytest

from coordinator import estimate
from meshgauge.infrastructures import Cluster, Infrastructure, cluster_site, context_of
from meshgauge.matrix import Cell, EnvironmentKey, Hop, MeshArm, Turn, Workload
from meshgauge.plan import BUILT_IN_PROFILES, Load
from meshgauge.settings import Settings
from meshgauge.workloads import Workload as Spec

LOAD = Load(rate_rps=100, warm_up_s=10, window_s=60, cool_down_s=0)
BASELINE = MeshArm("none", "pair", ())
MESH = MeshArm("istio-1", "pair", (Hop("client", "istio", "1"), Hop("server", "istio", "1")))


def turn(arm: MeshArm, infrastructure: Infrastructure, loads: int = 2) -> Turn:
    spec = Spec(name="w", app="fixed-reply", reply_bytes=1)
    key = EnvironmentKey(arm, BUILT_IN_PROFILES["plain"], Workload("w", spec, None), infrastructure)
    return Turn(0, 0, 0, key, tuple(Cell(key, LOAD, f"cell-{at}") for at in range(loads)))


def cluster(context: str | None = None) -> Infrastructure:
    return Infrastructure(name="k", provider="kubernetes", cluster=Cluster(context=context))


def test_a_mesh_in_a_cluster_is_installed_and_removed_each_time() -> None:
    local_s, baseline_s, mesh_s = (
        estimate.overhead_s(turn(arm, infrastructure))
        for arm, infrastructure in ((MESH, Infrastructure()), (BASELINE, cluster()), (MESH, cluster()))
    )
    assert local_s < baseline_s < mesh_s
    assert mesh_s - baseline_s == estimate.CLUSTER_MESH_OVERHEAD_S


def test_load_workers_of_a_cluster_start_anew_for_each_trial() -> None:
    one, two = (estimate.overhead_s(turn(MESH, cluster(), loads)) for loads in (1, 2))
    assert two - one == estimate.CLUSTER_TRIAL_OVERHEAD_S


def test_clusters_work_side_by_side_and_one_cluster_in_turn() -> None:
    settings = Settings()
    alone = estimate.estimate_s([turn(MESH, cluster("a"))], settings)
    assert estimate.estimate_s([turn(MESH, cluster("a")), turn(MESH, cluster("b"))], settings) == alone
    assert estimate.estimate_s([turn(MESH, cluster("a")), turn(MESH, cluster("a"))], settings) == 2 * alone


@pytest.mark.parametrize("context", [None, "kind-bench", "arn:aws:eks:eu-1:12:cluster/x"])
def test_the_site_of_a_cluster_leads_back_to_its_context(context: str | None) -> None:
    assert context_of(cluster_site(context)) == context
