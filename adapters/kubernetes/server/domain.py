"""What the names of Services end in within a cluster, as its kubelets tell their pods."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Final

from adapters.kubernetes.api import Cluster
from meshgauge.errors import ConfigurationError, MeshgaugeError

# Source: kubernetes.io, KubeletConfiguration v1beta1, clusterDomain; the endpoint is that of the kubelet's own
# configuration, which the right to nodes/proxy opens.
_CONFIGURATION: Final = "/api/v1/nodes/{node}/proxy/configz"
_TIMEOUT_S: Final = 5.0
_MOST_ASKED: Final = 3  # one that answers is enough: they have to agree


def told_domain(cluster: Cluster, nodes: Iterable[str]) -> str | None:
    """Return the cluster's domain, ``cluster.local`` mostly; None: no kubelet says, or we may not ask."""
    for node in islice(nodes, _MOST_ASKED):
        try:
            told = json.loads(cluster.text(_CONFIGURATION.format(node=node), _TIMEOUT_S))
        except ConfigurationError:
            return None
        except (MeshgaugeError, ValueError):  # this one is away, or hides it
            continue
        configuration = told.get("kubeletconfig") if isinstance(told, dict) else None
        domain = configuration.get("clusterDomain") if isinstance(configuration, dict) else None
        if domain:
            return str(domain).strip(".")
    return None
