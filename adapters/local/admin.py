"""Reads what a proxy says about itself: one look at a port, one HTTP document, sums of Prometheus samples."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator, Mapping

from adapters.contract import Endpoint
from meshgauge.errors import MeasurementError

LOOK_S = 0.25  # a listener on loopback answers in microseconds
READ_S = 5.0

_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def accepts_connections(endpoint: Endpoint) -> bool:
    """Return whether something listens on ``endpoint``. Sends nothing."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=LOOK_S):
            return True
    except OSError:
        return False


def answers_ok(endpoint: Endpoint, path: str) -> bool:
    """Return whether a GET of ``path`` gives 200 at once."""
    try:
        return _get(endpoint, path, LOOK_S)[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def fetch_text(proxy: str, endpoint: Endpoint, path: str) -> str:
    """Return the document at ``path`` of the proxy's admin endpoint.

    Raises:
        MeasurementError: the endpoint is away or answers with an error.
    """
    try:
        status, text = _get(endpoint, path, READ_S)
    except (OSError, http.client.HTTPException) as error:
        raise MeasurementError(
            f"{proxy}: counters at http://{endpoint}{path} cannot be read ({error!r}); look whether it still runs"
        ) from error
    if status != http.client.OK:
        raise MeasurementError(f"{proxy}: http://{endpoint}{path} answered {status} instead of counters: {text[:200]}")
    return text


def _get(endpoint: Endpoint, path: str, timeout_s: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8", "replace")
    finally:
        connection.close()


def sum_samples(text: str, metric: str, labels: Mapping[str, str] | None = None) -> int:
    """Return the sum of ``metric`` over all samples that carry ``labels``; 0 while a counter has no sample yet.

    Args:
        text: Prometheus text exposition. Counters appear in it with their first increment.
    """
    wanted = dict(labels or {}).items()
    return round(sum(value for name, own, value in _samples(text) if name == metric and wanted <= own.items()))


def _samples(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            yield match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])
