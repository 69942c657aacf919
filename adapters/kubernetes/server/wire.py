"""Requests to one API server: authentication, time-outs, what is sent again, refusals as our errors."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from json import loads
from pathlib import Path
from typing import Any, Final

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ProtocolError

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.server import kubeconfig
from adapters.kubernetes.server.refusals import message_of, refusal
from meshgauge.errors import ConfigurationError, MeshgaugeError, ServiceUnavailableError

_CONNECT_S = 5.0
_READ_S = 30.0  # a page of a list, or an apply that passes webhooks (10 s each by default)

_ATTEMPTS = 4
_LONGEST_PAUSE_S = 3.0  # what we wait at most when the API server asks for patience (Retry-After)
_REPEATABLE = frozenset({"GET", "PATCH", "DELETE"})  # a POST may have been done before its connection broke
_CONNECTIONS = 32  # kept open at most; more than the threads we ask from

Query = list[tuple[str, str]]


class Wire:
    """Speaks HTTP to the API server of one context. The only place that knows the Kubernetes client library.

    The library reads the kubeconfig and keeps credentials fresh (tokens, exec plugins, certificates); of the rest
    only its generic request is used, which is the same from version 34 to 37.
    """

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        self._name: Final = name
        self._client: Final = _client(config, folder, name)
        self._is_verified: Final = bool(self._client.configuration.verify_ssl)

    def json(
        self,
        method: str,
        path: str,
        did: str,
        query: Query | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        """Send, and return the reply's document; see ``request``."""
        reply = self.request(method, path, did, query, body, content_type, accept)
        document: Manifest = loads(reply.data)
        return document

    def request(
        self,
        method: str,
        path: str,
        did: str,
        query: Query | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        read_s: float = _READ_S,
        is_stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send, again where that is safe; return a good reply, read unless it is a stream."""
        attempt = 1
        while True:
            try:
                reply = self._send(method, path, list(query or ()), body, content_type, accept, read_s)
                if not is_stream:
                    _ = reply.data  # read here, so that a connection cut in mid-reply counts as one attempt
            except HTTPError as error:
                if attempt >= _ATTEMPTS or method not in _REPEATABLE or not isinstance(error, ProtocolError):
                    raise self._unreachable(error, did) from None
            except _api_exception() as error:
                if attempt >= _ATTEMPTS or error.status != 429:  # 429: refused before it was looked at
                    raise self._refusal(error.status, error.body or error.reason, did) from None
                time.sleep(_pause_s((error.headers or {}).get("Retry-After")))
            else:
                return reply
            attempt += 1

    def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Manifest | None,
        content_type: str,
        accept: str,
        read_s: float,
    ) -> urllib3.BaseHTTPResponse:
        if not self._is_verified:  # as the kubeconfig asks; said each time, since others reset filters
            warnings.simplefilter("ignore", InsecureRequestWarning)
        reply: urllib3.BaseHTTPResponse = self._client.request(
            method,
            path,
            body=body,
            query_params=query,
            header_params={"Accept": accept},
            content_type=content_type,
            serialize=False,
            _request_timeout=(_CONNECT_S, read_s),
        )
        return reply

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._client.client.close()

    def _unreachable(self, error: HTTPError, did: str) -> ServiceUnavailableError:
        server = self._client.configuration.host
        return ServiceUnavailableError(
            f"the API server of {self._name} ({server}) does not answer, asked to {did}: {_reason(error)}"
        )

    def _refusal(self, status: int, body: Any, did: str) -> MeshgaugeError:
        if status == 0:  # how the client library tells failures of TLS
            server, reason = self._client.configuration.host, message_of(body).splitlines()[-1]
            if "EOF occurred" in reason:  # it hung up in mid-handshake, as one that starts or ends does
                return ServiceUnavailableError(
                    f"the API server of {self._name} ({server}) does not answer, asked to {did}: {reason}"
                )
            return ConfigurationError(
                f"no TLS connection to the API server of {self._name} ({server}): {reason}; "
                "look at certificate-authority, client-certificate and client-key in the kubeconfig"
            )
        return refusal(status, body, did, self._name)


def _client(config: Mapping[str, Any], folder: Path, name: str) -> Any:
    """Return the library's client of this configuration."""
    from kubernetes import client, dynamic  # noqa: PLC0415 - 0.3 s, which commands without a cluster need not pay
    from kubernetes import config as loading  # noqa: PLC0415

    configuration: Any = client.Configuration()
    configuration.retries = False
    configuration.connection_pool_maxsize = _CONNECTIONS
    try:
        load: Any = loading.load_kube_config_from_dict
        load(kubeconfig.with_files(config, folder), client_configuration=configuration, persist_config=False)
        for user in config["users"]:
            if user["user"].get("tokenFile"):
                configuration.refresh_api_key_hook = _rereading(Path(user["user"]["tokenFile"]))
        api = client.ApiClient(configuration)
    except (loading.ConfigException, HTTPError, OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"context {name!r} of the kubeconfig cannot be used: {error}") from None
    api.user_agent = "meshgauge"
    make: Any = dynamic.DynamicClient
    return make(api, discoverer=_NoDiscovery)


def _rereading(path: Path) -> Callable[[Any], None]:
    """Return what keeps the token up to date: whoever writes the file renews it (the kubelet, hourly)."""

    def reread(configuration: Any) -> None:
        for key in list(configuration.api_key):
            configuration.api_key[key] = f"Bearer {path.read_text().strip()}"

    return reread


class _NoDiscovery:
    """Keeps the library from asking for all kinds and writing them to a file that all users share."""

    def __init__(self, _client: Any, _cache_file: Any) -> None: ...


def _api_exception() -> type[Any]:
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - loaded with the client

    found: type[Any] = ApiException
    return found


def _pause_s(asked: str | None) -> float:
    return min(float(asked), _LONGEST_PAUSE_S) if asked and asked.isdecimal() else 1.0


def _reason(error: HTTPError) -> str:
    """Return the last, plainest part of the library's words."""
    text = str(error)
    return text.rpartition("): ")[2] or text
