"""Charts of a mesh: which versions there are, and each as one file of a known digest, kept between environments."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from adapters.kubernetes.helm import archive
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion, HelmBackend
from adapters.kubernetes.helm.files import write_whole
from adapters.kubernetes.helm.index import precedence
from adapters.kubernetes.helm.remote import at_hand, shown
from adapters.kubernetes.mesh import KubernetesMesh
from meshgauge.errors import ServiceUnavailableError, UnknownNameError

_INDEX_FRESH_S: Final = 3600.0


class ChartStore:
    """Charts from their own repositories or from a mirror of them.

    What is in a folder of this host is read anew each time. What is fetched is kept in ``cache_dir/charts``: indexes
    for an hour, and beyond that while their repository is away; archives for good, by their SHA-256.
    """

    def __init__(self, helm: HelmBackend, cache_dir: Path, mirror: str | None = None) -> None:
        """Look for charts where each mesh says, or all of them in one place.

        Args:
            mirror: a folder on this host (with an ``index.yaml``, or just with charts, packed or not), or an
                ``http(s)://`` or ``oci://`` address; charts are found there by their own names.
        """
        self._helm = helm
        self._folder = cache_dir / "charts"
        self._mirror = mirror

    def versions(self, mesh: KubernetesMesh) -> Sequence[str]:
        """Return the versions of ``mesh`` that can be had, newest first.

        Raises:
            ServiceUnavailableError: the repository cannot be reached and no copy of its index is kept.
            ConfigurationError: there is no repository at that place, or it refuses us.
        """
        found = mesh.versions_of(self._index(next(iter(mesh.charts.values()))))
        return sorted(found, key=lambda version: precedence(found[version]), reverse=True)

    def resolve(self, mesh: KubernetesMesh, version: str) -> Mapping[str, str]:
        """Return the exact version of each chart for mesh ``version``.

        Raises:
            UnknownNameError: there is no such version of the mesh; names those there are.
            ServiceUnavailableError, ConfigurationError: as ``versions``.
        """
        known = self.versions(mesh)
        if version not in known:
            raise UnknownNameError(f"version of {mesh.name} in {self._place(mesh)}", version, known)
        return mesh.chart_versions(version, {name: self._index(source) for name, source in mesh.charts.items()})

    def local(self, release: ChartRelease) -> ChartRelease:
        """Return the release with its chart as an archive on this host, fetched and verified where it was not yet.

        Raises:
            ServiceUnavailableError: the repository cannot be reached and no copy of the chart is kept.
            ConfigurationError: it has no such chart or version, or its digest is not the one published.
        """
        return replace(release, source=ChartSource(str(self._archive(release))))

    def digest(self, release: ChartRelease) -> str:
        """Return the SHA-256 of the archive that ``local`` gives; errors as there."""
        return _sha256(self._archive(release).read_bytes())

    def origin(self, release: ChartRelease) -> str:
        """Return where the chart comes from, without credentials."""
        return shown(self._source(release.source))

    def _place(self, mesh: KubernetesMesh) -> str:
        return shown(self._source(next(iter(mesh.charts.values()))))

    def _source(self, source: ChartSource) -> ChartSource:
        return ChartSource(source.chart.rpartition("/")[2], self._mirror) if self._mirror else source

    def _index(self, source: ChartSource) -> Sequence[ChartVersion]:
        source = self._source(source)
        if not _is_remote(source):
            return self._helm.versions(source)
        kept = self._folder / "indexes" / f"{_key(shown(source))}.json"
        copy = json.loads(kept.read_text()) if kept.exists() else None
        if copy and 0 <= time.time() - copy["read_at"] < _INDEX_FRESH_S:
            return _read(copy)
        try:
            found = self._helm.versions(source)
        except ServiceUnavailableError:
            if copy:
                return _read(copy)
            raise
        listed = {"read_at": time.time(), "source": shown(source), "versions": [asdict(one) for one in found]}
        write_whole(kept, json.dumps(listed).encode())
        return found

    def _archive(self, release: ChartRelease) -> Path:
        source = self._source(release.source)
        if not _is_remote(source):
            return self._keep(source, release.version)
        # Which archive a version is, is settled once: a version published twice would split a run.
        pointer = self._folder / "archives" / f"{_key(shown(source), release.version)}.json"
        if pointer.exists():
            kept = self._folder / str(json.loads(pointer.read_text())["file"])
            if kept.exists():
                return kept
        kept = self._keep(source, release.version)
        write_whole(
            pointer, json.dumps({"source": shown(source), "file": str(kept.relative_to(self._folder))}).encode()
        )
        return kept

    def _keep(self, source: ChartSource, version: str) -> Path:
        """Bring the chart here and keep it under its digest."""
        with tempfile.TemporaryDirectory(prefix="meshgauge-chart-") as folder:
            path = at_hand(source, version, Path(folder))
            content = archive.packed(path) if path.is_dir() else path.read_bytes()
        name = source.chart.removesuffix(".tgz").rpartition("/")[2]
        file = name if name.endswith(f"-{version}") else f"{name}-{version}"
        kept = self._folder / "sha256" / _sha256(content) / f"{file}.tgz"
        if not kept.exists():
            write_whole(kept, content)
        return kept


def _is_remote(source: ChartSource) -> bool:
    return urlsplit(source.repository or source.chart).scheme in {"http", "https", "oci"}


def _key(*parts: str) -> str:
    return _sha256("\n".join(parts).encode())[:32]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(copy: Mapping[str, Any]) -> Sequence[ChartVersion]:
    return [ChartVersion(**one) for one in copy["versions"]]
