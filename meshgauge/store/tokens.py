"""API tokens: random secrets of which only the hash is kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.fields import NAME_PATTERN
from meshgauge.store import schema

# read: look; run: also submit, cancel and schedule; admin: also plans that run programs, and sites.
Role = Literal["read", "run", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

_PREFIX = "mg_"  # lets secret scanners find a leaked one
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token without its secret."""

    name: str
    role: Role
    created_at: dt.datetime
    revoked_at: dt.datetime | None


def sha256_of(secret: str) -> str:
    """Return the hash by which a secret is known. It is random and long: no salt, no stretching is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(connection: sa.Connection, name: str, role: Role) -> str:
    """Store a new token and return its secret, which cannot be shown again.

    Raises:
        ConflictError: there is a token of that name, perhaps a revoked one.
        UnknownNameError: no such role, or the name cannot be one.
    """
    if role not in ROLES:
        raise UnknownNameError("role", role, ROLES)
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConflictError(f"{name!r} cannot be a token's name; use lower-case letters, digits and . _ + -")
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    stored = connection.execute(
        insert(schema.api_token)
        .values(name=name, sha256=sha256_of(secret), role=role)
        .on_conflict_do_nothing(index_elements=["name"])
    )
    if stored.rowcount == 0:
        raise ConflictError(f"there is a token {name!r} already (names are not used twice); choose another name")
    return secret


_COLUMNS = (
    schema.api_token.c.name,
    schema.api_token.c.role,
    schema.api_token.c.created_at,
    schema.api_token.c.revoked_at,
)


def listed(connection: sa.Connection) -> tuple[TokenRow, ...]:
    """Return all tokens, revoked ones included, oldest first."""
    rows = connection.execute(sa.select(*_COLUMNS).order_by(schema.api_token.c.id))
    return tuple(TokenRow(**row._mapping) for row in rows)


def revoke(connection: sa.Connection, name: str) -> None:
    """End a token at once; ending it twice changes nothing.

    Raises:
        UnknownNameError: no such token.
    """
    done = connection.execute(
        sa.update(schema.api_token)
        .where(schema.api_token.c.name == name)
        .values(revoked_at=sa.func.coalesce(schema.api_token.c.revoked_at, sa.func.now()))
    )
    if done.rowcount == 0:
        raise UnknownNameError("token", name, [row.name for row in listed(connection)])


def find(connection: sa.Connection, sha256: str) -> TokenRow | None:
    """Return the token that is in force under a hash, or None."""
    row = connection.execute(
        sa.select(*_COLUMNS, schema.api_token.c.sha256).where(
            schema.api_token.c.sha256 == sha256, schema.api_token.c.revoked_at.is_(None)
        )
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.sha256, sha256):
        return None
    return TokenRow(row.name, row.role, row.created_at, row.revoked_at)


def any_in_force(connection: sa.Connection) -> bool:
    """Return whether any token is in force."""
    query = sa.select(sa.exists().where(schema.api_token.c.revoked_at.is_(None)))
    return bool(connection.execute(query).scalar_one())
