"""Rendering for a given Kubernetes version, without a cluster: Helm asks a loopback server that says it is one.

The library renders offline for one version only, the one it was built against, and leaves subcharts' conditions
aside. Its dry run against a server does it right, and asks that server four things: version, discovery, the OpenAPI
documents (only whether field validation is supported) and each object (there is none). This module answers them.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from adapters.kubernetes.api import Kind

# Group versions every Kubernetes from 1.29 on serves. Source: kubernetes.io/docs/reference/using-api/deprecation-guide.
_SERVED: Final = (
    *("v1", "apps/v1", "batch/v1", "autoscaling/v1", "autoscaling/v2", "policy/v1", "events.k8s.io/v1"),
    *("networking.k8s.io/v1", "rbac.authorization.k8s.io/v1", "storage.k8s.io/v1", "scheduling.k8s.io/v1"),
    *("admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1", "node.k8s.io/v1"),
    *("authentication.k8s.io/v1", "authorization.k8s.io/v1", "certificates.k8s.io/v1", "coordination.k8s.io/v1"),
    *("discovery.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1"),
)
_NO_MATCH = re.compile(r'no matches for kind "([^"]+)" in version "([^"]+)"')
# Reading megabytes of CRDs as YAML takes seconds; what these patterns miss is told by Helm and met in the next round.
_HEADS: Final = ("apiVersion", "kind")
_HEAD: Final = re.compile(rf"^({'|'.join(_HEADS)}): *[\"']?([\w./-]+)", re.MULTILINE)
_DOCUMENT: Final = re.compile(r"^---", re.MULTILINE)
_ROUNDS: Final = 20
_NOT_FOUND = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


def rendered(chart: Any, order: dict[str, Any]) -> str:
    """Return the manifest of a release, as Helm would install it on ``order["kube_version"]``, hooks aside.

    Args:
        chart: a loaded ``helm_python.Chart``.
        order: ``name``, ``namespace``, ``values``, ``kube_version``.
    """
    import helm_python as helm  # noqa: PLC0415 - only the child process may load it

    kinds = _offline_kinds(chart, order)
    for _ in range(_ROUNDS):
        try:
            return _ask(chart, order, kinds)
        except helm.HelmReleaseError as error:
            missing = {Kind(version, name) for name, version in _NO_MATCH.findall(error.detail)} - kinds
            if not missing:
                raise
            kinds |= missing
    return _ask(chart, order, kinds)


def _ask(chart: Any, order: dict[str, Any], kinds: set[Kind]) -> str:
    import helm_python as helm  # noqa: PLC0415

    with _pretending(order["kube_version"], kinds) as address, _at(helm, address, order["namespace"]) as config:
        return str(_dry_run(config, chart, order, "server")["manifest"])


def _offline_kinds(chart: Any, order: dict[str, Any]) -> set[Kind]:
    """Return the kinds the chart makes for the library's own version of Kubernetes, as far as they are easily seen."""
    heads = [dict(_HEAD.findall(document)) for document in _DOCUMENT.split(_offline(chart, order))]
    return {Kind(head["apiVersion"], head["kind"]) for head in heads if len(head) == len(_HEADS)}


def _offline(chart: Any, order: dict[str, Any]) -> str:
    import helm_python as helm  # noqa: PLC0415

    with helm.Config(kubeconfig_content=_kubeconfig("http://127.0.0.1:9")) as config:
        try:
            return str(_dry_run(config, chart, order, "client")["manifest"])
        except helm.HelmError:
            return _templates(chart, order)  # the chart may refuse that version


def _templates(chart: Any, order: dict[str, Any]) -> str:
    """Render the bare templates; what is wrong with them is met again, and told, when it counts."""
    import helm_python as helm  # noqa: PLC0415

    try:
        made = chart.render(order["values"], name=order["name"], namespace=order["namespace"])
    except helm.HelmError:
        return ""
    return "\n---\n".join(text for path, text in made.items() if path.endswith((".yaml", ".yml")))


def _at(helm: Any, address: str, namespace: str) -> Any:
    return helm.Config(kubeconfig_content=_kubeconfig(address), namespace=namespace, storage_driver="memory")


def _dry_run(config: Any, chart: Any, order: dict[str, Any], how: str) -> Any:
    return config.install(chart, order["name"], order["values"], namespace=order["namespace"], dry_run=how)


def _kubeconfig(address: str) -> str:
    context = {"cluster": "dry-run", "user": "dry-run"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dry-run",
        "contexts": [{"name": "dry-run", "context": context}],
        "clusters": [{"name": "dry-run", "cluster": {"server": address}}],
        "users": [{"name": "dry-run", "user": {}}],
    }
    return json.dumps(config)


@contextlib.contextmanager
def _pretending(kube_version: str, kinds: Iterable[Kind]) -> Iterator[str]:
    """Serve an empty cluster of ``kube_version`` that knows ``kinds``; yield its address."""
    answers = _answers(kube_version, kinds)

    class Empty(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer: written in two, each of them waits 40 ms for a delayed ACK

        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0].rstrip("/"))
            body = json.dumps(found or _NOT_FOUND).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            """Say nothing: stderr is for Helm's words."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def _answers(kube_version: str, kinds: Iterable[Kind]) -> dict[str, Any]:
    """Return the documents of the API server by path."""
    major, minor = [*kube_version.lstrip("v").split("."), "0"][:2]
    version = {"major": major, "minor": minor, "gitVersion": "v" + kube_version.lstrip("v")}
    served: dict[str, set[str]] = {group_version: set() for group_version in _SERVED}
    for kind in kinds:
        served.setdefault(kind.api_version, set()).add(kind.name)
    groups: dict[str, list[str]] = {}
    for group_version in served:
        groups.setdefault(group_version.rpartition("/")[0], []).append(group_version)
    found: dict[str, Any] = {
        "/version": version,
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*g) for g in groups.items() if g[0]]},
        "/openapi/v3": {"paths": {}},
    }
    for group_version, names in served.items():
        path = f"{'apis' if '/' in group_version else 'api'}/{group_version}"
        found[f"/{path}"] = _resources(group_version, names)
        found["/openapi/v3"]["paths"][path] = {"serverRelativeURL": f"/openapi/v3/{path}"}
        found[f"/openapi/v3/{path}"] = _openapi(group_version, names)
    return found


def _group(name: str, group_versions: list[str]) -> dict[str, Any]:
    versions = [{"groupVersion": one, "version": one.rpartition("/")[2]} for one in group_versions]
    return {"name": name, "versions": versions, "preferredVersion": versions[-1]}


def _resources(group_version: str, names: Iterable[str]) -> dict[str, Any]:
    """Return the discovery document; the plural is free to choose, nothing is ever found under it."""
    resources = [
        {"name": name.lower() + "s", "singularName": "", "namespaced": True, "kind": name, "verbs": ["get", "list"]}
        for name in sorted(names)
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _openapi(group_version: str, names: Iterable[str]) -> dict[str, Any]:
    """Return an OpenAPI document that says: the server validates fields itself."""
    group, _, version = group_version.rpartition("/")
    patches = {
        f"/{name}": {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name},
                "responses": {},
            }
        }
        for name in names
    }
    return {"openapi": "3.0.0", "info": {"title": "empty", "version": "0"}, "paths": patches}
