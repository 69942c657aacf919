"""A stateful Kubernetes API server on loopback for tests: ``with FakeCluster() as cluster: cluster.kubeconfig``."""

from __future__ import annotations

import base64
import fnmatch
import json
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import fake_discovery
import fake_kinds
import fake_verbs
from fake_answers import RefusalError
from fake_controllers import Controllers
from fake_kinds import Manifest
from fake_requests import Request, Target, target_of
from fake_rights import Rights, Rule
from fake_store import Store
from fake_tls import make_certificate, server_context

_AGGREGATED: Final = "APIGroupDiscoveryList"
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch"}
Text = str | Callable[[str], str]


@dataclass(slots=True)
class Failure:
    """What becomes of the next requests. ``code`` 0: the connection is cut."""

    times: int
    code: int
    method: str
    path: str

    def takes(self, request: Request) -> bool:
        """Say whether this request is one of them, and count it."""
        if self.times <= 0 or self.method not in ("*", request.method) or not fnmatch.fnmatch(request.path, self.path):
            return False
        self.times -= 1
        return True


class FakeCluster:
    """One cluster.

    Attributes:
        store: its objects; tests may ``put`` and ``read`` them directly.
        rights: what each user may. Users are named by kubeconfig; ``admin`` may everything, others nothing.
        texts: path pattern (``fnmatch``) -> text, or a function of the path: what nodes, pods and services answer
            through the API server's proxy, and logs. The last one that fits is taken.
        latency_s: added to every answer.
        requests: every request so far as (method, path).
    """

    def __init__(self, name: str = "fake", git_version: str = fake_discovery.GIT_VERSION) -> None:
        self.name = name
        self.git_version = git_version
        self.store = Store()
        self.rights = Rights()
        self.texts: dict[str, Text] = {}
        self.latency_s = 0.0
        self.requests: list[tuple[str, str]] = []
        self.failures: list[Failure] = []
        self._folder = Path(tempfile.mkdtemp(prefix="fake-cluster-"))
        self._controllers = Controllers(self.store)
        certificate, self._authority = make_certificate(self._folder)
        self._server = _Server(("127.0.0.1", 0), _handler_of(self), server_context(certificate))
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeCluster:
        self._controllers.start()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake-api", daemon=True).start()
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self._server.shutdown()
        self._server.server_close()
        self._controllers.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def kubeconfig(self) -> Path:
        """The file of a user who may everything. Its one context is called like the cluster."""
        return self.kubeconfig_of("admin")

    def kubeconfig_of(self, user: str, *rules: Rule) -> Path:
        """Return the file of a user, who holds ``rules`` from now on."""
        if rules or user not in self.rights.rules:
            self.rights.rules[user] = list(rules)
        authority = base64.b64encode(self._authority).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": user}}],
            "clusters": [{"name": self.name, "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": f"{user}-token"}}],
        }
        path = self._folder / f"kubeconfig-{user}"
        path.write_text(json.dumps(config))
        return path

    def fail(self, times: int, code: int, method: str = "*", path: str = "*") -> None:
        """Let the next ``times`` requests that fit fail with ``code``; 0 cuts their connections.

        Args:
            path: ``fnmatch`` pattern of the decoded path, ``*/deployments/*``.
        """
        self.failures.append(Failure(times, code, method, path))

    def serve_metrics(self) -> None:
        """Serve metrics.k8s.io, as metrics-server does; its objects are put into the store."""
        self.store.serve(*fake_kinds.metrics_server())

    # Answering.

    def answer(self, request: Request) -> tuple[int, Any]:
        """Return code and answer: an object, a text, or an iterator of watch events."""
        self.requests.append((request.method, request.path))
        if self.latency_s:
            time.sleep(self.latency_s)
        for failure in self.failures:
            if failure.takes(request):
                if failure.code == 0:
                    raise ConnectionAbortedError
                raise RefusalError(failure.code, "failed on purpose")
        if request.user not in self.rights.rules:
            raise RefusalError(401, "Unauthorized")
        about = self._about(request)
        return about if about is not None else self._object(request)

    def _about(self, request: Request) -> tuple[int, Any] | None:
        """Answer what is no object: discovery, health, version."""
        path, resources, about = request.path.strip("/"), self.store.resources(), fake_discovery
        wants_all = _AGGREGATED in request.headers.get("accept", "")
        answer: Any = None
        match path.split("/"):
            case ["version"]:
                answer = about.version(self.git_version)
            case ["healthz" | "readyz" | "livez"]:
                return 200, "ok"
            case ["api"]:
                answer = (
                    fake_discovery.aggregated(resources, core=True) if wants_all else fake_discovery.core_versions()
                )
            case ["apis"]:
                answer = (
                    fake_discovery.aggregated(resources, core=False) if wants_all else fake_discovery.groups(resources)
                )
            case ["api", version]:
                answer = about.resource_list(resources, "", version)
            case ["apis", group]:
                answer = about.group(resources, group)
            case ["apis", group, version]:
                answer = about.resource_list(resources, group, version)
            case ["openapi", "v3"]:
                answer = about.openapi_index(resources)
            case ["openapi", "v3", *root]:
                answer = about.openapi(resources, "/".join(root))
        return None if answer is None else (200, answer)

    def _object(self, request: Request) -> tuple[int, Any]:
        target = target_of(self.store, request.path)
        if target is None:
            return 404, "404 page not found\n"
        if target.resource.group.startswith("auth") and target.resource.verbs == ("create",):
            return 201, self._review(request, target)
        self.rights.require(
            request.user, _verb(request, target), target.resource.group, target.qualified, target.namespace, target.name
        )
        if request.method == "GET" or target.subresource == "proxy":
            return 200, self._read(request, target)
        return self._write(request, target)

    def _read(self, request: Request, target: Target) -> Any:
        if target.subresource in ("proxy", "log"):
            return self._text(request, target)
        if request.is_true("watch"):
            return fake_verbs.watching(self.store, request, target)
        if not target.name:
            return fake_verbs.listing(self.store, request, target)
        return self.store.read(target.resource, target.namespace, target.name)

    def _write(self, request: Request, target: Target) -> tuple[int, Any]:
        if target.subresource in ("binding", "eviction", "token"):
            return 201, self._pod_action(request, target)
        if request.method == "POST" and not target.name:
            return 201, fake_verbs.create(self.store, request, target)
        if request.method == "DELETE":
            action = fake_verbs.delete if target.name else fake_verbs.delete_collection
            return 200, action(self.store, request, target)
        if target.name and request.method == "PUT":
            return 200, fake_verbs.replace(self.store, request, target)
        if target.name and request.method == "PATCH":
            manifest, is_new = fake_verbs.patch(self.store, request, target)
            return 201 if is_new else 200, manifest
        raise RefusalError(405, "the server does not allow this method on the requested resource")

    def _pod_action(self, request: Request, target: Target) -> Manifest:
        """Bind a pod to a node, or evict it."""
        if target.subresource == "eviction":
            self.store.delete(target.resource, target.namespace, target.name, {})
        elif target.subresource == "binding":
            fake_verbs.bind(self.store, request, target)
        else:
            raise RefusalError(405, "the fake API server gives no tokens")
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _review(self, request: Request, target: Target) -> Manifest:
        body = {"apiVersion": target.resource.api_version, "kind": target.resource.kind, **request.content()}
        if target.resource.kind == "SelfSubjectAccessReview":
            return self.rights.review(request.user, body)
        if target.resource.kind == "SelfSubjectReview":
            return {**body, "status": {"userInfo": {"username": request.user}}}
        rules = [
            {"apiGroups": [r.group], "resources": [r.resource], "verbs": list(r.verbs)}
            for r in self.rights.rules.get(request.user, ())
        ]
        return {**body, "status": {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}}

    def _text(self, request: Request, target: Target) -> str:
        """Return what a node, pod or service would say; the object itself has to exist."""
        name = target.name if target.subresource == "log" else target.name.split(":")[0]
        self.store.read(target.resource, target.namespace, name)
        for pattern, text in reversed(list(self.texts.items())):
            if fnmatch.fnmatch(request.path, pattern):
                return text if isinstance(text, str) else text(request.path)
        if target.subresource == "log":
            return ""
        raise RefusalError(503, f"error trying to reach service: dial tcp: nothing answers at {request.path}")


