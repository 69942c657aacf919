"""What Helm says when it fails, turned into the error whose next action is right, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError, ServiceUnavailableError

_TAIL_CHARACTERS = 1500
# Warnings client-go prints beside what matters: W1123 14:23:59.489109 15502 warnings.go:107] ...
_CHATTER = re.compile(r"[IW]\d{4} [\d:.]+ +\d+ \S+\.go:\d+\]")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_BEARER = re.compile(r"(?i)(bearer\s+|token[=: ]+\"?)[A-Za-z0-9._~+/=-]{8,}")
_SECRET_KEY = re.compile(r"(?i)(?:key|token|password|secret|pem)$")
# The sentences of client-go, of Go's net package and of Helm 3 and 4 for "it is not there now".
_AWAY = re.compile(
    r"connection refused|connection reset|no such host|i/o timeout|TLS handshake timeout|no route to host"
    r"|network is unreachable|EOF$|server is currently unable to handle|etcdserver: |ServiceUnavailable"
    r"|cluster unreachable|cluster reachability check failed|too many requests|context deadline exceeded while awaiting"
)
_REFUSED = re.compile(
    r"(?i)\bis forbidden\b|\bunauthorized\b|must be logged in|invalid configuration: no configuration"
)
_IN_USE = "cannot re-use a name|cannot reuse a name|another operation \\(install/upgrade/rollback\\) is in progress"
_TIMED_OUT = re.compile(r"timed out waiting|context deadline exceeded|timeout: |resources? not ready")
_NO_CHART = re.compile(
    r"(?i)chart \".*\" (?:version .* )?not found|no chart (?:name|version) found|failed to locate chart"
)


def failure(what: str, said: str, values: Mapping[str, Any] | None = None) -> MeshgaugeError:
    """Return the error for what Helm said.

    Args:
        what: which call failed, as the subject of the sentence: ``helm install istiod (namespace istio-system)``.
        said: Helm's own words; its end is kept.
        values: of the release; secrets among them are taken out of ``said``.
    """
    reason = tail(without_secrets(said, values or {}))
    if re.search(_IN_USE, said):
        return EnvironmentUpError(
            f"{what}: a release of that name is there already, or was left half-made by an operation that was ended: "
            f"uninstall it first. Helm said: {reason}"
        )
    if _REFUSED.search(said):
        return ConfigurationError(
            f"{what}: the API server refuses it: grant the missing permission. Helm said: {reason}"
        )
    if _AWAY.search(said):
        return ServiceUnavailableError(f"{what}: the API server does not answer. Helm said: {reason}")
    if _NO_CHART.search(said):
        return ConfigurationError(f"{what}: there is no such chart. Helm said: {reason}")
    if _TIMED_OUT.search(said):
        return EnvironmentUpError(f"{what}: it was not done in time. Helm said: {reason}")
    return EnvironmentUpError(f"{what} failed. Helm said: {reason}")


def tail(said: str) -> str:
    """Return the last sentences of a long answer on one line."""
    lines = dict.fromkeys(part.strip() for part in said.splitlines() if part.strip() and not _CHATTER.match(part))
    line = " | ".join(lines)
    return line if len(line) <= _TAIL_CHARACTERS else "... " + line[-_TAIL_CHARACTERS:]


def without_secrets(said: str, values: Mapping[str, Any]) -> str:
    """Return ``said`` without PEM blocks, bearer tokens and the values whose keys say that they are secret."""
    for secret in set(_secrets(values)):
        for form in (secret, secret.replace("\n", "\\n"), secret.strip()):
            said = said.replace(form, "[secret]")
    return _BEARER.sub(r"\1[secret]", _PEM.sub("[secret]", said))


def _secrets(values: Mapping[str, Any] | list[Any], key: str = "") -> Iterator[str]:
    pairs = values.items() if isinstance(values, Mapping) else ((key, item) for item in values)
    for name, value in pairs:
        if isinstance(value, Mapping | list):
            yield from _secrets(value, str(name))
        elif isinstance(value, str) and len(value) >= 8 and (_SECRET_KEY.search(str(name)) or "-----BEGIN" in value):
            yield value
