"""Chart repositories in folders, over HTTP and in registries, all on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_charts import MakeChart, Web, index_of, serving

from adapters.kubernetes.helm import web as product_web
from adapters.kubernetes.helm.contract import ChartSource
from adapters.kubernetes.helm.remote import at_hand, versions
from meshgauge.errors import ConfigurationError, ServiceUnavailableError


def listed(source: ChartSource) -> list[tuple[str, str]]:
    return [(one.version, one.app_version) for one in versions(source)]


# Folders.


def test_a_folder_of_charts_needs_no_index(make_chart: MakeChart, tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0"):
        make_chart("greeter", version)
    make_chart("greeter-crds", "3.0.0")
    (tmp_path / "unpacked" / "greeter-1.9.0").rename(tmp_path / "mine")
    (tmp_path / "mine" / "Chart.yaml").write_text("apiVersion: v2\nname: greeter\nversion: 1.11.0\n")
    source = ChartSource("greeter", str(tmp_path))
    assert listed(source) == [("1.11.0", ""), ("1.10.0", "v1.10.0"), ("1.9.0", "v1.9.0")]
    fetched = at_hand(source, "1.11.0", tmp_path)
    assert listed(ChartSource(str(fetched))) == [("1.11.0", "")], "an unpacked chart comes as an archive"


def test_an_index_in_a_folder_leads_to_no_file_outside_of_it(make_chart: MakeChart, tmp_path: Path) -> None:
    chart = make_chart()
    (tmp_path / "index.yaml").write_text(index_of(chart, prefix="https://example.org/charts/"))
    source = ChartSource("greeter", str(tmp_path))
    assert at_hand(source, "1.0.0", tmp_path / "unpacked").read_bytes() == chart.read_bytes()
    chart.rename(tmp_path / "away.tgz")
    with pytest.raises(ConfigurationError, match=r"greeter-1\.0\.0\.tgz is not there, though it is listed"):
        at_hand(source, "1.0.0", tmp_path / "unpacked")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none is no folder on this host"):
        versions(ChartSource("greeter", str(tmp_path / "none")))


# Over HTTP.


def test_a_chart_comes_from_a_repository_and_is_verified(make_chart: MakeChart, web: Web, tmp_path: Path) -> None:
    chart = make_chart()
    web.put("/charts/index.yaml", index_of(chart, make_chart("greeter", "0.9.0")))
    web.put("/charts/greeter-1.0.0.tgz", chart.read_bytes())
    source = ChartSource("greeter", f"{web.address}/charts")
    assert listed(source) == [("1.0.0", "v1.0.0"), ("0.9.0", "v0.9.0")]
    assert at_hand(source, "1.0.0", tmp_path).read_bytes() == chart.read_bytes()
    web.put("/charts/greeter-1.0.0.tgz", chart.read_bytes() + b"more")
    with pytest.raises(ConfigurationError, match="it is not the chart that was published"):
        at_hand(source, "1.0.0", tmp_path)


def test_an_index_may_send_us_to_another_address(make_chart: MakeChart, web: Web, tmp_path: Path) -> None:
    chart = make_chart()
    with serving() as store:
        store.put("/blobs/1", chart.read_bytes())
        web.put("/index.yaml", index_of(chart, urls=["/moved"]))
        web.put("/moved", "", status=302, Location=f"{store.address}/blobs/1")
        assert at_hand(ChartSource("greeter", web.address), "1.0.0", tmp_path).read_bytes() == chart.read_bytes()


def test_credentials_in_an_address_are_used_and_never_told(make_chart: MakeChart, web: Web, tmp_path: Path) -> None:
    wanted = "Basic " + base64.b64encode(b"reader:hunter2").decode()

    def guarded(headers: Any) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, index_of(make_chart()).encode()) if headers["Authorization"] == wanted else (401, {}, b"")

    web.answers["/index.yaml"] = guarded
    known = web.address.replace("//", "//reader:hunter2@")
    assert listed(ChartSource("greeter", known)) == [("1.0.0", "v1.0.0")]
    with pytest.raises(ConfigurationError, match="answers 404") as told:
        at_hand(ChartSource("greeter", known), "1.0.0", tmp_path)
    assert "hunter2" not in str(told.value)
    with pytest.raises(ConfigurationError, match="answers 401: put credentials into its address"):
        versions(ChartSource("greeter", web.address.replace("//", "//reader:wrong@")))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, ServiceUnavailableError),
        (429, ServiceUnavailableError),
        (404, ConfigurationError),
        (403, ConfigurationError),
    ],
)
def test_what_a_repository_answers_decides_what_to_do_next(web: Web, status: int, error: type[Exception]) -> None:
    web.put("/index.yaml", "", status=status)
    with pytest.raises(error, match=f"index.yaml answers {status}"):
        versions(ChartSource("greeter", web.address))


def test_a_repository_that_is_away_is_worth_another_try() -> None:
    with serving() as gone:
        address = gone.address
    with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
        versions(ChartSource("greeter", address))


def test_an_answer_without_end_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_web, "LIMIT_BYTES", 1 << 20)
    web.put("/index.yaml", b"#" * (2 << 20))
    with pytest.raises(ConfigurationError, match="sends more than 1 MiB"):
        versions(ChartSource("greeter", web.address))


# Registries.


class Registry:
    """An OCI registry with one chart, that wants a token for everything."""

    def __init__(self, web: Web, charts: dict[str, bytes]) -> None:
        self.oci = f"{web.address.replace('http://', 'oci://')}/mirror"
        self._web = web
        self.users: list[str | None] = []
        web.answers["/token?service=here&scope=repository%3Amirror%2Fgreeter%3Apull"] = self._token
        tags = list(charts)
        self._guard("tags/list", {"tags": tags[:1]}, Link='</v2/mirror/greeter/tags/list?last=1>; rel="next"')
        self._guard("tags/list?last=1", {"tags": tags[1:]})
        for tag, chart in charts.items():
            config = json.dumps({"name": "greeter", "appVersion": f"app-{tag}"}).encode()
            manifest = {
                "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": self._blob(config)},
                "layers": [
                    {"mediaType": "application/vnd.cncf.helm.chart.provenance.v1.prov", "digest": "sha256:0"},
                    {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": self._blob(chart)},
                ],
            }
            self._guard(f"manifests/{tag}", manifest)

    def _token(self, headers: Any) -> tuple[int, dict[str, str], bytes]:
        self.users.append(headers["Authorization"])
        return 200, {}, b'{"token": "let-me-in"}'

    def _blob(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._guard(f"blobs/{digest}", content)
        return digest

    def _guard(self, path: str, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        realm = f'Bearer realm="{self._web.address}/token",service="here",scope="repository:mirror/greeter:pull"'

        def answer(asked: Any) -> tuple[int, dict[str, str], bytes]:
            if asked["Authorization"] != "Bearer let-me-in":
                return 401, {"WWW-Authenticate": realm}, b""
            return 200, headers, body

        self._web.answers[f"/v2/mirror/greeter/{path}"] = answer


def test_a_chart_comes_from_a_registry(make_chart: MakeChart, web: Web, tmp_path: Path) -> None:
    charts = {"1.0.0": make_chart().read_bytes(), "1.1.0_build": make_chart("greeter", "1.1.0").read_bytes()}
    registry = Registry(web, charts)
    for source in (ChartSource("greeter", registry.oci), ChartSource(f"{registry.oci}/greeter")):
        assert listed(source) == [("1.1.0+build", "app-1.1.0_build"), ("1.0.0", "app-1.0.0")]
        assert at_hand(source, "1.1.0+build", tmp_path).read_bytes() == charts["1.1.0_build"]
    with pytest.raises(
        ConfigurationError, match=r"oci://.* has no chart greeter 2\.0\.0: it has 1\.1\.0\+build, 1\.0\.0"
    ):
        at_hand(ChartSource("greeter", registry.oci), "2.0.0", tmp_path)


def test_a_user_in_a_registry_s_address_is_for_its_token_alone(make_chart: MakeChart, web: Web, tmp_path: Path) -> None:
    registry = Registry(web, {"1.0.0": make_chart().read_bytes()})
    at_hand(ChartSource("greeter", registry.oci.replace("//", "//reader:hunter2@")), "1.0.0", tmp_path)
    assert set(registry.users) == {"Basic " + base64.b64encode(b"reader:hunter2").decode()}
    registry.users.clear()
    at_hand(ChartSource("greeter", registry.oci), "1.0.0", tmp_path)
    assert set(registry.users) == {None}


def test_a_registry_that_sends_something_else_is_found_out(make_chart: MakeChart, web: Web, tmp_path: Path) -> None:
    registry = Registry(web, {"1.0.0": make_chart().read_bytes()})
    blobs = [path for path in web.answers if "/blobs/" in path]
    web.put(blobs[1], b"something else")
    with pytest.raises(ConfigurationError, match="and its manifest says sha256:"):
        at_hand(ChartSource("greeter", registry.oci), "1.0.0", tmp_path)
    web.put("/v2/mirror/greeter/manifests/1.0.0", json.dumps({"layers": [{"mediaType": "image"}]}))
    with pytest.raises(ConfigurationError, match="holds no Helm chart"):
        at_hand(ChartSource("greeter", registry.oci), "1.0.0", tmp_path)
    web.put("/v2/mirror/greeter/tags/list", "<html>")
    with pytest.raises(ConfigurationError, match="answers something that is no OCI registry's"):
        versions(ChartSource("greeter", registry.oci))
