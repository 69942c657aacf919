"""What an arm of a plan means in a cluster: one mesh, on both sides of the request. Pure."""

from __future__ import annotations

from collections.abc import Callable

from adapters.kubernetes.mesh import KubernetesMesh
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import MeshArm
from meshgauge.plan import Profile

# Returns the mesh of that name. Raises UnknownNameError.
MeshOf = Callable[[str], KubernetesMesh]


def adapter_of(arm: MeshArm) -> tuple[str, str]:
    """Return adapter and version of an arm that runs in clusters; two empty strings for the baseline."""
    return (arm.hops[0].adapter, arm.hops[0].version) if arm.hops else ("", "")


def why_unsupported(arm: MeshArm, profile: Profile, infrastructure: Infrastructure, mesh_of: MeshOf) -> str | None:
    """Return why ``arm`` cannot run ``profile`` in a cluster, or None. Needs none."""
    if not arm.hops:
        return None
    if len({(hop.adapter, hop.version) for hop in arm.hops}) > 1:
        return "client and server of different meshes: in a cluster one mesh stands on both sides"
    if any(hop.binary for hop in arm.hops):
        return "binary: in a cluster a mesh runs its own images; give versions"
    if (reason := _why_not_from_outside(arm, profile, infrastructure)) is not None:
        return reason
    reason = mesh_of(arm.hops[0].adapter).unsupported(profile, arm.placement)
    return None if reason is None else f"{arm.hops[0].adapter}: {reason}"


def _why_not_from_outside(arm: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
    """Return why the mesh cannot stand as ordered when its load comes from outside of it."""
    if infrastructure.brings_load_workers:
        return None
    if any(hop.role == "client" for hop in arm.hops):
        return (
            f"load_from: workers sends from outside the mesh: placement {arm.placement} needs a proxy beside the load"
        )
    if profile.mtls and not profile.permissive:
        return "load_from: workers sends plaintext from outside the mesh, which strict mtls refuses"
    return None
