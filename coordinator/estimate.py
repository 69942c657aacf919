"""How long a plan will take: what it says plus what bringing environments up was seen to cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from meshgauge.matrix import Turn
from meshgauge.plan import Infrastructure, Load
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
    return settings.site if infrastructure.provider == "local" else infrastructure.name
