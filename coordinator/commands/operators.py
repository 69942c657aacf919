"""``site`` and ``token``: what the operator of an installation does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import quote

import sqlalchemy as sa
import typer

from coordinator.commands.connection import database_url, open_client
from coordinator.commands.failures import read_settings
from coordinator.commands.runs import AsJson
from coordinator.commands.terminal import out, say, show_json, table
from coordinator.web.spoken import moment
from meshgauge.errors import UnknownNameError
from meshgauge.store import tokens
from meshgauge.store.database import connect, transaction

site = typer.Typer(help="Places where environments run.", no_args_is_help=True)
token = typer.Typer(help="Who may use this coordinator.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@site.command("release")
def release(name: Name) -> None:
    """Let a quarantined site be cleaned and used again."""
    with open_client() as client:
        made = client.post(f"/api/v1/sites/{quote(name, safe='')}/release")
    say(f"site {name} is {made['state']}: it is cleaned before anything else runs there")


@site.command("list")
def list_sites(as_json: AsJson = False) -> None:
    """List sites and who holds them."""
    with open_client() as client:
        found = client.get("/api/v1/sites")
    if as_json:
        show_json(found)
        return
    rows = [(item["name"], item["state"], item["holder"] or "", item["reason"] or "") for item in found]
    out().print(table(("Site", "State", "Held by", "Remark"), rows))


@contextmanager
def _database() -> Iterator[sa.Connection]:
    """Give a connection to this installation's database: the first token cannot be asked for with a token."""
    engine = connect(database_url(read_settings()), pool_size=1)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


@token.command("create")
def create(
    name: Name,
    role: Annotated[
        str, typer.Option("--role", help="read: look; run: also submit and cancel; admin: also run programs.")
    ] = "run",
) -> None:
    """Make a token and print it, this once. From then on every caller needs one, on loopback too."""
    if role not in tokens.ROLES:
        raise UnknownNameError("role", role, tokens.ROLES)
    with _database() as connection:
        secret = tokens.create(connection, name, role)
    out().print(secret, soft_wrap=True)
    say("keep it: it is not shown again. Clients send it as: Authorization: Bearer TOKEN, or MESHGAUGE_API_TOKEN")


@token.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List tokens, without their secrets."""
    with _database() as connection:
        found = tokens.listed(connection)
    if as_json:
        show_json(
            [
                {
                    "name": row.name,
                    "role": row.role,
                    "created_at": row.created_at.isoformat(),
                    "revoked_at": None if row.revoked_at is None else row.revoked_at.isoformat(),
                }
                for row in found
            ]
        )
        return
    rows = [(row.name, row.role, moment(row.created_at), moment(row.revoked_at)) for row in found]
    out().print(table(("Token", "Role", "Made", "Revoked"), rows))


@token.command("revoke")
def revoke(name: Name) -> None:
    """End a token at once."""
    with _database() as connection:
        tokens.revoke(connection, name)
    say(f"token {name} is revoked")
