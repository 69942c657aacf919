"""What a run was made with: hosts, binaries, tuning; and whether it stayed the same from block to block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from meshgauge.run import EnvironmentRecord, RunRecord

# What may not change between blocks (measurement.md 6, last row of the table).
_IDENTITY = ("sha256", "version_reported", "idle_spinners", "fifo_priority")


def host_facts(run: RunRecord) -> Mapping[str, Mapping[str, Any]]:
    """Return the facts of every host that ran an environment, by host name; the newest report of each.

    In a cluster these are the nodes of application and load.
    """
    hosts: dict[str, Mapping[str, Any]] = dict(run.provenance.get("hosts", {}))
    for environment in run.environments:
        facts = environment.provenance.get("host")
        if facts:
            hosts[environment.host] = facts
        hosts.update(environment.provenance.get("nodes") or {})
    return hosts


def made_by(run: RunRecord) -> str:
    """Return Meshgauge's version and revision of the run's day, as far as they were noted; empty when not at all."""
    noted = run.provenance.get("meshgauge") or {}
    return " ".join(str(noted[name]) for name in ("version", "revision") if noted.get(name))


def cores_of(facts: Mapping[str, Any]) -> int | None:
    """Return the cores a host may use; None when it did not say."""
    cores = facts.get("cores_usable", facts.get("cores"))
    return None if cores is None else int(cores)


def flattened(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested facts as (dotted name, text)."""
    for name, value in facts.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{path}.")
        elif isinstance(value, list | tuple):
            yield path, ", ".join(map(str, value)) if value else "none"
        else:
            yield path, "not known" if value is None else str(value)


def changed_environments(run: RunRecord) -> Mapping[str, str]:
    """Return a sentence for every environment whose binaries, features or tuning differ between its blocks."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for environment in run.environments:
        for name, value in _identity(environment):
            seen[environment.key][name].add(value)
    changed: dict[str, str] = {}
    for key, facts in seen.items():
        differing = [f"{name} ({' / '.join(sorted(values))})" for name, values in facts.items() if len(values) > 1]
        if differing:
            changed[key] = f"{key} changed between blocks: {'; '.join(differing)}"
    return changed


def _identity(environment: EnvironmentRecord) -> Iterator[tuple[str, str]]:
    for name, value in flattened(environment.provenance):
        if name.rsplit(".", 1)[-1] in _IDENTITY or ".features." in name:
            yield name, value
