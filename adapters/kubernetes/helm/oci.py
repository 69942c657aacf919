"""Charts in an OCI registry, through the registry's HTTP API: no Helm and no container tool is needed to read one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from adapters.kubernetes.helm import web
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.helm.index import Entry, precedence
from meshgauge.errors import ConfigurationError

# Source: helm.sh/docs/topics/registries; the layer that holds the chart.
_CHART_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_NEXT: Final = re.compile(r'<([^>]+)>;\s*rel="?next"?')
_PAGES: Final = 50
# Each app version takes two questions; older charts than these are listed without.
_DESCRIBED: Final = 25


class OciRepository:
    """Charts below ``oci://HOST/PATH``, each a repository of its own whose tags are its versions."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self.origin = web.without_userinfo(self._address)

    def entries(self, chart: str) -> Sequence[Entry]:
        """Return a version for each tag; ``+`` is written ``_`` in tags. App versions are asked of the newest alone."""
        registry = _Registry(f"{self._address}/{chart}")
        tags = sorted(registry.tags(), key=lambda tag: precedence(tag.replace("_", "+")), reverse=True)
        found = [(tag, registry.app_version(tag) if rank < _DESCRIBED else "") for rank, tag in enumerate(tags)]
        address = f"{self._address}/{chart}"
        return [Entry(ChartVersion(tag.replace("_", "+"), app_version), (address,)) for tag, app_version in found]

    def fetch(self, chart: str, entry: Entry) -> bytes:
        """Return the archive; its digest is the registry's own."""
        return pull(f"{self._address}/{chart}", entry.version.version)


def pull(address: str, version: str) -> bytes:
    """Return the chart at ``oci://HOST/PATH/CHART`` (a tag of its own is left aside) in ``version``.

    Raises:
        ServiceUnavailableError: the registry cannot be reached.
        ConfigurationError: it does not have that, or something other than a chart.
    """
    last = address.rpartition("/")[2]
    plain = address[: -len(last)] + last.partition(":")[0]
    return _Registry(plain).chart(version.replace("+", "_"))


class _Registry:
    """One repository of a registry."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        # As Helm and Docker do: only a registry on this host may be spoken to in the clear.
        scheme = "http" if re.fullmatch(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?", host) else "https"
        self._base = f"{scheme}://{parts.netloc}/v2{parts.path}/"
        self._shown = web.without_userinfo(address)
        self._token = ""

    def tags(self) -> Sequence[str]:
        found: list[str] = []
        path: str | None = "tags/list"
        for _ in range(_PAGES):
            if path is None:
                break
            body, headers = self._get(path, "application/json")
            found += _json(body, self._shown).get("tags") or ()
            further = _NEXT.search(headers.get("link", ""))
            path = further[1] if further else None
        return found

    def chart(self, tag: str) -> bytes:
        layers = self._manifest(tag).get("layers") or ()
        layer = next((one for one in layers if one.get("mediaType") == _CHART_LAYER), None)
        if layer is None:
            raise ConfigurationError(f"{self._shown}:{tag} holds no Helm chart")
        content, _ = self._get(f"blobs/{layer['digest']}", "*/*")
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if digest != layer["digest"]:
            raise ConfigurationError(f"{self._shown}:{tag} is {digest}, and its manifest says {layer['digest']}")
        return content

    def app_version(self, tag: str) -> str:
        """Return what the chart's Chart.yaml says, which the registry holds as the image's configuration."""
        digest = (self._manifest(tag).get("config") or {}).get("digest")
        if not digest:
            return ""
        body, _ = self._get(f"blobs/{digest}", "*/*")
        return str(_json(body, self._shown).get("appVersion") or "")

    def _manifest(self, tag: str) -> dict[str, Any]:
        body, _ = self._get(f"manifests/{tag}", _MANIFEST)
        return _json(body, self._shown)

    def _get(self, path: str, accept: str) -> tuple[bytes, Mapping[str, str]]:
        headers = {"Accept": accept}
        address = urljoin(self._base, path)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
            address = web.without_userinfo(address)  # it was for the token; here it would stand in the token's place
        try:
            return web.answer(address, headers)
        except web.RefusedError as error:
            if self._token or not error.challenge.lower().startswith("bearer "):
                raise
            self._token = self._granted(error.challenge)
            return self._get(path, accept)

    def _granted(self, challenge: str) -> str:
        """Ask for a token: an anonymous one or, with a user in the address, the user's.

        Source: distribution.github.io/distribution/spec/auth/token.
        """
        told = dict(_CHALLENGE.findall(challenge))
        query = {key: told[key] for key in ("service", "scope") if key in told}
        realm = urlsplit(told.get("realm", ""))
        if realm.scheme not in {"https", urlsplit(self._base).scheme}:
            raise ConfigurationError(f"{self._shown} asks for a token and does not say where to get one safely")
        userinfo, at, _ = urlsplit(self._base).netloc.rpartition("@")
        address = realm._replace(netloc=f"{userinfo}{at}{realm.netloc}", query=urlencode(query)).geturl()
        said = _json(web.get(address), self._shown)
        token = said.get("token") or said.get("access_token")
        if not token:
            raise ConfigurationError(f"{self._shown} gives no token to read it: put credentials into its address")
        return str(token)


def _json(body: bytes, shown: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError as error:
        raise ConfigurationError(f"{shown} answers something that is no OCI registry's: {error}") from error
    if not isinstance(said, dict):
        raise ConfigurationError(f"{shown} answers something that is no OCI registry's")
    return said
