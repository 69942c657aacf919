"""Chart archives as files: what their ``Chart.yaml`` says, packing a folder, and packing without ``crds/``."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.helm.ignoring import files
from adapters.kubernetes.helm.manifests import TextLoader
from meshgauge.errors import ConfigurationError

# A chart's own CRDs and those of its subcharts, packed or not. Source: helm.sh/docs/topics/charts.
_CRDS: Final = re.compile(r"^[^/]+/(?:charts/[^/]+/)*crds/")
_SUBCHART: Final = re.compile(r"^[^/]+/(?:charts/[^/]+/)*charts/[^/]+\.tgz$")
_CHART_YAML: Final = re.compile(r"^[^/]+/Chart\.yaml$")


def described(chart: Path) -> tuple[str, ChartVersion]:
    """Return name and version of the chart in a ``.tgz`` file or a folder.

    Raises:
        ConfigurationError: it is none.
    """
    text = _chart_yaml(chart)
    try:
        metadata: Any = yaml.load(text, Loader=TextLoader)  # noqa: S506 - builds strings, lists and mappings alone
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{chart} is no Helm chart: its Chart.yaml is no YAML: {error}") from error
    if not isinstance(metadata, Mapping) or not {"name", "version"} <= metadata.keys():
        raise ConfigurationError(f"{chart} is no Helm chart: it has no Chart.yaml with a name and a version")
    version = ChartVersion(version=str(metadata["version"]), app_version=str(metadata.get("appVersion", "")))
    return str(metadata["name"]), version


def _chart_yaml(chart: Path) -> str:
    if chart.is_dir():
        path = chart / "Chart.yaml"
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    members = _members(chart.read_bytes(), str(chart))
    return next((content.decode() for name, content in members if _CHART_YAML.match(name)), "")


def packed(folder: Path) -> bytes:
    """Return the chart in ``folder`` as an archive, the same bytes for the same files."""
    name, _ = described(folder)
    return _pack((f"{name}/{relative}", path.read_bytes()) for relative, path in files(folder))


def crds(chart: Path) -> list[str]:
    """Return the files in ``crds/`` of the chart and of its subcharts, packed ones too."""
    return list(_crds(packed(chart) if chart.is_dir() else chart.read_bytes()))


def _crds(archive: bytes) -> Iterator[str]:
    for name, content in _members(archive):
        if _SUBCHART.match(name):
            yield from _crds(content)
        elif _CRDS.match(name) and name.endswith((".yaml", ".yml", ".json")):
            yield content.decode()


def without_crds(chart: Path, folder: Path) -> Path:
    """Return the chart without the ``crds/`` of it and of its subcharts; written to ``folder`` when it has any."""
    archive = packed(chart) if chart.is_dir() else chart.read_bytes()
    if next(_crds(archive), None) is None:
        return chart
    target = folder / "without-crds.tgz"
    target.write_bytes(_stripped(archive))
    return target


def _stripped(archive: bytes) -> bytes:
    return _pack(
        (name, _stripped(content) if _SUBCHART.match(name) else content)
        for name, content in _members(archive)
        if not _CRDS.match(name)
    )


def _members(archive: bytes, origin: str = "a chart's archive") -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name.removeprefix("./"), content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{origin} is no Helm chart, or broken: {error}") from error


def _pack(members: Iterator[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed_file,
        tarfile.open(fileobj=packed_file, mode="w") as tar,
    ):
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()
