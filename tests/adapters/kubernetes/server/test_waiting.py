"""Waiting ends at once when it can, and says what was missing when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_api import FakeCluster
from plain_client import PlainClient
from puppet import living_cluster

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.mesh import Condition, Rollout
from adapters.kubernetes.server.waiting import wait_gone, wait_pods, wait_ready
from meshgauge.errors import EnvironmentUpError

_MAP = Kind("v1", "ConfigMap")
_REF = ObjectRef(_MAP, "default", "a")
_APP = {"app": "web"}


def _map(*finalizers: str) -> Manifest:
    metadata = {"name": "a", "namespace": "default", "finalizers": list(finalizers)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _deployment(image: str = "web:1") -> Manifest:
    pod = {"metadata": {"labels": _APP}, "spec": {"containers": [{"name": "web", "image": image}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": _APP}, "template": pod}
    metadata = {"name": "web", "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _pod(**status: Any) -> Manifest:
    spec = {"containers": [{"name": "web", "image": "web:1"}], "nodeName": "n"}
    metadata = {"name": "web-1", "namespace": "default", "labels": _APP}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def _stand(fake: FakeCluster, pod: Manifest) -> None:
    """Put a pod, then its status, which creations leave out."""
    fake.store.put(pod)
    client = PlainClient(fake.kubeconfig)
    client.patch("/api/v1/namespaces/default/pods/web-1/status", {"status": pod["status"]})
    client.close()


@contextmanager
def _meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Do something from another thread, a moment after the block began."""
    timer = threading.Timer(0.3, act)
    timer.start()
    yield
    timer.join()


def test_what_appears_later_is_waited_for_and_told(cluster: Cluster) -> None:
    lines: list[str] = []
    with _meanwhile(lambda: cluster.apply(_map())):
        wait_ready(cluster, [Condition(_REF)], 30.0, lines.append)
    assert lines == [
        "ConfigMap a in namespace default: does not exist",
        "ConfigMap a in namespace default: ready",
    ]


def test_a_kind_that_is_not_served_yet_is_waited_for(cluster: Cluster) -> None:
    widget = {"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": "w"}}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Cluster",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    with _meanwhile(lambda: (cluster.apply(definition), cluster.apply(widget))):
        wait_ready(cluster, [Condition(ObjectRef.of(widget))], 30.0)


def test_time_that_is_over_names_what_is_missing(cluster: Cluster) -> None:
    with pytest.raises(
        EnvironmentUpError, match=r"ConfigMap a in namespace default is not ready after 0\.2 s: does not"
    ):
        wait_ready(cluster, [Condition(_REF)], 0.2)


def test_a_rollout_becomes_ready_in_a_cluster_that_lives(connected: Callable[..., Cluster]) -> None:
    with living_cluster() as (server, _):
        cluster = connected(server.kubeconfig)
        cluster.apply(_deployment())
        wait_ready(cluster, [Rollout("Deployment", "default", "web")], 60.0)
        wait_pods(cluster, "default", "app=web", 2, 60.0)
        cluster.close()


def test_a_rollout_that_cannot_pull_says_which_image(connected: Callable[..., Cluster]) -> None:
    with living_cluster() as (server, puppet):
        puppet.hold("broken:*", "ImagePullBackOff")
        cluster = connected(server.kubeconfig)
        cluster.apply(_deployment("broken:1"))
        with pytest.raises(EnvironmentUpError) as caught:
            wait_ready(cluster, [Rollout("Deployment", "default", "web")], 4.0)
        cluster.close()
    assert "Deployment web in namespace default is not ready after 4 s: rolled out 2 of 2 pods, 0 of them ready" in str(
        caught.value
    )
    assert "cannot pull the image broken:1 of its container web" in str(caught.value)


def test_a_pod_no_node_has_room_for_tells_its_last_event(fake: FakeCluster, cluster: Cluster) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    _stand(fake, _pod(phase="Pending", conditions=[condition]))
    for number, message in enumerate(["first words", "no preemption victims found"]):
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"e{number}", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "web-1"},
            "type": "Warning",
            "reason": "FailedScheduling",
            "message": message,
            "lastTimestamp": f"2026-11-23T14:00:0{number}Z",
        }
        fake.store.put(event)
    with pytest.raises(EnvironmentUpError) as caught:
        wait_pods(cluster, "default", "app=web", 1, 0.2)
    assert "pod web-1 is Pending, Unschedulable: Insufficient cpu" in str(caught.value)
    assert "last event: FailedScheduling: no preemption victims found" in str(caught.value)
    assert "first words" not in str(caught.value)


def test_a_pod_that_crashes_tells_its_last_words(fake: FakeCluster, cluster: Cluster) -> None:
    crashed = {
        "name": "web",
        "image": "web:1",
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    _stand(fake, _pod(phase="Running", containerStatuses=[crashed]))
    fake.texts["*/pods/web-1/log"] = "starting\nfatal: no configuration\n"
    with pytest.raises(EnvironmentUpError) as caught:
        wait_pods(cluster, "default", "app=web", 1, 0.2)
    assert "crashes: its container web ended with code 1, Error" in str(caught.value)
    assert "web: fatal: no configuration" in str(caught.value)


def test_a_pod_without_hope_is_not_waited_for(fake: FakeCluster, cluster: Cluster) -> None:
    never = {"name": "web", "image": "web:1", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}
    _stand(fake, _pod(phase="Pending", containerStatuses=[never]))
    with pytest.raises(EnvironmentUpError, match="Pod web-1 in namespace default cannot come up: the image web:1"):
        wait_pods(cluster, "default", "app=web", 1, 60.0)


def test_what_goes_is_waited_for(cluster: Cluster) -> None:
    cluster.apply(_map("x.io/hold"))
    cluster.delete(_REF)
    with _meanwhile(lambda: cluster.patch(_REF, {"metadata": {"finalizers": None}})):
        wait_gone(cluster, [_REF, ObjectRef(_MAP, "default", "never-was")], 30.0)
    assert cluster.get(_REF) is None


def test_what_does_not_go_is_named_with_what_holds_it(cluster: Cluster) -> None:
    cluster.apply(_map("x.io/hold"))
    cluster.delete(_REF)
    with pytest.raises(EnvironmentUpError, match=r"still there after 0\.2 s: ConfigMap a .*finalizers x\.io/hold"):
        wait_gone(cluster, [_REF], 0.2)


def test_what_nobody_deleted_is_told_as_such(cluster: Cluster) -> None:
    cluster.apply(_map())
    with pytest.raises(EnvironmentUpError, match="nobody deleted it"):
        wait_gone(cluster, [_REF], 0.2)
