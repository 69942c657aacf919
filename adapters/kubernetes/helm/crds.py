"""A chart's ``crds/``, brought by us and not by Helm.

Helm 3 leaves those that exist as they are; Helm 4 lays its own over them, whoever's they are, and goes on before they
are served; neither brings them up to date with an upgrade. Here those that exist are left alone when a release is
installed (they were there before us), renewed when it is upgraded in place, and waited for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from adapters.kubernetes.api import Cluster, Manifest, ObjectRef
from adapters.kubernetes.helm import archive
from adapters.kubernetes.helm.manifests import manifests
from adapters.kubernetes.mesh import Condition
from adapters.kubernetes.server.waiting import wait_ready

_KIND: Final = "CustomResourceDefinition"


def bring(cluster: Cluster, chart: Path, timeout_s: float, *, renew: bool) -> None:
    """Apply the CRDs of the chart and wait until they are served.

    Args:
        renew: bring those that exist up to the chart's, whoever set their fields; else they are left alone.

    Raises:
        EnvironmentUpError: the API server refuses one, or does not serve it in time.
    """
    brought = []
    for one in of(chart):
        ref = ObjectRef.of(one)
        if renew or cluster.get(ref) is None:
            cluster.apply(one, force=renew)
            brought.append(ref)
    wait_ready(cluster, [Condition(ref, "Established") for ref in brought if ref.kind.name == _KIND], timeout_s)


def of(chart: Path) -> list[Manifest]:
    """Return the objects in ``crds/`` of a chart and of its subcharts, as they are to be applied."""
    return [_plain(one) for text in archive.crds(chart) for one in manifests(text)]


def _plain(one: Manifest) -> Manifest:
    """Return it without what generators leave in: a status, and a creation that is still to come."""
    metadata = {name: value for name, value in one["metadata"].items() if value is not None}
    return {name: value for name, value in one.items() if name != "status"} | {"metadata": metadata}
