"""What a Prometheus server knows of the proxies: asked for once, kept as it came, refused when it is too much."""

from __future__ import annotations

import json

import httpx
import pytest

from adapters.kubernetes.counting.prometheus import NAME, metrics_or_reason, proxies_metrics
from meshgauge.errors import ConfigurationError, ServiceUnavailableError

URL = "http://prometheus.monitoring:9090/"
ANSWER = {"status": "success", "data": {"resultType": "matrix", "result": []}}


def answering(reply: httpx.Response, seen: list[httpx.Request] | None = None) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return reply

    return httpx.MockTransport(handle)


def test_the_answer_is_kept_as_it_came_and_the_query_names_the_namespace_and_the_time() -> None:
    seen: list[httpx.Request] = []
    body = json.dumps(ANSWER).encode()
    artefact = proxies_metrics(URL, "mg-1", 1000.0, 1100.0, answering(httpx.Response(200, content=body), seen))
    assert (artefact.name, artefact.media_type, artefact.content) == (NAME, "application/json", body)
    (request,) = seen
    assert (request.method, request.url.path) == ("GET", "/api/v1/query_range")
    assert dict(request.url.params) == {
        "query": '{namespace="mg-1",__name__!~"container_.*|kube_.*|kubelet_.*"}',
        "start": "1000.000",
        "end": "1100.000",
        "step": "5.000",
    }


def test_a_long_environment_is_asked_for_in_larger_steps() -> None:
    seen: list[httpx.Request] = []
    proxies_metrics(URL, "mg-1", 0.0, 20_000.0, answering(httpx.Response(200, json=ANSWER), seen))
    assert seen[0].url.params["step"] == "20.000"


def test_a_redirect_is_not_followed() -> None:
    seen: list[httpx.Request] = []
    reply = httpx.Response(302, headers={"location": "http://169.254.169.254/"})
    with pytest.raises(ConfigurationError, match="HTTP status 302"):
        proxies_metrics(URL, "mg-1", 0.0, 60.0, answering(reply, seen))
    assert len(seen) == 1


def test_an_answer_that_is_too_large_is_not_kept() -> None:
    with pytest.raises(ConfigurationError, match="more than 16 MiB"):
        proxies_metrics(URL, "mg-1", 0.0, 60.0, answering(httpx.Response(200, content=b"x" * (17 << 20))))


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (httpx.Response(503), ServiceUnavailableError, "HTTP status 503"),
        (httpx.Response(200, text="<html>"), ConfigurationError, "gives no metrics"),
        (httpx.Response(400, json={"status": "error", "error": "parse error"}), ConfigurationError, "parse error"),
    ],
)
def test_what_is_no_answer_says_why(reply: httpx.Response, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        proxies_metrics(URL, "mg-1", 0.0, 60.0, answering(reply))


def test_a_server_that_is_away_is_said_to_be() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to host", request=request)

    with pytest.raises(ServiceUnavailableError, match="no route to host"):
        proxies_metrics(URL, "mg-1", 0.0, 60.0, httpx.MockTransport(handle))


def test_what_could_not_be_had_is_a_text_that_says_why() -> None:
    artefact = metrics_or_reason("http://127.0.0.1:9", "mg-1", 0.0, 60.0)
    assert artefact.media_type == "text/plain"
    assert b"prometheus_url http://127.0.0.1:9 does not answer" in artefact.content
