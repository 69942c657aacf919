"""What an API server serves is understood from either form of its answer."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.kubernetes.api import Kind
from adapters.kubernetes.server import discovery


def _resource(kind: str, plural: str, *verbs: str, scope: str = "Namespaced") -> dict[str, Any]:
    return {"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": list(verbs)}


_GATEWAY: dict[str, Any] = {
    "kind": "APIGroupDiscoveryList",
    "items": [
        {
            "metadata": {"name": "g.io"},
            "versions": [
                {"version": "v1", "resources": [_resource("Route", "routes", "list", "get")]},
                {
                    "version": "v1beta1",
                    "resources": [
                        _resource("Route", "routes", "list", "get"),
                        _resource("Class", "classes", "list", scope="Cluster"),
                        _resource("Review", "reviews", "create"),
                        {"resource": "broken", "scope": "Namespaced", "verbs": ["list"]},
                    ],
                },
            ],
        }
    ],
}


def test_each_kind_that_can_be_listed_comes_once_in_the_first_version_that_has_it() -> None:
    assert discovery.is_aggregated(_GATEWAY)
    found = list(discovery.preferred(discovery.aggregated(_GATEWAY)))
    assert [served.kind for served in found] == [Kind("g.io/v1", "Route"), Kind("g.io/v1beta1", "Class")]
    assert [served.is_namespaced for served in found] == [True, False]


def test_the_core_group_has_no_name_in_its_versions() -> None:
    document = {"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [_resource("Pod", "pods")]}]}]}
    assert discovery.aggregated(document)[0][0].kind == Kind("v1", "Pod")


def test_groups_of_the_plain_form_begin_with_their_preferred_version() -> None:
    versions = [{"groupVersion": f"a.io/{name}"} for name in ("v2", "v1")]
    document = {"groups": [{"versions": versions, "preferredVersion": {"groupVersion": "a.io/v1"}}]}
    assert discovery.group_versions(document) == ["a.io/v1", "a.io/v2"]


def test_subresources_are_no_kinds() -> None:
    document = {
        "groupVersion": "apps/v1",
        "resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["list"]},
            {"name": "deployments/scale", "kind": "Scale", "namespaced": True, "verbs": ["get"]},
        ],
    }
    assert [served.kind.name for served in discovery.plain(document)] == ["Deployment"]


@pytest.mark.parametrize(
    ("api_version", "may"),
    [
        ("v1", False),
        ("apps/v1", False),
        ("storage.k8s.io/v1", False),
        ("gateway.networking.k8s.io/v1", False),
        ("metrics.k8s.io/v1beta1", True),
        ("custom.metrics.k8s.io/v1beta2", True),
        ("packages.operators.coreos.com/v1", True),
    ],
)
def test_only_other_servers_groups_may_be_away_while_the_api_server_answers(api_version: str, *, may: bool) -> None:
    assert discovery.may_be_aggregated(api_version) is may
