"""How long a plan will take: what it says plus what bringing environments up was seen to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from meshgauge.infrastructures import Infrastructure, cluster_site
from meshgauge.matrix import Turn
from meshgauge.plan import Load
from meshgauge.settings import Settings

# Estimates, not promises. Local provider, two cores: bringing an environment up, verifying it and tearing
# it down; and per trial starting Locust, the two treatment checks and storing what was measured. The bar
# of issue 2 is 3 s a trial for both together.
ENVIRONMENT_OVERHEAD_S = 1.5
TRIAL_OVERHEAD_S = 1.5

# In a cluster: application and namespace made and removed; a mesh installed, made ready and removed with all it left;
# load workers started for each trial. Assumed until measured on a cluster of ours; images pulled once come on top.
CLUSTER_ENVIRONMENT_OVERHEAD_S = 45.0
CLUSTER_MESH_OVERHEAD_S = 90.0
CLUSTER_TRIAL_OVERHEAD_S = 15.0


def trial_s(load: Load) -> float:
    """Return the expected wall time of one trial, in seconds."""
    return load.duration_s + TRIAL_OVERHEAD_S


def estimate_s(turns: Sequence[Turn], settings: Settings) -> float:
    """Return the expected wall time of all turns, in seconds; sites work side by side."""
    busy_s: dict[str, float] = defaultdict(float)
    for turn in turns:
        site = site_of(settings, turn.environment.infrastructure)
        busy_s[site] += overhead_s(turn) + sum(trial_s(cell.load) for cell in turn.cells)
    return max(busy_s.values())


def overhead_s(turn: Turn) -> float:
    """Return what a turn takes beyond its trials, in seconds."""
    if turn.environment.infrastructure.provider != "kubernetes":
        return ENVIRONMENT_OVERHEAD_S
    mesh_s = CLUSTER_MESH_OVERHEAD_S if turn.environment.mesh.hops else 0.0
    return CLUSTER_ENVIRONMENT_OVERHEAD_S + mesh_s + CLUSTER_TRIAL_OVERHEAD_S * len(turn.cells)


def site_of(settings: Settings, infrastructure: Infrastructure) -> str:
    """Return the site whose lease protects environments on ``infrastructure``."""
    if infrastructure.provider == "local":
        return settings.site
    if infrastructure.provider == "kubernetes":  # whatever its sizes are called: meshes are installed cluster-wide
        return cluster_site(infrastructure.in_cluster.context)
    return infrastructure.name
