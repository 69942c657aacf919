from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_charts
from fake_api import FakeCluster

from adapters.kubernetes import gateway_api
from adapters.kubernetes.api import LABEL_OWNER, LABEL_SITE, OWNER, Cluster, Manifest
from adapters.kubernetes.gateway_api import Found, bundle, found, install, obstacle, references, version_for
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.server.waiting import wait_gone
from meshgauge.errors import ConfigurationError, EnvironmentUpError

LABELS = {LABEL_OWNER: OWNER, LABEL_SITE: "here"}


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig))
    connected = connect(None)
    yield connected
    connected.close()


def crd(plural: str, kind: str, version: str = "v1.5.1", channel: str = "standard") -> Manifest:
    told = {"gateway.networking.k8s.io/bundle-version": version, "gateway.networking.k8s.io/channel": channel}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{gateway_api.GROUP}",
            # The API server takes this group only with its reviewers' word.
            "annotations": {**told, "api-approved.kubernetes.io": "https://example.org/1"},
        },
        "spec": {
            "group": gateway_api.GROUP,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def policy(kind: str) -> Manifest:
    spec: dict[str, Any] = {"policyName": f"safe-upgrades.{gateway_api.GROUP}", "validationActions": ["Deny"]}
    if kind == "ValidatingAdmissionPolicy":
        spec = {"failurePolicy": "Fail", "validations": [{"expression": "true"}]}
    metadata = {"name": f"safe-upgrades.{gateway_api.GROUP}"}
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def whole(version: str = "v1.5.1", channel: str = "standard") -> str:
    kinds = {"gateways": "Gateway", "httproutes": "HTTPRoute", "grpcroutes": "GRPCRoute"}
    objects = [crd(plural, kind, version, channel) for plural, kind in kinds.items()]
    objects += [policy("ValidatingAdmissionPolicy"), policy("ValidatingAdmissionPolicyBinding")]
    return "# a licence\n" + "".join(f"---\n{json.dumps(one)}\n" for one in objects)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "gateway-api-v1.5.1.yaml").write_text(whole())
    return folder


def test_a_bundle_comes_whole_marked_as_ours_and_goes_whole(cluster: Cluster, mirror: Path, tmp_path: Path) -> None:
    assert found(cluster) is None
    objects = bundle("1.5.1", tmp_path / "cache", str(mirror))
    assert [ref.kind.name for ref in references(objects)][-2:] == [
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]
    install(cluster, objects, LABELS, 30)
    assert found(cluster) == Found(("1.5.1",), "standard", is_ours=True)
    for ref in references(objects):
        there = cluster.get(ref)
        assert there is not None
        assert there["metadata"]["labels"] == LABELS
    install(cluster, objects, LABELS, 30)
    for ref in references(objects):
        assert cluster.delete(ref)
    wait_gone(cluster, references(objects), 30)  # definitions go once their objects have
    assert found(cluster) is None


def test_somebody_else_s_are_never_taken_over(cluster: Cluster, mirror: Path, tmp_path: Path) -> None:
    theirs = cluster.create(crd("gateways", "Gateway", "v1.2.1"))
    assert found(cluster) == Found(("1.2.1",), "standard", is_ours=False)
    with pytest.raises(EnvironmentUpError, match=r"gateways.*from somebody else"):
        install(cluster, bundle("1.5.1", tmp_path / "cache", str(mirror)), LABELS, 30)
    assert cluster.get(references([theirs])[0]) == theirs, "not a field of it was touched"
    assert found(cluster) == Found(("1.2.1",), "standard", is_ours=False)


@pytest.mark.parametrize(
    ("there", "wanted", "may_install", "told"),
    [
        (None, ">=1.2", True, None),
        (None, ">=1.2", False, "cluster.install_gateway_api: true"),
        (Found(("1.4.1",), "standard", False), ">=1.2", False, None),
        (Found(("1.5.1",), "standard", False), "<1.5", True, "the mesh reads <1.5: .* bring the CRDs to v1.4.1"),
        (Found(("0.6.2",), "experimental", False), ">=1.2", True, r"has Gateway API 0\.6\.2 \(experimental\)"),
        (Found(("1.1.0", "1.5.1"), "standard", False), ">=1.2", True, r"1\.1\.0 and 1\.5\.1"),
        (Found(("1.6.0-rc.1",), "experimental", False), ">=1.2", True, None),
        (Found((), "", False), ">=1.2", True, None),
    ],
)
def test_what_stands_in_the_way_is_said_with_what_to_do(
    there: Found | None, wanted: str, may_install: bool, told: str | None
) -> None:
    said = obstacle(there, wanted, may_install)
    assert (said is None) == (told is None)
    assert told is None or re.search(told, said or "")


def test_the_version_to_bring_suits_the_mesh() -> None:
    assert [version_for(wanted) for wanted in (">=1.0", ">=1.2,<1.5", ">=1.6")] == ["1.5.1", "1.4.1", "1.6.1"]
    with pytest.raises(ConfigurationError, match=r"reads Gateway API >=9 suits none of 1\.5\.1"):
        version_for(">=9")


def test_a_bundle_from_an_address_is_fetched_once(tmp_path: Path) -> None:
    with tiny_charts.serving() as web:
        web.put("/charts/gateway-api-v1.5.1.yaml", whole())
        first = bundle("1.5.1", tmp_path, f"{web.address}/charts/")
        assert web.asked == ["/charts/gateway-api-v1.5.1.yaml"]
    assert bundle("1.5.1", tmp_path, f"{web.address}/charts/") == first
    with pytest.raises(ConfigurationError, match="holds charts alone"):
        bundle("1.4.1", tmp_path, "oci://registry.example.org/charts")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (whole() + "---\n{apiVersion: v1, kind: Pod, metadata: {name: x}}\n", "holds Pod"),
        (json.dumps(policy("ValidatingAdmissionPolicy")), "none of its CRDs"),
        (whole("v1.4.0"), r"is Gateway API 1\.4\.0, not 1\.5\.1"),
        (whole(channel="experimental"), "of the standard channel"),
        ("<html>", "none of its CRDs"),
        ("a: [\n", "is no YAML"),
    ],
)
def test_a_file_that_is_something_else_is_refused_whole(mirror: Path, tmp_path: Path, content: str, told: str) -> None:
    (mirror / "gateway-api-v1.5.1.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=told):
        bundle("1.5.1", tmp_path / "cache", str(mirror))


def test_a_mirror_without_the_bundle_says_which_file_to_put_there(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway-api-v1\.4\.1\.yaml is not there: put .* v1\.4\.1 there"):
        bundle("1.4.1", tmp_path, str(mirror))


def test_a_folder_that_lacks_the_bundle_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    missing = gateway_api.missing_from(str(tmp_path), ">=1.2,<1.5")
    assert missing is not None
    assert "gateway-api-v1.4.1.yaml is not there: put the Gateway API's standard-install.yaml v1.4.1 there" in missing
    (tmp_path / "gateway-api-v1.4.1.yaml").touch()
    assert gateway_api.missing_from(f"file://{tmp_path}", ">=1.2,<1.5") is None
    assert gateway_api.missing_from("https://charts.example.org", ">=1.2,<1.5") is None
    assert gateway_api.missing_from(None, ">=1.2,<1.5") is None
