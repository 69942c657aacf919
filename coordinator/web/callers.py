"""Who calls: the operator of this host, the holder of a token, or nobody in particular on loopback.

A token is needed beyond loopback always, and on loopback as soon as any token is in force. The owner of the
data directory needs none of those: the secret in DATA/secrets/operator counts as an admin token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import sqlalchemy as sa
from flask import current_app, g, redirect, request, session
from werkzeug.exceptions import Forbidden, Unauthorized
from werkzeug.wrappers import Response

from coordinator.web.facts import Access, Facts, facts_of
from coordinator.web.installation import Installation, installation
from meshgauge.infrastructures import Infrastructure
from meshgauge.settings import Settings
from meshgauge.store import tokens
from meshgauge.store.database import transaction
from meshgauge.store.tokens import ROLES, Role

DEFAULT_CONTEXT = "default"  # in MESHGAUGE_ALLOWED_CLUSTERS: the cluster of whoever names none

SESSION_TOKEN = "token_sha256"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may do what ``role`` allows."""

    name: str
    role: Role

    def may(self, access: Access) -> bool:
        """Return whether this caller is let in where ``access`` is asked for."""
        return access == "open" or ROLES.index(self.role) >= ROLES.index(access)


LOCAL = Caller("local", "admin")
OPERATOR = Caller("operator", "admin")


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is reachable from this host alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def needs_token(settings: Settings, connection: sa.Connection) -> bool:
    """Return whether callers have to say who they are."""
    return not is_loopback(settings.listen_host) or tokens.any_in_force(connection)


def let_in() -> Response | None:
    """Find the caller of this request and see that they may do it; a browser without session is sent to log in.

    Raises:
        Unauthorized: no token, or one that is not in force.
        Forbidden: the token's role does not allow this.
    """
    facts = _facts()
    if facts is None or facts.access == "open":
        return None
    caller = _caller(installation(), facts)
    if caller is None:
        if facts.accepts_cookie and request.method == "GET":
            return redirect(f"/login?next={quote(request.full_path.rstrip('?'))}")
        raise Unauthorized("send a token: Authorization: Bearer mg_... (made by: meshgauge token create NAME)")
    if not caller.may(facts.access):
        raise Forbidden(f"token {caller.name!r} has the role {caller.role!r}; this needs {facts.access!r}")
    g.caller = caller
    return None


def caller() -> Caller:
    """Return who calls, in a view that is not open."""
    found: Caller = g.caller
    return found


def may_run_programs(settings: Settings) -> bool:
    """Return whether this caller's plans may name programs: the operator allows it, and the caller is an admin."""
    return settings.allow_commands and caller().may("admin")


def refuse_foreign_clusters(settings: Settings, infrastructures: Iterable[Infrastructure]) -> None:
    """See that this caller may change every cluster named: an admin may, others what the operator lists, as it comes.

    Raises:
        Forbidden: names the first they may not, and what to do.
    """
    if caller().may("admin"):
        return
    for infrastructure in infrastructures:
        place = infrastructure.in_cluster
        if place.charts or place.images:
            raise Forbidden(
                "charts and images of your own run as programs in the cluster, which is not open to role 'run': leave "
                "charts and images out, or use an admin token"
            )
    if "*" in settings.allowed_clusters:
        return
    for infrastructure in infrastructures:
        if infrastructure.provider == "kubernetes":
            context = infrastructure.in_cluster.context or DEFAULT_CONTEXT
            if context not in settings.allowed_clusters:
                raise Forbidden(
                    f"cluster {context!r} is not open to role 'run': ask the operator to list it in "
                    "MESHGAUGE_ALLOWED_CLUSTERS, or use an admin token"
                )


def _facts() -> Facts | None:
    view = current_app.view_functions.get(request.endpoint or "")
    return None if view is None else facts_of(view)


def _caller(installed: Installation, facts: Facts) -> Caller | None:
    header = request.headers.get("Authorization", "")
    scheme, _, secret = header.partition(" ")
    if header:
        found = known_by_secret(installed, secret.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise Unauthorized("this token is not known or was revoked; make one with: meshgauge token create NAME")
        return found
    with transaction(installed.engine) as connection:
        if facts.accepts_cookie and (sha256 := session.get(SESSION_TOKEN)):
            return _known_by_hash(installed, connection, str(sha256))
        return None if needs_token(installed.settings, connection) else LOCAL


def known_by_secret(installed: Installation, secret: str) -> Caller | None:
    """Return who holds ``secret``, or None."""
    with transaction(installed.engine) as connection:
        return _known_by_hash(installed, connection, tokens.sha256_of(secret))


def _known_by_hash(installed: Installation, connection: sa.Connection, sha256: str) -> Caller | None:
    if installed.operator_token is not None and hmac.compare_digest(tokens.sha256_of(installed.operator_token), sha256):
        return OPERATOR
    row = tokens.find(connection, sha256)
    return None if row is None else Caller(row.name, row.role)
