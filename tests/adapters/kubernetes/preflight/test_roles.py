"""The ClusterRole that is printed grants what is asked for, no more, and kubectl can read it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from adapters import registry
from adapters.kubernetes.api import Permission
from adapters.kubernetes.preflight.permissions import OPTIONAL, PROVIDER
from adapters.kubernetes.preflight.roles import cluster_role, rules_of


def granted(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(permissions: Any) -> set[tuple[str, str, str]]:
    return {(one.group, one.resource, verb) for one in permissions for verb in one.verbs}


@pytest.mark.parametrize("names", [["istio"], ["linkerd"], ["istio", "linkerd"]])
def test_the_role_grants_exactly_what_is_asked_for(names: list[str]) -> None:
    meshes = [registry.kubernetes_mesh(name) for name in names]
    needed = asked([*PROVIDER, *(one for mesh in meshes for one in mesh.permissions())])
    narrow = yaml.safe_load(cluster_role("bench", meshes, optional=False))
    assert (narrow["kind"], narrow["metadata"]["name"]) == ("ClusterRole", "bench")
    assert granted(narrow["rules"]) == needed
    wide = cluster_role("bench", meshes)
    assert granted(yaml.safe_load(wide)["rules"]) == needed | asked(OPTIONAL)
    assert all(consequence in wide for consequence in OPTIONAL.values())


def test_a_mesh_gets_no_rights_of_another() -> None:
    linkerd = cluster_role("x", [registry.kubernetes_mesh("linkerd")], optional=False)
    assert "istio" not in linkerd


def test_rights_on_one_resource_are_one_rule() -> None:
    rules = rules_of([Permission("", "pods", ("get",)), Permission("", "pods", ("list", "get"))])
    assert rules == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
