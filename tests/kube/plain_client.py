"""The plainest client of an API server, for puppets and for checks that share no code with the product."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

Manifest = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
_BUSY_S = 60.0  # a kind just defined answers "storage is (re)initializing"; seen with kube-apiserver 1.36


class PlainClient:
    """HTTP to one API server as the user of a kubeconfig's context."""

    def __init__(self, kubeconfig: Path | str, context: str | None = None) -> None:
        from kubernetes import client, config  # noqa: PLC0415 (a second of imports; reads every sort of kubeconfig)

        found = client.Configuration()
        config.load_kube_config(  # type: ignore[no-untyped-call]
            str(kubeconfig), context, found, persist_config=False
        )
        tls = ssl.create_default_context(cafile=found.ssl_ca_cert)
        if not found.verify_ssl:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if found.cert_file:
            tls.load_cert_chain(found.cert_file, found.key_file)
        token = found.get_api_key_with_prefix("BearerToken", alias="authorization")  # renamed in client 36
        headers = {"user-agent": "puppet", **({"authorization": token} if token else {})}
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(base_url=found.host, verify=tls, headers=headers, timeout=60, limits=limits)

    def close(self) -> None:
        self.http.close()

    def get(self, path: str, **query: Any) -> Manifest | None:
        """Return an object or a list; None when there is none."""
        deadline_s = time.monotonic() + _BUSY_S
        while (answer := self.http.get(path, params=query)).status_code == 429 and time.monotonic() < deadline_s:
            time.sleep(0.5)
        if answer.status_code == 404:
            return None
        return self._read(answer)

    def items(self, path: str, **query: Any) -> list[Manifest]:
        """Return the items of a list, none when the kind is not served."""
        found = self.get(path, **query)
        return list(found["items"]) if found else []

    def post(self, path: str, body: Manifest) -> Manifest | None:
        """Create; None when it exists or its namespace does not, or is going."""
        answer = self.http.post(path, json=body)
        return None if answer.status_code in (403, 404, 409) else self._read(answer)

    def patch(self, path: str, body: Any, kind: str = MERGE, **query: Any) -> Manifest | None:
        """Patch; None when there is none, or when another patch came first."""
        headers = {"content-type": kind}
        answer = self.http.patch(path, content=json.dumps(body), headers=headers, params=query)
        return None if answer.status_code in (404, 409) else self._read(answer)

    def delete(self, path: str, **options: Any) -> bool:
        """Delete; return whether there was one."""
        answer = self.http.request("DELETE", path, json=options or None)
        if answer.status_code in (404, 409):
            return False
        self._read(answer)
        return True

    def watch(self, path: str, version: str, timeout_s: int = 300) -> Iterator[Manifest]:
        """Yield the events of a watch until the server ends it."""
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(timeout_s)}
        with self.http.stream("GET", path, params=query, timeout=httpx.Timeout(10, read=None)) as answer:
            if answer.status_code != 200:
                return
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)

    def _read(self, answer: httpx.Response) -> Manifest:
        if answer.is_error:
            sentence = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:500]}"
            raise RuntimeError(sentence)
        found: Manifest = answer.json()
        return found