def _verb(request: Request, target: Target) -> str:
    if request.method == "GET":
        return "watch" if request.is_true("watch") else "get" if target.name else "list"
    if request.method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(request.method, "unknown")


class _Server(ThreadingHTTPServer):
    """Threads end with the process; a watch that hangs must not keep a test from ending."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext
    ) -> None:
        super().__init__(address, handler)
        self._context = context

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection; its handshake happens in its own thread, with the first byte it reads."""
        connection, address = self.socket.accept()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away in mid-answer; tests do that on purpose."""


def _handler_of(cluster: FakeCluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request.of(self.command, self.path, dict(self.headers.items()), body)
            try:
                code, answer = cluster.answer(request)
            except RefusalError as refusal:
                code, answer = refusal.code, refusal.status()
            except ConnectionAbortedError:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(answer, Iterator):
                self._stream(answer)
            else:
                self._send(code, answer, request)

        def _send(self, code: int, answer: Any, request: Request) -> None:
            is_text = isinstance(answer, str)
            raw = answer.encode() if is_text else json.dumps(_as_asked(answer, request)).encode()
            self.send_response(code)
            wants_all = isinstance(answer, dict) and answer.get("kind") == _AGGREGATED
            media = f"application/json;g=apidiscovery.k8s.io;v=v2;as={_AGGREGATED}" if wants_all else "application/json"
            self.send_header("Content-Type", "text/plain; charset=utf-8" if is_text else media)
            self.send_header("Content-Length", str(len(raw)))
            if code in (429, 503):
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, events: Iterator[Manifest]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                raw = json.dumps(event).encode() + b"\n"
                self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    return Handler


def _as_asked(answer: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
    """Cut an answer down to metadata where only that is asked for."""
    accept = request.headers.get("accept", "").partition(",")[0]
    metadata_only = {"apiVersion": "meta.k8s.io/v1"}
    if "as=PartialObjectMetadataList" in accept and "items" in answer:
        items = [{**metadata_only, "kind": "PartialObjectMetadata", "metadata": m["metadata"]} for m in answer["items"]]
        return {**metadata_only, "kind": "PartialObjectMetadataList", "metadata": answer["metadata"], "items": items}
    if "as=PartialObjectMetadata;" in f"{accept};" and answer.get("kind") != "Status":
        return {**metadata_only, "kind": "PartialObjectMetadata", "metadata": answer["metadata"]}
    return answer
