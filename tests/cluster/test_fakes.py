"""What only a fake can do on purpose: failures, forgotten history, rights by the word, pods that never start."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fake_api import FakeCluster
from fake_rights import Rule
from plain_client import PlainClient
from puppet import Puppet, living_cluster

Living = tuple[FakeCluster, Puppet, PlainClient]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as found:
        yield found


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[PlainClient]:
    found = PlainClient(cluster.kubeconfig)
    yield found
    found.close()


@pytest.fixture
def living() -> Iterator[Living]:
    with living_cluster() as (cluster, puppet):
        client = PlainClient(cluster.kubeconfig)
        yield cluster, puppet, client
        client.close()


def eventually(true: Callable[[], Any], within_s: float = 30.0) -> Any:
    deadline_s = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("code", [409, 429, 503])
def test_as_many_requests_fail_as_were_told_to(cluster: FakeCluster, client: PlainClient, code: int) -> None:
    cluster.fail(2, code, "POST", "*/configmaps")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    path = "/api/v1/namespaces/default/configmaps"
    assert client.http.get(path).status_code == 200
    assert [client.http.post(path, json=body).status_code for _ in range(3)] == [code, code, 201]


def test_a_connection_is_cut_when_told_to(cluster: FakeCluster, client: PlainClient) -> None:
    cluster.fail(1, 0, path="/version")
    with pytest.raises(httpx.HTTPError):
        client.http.get("/version")
    assert client.http.get("/version").json()["gitVersion"] == "v1.34.1"


def test_history_that_is_gone_ends_watches_and_pages_with_410(cluster: FakeCluster, client: PlainClient) -> None:
    page = client.get("/api/v1/namespaces", limit=1)
    assert page is not None
    cluster.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}})
    cluster.store.compact()
    (event,) = client.watch("/api/v1/namespaces", page["metadata"]["resourceVersion"], timeout_s=5)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    query = {"limit": "1", "continue": page["metadata"]["continue"]}
    assert client.http.get("/api/v1/namespaces", params=query).status_code == 410


def test_a_user_may_what_the_rules_say_and_is_told_the_rest(cluster: FakeCluster) -> None:
    client = PlainClient(
        cluster.kubeconfig_of("reader", Rule("", "pods", ("get", "list")), Rule("apps", "*", ("list",)))
    )
    try:
        assert client.http.get("/api/v1/pods").status_code == 200
        assert client.http.get("/apis/apps/v1/deployments").status_code == 200
        refused = client.http.get("/api/v1/nodes")
        assert refused.status_code == 403
        assert 'User "reader" cannot list resource "nodes" in API group ""' in refused.json()["message"]
        logs = client.http.get("/api/v1/namespaces/default/pods/p/log")
        assert logs.status_code == 403, "a subresource is a right of its own"
    finally:
        client.close()


def test_nodes_and_pods_say_through_the_proxy_what_was_put_into_their_mouths(
    cluster: FakeCluster, client: PlainClient
) -> None:
    cluster.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    turns = itertools.count(1)
    cluster.texts["*/nodes/*/proxy/metrics/cadvisor"] = lambda _: f"up {next(turns)}\n"
    path = "/api/v1/nodes/n1/proxy/metrics/cadvisor"
    assert [client.http.get(path).text for _ in range(2)] == ["up 1\n", "up 2\n"]
    assert client.http.get(path.replace("n1", "n2")).status_code == 404
    assert client.http.get("/api/v1/nodes/n1/proxy/metrics/resource").status_code == 503


def deployment(name: str, **template: Any) -> dict[str, Any]:
    labels = {"app": name}
    metadata = {"labels": {**labels, **template.get("labels", {})}}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": name, "image": f"example.invalid/{name}:1"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def ready(client: PlainClient, name: str) -> bool:
    found = client.get(f"{DEPLOYMENTS}/{name}")
    return bool(found and found.get("status", {}).get("readyReplicas") == 2)


def test_a_deployments_pods_come_change_and_go_with_it(living: Living) -> None:
    _, _, client = living
    client.post(DEPLOYMENTS, deployment("web"))
    eventually(lambda: ready(client, "web"))
    first = {pod["metadata"]["name"] for pod in client.items("/api/v1/pods", labelSelector="app=web")}
    client.patch(f"{DEPLOYMENTS}/web", {"spec": {"template": {"metadata": {"annotations": {"new": "1"}}}}})
    eventually(
        lambda: not first & {p["metadata"]["name"] for p in client.items("/api/v1/pods", labelSelector="app=web")}
    )
    eventually(lambda: ready(client, "web"))
    client.delete(f"{DEPLOYMENTS}/web")
    eventually(lambda: client.items("/api/v1/pods") == [] and client.items("/apis/apps/v1/replicasets") == [])


def test_a_held_pod_waits_with_its_reason_until_it_is_released(living: Living) -> None:
    _, puppet, client = living
    puppet.hold("default/web-*")
    client.post(DEPLOYMENTS, deployment("web"))

    def reasons() -> set[str]:
        pods = client.items("/api/v1/pods", labelSelector="app=web")
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
        return {status["state"]["waiting"]["reason"] for status in statuses if "waiting" in status["state"]}

    eventually(lambda: reasons() == {"ImagePullBackOff"})
    puppet.release("default/web-*")
    eventually(lambda: ready(client, "web"))


def test_pods_that_ask_for_a_sidecar_get_it_while_its_control_plane_runs(living: Living) -> None:
    _, _, client = living
    client.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    control = "/apis/apps/v1/namespaces/istio-system/deployments"
    client.post(control, deployment("istiod"))
    eventually(lambda: json.dumps(client.get(f"{control}/istiod")["status"]).count('"readyReplicas": 2'))  # type: ignore[index]
    client.post(DEPLOYMENTS, deployment("in", labels={"sidecar.istio.io/inject": "true"}))
    client.post(DEPLOYMENTS, deployment("out", labels={"sidecar.istio.io/inject": "false"}))
    eventually(lambda: ready(client, "in") and ready(client, "out"))
    for name, wanted in (("in", ["istio-init", "istio-proxy"]), ("out", [])):
        for pod in client.items("/api/v1/pods", labelSelector=f"app={name}"):
            assert [c["name"] for c in pod["spec"].get("initContainers", ())] == wanted
    eventually(lambda: client.get("/api/v1/namespaces/kube-public/configmaps/istio-ca-root-cert"))
