"""Where charts come from: a folder, a chart repository over HTTP, or an OCI registry; one way to ask for all three."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from adapters.kubernetes.helm import archive, oci, web
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.helm.index import Entry, find, newest_first, parse
from meshgauge.errors import ConfigurationError


class Repository(Protocol):
    """Charts in versions.

    Both methods may raise ServiceUnavailableError (it cannot be reached) and ConfigurationError (it is no
    repository, or does not have that).
    """

    origin: str
    """Its address for messages and records, without credentials."""

    def entries(self, chart: str) -> Sequence[Entry]:
        """Return the versions of ``chart``, newest first; empty when it has none."""

    def fetch(self, chart: str, entry: Entry) -> bytes:
        """Return the archive of that version, verified against its digest where one is told."""


def repository_at(address: str) -> Repository:
    """Return the repository at an ``http(s)://`` or ``oci://`` address or in a folder."""
    scheme = urlsplit(address).scheme
    if scheme in {"http", "https"}:
        return HttpRepository(address)
    if scheme == "oci":
        return oci.OciRepository(address)
    return FolderRepository(Path(address.removeprefix("file://")).expanduser())


class HttpRepository:
    """A chart repository: ``index.yaml`` below its address."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/") + "/"
        self.origin = web.without_userinfo(self._address.rstrip("/"))

    def entries(self, chart: str) -> Sequence[Entry]:
        """See Repository."""
        return parse(web.get(urljoin(self._address, "index.yaml")), chart, f"{self.origin}/index.yaml")

    def fetch(self, chart: str, entry: Entry) -> bytes:
        """See Repository. Follows an absolute address of the index wherever it leads, as Helm does."""
        if not entry.urls:
            raise ConfigurationError(f"{self.origin} lists {chart} {entry.version.version} without an address")
        if urlsplit(entry.urls[0]).scheme == "oci":
            return oci.pull(entry.urls[0], entry.version.version)
        address = urljoin(self._address, entry.urls[0])
        return verified(web.get(address), entry, web.without_userinfo(address))


class FolderRepository:
    """A folder with an ``index.yaml``, or just with charts in it: ``.tgz`` files and unpacked ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.origin = str(folder)

    def entries(self, chart: str) -> Sequence[Entry]:
        """See Repository."""
        if not self._folder.is_dir():
            raise ConfigurationError(f"{self._folder} is no folder on this host: name one that holds charts")
        index = self._folder / "index.yaml"
        if index.is_file():
            return parse(index.read_bytes(), chart, str(index))
        return newest_first(self._found(chart))

    def _found(self, chart: str) -> Sequence[Entry]:
        # An archive is called NAME-VERSION.tgz; only those that can be this chart are opened.
        candidates = [
            *self._folder.glob(f"{chart}-*.tgz"),
            *(path.parent for path in self._folder.glob("*/Chart.yaml")),
        ]
        described = ((path, *archive.described(path)) for path in candidates)
        return [Entry(version, (path.name,)) for path, name, version in described if name == chart]

    def fetch(self, chart: str, entry: Entry) -> bytes:
        """See Repository. An address in the index leads to the file of that name in this folder, never out of it."""
        name = Path(urlsplit(entry.urls[0]).path).name if entry.urls else f"{chart}-{entry.version.version}.tgz"
        path = self._folder / name
        if path.is_dir():
            return archive.packed(path)
        if not path.is_file():
            raise ConfigurationError(f"{path} is not there, though it is listed: bring chart and index into line")
        return verified(path.read_bytes(), entry, str(path))


def verified(content: bytes, entry: Entry, origin: str) -> bytes:
    """Return ``content`` when it has the digest the index tells (or the index tells none).

    Raises:
        ConfigurationError: it has another: the archive was changed after the index was made, or on its way.
    """
    digest = hashlib.sha256(content).hexdigest()
    if entry.version.digest and digest != entry.version.digest:
        raise ConfigurationError(
            f"{origin} has SHA-256 {digest}, and the index says {entry.version.digest}: it is not the chart that was "
            "published; do not use it before you know why"
        )
    return content


def located(source: ChartSource) -> tuple[Repository, str] | Path:
    """Return repository and name of a source; or, for a chart that lies on this host, its path."""
    if source.repository:
        return repository_at(source.repository), source.chart
    if source.chart.startswith("oci://"):
        address, _, chart = source.chart.rpartition("/")
        return oci.OciRepository(address), chart
    path = Path(source.chart)
    if not path.exists():
        raise ConfigurationError(f"there is no chart at {path} on this host")
    return path


def shown(source: ChartSource) -> str:
    """Return a source for messages and records: without credentials, and of a path on this host the file's name."""
    if source.repository or source.chart.startswith("oci://"):
        return web.without_userinfo(str(source))
    return Path(source.chart).name


def versions(source: ChartSource) -> Sequence[ChartVersion]:
    """Return what there is of a chart, newest first; asked anew each time."""
    place = located(source)
    if isinstance(place, Path):
        return [archive.described(place)[1]]
    repository, chart = place
    return [entry.version for entry in repository.entries(chart)]


def at_hand(source: ChartSource, version: str, folder: Path) -> Path:
    """Return the chart as a path on this host, fetched into ``folder`` when it lies elsewhere.

    Raises:
        ConfigurationError: there is no such chart or version.
        ServiceUnavailableError: its repository cannot be reached.
    """
    place = located(source)
    if isinstance(place, Path):
        archive.described(place)
        return place
    repository, chart = place
    entry = find(repository.entries(chart), chart, version, repository.origin)
    path = folder / f"{chart}-{entry.version.version}.tgz"
    path.write_bytes(repository.fetch(chart, entry))
    return path


@contextlib.contextmanager
def on_this_host(release: ChartRelease) -> Iterator[Path]:
    """Yield the chart of a release as a path, fetched into a folder that goes afterwards where it lies elsewhere."""
    with tempfile.TemporaryDirectory(prefix="meshgauge-chart-") as folder:
        yield at_hand(release.source, release.version, Path(folder))
