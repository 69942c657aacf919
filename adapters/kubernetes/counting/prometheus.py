"""The proxies' own metrics as a Prometheus server has them: kept for the record, never part of a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from adapters.contract import Artefact
from meshgauge.errors import ConfigurationError, MeshgaugeError, ServiceUnavailableError

NAME: Final = "prometheus.json"
_TIMEOUT_S: Final = 15.0
_MOST_BYTES: Final = 16 << 20
_STEP_S: Final = 5.0
_MOST_POINTS: Final = 1000  # a series; the server's own limit is 11 000
_ERROR_BYTES: Final = 500
# What kubelets and kube-state-metrics say about the same pods is not the proxies' own, and most of what there is.
_OTHERS: Final = "container_.*|kube_.*|kubelet_.*"


def metrics_or_reason(url: str, namespace: str, start_s: float, end_s: float) -> Artefact:
    """Return what ``proxies_metrics`` gives, or a text that says why there is nothing: it is for the record only."""
    try:
        return proxies_metrics(url, namespace, start_s, end_s)
    except MeshgaugeError as error:
        return Artefact("prometheus.txt", "text/plain", f"{error}\n".encode())


def proxies_metrics(
    url: str, namespace: str, start_s: float, end_s: float, transport: httpx.BaseTransport | None = None
) -> Artefact:
    """Return every series scraped in ``namespace`` between two instants, as the server's HTTP API gives it.

    The address is an operator's to allow (``coordinator.targets``): nothing but this query is sent there, redirects
    are not followed, and proxies of the environment are not used.

    Args:
        url: of the server, ``http://prometheus.monitoring:9090``, perhaps with a path.
        start_s, end_s: seconds since the epoch.
        transport: instead of the network.

    Raises:
        ServiceUnavailableError: it does not answer.
        ConfigurationError: it is no Prometheus server, refuses the query, or its answer is larger than is kept.
    """
    parameters = {
        "query": f'{{namespace={json.dumps(namespace)},__name__!~"{_OTHERS}"}}',
        "start": f"{start_s:.3f}",
        "end": f"{end_s:.3f}",
        "step": f"{max(_STEP_S, (end_s - start_s) / _MOST_POINTS):.3f}",
    }
    where = f"{url.rstrip('/')}/api/v1/query_range"
    try:
        with (
            httpx.Client(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False, transport=transport) as client,
            client.stream("GET", where, params=parameters) as reply,
        ):
            body = _limited(reply, url)
    except httpx.HTTPError as error:
        raise ServiceUnavailableError(f"prometheus_url {url} does not answer: {error}") from error
    _see_that_it_succeeded(url, reply.status_code, body)
    return Artefact(NAME, "application/json", body)


def _limited(reply: httpx.Response, url: str) -> bytes:
    body = bytearray()
    for chunk in reply.iter_bytes():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise ConfigurationError(
                f"prometheus_url {url}: the metrics of one environment are more than {_MOST_BYTES >> 20} MiB; "
                "drop series in its scrape configuration, or leave prometheus_url out"
            )
    return bytes(body)


def _see_that_it_succeeded(url: str, status: int, body: bytes) -> None:
    answer = _parsed(body)
    if status >= 500:
        raise ServiceUnavailableError(f"prometheus_url {url} answers with HTTP status {status}")
    if status != 200 or answer.get("status") != "success":
        said = str(answer.get("error") or body[:_ERROR_BYTES].decode(errors="replace"))[:_ERROR_BYTES]
        raise ConfigurationError(
            f"prometheus_url {url} gives no metrics (HTTP status {status}): {said}; "
            "name the address of a Prometheus server, without /api"
        )


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
