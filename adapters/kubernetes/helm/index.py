"""Chart repositories' ``index.yaml``, read; and the order of chart versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.helm.manifests import TextLoader
from meshgauge.errors import ConfigurationError

_SEMVER: Final = re.compile(r"^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+.*)?$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a chart, and where its archive is.

    Attributes:
        urls: addresses as the repository writes them, perhaps relative to its own.
    """

    version: ChartVersion
    urls: tuple[str, ...]


def parse(text: bytes, chart: str, origin: str) -> tuple[Entry, ...]:
    """Return the versions of ``chart`` in an ``index.yaml``, newest first; none when the index does not have it.

    Only the entry asked for is built: an index of several MB holds hundreds of charts.

    Raises:
        ConfigurationError: this is no index.
    """
    loader = TextLoader(text)  # every scalar a string: version 1.10 is not 1.1
    try:
        root = loader.get_single_node()
        entries = _value(root, "entries")
        if entries is None:
            raise ConfigurationError(f"{origin} is no index of a chart repository: it has no 'entries'")
        node = _value(entries, chart)
        versions = [] if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{origin} is no index of a chart repository: {error}") from error
    finally:
        loader.dispose()
    return newest_first(_entry(one) for one in versions or () if isinstance(one, dict) and one.get("version"))


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _entry(one: dict[str, Any]) -> Entry:
    version = ChartVersion(
        version=str(one["version"]),
        app_version=str(one.get("appVersion") or ""),
        created=str(one.get("created") or ""),
        digest=str(one.get("digest") or "").removeprefix("sha256:"),
    )
    return Entry(version, tuple(str(url) for url in one.get("urls") or ()))


def newest_first(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Sort by version, the highest first."""
    return tuple(sorted(entries, key=lambda entry: precedence(entry.version.version), reverse=True))


def precedence(version: str) -> tuple[Any, ...]:
    """Return a sort key for a version as Semantic Versioning orders them; what is none comes before all.

    Source: semver.org/spec/v2.0.0.html, 11: numbers by value, below words; a pre-release below its release.
    """
    match = _SEMVER.match(version)
    if not match:
        return (-1, 0, 0, 0, (), version)
    major, minor, patch = (int(part or 0) for part in match.groups()[:3])
    words = tuple(_identifier(part) for part in (match[4] or "").split(".") if part)
    return (major, minor, patch, 0 if words else 1, words, "")


def _identifier(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)


def find(entries: Sequence[Entry], chart: str, version: str, origin: str) -> Entry:
    """Return the entry of exactly ``version``; a leading ``v`` is no difference.

    Raises:
        ConfigurationError: there is none; names the newest there are.
    """
    for entry in entries:
        if entry.version.version.removeprefix("v") == version.removeprefix("v"):
            return entry
    there = ", ".join(entry.version.version for entry in entries[:8])
    raise ConfigurationError(
        f"{origin} has no chart {chart} {version}: {'it has ' + there if there else 'it does not have that chart'}"
    )
