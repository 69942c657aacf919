"""What Helm says when it fails, turned into the error whose next action is right, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError, ServiceUnavailableError

_TAIL_CHARACTERS = 1500
# Warnings client-go prints beside what matters: W1123 14:23:59.489109 15502 warnings.go:107] ...
_CHATTER = re.compile(r"[IW]\d{4} [\d:.]+ +\d+ \S+\.go:\d+\]")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_BEARER = re.compile(r"(?i)(bearer\s+|token[=: ]+\"?)[A-Za-z0-9._~+/=-]{8,}")
_SECRET_KEY = re.compile(r"(?i)(?:key|token|password|secret|pem)$")
# Sentences of Helm 3.21 and 4.2, of client-go and of Go's net package; the first that fits tells what to do.
_KNOWN: Final[Sequence[tuple[re.Pattern[str], type[MeshgaugeError], str]]] = (
    (
        re.compile(r"cannot re-?use a name|another operation \(install/upgrade/rollback\) is in progress"),
        EnvironmentUpError,
        "a release of that name is there already, or was left half-made by an operation that was ended: "
        "uninstall it first",
    ),
    (
        re.compile(r"exists and cannot be imported into the current release"),
        EnvironmentUpError,
        "an object of that name is there already; it is somebody else's, or was left by another release: "
        "remove it, or leave it out of the chart",
    ),
    (
        re.compile(r"failed calling webhook"),
        EnvironmentUpError,
        "an admission webhook in the cluster does not answer: what it belongs to is not ready, or was removed in part",
    ),
    (
        re.compile(
            r"(?i)\bis forbidden\b|\bunauthorized\b|must be logged in|asked for the client to provide credentials"
            r"|no configuration has been provided"
        ),
        ConfigurationError,
        "the API server refuses it: grant the missing permission",
    ),
    (
        re.compile(
            r"connection refused|connection reset|no such host|i/o timeout|TLS handshake timeout|no route to host"
            r"|network is unreachable|EOF$|currently unable to handle|etcdserver: |ServiceUnavailable"
            r"|cluster unreachable|cluster reachability check failed|(?i:too many requests)"
        ),
        ServiceUnavailableError,
        "the API server does not answer",
    ),
    (
        re.compile(r"timed out waiting|context deadline exceeded|timeout: |resources? not ready"),
        EnvironmentUpError,
        "it was not done in time",
    ),
)


def failure(what: str, said: str, values: Mapping[str, Any] | None = None) -> MeshgaugeError:
    """Return the error for what Helm said.

    Args:
        what: which call failed, as the subject of the sentence: ``helm install istiod (namespace istio-system)``.
        said: Helm's own words; its end is kept.
        values: of the release; secrets among them are taken out of ``said``.
    """
    reason = tail(without_secrets(said, values or {}))
    for pattern, error, advice in _KNOWN:
        if pattern.search(said):
            return error(f"{what}: {advice}. Helm said: {reason}")
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
