"""Answers admission webhooks where a real API server calls them and no control plane runs behind them."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fake_tls import make_certificate, server_context

Manifest = dict[str, Any]
Change = Callable[[Manifest], Manifest]


class Admission:
    """An HTTPS server that lets everything in, pods as ``let_in`` changes them.

    Webhook configurations are pointed at it by ``redirected``: an API server outside of any cluster network cannot
    reach a Service.
    """

    def __init__(self) -> None:
        self.let_in: Change = lambda pod: pod
        self._folder = Path(tempfile.mkdtemp(prefix="admission-"))
        path, pem = make_certificate(self._folder)
        self.bundle = base64.b64encode(pem).decode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._server.socket = server_context(path).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Admission:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="admission", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def redirected(self, manifest: Manifest, namespace: str) -> Manifest | None:
        """Return the configuration with the webhooks served in ``namespace`` answered here; None: no change."""
        webhooks, is_changed = [], False
        for webhook in manifest.get("webhooks") or ():
            service = webhook["clientConfig"].get("service")
            if service and service["namespace"] == namespace:
                webhook, is_changed = {**webhook, "clientConfig": self._client(service)}, True  # noqa: PLW2901
            webhooks.append(webhook)
        return {**manifest, "webhooks": webhooks} if is_changed else None

    def _client(self, service: Mapping[str, Any]) -> Manifest:
        return {"url": self.url + (service.get("path") or "/"), "caBundle": self.bundle}

    def review(self, review: Manifest) -> Manifest:
        """Answer one AdmissionReview."""
        asked = review["request"]
        response: Manifest = {"uid": asked["uid"], "allowed": True}
        pod = asked.get("object")
        if asked["kind"]["kind"] == "Pod" and asked["operation"] == "CREATE" and pod:
            pod["metadata"].setdefault("namespace", asked["namespace"])
            changed = self.let_in(pod)
            if changed != pod:
                patch = [{"op": "replace", "path": f"/{part}", "value": changed[part]} for part in ("metadata", "spec")]
                encoded = base64.b64encode(json.dumps(patch).encode()).decode()
                response |= {"patchType": "JSONPatch", "patch": encoded}
        return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


def _handler_of(admission: Admission) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def do_POST(self) -> None:
            """Answer a review, or a conversion with the objects as they are."""
            review = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            raw = json.dumps(admission.review(review)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler
