from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from tiny_charts import CRD, MakeChart

from adapters.kubernetes.helm.archive import described, packed, without_crds
from meshgauge.errors import ConfigurationError


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_a_chart_says_who_it_is_packed_or_not(make_chart: MakeChart, tmp_path: Path) -> None:
    archive = make_chart("greeter", "1.2.3-rc.1")
    for chart in (archive, tmp_path / "unpacked" / "greeter-1.2.3-rc.1"):
        name, version = described(chart)
        assert (name, version.version, version.app_version) == ("greeter", "1.2.3-rc.1", "v1.2.3-rc.1")


def test_a_broken_archive_is_said_so(make_chart: MakeChart, tmp_path: Path) -> None:
    whole = make_chart(files={"values.yaml": "x: " + random.Random(4).randbytes(50_000).hex()}).read_bytes()
    (tmp_path / "half.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigurationError, match="is no Helm chart, or broken"):
        without_crds(tmp_path / "half.tgz", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b broken"])
def test_what_is_no_chart_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.tgz").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"no\.tgz is no Helm chart"):
        described(tmp_path / "no.tgz")
    with pytest.raises(ConfigurationError, match="is no Helm chart: it has no Chart"):
        described(tmp_path)


def test_the_same_folder_packs_to_the_same_bytes(make_chart: MakeChart, tmp_path: Path) -> None:
    first = make_chart().read_bytes()
    (tmp_path / "unpacked" / "greeter-1.0.0" / "values.yaml").touch()
    assert packed(tmp_path / "unpacked" / "greeter-1.0.0") == first


def test_packing_leaves_out_what_the_chart_s_helmignore_names(make_chart: MakeChart) -> None:
    files = {
        ".helmignore": "# tests\ntest/\n*.bak\n/only/here.txt\n",
        "test/unit.bats": "",
        "templates/old.bak": "",
        "templates/.hidden": "",
        "only/here.txt": "",
        "elsewhere/only/here.txt": "",
        "test.txt": "",
    }
    assert names(make_chart(files=files).read_bytes()) == [
        "greeter/.helmignore",
        "greeter/Chart.yaml",
        "greeter/elsewhere/only/here.txt",
        "greeter/templates/config.yaml",
        "greeter/test.txt",
        "greeter/values.yaml",
    ]


def test_crds_go_from_a_chart_and_from_its_subcharts_packed_or_not(make_chart: MakeChart, tmp_path: Path) -> None:
    packed_part = make_chart("part", "0.1.0", files={"crds/a.yaml": CRD})
    chart = make_chart(
        "whole",
        files={
            "crds/b.yaml": CRD,
            "charts/other/crds/c.yaml": CRD,
            "charts/other/Chart.yaml": "",
            "docs/crds/d.md": "",
        },
    )
    unpacked = tmp_path / "unpacked" / "whole-1.0.0"
    (unpacked / "charts" / "part-0.1.0.tgz").write_bytes(packed_part.read_bytes())
    chart.write_bytes(packed(unpacked))
    for source in (chart, unpacked):
        left = without_crds(source, tmp_path).read_bytes()
        assert "whole/docs/crds/d.md" in names(left)
        assert not [name for name in names(left) if name.endswith((".yaml",)) and "/crds/" in name]
        with tarfile.open(fileobj=io.BytesIO(left)) as tar:
            inner = tar.extractfile("whole/charts/part-0.1.0.tgz")
            assert inner is not None
            assert names(inner.read()) == ["part/Chart.yaml", "part/templates/config.yaml", "part/values.yaml"]
