"""Tiny charts, an index for them, and an HTTP server on loopback that serves what a test puts there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from adapters.kubernetes.helm.archive import packed

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  greeting: {{ .Values.greeting | quote }}
  kube: {{ .Capabilities.KubeVersion.Version | quote }}
"""
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
HOOK = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-hook
  annotations: {helm.sh/hook: "post-install,pre-delete"}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: hook, image: example.org/hook}]
"""
MakeChart = Callable[..., Path]


def make_chart(
    folder: Path,
    name: str = "greeter",
    version: str = "1.0.0",
    files: Mapping[str, str] | None = None,
    chart_yaml: str = "",
) -> Path:
    """Make ``NAME-VERSION.tgz`` in ``folder`` (and, unpacked, in its ``unpacked/``); return the archive."""
    unpacked = folder / "unpacked" / f"{name}-{version}"
    contents = {
        "Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: v{version}\n{chart_yaml}",
        "values.yaml": "greeting: hello\n",
        "templates/config.yaml": CONFIG,
        **(files or {}),
    }
    for path, content in contents.items():
        (unpacked / path).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / path).write_text(content)
    archive = folder / f"{name}-{version}.tgz"
    archive.write_bytes(packed(unpacked))
    return archive


def index_of(*archives: Path, prefix: str = "", **more: Any) -> str:
    """Return an ``index.yaml`` that lists these archives (as JSON, which is YAML)."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for archive in archives:
        name, _, version = archive.stem.rpartition("-")
        entry = {
            "name": name,
            "version": version,
            "appVersion": f"v{version}",
            "created": "2026-08-01T00:00:00Z",
            "digest": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "urls": [prefix + archive.name],
        }
        entries.setdefault(name, []).append(entry | more)
    return json.dumps({"apiVersion": "v1", "entries": entries})


@dataclass
class Web:
    """An HTTP server on loopback. ``answers``: path -> (status, headers, body) or a function of its headers."""

    address: str
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, path: str, body: bytes | str, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that hang up."""


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    """Start a server and end it; afterwards nobody listens at its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            here.asked.append(self.path)
            answer = here.answers.get(self.path, (404, {}, b"none"))
            status, headers, body = answer(self.headers) if callable(answer) else answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    server = _Server(("127.0.0.1", 0), Handler)
    here = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def seen_within(timeout_s: float, look: Callable[[], object]) -> bool:
    """Look again and again until there is something, or time is over; return whether there was."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if look():
            return True
        time.sleep(0.05)
    return False
