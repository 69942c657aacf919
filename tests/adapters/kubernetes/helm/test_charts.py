"""A mesh's charts, found and kept, from its own repository or a mirror."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tiny_charts
from tiny_charts import Web, index_of, make_chart

from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.charts import ChartStore
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.mesh import KubernetesMesh
from meshgauge.errors import ConfigurationError, ServiceUnavailableError, UnknownNameError


@pytest.fixture
def web() -> Iterator[Web]:
    with tiny_charts.serving() as server:
        yield server


@pytest.fixture
def charts(tmp_path: Path, web: Web) -> Mapping[str, Path]:
    """Two versions of a control plane and one of its CRDs, published on loopback; by file name."""
    made = [
        make_chart(tmp_path, name, version)
        for name, version in (("plane", "1.9.0"), ("plane", "1.10.0"), ("crds", "3.0.0"))
    ]
    web.put("/index.yaml", index_of(*made))
    for one in made:
        web.put(f"/{one.name}", one.read_bytes())
    return {one.name: one for one in made}


def mesh_at(address: str) -> KubernetesMesh:
    """Return as much of a mesh as a store asks: its version is its chart's app version."""

    def chart_versions(version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        return {"plane": version.removeprefix("v"), "crds": indexes["crds"][0].version}

    return cast(
        KubernetesMesh,
        SimpleNamespace(
            name="tiny",
            charts={"plane": ChartSource("plane", address), "crds": ChartSource("crds", address)},
            versions_of=lambda index: {one.app_version: one.version for one in index},
            chart_versions=chart_versions,
        ),
    )


def release(address: str, version: str = "1.10.0", **more: Any) -> ChartRelease:
    return ChartRelease("tiny", "tiny-system", ChartSource("plane", address), version, **more)


def store(tmp_path: Path, mirror: str | None = None) -> ChartStore:
    return ChartStore(backend(), tmp_path / "cache", mirror)


@pytest.mark.usefixtures("charts")
def test_versions_come_newest_first_and_resolve_to_exact_charts(tmp_path: Path, web: Web) -> None:
    charts = store(tmp_path)
    assert charts.versions(mesh_at(web.address)) == ["v1.10.0", "v1.9.0"]
    assert charts.resolve(mesh_at(web.address), "v1.9.0") == {"plane": "1.9.0", "crds": "3.0.0"}
    with pytest.raises(
        UnknownNameError, match=r"unknown version of tiny in http://.*/plane 'v1\.9\.1'.*v1\.10\.0, v1\.9\.0"
    ):
        charts.resolve(mesh_at(web.address), "v1.9.1")


@pytest.mark.usefixtures("charts")
def test_an_index_is_asked_once_an_hour_and_used_beyond_while_its_repository_is_away(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    charts, mesh = store(tmp_path), mesh_at(web.address)
    first = charts.versions(mesh)
    assert charts.versions(mesh) == first
    assert web.asked == ["/index.yaml"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    web.put("/index.yaml", "", status=503)
    assert charts.versions(mesh) == first
    assert web.asked == ["/index.yaml"] * 2, "it was asked, and did not answer"
    web.put("/index.yaml", "", status=404)
    with pytest.raises(ConfigurationError, match="answers 404"):
        charts.versions(mesh)


def test_a_repository_that_is_away_and_was_never_read_is_worth_another_try(tmp_path: Path) -> None:
    with tiny_charts.serving() as gone:
        address = gone.address
    with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
        store(tmp_path).versions(mesh_at(address))


def test_an_archive_is_fetched_once_and_kept_by_its_digest(
    tmp_path: Path, web: Web, charts: Mapping[str, Path]
) -> None:
    wanted = release(web.address, values={"a": 1}, skip_crds=True)
    local = store(tmp_path).local(wanted)
    assert (local.name, local.namespace, local.values, local.skip_crds) == ("tiny", "tiny-system", {"a": 1}, True)
    kept = Path(local.source.chart)
    digest = hashlib.sha256(charts["plane-1.10.0.tgz"].read_bytes()).hexdigest()
    assert store(tmp_path).digest(wanted) == digest == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert kept.parent.name == digest
    assert web.asked.count("/plane-1.10.0.tgz") == 1
    web.answers.clear()
    assert store(tmp_path).local(wanted) == local, "another process, and the repository is away"
    kept.unlink()
    with pytest.raises(ConfigurationError, match="answers 404"):
        store(tmp_path).local(wanted)


def test_a_chart_that_was_changed_on_its_way_is_not_kept(tmp_path: Path, web: Web, charts: Mapping[str, Path]) -> None:
    web.put("/plane-1.10.0.tgz", charts["plane-1.9.0.tgz"].read_bytes())
    with pytest.raises(ConfigurationError, match="it is not the chart that was published"):
        store(tmp_path).local(release(web.address))
    assert list((tmp_path / "cache").rglob("*.tgz")) == []


def test_a_mirror_stands_for_every_repository(tmp_path: Path, web: Web, charts: Mapping[str, Path]) -> None:
    far = "https://charts.example.org/stable"
    for mirror in (web.address, str(tmp_path), f"file://{tmp_path}"):
        mirrored = store(tmp_path, mirror)
        assert mirrored.versions(mesh_at(far)) == ["v1.10.0", "v1.9.0"]
        local = mirrored.local(release(far))
        assert Path(local.source.chart).read_bytes() == charts["plane-1.10.0.tgz"].read_bytes()
        assert mirrored.origin(release(far)) == f"{mirror.rstrip('/')}/plane"
    in_registry = ChartRelease("tiny", "x", ChartSource("oci://registry.example.org/charts/plane"), "1.10.0")
    assert store(tmp_path, str(tmp_path)).digest(in_registry) == store(tmp_path).digest(release(web.address))


@pytest.mark.usefixtures("charts")
def test_a_folder_is_read_anew_each_time(tmp_path: Path) -> None:
    mirrored = store(tmp_path, str(tmp_path))
    before = mirrored.digest(release("https://charts.example.org"))
    make_chart(tmp_path, "plane", "1.10.0", files={"values.yaml": "greeting: changed\n"})
    make_chart(tmp_path, "plane", "1.11.0")
    assert mirrored.digest(release("https://charts.example.org")) != before
    assert mirrored.versions(mesh_at("https://charts.example.org"))[0] == "v1.11.0"


@pytest.mark.usefixtures("charts")
def test_credentials_are_neither_kept_nor_told(tmp_path: Path, web: Web) -> None:
    address = web.address.replace("//", "//reader:hunter2@")
    charts = store(tmp_path)
    charts.versions(mesh_at(address))
    charts.local(release(address))
    assert "hunter2" not in charts.origin(release(address))
    kept = [path.read_text() for path in (tmp_path / "cache").rglob("*.json")]
    assert len(kept) == 2
    assert not [text for text in kept if "hunter2" in text]
    assert all(json.loads(text)["source"] == f"{web.address}/plane" for text in kept)
