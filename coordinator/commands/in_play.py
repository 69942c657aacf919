"""The features in play as lines of a terminal: what each proxy does to a request, and where proxies differ."""

from __future__ import annotations

from collections.abc import Iterator

from adapters.contract import FEATURES
from meshgauge.resolved import Features


def in_play(features: Features) -> Iterator[tuple[str, str]]:
    """Yield feature and value: one line where all proxies agree, else one line a value, naming who has it."""
    hops = _hops(features)
    for name in FEATURES if hops else ():
        having: dict[str, list[str]] = {}
        for hop, told in hops.items():
            having.setdefault(told.get(name, "not told"), []).append(hop)
        for value, who in having.items():
            yield name, value if len(having) == 1 else f"{value} ({', '.join(who)})"


def _hops(features: Features) -> dict[str, dict[str, str]]:
    """Return what each hop does, by mesh, profile and role; workload and infrastructure change nothing of it."""
    return {
        f"{'/'.join(key.split('/')[:2])} {role}": dict(told)
        for key, roles in features.items()
        for role, told in roles.items()
    }
