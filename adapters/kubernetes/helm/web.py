"""GET over HTTP for charts, indexes and manifests: bounded in time and size, with errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from meshgauge.errors import ConfigurationError, ServiceUnavailableError

LIMIT_BYTES: Final = 64 << 20  # a mesh's index has a few MB, its biggest chart (Consul's) 0.3 MB; bounds memory
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
_WHOLE_S: Final = 300.0


def get(address: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return what is at ``address``; proxies and CA bundles of the environment are used.

    Raises:
        ServiceUnavailableError: it cannot be reached, or answers 429 or 5xx.
        ConfigurationError: it refuses (401, 403), has nothing there (404), or sends more than LIMIT_BYTES.
    """
    return answer(address, headers)[0]


def answer(address: str, headers: Mapping[str, str] | None = None) -> tuple[bytes, Mapping[str, str]]:
    """Return body and headers of a GET; errors as ``get``."""
    shown = without_userinfo(address)
    try:
        with (
            httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream("GET", address, headers=dict(headers or {})) as response,
        ):
            _check(response, shown)
            return _body(response, shown), response.headers
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{shown} is no address: {error}") from error
    except (httpx.TransportError, httpx.TooManyRedirects) as error:
        raise ServiceUnavailableError(f"{shown} cannot be reached: {error or type(error).__name__}") from error


def _check(response: httpx.Response, shown: str) -> None:
    status = response.status_code
    if status == 429 or status >= 500:
        raise ServiceUnavailableError(f"{shown} answers {status}: try again later")
    if status in {401, 403}:
        said = f"{shown} answers {status}: put credentials into its address, or use a mirror"
        raise RefusedError(said, response.headers.get("www-authenticate", ""))
    if status != 200:
        raise ConfigurationError(f"{shown} answers {status}: look at the address")


class RefusedError(ConfigurationError):
    """401 or 403: who asks is not known or not allowed.

    Attributes:
        challenge: the WWW-Authenticate header: where to get a token.
    """

    def __init__(self, said: str, challenge: str = "") -> None:
        self.challenge = challenge
        super().__init__(said)


def _body(response: httpx.Response, shown: str) -> bytes:
    ends_at = time.monotonic() + _WHOLE_S
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > LIMIT_BYTES:
            raise ConfigurationError(f"{shown} sends more than {LIMIT_BYTES >> 20} MiB: this is not what was meant")
        if time.monotonic() > ends_at:
            raise ServiceUnavailableError(f"{shown} did not end its answer within {_WHOLE_S:g} s")
        pieces.append(piece)
    return b"".join(pieces)


def without_userinfo(address: str) -> str:
    """Return the address without user and password, for messages and records."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
