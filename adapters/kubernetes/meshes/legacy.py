"""What meshes whose makers stopped have in common: one chart, a few versions of it, and settings nobody will add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packaging.version import InvalidVersion, Version

from adapters.kubernetes.helm.contract import ChartVersion
from meshgauge.errors import ConfigurationError
from meshgauge.plan import Profile


def versions_from(index: Sequence[ChartVersion], oldest: str) -> Mapping[str, str]:
    """Return version of the mesh -> newest chart of it, for charts from ``oldest`` on.

    A chart that names no version of what it installs has that version itself.
    """
    found: dict[str, str] = {}
    for chart in sorted(index, key=lambda entry: _parsed(entry.version) or Version("0")):
        parsed = _parsed(chart.version)
        if parsed is not None and parsed >= Version(oldest):
            found[(chart.app_version or chart.version).removeprefix("v")] = chart.version
    return found


def only_chart(mesh: str, chart: str, version: str, known: Mapping[str, str]) -> Mapping[str, str]:
    """Return the version of the one chart that installs ``version``.

    Raises:
        ConfigurationError: none does.
    """
    if version not in known:
        there_are = ", ".join(known) or "none"
        raise ConfigurationError(f"{mesh} {version}: no chart {chart} installs it; there are: {there_are}")
    return {chart: known[version]}


def why_no_limits(title: str, profile: Profile) -> str | None:
    """Return why a mesh without values for the resources of its sidecars cannot run ``profile``, or None."""
    for field in ("proxy_cpu_cores", "proxy_memory_bytes"):
        if getattr(profile, field) is not None:
            return f"{field}: {title}'s chart has no values for the resources of its sidecars; leave it out"
    return None


def _parsed(version: str) -> Version | None:
    try:
        return Version(version)
    except InvalidVersion:
        return None
