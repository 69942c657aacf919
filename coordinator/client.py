"""The API's client: one method a question, errors as our own exceptions with the server's sentence."""

from __future__ import annotations

import ipaddress
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import httpx

from meshgauge.errors import (
    ConfigurationError,
    ConflictError,
    InvalidPlanError,
    InvalidRequestError,
    MeshgaugeError,
    Problem,
    ServiceUnavailableError,
    UnknownNameError,
)

_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_REPORT_TIMEOUT_S = 180.0  # 200 cells and 10 blocks take up to 20 s to draw, more on a busy host
_ARCHIVE_TIMEOUT_S = 3600.0  # the pages of hundreds of runs, made for the first time
_STREAM_SILENCE_S = 30.0  # the server says something every 10 s
_SUBMIT_TRIES = 3
_PAUSE_S = 1.0
_JSON = "application/json"
_YAML = "application/yaml"


_BY_STATUS: Mapping[int, type[MeshgaugeError]] = {
    400: InvalidRequestError,
    401: ConfigurationError,
    403: ConfigurationError,
    409: ConflictError,
    503: ServiceUnavailableError,
}


@dataclass(frozen=True, slots=True)
class RemoteEvent:
    """One server-sent event; ``kind`` is ``end`` after the last one of a finished run."""

    id: int
    kind: str
    data: Mapping[str, Any]


class Client:
    """Talks to one coordinator. Use it as a context manager."""

    def __init__(self, url: str, token: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        _refuse_no_address(self.url)
        self._token, self._transport = token, transport
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=self.url,
            headers={**headers, "User-Agent": "meshgauge-cli"},
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=not _is_on_this_host(self.url),  # no proxy on the way to ourselves
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def another(self) -> Client:
        """Return a second client of the same coordinator, for another thread."""
        return Client(self.url, self._token, self._transport)

    def get(self, path: str, **parameters: str | int) -> Any:
        """Return the JSON answer to a question."""
        return self._call("GET", path, params=parameters).json()

    def text(self, path: str) -> str:
        """Return an answer that is not JSON."""
        return self._call("GET", path, timeout=_REPORT_TIMEOUT_S).text

    def content(self, path: str, **parameters: str) -> bytes:
        """Return an answer as bytes; it may take as long as a report."""
        return self._call("GET", path, params=parameters, timeout=_REPORT_TIMEOUT_S).content

    def download(self, path: str, to: IO[bytes], **parameters: str) -> None:
        """Write an answer to ``to`` as it comes; the server may take an hour to make it.

        Raises:
            ServiceUnavailableError: the connection broke.
        """
        timeout = httpx.Timeout(_ARCHIVE_TIMEOUT_S, connect=5.0)
        try:
            with self._http.stream("GET", path, params=parameters, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                for piece in response.iter_bytes():
                    to.write(piece)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    def post(self, path: str) -> Any:
        """Return the JSON answer to a request without a body."""
        return self._call("POST", path, content=b"").json()

    def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON answer to a request with a JSON body."""
        return self._call("POST", path, content=json.dumps(body).encode(), headers={"Content-Type": _JSON}).json()

    def post_plan(self, path: str, plan: str, **parameters: str) -> Any:
        """Return the JSON answer to a plan."""
        return self._call("POST", path, params=parameters, content=plan.encode(), headers=_content(plan)).json()

    def delete(self, path: str) -> None:
        """Remove what is at ``path``."""
        self._call("DELETE", path)

    def submit(self, plan: str, idempotency_key: str | None = None) -> Any:
        """Submit a plan; a lost answer is asked for again under the same key, so that there is one run.

        Raises:
            InvalidPlanError, ConflictError, ServiceUnavailableError: see there.
        """
        return self._submitted("/api/v1/runs", plan.encode(), _content(plan), idempotency_key)

    def operate(self, request: Mapping[str, Any], idempotency_key: str | None = None) -> Any:
        """Ask for an operation; a lost answer is asked for again under the same key, so that there is one.

        Raises:
            InvalidRequestError, UnknownNameError, ConflictError, ServiceUnavailableError: see there.
        """
        content = json.dumps(request).encode()
        return self._submitted("/api/v1/operations", content, {"Content-Type": _JSON}, idempotency_key)

    def _submitted(self, path: str, content: bytes, headers: Mapping[str, str], key: str | None) -> Any:
        headers = {**headers, "Idempotency-Key": key or str(uuid.uuid4())}
        for tries_left in reversed(range(_SUBMIT_TRIES)):
            try:
                return self._call("POST", path, content=content, headers=headers).json()
            except ServiceUnavailableError:
                if not tries_left:
                    raise
                time.sleep(_PAUSE_S)
        raise AssertionError("unreachable")

    def events(self, run_id: str, last_id: int = 0) -> Iterator[RemoteEvent]:
        """Yield a run's events after ``last_id`` until it is over, or until the connection breaks.

        Raises:
            ServiceUnavailableError: it broke; go on from the last id seen.
        """
        timeout = httpx.Timeout(_STREAM_SILENCE_S, connect=5.0)
        headers = {"Last-Event-ID": str(last_id), "Accept": "text/event-stream"}
        try:
            with self._http.stream(
                "GET", f"/api/v1/runs/{run_id}/events", headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                yield from parse_events(response.iter_lines(), last_id)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        if response.is_error:
            raise _error_of(response)
        return response

    def _unavailable(self, error: httpx.HTTPError) -> ServiceUnavailableError:
        reason = str(error) or type(error).__name__
        return ServiceUnavailableError(
            f"the coordinator at {self.url} does not answer ({reason}); "
            "start one with: meshgauge up, or correct MESHGAUGE_COORDINATOR_URL"
        )


def parse_events(lines: Iterator[str], last_id: int) -> Iterator[RemoteEvent]:
    """Yield the events of a stream. Source: HTML standard, 9.2.6 Interpreting an event stream."""
    kind, data = "message", ""
    for line in lines:
        if not line:
            if data:
                yield RemoteEvent(last_id, kind, json.loads(data))
            kind, data = "message", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id" and value.isdigit():
            last_id = int(value)
        elif field == "event":
            kind = value
        elif field == "data":
            data += value


def _content(plan: str) -> dict[str, str]:
    return {"Content-Type": _JSON if plan.lstrip().startswith("{") else _YAML}


def _refuse_no_address(url: str) -> None:
    """See that ``url`` names a server.

    Raises:
        ConfigurationError: it does not.
    """
    reason = "it reads http://HOST:PORT"
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        is_address, reason = False, str(error)
    if not is_address:
        raise ConfigurationError(f"MESHGAUGE_COORDINATOR_URL: {url!r} is no address of a coordinator ({reason})")


def _is_on_this_host(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _error_of(response: httpx.Response) -> MeshgaugeError:
    """Return the server's problem as the exception it was there."""
    try:
        problem = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{response.url} answers {response.status_code} and no reason; is this a Meshgauge coordinator?"
        return ConfigurationError(detail)
    kind = str(problem.get("type", "")).rpartition("/")[2]
    if kind == "invalid-plan":
        return InvalidPlanError(Problem(str(e["path"]), str(e["message"])) for e in problem.get("errors", ()))
    if kind == "unknown-name":
        unknown = problem.get("unknown", {})
        return UnknownNameError(unknown.get("kind", "name"), unknown.get("name", "?"), unknown.get("known", ()))
    if response.status_code in (401, 403):
        detail += "; the command line sends MESHGAUGE_API_TOKEN"
    return _BY_STATUS.get(response.status_code, MeshgaugeError)(detail)
