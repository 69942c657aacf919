"""Clusters that lay their nodes out in a way of their own are told from their nodes."""

from __future__ import annotations

import pytest

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.platform import platform_of


def node(
    name: str = "node-1", kubelet: str = "v1.34.1", os_image: str = "Debian GNU/Linux 12", label: str = ""
) -> Manifest:
    labels = {"kubernetes.io/hostname": name} | ({label: "x"} if label else {})
    info = {"kubeletVersion": kubelet, "osImage": os_image}
    return {"metadata": {"name": name, "labels": labels}, "status": {"nodeInfo": info}}


@pytest.mark.parametrize(
    ("found", "platform"),
    [
        (node("kind-control-plane"), ""),
        (node("ip-10-0-0-1.ec2.internal", "v1.34.1-eks-113cf36"), ""),
        (node("k3d-demo-server-0", "v1.34.1+k3s1", "K3s v1.34.1+k3s1"), "k3d"),
        (node("rack-7", "v1.34.1+k3s1"), "k3s"),
        (node(kubelet="v1.34.1-gke.1829001", label="cloud.google.com/gke-nodepool"), "gke"),
        (node("minikube", label="minikube.k8s.io/name"), "minikube"),
        (node(label="microk8s.io/cluster"), "microk8s"),
        (node(label="node.openshift.io/os_id"), "openshift"),
    ],
)
def test_each_platform_is_known_by_its_nodes(found: Manifest, platform: str) -> None:
    assert platform_of([found]) == platform
    assert platform_of([node(), found]) == platform, "one node tells for the cluster"


def test_a_cluster_without_nodes_has_no_platform() -> None:
    assert platform_of([]) == ""
    assert platform_of([{"metadata": {"name": "bare"}}]) == ""
