"""Which container belongs to which component: native sidecars count, preparing containers do not, none counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.kubernetes.counting.components import Watched, parts, watched
from adapters.kubernetes.mesh import Containers

APP, LOAD = "meshgauge.io/component=app", "meshgauge.io/component=load"


def pod(name: str, namespace: str, node: str, *containers: str, sidecars: Sequence[str] = (), **more: Any) -> Any:
    prepare = {"name": "prepare"}
    native = [{"name": sidecar, "restartPolicy": "Always"} for sidecar in sidecars]
    spec = {"nodeName": node, "containers": [{"name": one} for one in containers], "initContainers": [prepare, *native]}
    return {"metadata": {"name": name, "namespace": namespace, **more}, "spec": spec, "status": {"phase": "Running"}}


def found(wanted: Sequence[Watched], pods: Mapping[tuple[str, str], Sequence[Any]]) -> set[tuple[str, str, str]]:
    counted = parts(wanted, lambda namespace, labels: pods.get((namespace, labels), ()))
    assert max(Counter(part.counted for part in counted).values(), default=1) == 1
    return {(part.component, str(part.counted), part.node) for part in counted}


SIDECARS = (
    Containers("client", None, "", ("proxy",)),
    Containers("server", None, "", ("proxy",)),
    Containers(None, "mesh-system", "", ()),
)


def test_sidecars_are_data_plane_of_their_side_and_the_rest_of_the_pod_is_not() -> None:
    pods = {
        ("mg", APP): [pod("app-1", "mg", "n1", "app", sidecars=["proxy"]), pod("app-2", "mg", "n2", "app", "proxy")],
        ("mg", LOAD): [pod("load-1", "mg", "n3", "worker", sidecars=["proxy"])],
        ("mesh-system", ""): [pod("control-1", "mesh-system", "n9", "discovery", sidecars=["proxy"])],
    }
    assert found(watched(SIDECARS, "mg", APP, LOAD), pods) == {
        ("app", "mg/app-1/app", "n1"),
        ("app", "mg/app-2/app", "n2"),
        ("load_generator", "mg/load-1/worker", "n3"),
        ("data_plane/server", "mg/app-1/proxy", "n1"),
        ("data_plane/server", "mg/app-2/proxy", "n2"),
        ("data_plane/client", "mg/load-1/proxy", "n3"),
        ("control_plane", "mesh-system/control-1/discovery", "n9"),
        ("control_plane", "mesh-system/control-1/proxy", "n9"),
        ("host", "n1", "n1"),
        ("host", "n2", "n2"),
        ("host", "n3", "n3"),
    }


def test_what_takes_spans_is_counted_by_itself_and_puts_no_node_into_play() -> None:
    collector = "meshgauge.io/component=trace_collector"
    pods = {
        ("mg", APP): [pod("app-1", "mg", "n1", "app")],
        ("mg", collector): [pod("trace-collector-1", "mg", "n7", "collector")],
    }
    assert found(watched((), "mg", APP, None, collector), pods) == {
        ("app", "mg/app-1/app", "n1"),
        ("trace_collector", "mg/trace-collector-1/collector", "n7"),
        ("host", "n1", "n1"),
    }


def test_a_data_plane_that_nodes_share_counts_where_application_or_load_run_and_is_no_control_plane() -> None:
    groups = (
        Containers(None, "mesh-system", "", ()),
        Containers("node", "mesh-system", "app=ztunnel", ("istio-proxy",)),
        Containers("node", None, "gateway=waypoint", ("istio-proxy",)),
    )
    tunnels = [pod(f"ztunnel-{node}", "mesh-system", node, "istio-proxy") for node in ("n1", "n2")]
    pods = {
        ("mg", APP): [pod("app-1", "mg", "n1", "app")],
        ("mg", "gateway=waypoint"): [pod("waypoint", "mg", "n3", "istio-proxy")],
        ("mesh-system", "app=ztunnel"): tunnels,
        ("mesh-system", ""): [pod("istiod", "mesh-system", "n2", "discovery"), *tunnels[:1]],
    }
    assert found(watched(groups, "mg", APP, None), pods) == {
        ("app", "mg/app-1/app", "n1"),
        ("data_plane/node", "mesh-system/ztunnel-n1/istio-proxy", "n1"),
        ("data_plane/node", "mg/waypoint/istio-proxy", "n3"),
        ("control_plane", "mesh-system/istiod/discovery", "n2"),
        ("host", "n1", "n1"),
    }


def test_without_load_in_the_cluster_there_is_no_client_side() -> None:
    assert {one.component for one in watched(SIDECARS, "mg", APP, None)} == {
        "data_plane/server",
        "control_plane",
        "app",
    }


def test_pods_that_do_not_run_or_are_going_do_not_count() -> None:
    done = pod("load-0", "mg", "n1", "worker")
    done["status"]["phase"] = "Succeeded"
    going = pod("load-1", "mg", "n1", "worker", deletionTimestamp="2026-11-23T14:00:00Z")
    unscheduled = pod("load-2", "mg", "", "worker")
    pods = {("mg", LOAD): [done, going, unscheduled]}
    assert found(watched((), "mg", APP, LOAD), pods) == set()
