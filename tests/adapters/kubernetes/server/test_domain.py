"""The cluster's domain is what its kubelets tell their pods."""

from __future__ import annotations

import json
from collections.abc import Callable

from fake_api import FakeCluster
from fake_rights import Rule

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.server.domain import told_domain

CONFIGZ = "/api/v1/nodes/{}/proxy/configz"


def says(fake: FakeCluster, node: str, **configuration: str) -> None:
    fake.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    fake.texts[CONFIGZ.format(node)] = json.dumps({"kubeletconfig": configuration})


def test_the_first_kubelet_that_answers_tells_it(fake: FakeCluster, cluster: Cluster) -> None:
    says(fake, "n2", clusterDomain="k8s.example.")
    says(fake, "n3", clusterDomain="never.asked")
    assert told_domain(cluster, ["n1", "n2", "n3"]) == "k8s.example"


def test_kubelets_that_say_nothing_tell_none(fake: FakeCluster, cluster: Cluster) -> None:
    says(fake, "n1")
    says(fake, "n2")
    fake.texts[CONFIGZ.format("n2")] = "<html>"
    says(fake, "n3")
    fake.texts[CONFIGZ.format("n3")] = "[]"
    assert told_domain(cluster, ["n1", "n2", "n3"]) is None
    assert told_domain(cluster, []) is None


def test_few_kubelets_are_asked_and_no_more_after_a_refusal(
    fake: FakeCluster, connected: Callable[..., Cluster], cluster: Cluster
) -> None:
    def asked() -> int:
        return sum(path.endswith("/configz") for _, path in fake.requests)

    assert told_domain(cluster, [f"n{number}" for number in range(100)]) is None
    assert asked() == 3
    poor = connected(fake.kubeconfig_of("poor", Rule("", "nodes", ("list",))))
    assert told_domain(poor, ["n1", "n2"]) is None
    assert asked() == 4
