"""Turns an API server's refusals into our errors: what was refused, where, and what to do. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError, ServiceUnavailableError

# How RBAC says no; other 403s (a quota, Pod Security, an admission policy, a namespace that goes) refuse the object.
# Source: k8s.io/apiserver pkg/endpoints/handlers/responsewriters/errors.go, forbiddenMessage.
_NO_RIGHT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) (?:resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?P<where> at the cluster scope| in the namespace "(?P<namespace>[^"]*)")?|path "(?P<path>[^"]*)")'
)
_AWAY = frozenset({429, 502, 503, 504})

# A webhook that says no is a 4xx; one that does not answer is an internal error of the API server.
# Source: k8s.io/apiserver pkg/admission/plugin/webhook, ErrCallingWebhook.
_WEBHOOK_AWAY = re.compile(r'failed calling webhook "[^"]+": failed to call webhook')


class NotThereError(EnvironmentUpError):
    """404: the object, or its kind, is not there."""


class ExpiredError(EnvironmentUpError):
    """410: the resource version we build on is too old."""


def refusal(status: int, body: Any, did: str, context: str) -> MeshgaugeError:
    """Return the error for a reply.

    Args:
        status: of HTTP.
        body: the reply's text, a ``Status`` object in JSON mostly.
        did: what was asked, ``create Deployment app in namespace x``.
        context: of the kubeconfig, for messages.
    """
    sentence = message_of(body) or f"HTTP status {status}"
    if status == 401:
        return ConfigurationError(
            f"the API server of {context} does not accept our credentials ({sentence}); "
            "renew them in the kubeconfig and try kubectl with the same context"
        )
    if status == 403 and (match := _NO_RIGHT.search(sentence)):
        return ConfigurationError(_missing_right(match, context))
    if status in _AWAY or (status == 500 and _WEBHOOK_AWAY.search(sentence)):
        return ServiceUnavailableError(f"the API server of {context} cannot {did} now: {sentence}")
    kind = {404: NotThereError, 410: ExpiredError}.get(status, EnvironmentUpError)
    return kind(f"the API server of {context} refused to {did}: {sentence}")


def message_of(body: Any) -> str:
    """Return the sentence of a ``Status`` object, or the text itself, cut short."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        document = json.loads(text)
    except ValueError:
        return text.strip()[:500]
    message = document.get("message", "") if isinstance(document, dict) else ""
    return str(message).strip()[:2000]


def _missing_right(match: re.Match[str], context: str) -> str:
    verb, user = match["verb"], match["user"]
    if match["path"]:
        return f"user {user!r} of {context} may not {verb} the path {match['path']}; grant it in a ClusterRole"
    resource = f"{match['resource']}{'.' + match['group'] if match['group'] else ''}"
    where = f"in namespace {match['namespace']}" if match["namespace"] else "cluster-wide"
    return (
        f"user {user!r} of {context} may not {verb} {resource} {where}: "
        f"grant the verb {verb!r} on {resource} ('meshgauge adapters rbac' prints what is needed)"
    )
