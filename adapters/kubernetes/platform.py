"""Which clusters lay their nodes out in a way of their own, told from the nodes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from adapters.kubernetes.api import Manifest

# In Istio's words (istiod 1.30.3, files/profile-platform-*.yaml): folders of network plugins differ, or priority
# classes are rationed.
Platform = Literal["", "gke", "k3d", "k3s", "microk8s", "minikube", "openshift"]

# Labels that these clusters put on every node.
_BY_LABEL: Final[tuple[tuple[str, Platform], ...]] = (
    ("cloud.google.com/gke-nodepool", "gke"),
    ("minikube.k8s.io/name", "minikube"),
    ("microk8s.io/cluster", "microk8s"),
    ("node.openshift.io/os_id", "openshift"),
)


def platform_of(nodes: Sequence[Manifest]) -> Platform:
    """Return the platform of a cluster with these ``nodes``; empty: laid out the usual way (kind, kubeadm, EKS ...)."""
    return next((platform for platform in map(_platform_of, nodes) if platform), "")


def _platform_of(node: Manifest) -> Platform:
    labels = node["metadata"].get("labels") or {}
    info = (node.get("status") or {}).get("nodeInfo") or {}
    if "+k3s" in info.get("kubeletVersion", ""):
        # k3d runs k3s in containers, whose nodes it calls k3d-CLUSTER-server-0 and whose system is K3s itself.
        in_container = node["metadata"]["name"].startswith("k3d-") or info.get("osImage", "").startswith("K3s")
        return "k3d" if in_container else "k3s"
    return next((platform for label, platform in _BY_LABEL if label in labels), "")
