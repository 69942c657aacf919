"""``notify``: who is told when something happens."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

from coordinator.commands.connection import open_client
from coordinator.commands.failures import UNAVAILABLE
from coordinator.commands.runs import AsJson
from coordinator.commands.terminal import out, say, show_json, table
from meshgauge.errors import InvalidRequestError
from meshgauge.store.notices import EVENTS

notify = typer.Typer(help="Who is told when something happens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the channel.")]

_STDIN = "-"
_SUBSCRIBABLE = tuple(event for event in EVENTS if event != "test")


@notify.command("add")
def add(
    name: Name,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Post signed JSON there; - reads the address from standard input.")
    ] = None,
    slack: Annotated[
        str | None, typer.Option(metavar="URL", help="Slack's incoming webhook, which is a secret: better give -.")
    ] = None,
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Mail to this address.")] = None,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="EVENTS",
            show_default=False,
            help=f"Comma separated, of: {', '.join(_SUBSCRIBABLE)}; all by default.",
        ),
    ] = ",".join(_SUBSCRIBABLE),
) -> None:
    """Let notices go to a webhook, to Slack or to a mailbox; by default all of them."""
    given = {kind: target for kind, target in (("webhook", webhook), ("slack", slack), ("email", email)) if target}
    if len(given) != 1:
        raise InvalidRequestError("give one of --webhook URL, --slack URL and --email ADDRESS")
    kind, target = next(iter(given.items()))
    if target == _STDIN:  # what stands on a command line is seen by everybody on this host
        if sys.stdin.isatty():
            say("the address, then Enter:")
        target = sys.stdin.readline().strip()
    events = [event.strip() for event in on.split(",") if event.strip()]
    with open_client() as client:
        body = {"name": name, "kind": kind, "target": target, "events": events}
        made = client.post_json("/api/v1/channels", body)
    if made["secret"] is not None:
        out().print(escape(made["secret"]), soft_wrap=True)
        say("keep it: it signs the notices, and it is not shown again")
    say(f"{name}: {', '.join(made['channel']['events'])}; see that it works with: meshgauge notify test {name}")


@notify.command("list")
def list_channels(as_json: AsJson = False) -> None:
    """List channels, without their secrets."""
    with open_client() as client:
        found = client.get("/api/v1/channels")
    if as_json:
        show_json(found)
        return
    rows = [(item["name"], item["kind"], item["target"], ", ".join(item["events"])) for item in found]
    out().print(table(("Channel", "Kind", "To", "Events"), rows))


@notify.command("remove")
def remove(name: Name) -> None:
    """Remove a channel with its notices, sent or not."""
    with open_client() as client:
        client.delete(f"/api/v1/channels/{name}")
    say(f"{name} is removed")


@notify.command("test")
def test(name: Name) -> None:
    """Send a test notice now, once, and say what came back."""
    with open_client() as client:
        came = client.post(f"/api/v1/channels/{name}/test")
    if came["sent"]:
        say(f"{name} took it: {came['said']}")
        return
    say(f"{name} did not take it: {came['said']}")
    raise typer.Exit(UNAVAILABLE)


@notify.command("log")
def log(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of this channel only.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Number of notices.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what was sent, what waits and what failed, newest first."""
    with open_client() as client:
        parameters: dict[str, str | int] = {"limit": limit} if name is None else {"limit": limit, "channel": name}
        found = client.get("/api/v1/notices", **parameters)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            item["created_at"][:19],
            item["channel"],
            item["event"],
            _state(item),
            str(item["attempts"]),
            item["reason"] or "",
        )
        for item in found
    ]
    columns = ("Happened (UTC)", "Channel", "Event", "State", "Attempts", "Answer or reason")
    out().print(table(columns, rows, right=("Attempts",)))


def _state(item: dict[str, str]) -> str:
    return f"next at {item['not_before'][11:19]}" if item["state"] == "pending" else item["state"]
