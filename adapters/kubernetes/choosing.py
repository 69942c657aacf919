"""What an operation means where it leaves placement or profile open."""

from __future__ import annotations

from typing import Final

from adapters.kubernetes.mesh import KubernetesMesh
from meshgauge.errors import UnsupportedError
from meshgauge.operations import OperationRequest
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

_NO_COLLECTOR: Final = (
    "tracing_ratio: outside of a run there is no trace collector, and a proxy that cannot deliver its spans costs "
    "something else than one that can; leave it at 0"
)


def chosen_placement(request: OperationRequest, mesh: KubernetesMesh) -> Placement:
    """Return the placement asked for, else the mesh's own first."""
    return request.placement or mesh.placements[0]


def chosen_profile(request: OperationRequest, mesh: KubernetesMesh, placement: Placement) -> Profile:
    """Return the profile asked for, else the first built-in one that ``mesh`` can run in ``placement``.

    Raises:
        UnsupportedError: the mesh cannot run it, or none; says why.
    """
    wanted = [request.profile] if request.profile is not None else list(BUILT_IN_PROFILES.values())
    reasons = {profile.name: _why_not(profile, mesh, placement) for profile in wanted}
    found = next((profile for profile in wanted if reasons[profile.name] is None), None)
    if found is None:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnsupportedError(f"{mesh.title} cannot do that in placement {placement}: {why}")
    return found


def _why_not(profile: Profile, mesh: KubernetesMesh, placement: Placement) -> str | None:
    return mesh.unsupported(profile, placement) or (_NO_COLLECTOR if profile.tracing_ratio else None)
