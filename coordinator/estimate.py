"""How long a plan will take: what it says plus what bringing environments up was seen to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import Turn
from meshgauge.plan import Load
from meshgauge.settings import Settings

# Estimates, not promises. Local provider, two cores: bringing an environment up, verifying it and tearing
# it down; and per trial starting Locust, the two treatment checks and storing what was measured. The bar
# of issue 2 is 3 s a trial for both together.
ENVIRONMENT_OVERHEAD_S = 1.5
TRIAL_OVERHEAD_S = 1.5


def trial_s(load: Load) -> float:
    """Return the expected wall time of one trial, in seconds."""
    return load.duration_s + TRIAL_OVERHEAD_S


def estimate_s(turns: Sequence[Turn], settings: Settings) -> float:
    """Return the expected wall time of all turns, in seconds; sites work side by side."""
    busy_s: dict[str, float] = defaultdict(float)
    for turn in turns:
        site = site_of(settings, turn.environment.infrastructure)
        busy_s[site] += ENVIRONMENT_OVERHEAD_S + sum(trial_s(cell.load) for cell in turn.cells)
    return max(busy_s.values())


def site_of(settings: Settings, infrastructure: Infrastructure) -> str:
    """Return the site whose lease protects environments on ``infrastructure``."""
    if infrastructure.provider == "local":
        return settings.site
    if infrastructure.provider == "kubernetes":  # whatever its sizes are called: meshes are installed cluster-wide
        return cluster_site(infrastructure.in_cluster.context)
    return infrastructure.name


def cluster_site(context: str | None) -> str:
    """Return the site of a kubeconfig context; None: the cluster Meshgauge runs in, or the current one."""
    return "kubernetes" if context is None else f"kubernetes:{context}"
