from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from fake_api import FakeCluster

from adapters.kubernetes.api import Cluster, Kind, ObjectRef
from adapters.kubernetes.helm.records import records, remove, uninstalled
from meshgauge.errors import EnvironmentUpError, ServiceUnavailableError

OURS = {"meta.helm.sh/release-name": "greet", "meta.helm.sh/release-namespace": "shop"}
KEPT = {"helm.sh/resource-policy": "keep"}


def config(name: str, namespace: str | None = "shop", **annotations: str) -> dict[str, Any]:
    metadata = {"name": name, "annotations": annotations, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def ref(name: str, namespace: str = "shop") -> ObjectRef:
    return ObjectRef(Kind("v1", "ConfigMap"), namespace, name)


def put_record(
    fake: FakeCluster, revision: int, *objects: dict[str, Any], hooks: tuple[dict[str, Any], ...] = ()
) -> None:
    release = {
        "name": "greet",
        "version": revision,
        "manifest": "".join(f"---\n# Source: x\n{json.dumps(one)}\n" for one in objects),
        "hooks": [{"name": "hook", "manifest": json.dumps(hook)} for hook in hooks],
    }
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode())))
    fake.store.put(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "helm.sh/release.v1",
            "metadata": {
                "name": f"sh.helm.release.v1.greet.v{revision}",
                "namespace": "shop",
                "labels": {"owner": "helm", "name": "greet", "version": str(revision)},
            },
            "data": {"release": packed.decode()},
        }
    )


@pytest.fixture
def shop(fake: FakeCluster) -> FakeCluster:
    fake.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    return fake


def test_everything_the_records_name_goes_and_nothing_else(shop: FakeCluster, cluster: Cluster) -> None:
    for one in (
        config("first", **OURS),
        config("second", **OURS),
        config("kept", **OURS, **KEPT),
        config("taken", **{**OURS, "meta.helm.sh/release-name": "other"}),
        config("strangers"),
        config("hook"),
        config("elsewhere", "default", **OURS),
    ):
        shop.store.put(one)
    gone = {"apiVersion": "gone.example.org/v1", "kind": "Gone", "metadata": {"name": "was"}}
    put_record(shop, 2, config("second", None), config("taken"), config("strangers"), gone, hooks=(config("hook"),))
    put_record(shop, 10, config("first"), config("kept", **KEPT), config("elsewhere", "default"), config("never-made"))
    assert [one.revision for one in records(cluster, "greet", "shop")] == [2, 10]
    assert remove(cluster, "greet", "shop", 30)
    there = {one["metadata"]["name"] for one in cluster.list(Kind("v1", "ConfigMap"))}
    assert there & {"first", "second", "elsewhere", "hook"} == set()
    assert there >= {"kept", "taken", "strangers"}
    assert records(cluster, "greet", "shop") == []
    assert not remove(cluster, "greet", "shop", 30)


def test_what_does_not_go_is_named_and_the_record_stays(shop: FakeCluster, cluster: Cluster) -> None:
    stuck = config("stuck", **OURS)
    stuck["metadata"]["finalizers"] = ["example.org/never"]
    shop.store.put(stuck)
    put_record(shop, 1, config("stuck"))
    with pytest.raises(EnvironmentUpError, match=r"stuck.*example.org/never"):
        remove(cluster, "greet", "shop", 0.5)
    assert len(records(cluster, "greet", "shop")) == 1
    cluster.patch(ref("stuck"), {"metadata": {"finalizers": None}})
    assert remove(cluster, "greet", "shop", 30), "it can be tried again"


def test_the_record_is_turned_to_only_where_helm_failed_for_good(shop: FakeCluster, cluster: Cluster) -> None:
    def failing(error: Exception) -> Any:
        def uninstall() -> bool:
            raise error

        return uninstall

    shop.store.put(config("first", **OURS))
    put_record(shop, 1, config("first"))
    assert uninstalled(lambda: True, cluster, "greet", "shop", 30)
    with pytest.raises(ServiceUnavailableError):
        uninstalled(failing(ServiceUnavailableError("away")), cluster, "greet", "shop", 30)
    assert cluster.get(ref("first")) is not None
    assert uninstalled(failing(EnvironmentUpError("a hook")), cluster, "greet", "shop", 30)
    assert cluster.get(ref("first")) is None
    with pytest.raises(EnvironmentUpError, match="a hook"):
        uninstalled(failing(EnvironmentUpError("a hook")), cluster, "greet", "shop", 30)


def test_a_record_that_cannot_be_read_is_named(shop: FakeCluster, cluster: Cluster) -> None:
    put_record(shop, 1)
    secret = ObjectRef(Kind("v1", "Secret"), "shop", "sh.helm.release.v1.greet.v1")
    cluster.patch(secret, {"data": {"release": base64.b64encode(b"nonsense").decode()}})
    with pytest.raises(EnvironmentUpError, match=r"Secret sh\.helm\.release\.v1\.greet\.v1 .* is no record"):
        records(cluster, "greet", "shop")
