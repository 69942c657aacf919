"""The ClusterRole an operator grants: the rights of the provider itself and of the meshes that are to run. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from adapters.kubernetes.api import LABEL_OWNER, OWNER, Permission
from adapters.kubernetes.mesh import KubernetesMesh
from adapters.kubernetes.mesh_parts.rights import RBAC_GROUP
from adapters.kubernetes.preflight.permissions import OPTIONAL, PROVIDER


def rules_of(permissions: Iterable[Permission]) -> list[Mapping[str, Any]]:
    """Return the rules that grant ``permissions``, each resource once, in a fixed order."""
    verbs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for permission in permissions:
        verbs[permission.group, permission.resource].update(permission.verbs)
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), held in sorted(verbs.items()):
        resources[group, tuple(sorted(held))].append(resource)
    return [
        {"apiGroups": [group], "resources": names, "verbs": list(held)} for (group, held), names in resources.items()
    ]


def cluster_role(name: str, meshes: Sequence[KubernetesMesh], *, optional: bool = True) -> str:
    """Return the ClusterRole called ``name`` as YAML, ready for kubectl.

    Args:
        optional: also what is missed but not needed; a comment says what goes missing with each.
    """
    head = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": name,
            "labels": {LABEL_OWNER: OWNER},
            "annotations": {"meshgauge.io/adapters": ", ".join(mesh.name for mesh in meshes)},
        },
    }
    needed = rules_of([*PROVIDER, *(one for mesh in meshes for one in mesh.permissions())])
    parts = [_yaml(head), "rules:\n", _yaml(needed)]
    if optional:
        wanted: dict[str, list[Permission]] = defaultdict(list)
        for permission, consequence in OPTIONAL.items():
            wanted[consequence].append(permission)
        parts += [f"# Optional. Without it: {why}.\n{_yaml(rules_of(some))}" for why, some in wanted.items()]
    return "".join(parts)


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=120)
    return text
