"""What the fake API server says about itself: version, discovery (plain and aggregated), OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from fake_kinds import Manifest, Resource

GIT_VERSION: Final = "v1.34.1"


def version(git_version: str = GIT_VERSION) -> Manifest:
    """Return ``/version``."""
    major, minor, _ = git_version.removeprefix("v").split(".", 2)
    return {
        "major": major,
        "minor": minor,
        "gitVersion": git_version,
        "gitTreeState": "clean",
        "platform": "linux/amd64",
    }


def _versions(resources: Iterable[Resource]) -> dict[str, list[str]]:
    """Return the versions of each group, the preferred first."""
    groups: dict[str, list[str]] = {}
    for resource in resources:
        versions = groups.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    return groups


def core_versions() -> Manifest:
    """Return ``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group(resources: Sequence[Resource], name: str) -> Manifest | None:
    """Return ``/apis/NAME``, or None when there is no such group."""
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in _versions(resources).get(name, ())]
    if not versions:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": versions[0]}


def groups(resources: Sequence[Resource]) -> Manifest:
    """Return ``/apis``."""
    names = [name for name in _versions(resources) if name]
    found = [{k: v for k, v in (group(resources, n) or {}).items() if k not in ("kind", "apiVersion")} for n in names]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def resource_list(resources: Sequence[Resource], name: str, version_name: str) -> Manifest | None:
    """Return ``/apis/GROUP/VERSION``, or None when it is not served."""
    found = [r for r in resources if (r.group, r.version) == (name, version_name)]
    if not found:
        return None
    entries: list[Manifest] = []
    for r in found:
        entry: dict[str, Any] = {"name": r.plural, "singularName": r.kind.lower(), "namespaced": r.namespaced}
        entries.append({**entry, "kind": r.kind, "verbs": list(r.verbs), "shortNames": list(r.short_names)})
        for sub, verbs in r.subresources.items():
            plain = {"name": f"{r.plural}/{sub}", "singularName": "", "namespaced": r.namespaced}
            entries.append({**plain, "kind": r.kind, "verbs": list(verbs)})
    group_version = f"{name}/{version_name}" if name else version_name
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}


def aggregated(resources: Sequence[Resource], *, core: bool) -> Manifest:
    """Return ``/api`` or ``/apis`` as an APIGroupDiscoveryList (what client-go asks for first)."""
    items = []
    for name, versions in _versions(resources).items():
        if (name == "") is core:
            described = [
                {"version": v, "freshness": "Current", "resources": _described(resources, name, v)} for v in versions
            ]
            items.append({"metadata": {"name": name, "creationTimestamp": None}, "versions": described})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _described(resources: Sequence[Resource], name: str, version_name: str) -> list[Manifest]:
    return [_entry(r) for r in resources if (r.group, r.version) == (name, version_name)]


def _entry(r: Resource) -> Manifest:
    kind = {"group": r.group, "version": r.version, "kind": r.kind}
    below = [{"subresource": sub, "responseKind": kind, "verbs": list(verbs)} for sub, verbs in r.subresources.items()]
    return {
        "resource": r.plural,
        "responseKind": kind,
        "scope": "Namespaced" if r.namespaced else "Cluster",
        "singularResource": r.kind.lower(),
        "verbs": list(r.verbs),
        "shortNames": list(r.short_names),
        "subresources": below,
    }


def _root(name: str, version_name: str) -> str:
    return f"apis/{name}/{version_name}" if name else f"api/{version_name}"


def openapi_index(resources: Sequence[Resource]) -> Manifest:
    """Return ``/openapi/v3``."""
    roots = [_root(name, v) for name, versions in _versions(resources).items() for v in versions]
    return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}?hash=fake"} for root in roots}}


def openapi(resources: Sequence[Resource], root: str) -> Manifest | None:
    """Return one document: no schemas, but that PATCH knows fieldValidation, which is what clients look for."""
    found = [r for r in resources if _root(r.group, r.version) == root]
    if not found:
        return None
    paths: dict[str, Any] = {}
    for r in found:
        where = f"/{root}/namespaces/{{namespace}}/{r.plural}" if r.namespaced else f"/{root}/{r.plural}"
        gvk = {"group": r.group, "version": r.version, "kind": r.kind}
        operations = {verb: _operation(verb, gvk) for verb in ("get", "put", "patch", "delete")}
        paths[f"{where}/{{name}}"] = operations
        paths[where] = {"post": _operation("post", gvk), "get": _operation("list", gvk)}
    schemas = {
        f"{r.api_version.replace('/', '.')}.{r.kind}": {
            "type": "object",
            "x-kubernetes-group-version-kind": [{"group": r.group, "version": r.version, "kind": r.kind}],
        }
        for r in found
    }
    info = {"title": "Kubernetes", "version": GIT_VERSION}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _operation(action: str, gvk: Manifest) -> Manifest:
    names = ["dryRun", "fieldManager", "fieldValidation"] + (["force"] if action == "patch" else [])
    parameters = [{"name": n, "in": "query", "schema": {"type": "string"}} for n in names]
    media = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
    body = {"content": {kind: {"schema": {"type": "object"}} for kind in media}} if action == "patch" else {}
    operation = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
        "parameters": parameters if action in ("patch", "post", "put") else [],
        "responses": {"200": {"description": "OK"}},
    }
    return {**operation, "requestBody": body} if body else operation
