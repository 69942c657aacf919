"""``up``, ``down``, ``status`` and ``doctor``: the embedded instance and the host under it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from coordinator.commands import failures
from coordinator.commands.connection import client_if_any
from coordinator.commands.failures import read_settings
from coordinator.commands.terminal import err, out, say, show_json, table
from coordinator.embedded import bootstrap
from coordinator.embedded.state import State, running_state
from meshgauge.settings import Settings

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def up(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, until Ctrl-C ends it.")] = False,
) -> None:
    """Start Meshgauge on this host: database, broker, coordinator, workers."""
    settings = read_settings()
    if foreground:
        say(f"Meshgauge on {settings.data_dir}, until Ctrl-C; its address: meshgauge status")
        raise typer.Exit(bootstrap.foreground(settings))
    state = start(settings)
    out().print(f"Meshgauge is up: {escape(state.coordinator_url)}")
    say("end it with: meshgauge down")


def start(settings: Settings) -> State:
    """Start an instance, or attach to the one that runs, showing what it waits for."""
    console = err()
    if not console.is_terminal:
        return bootstrap.up(settings, say)
    with console.status("starting") as status:
        return bootstrap.up(settings, lambda sentence: status.update(escape(sentence)))


def stop(settings: Settings) -> bool:
    """End the instance; return whether there was one."""
    console = err()
    if not console.is_terminal:
        return bootstrap.down(settings, say).was_running
    with console.status("stopping") as status:
        return bootstrap.down(settings, lambda sentence: status.update(escape(sentence))).was_running


def down() -> None:
    """Stop what `up` started. Runs go on where they were at the next `up`."""
    settings = read_settings()
    out().print("Meshgauge is down" if stop(settings) else f"nothing runs on {escape(str(settings.data_dir))}")


def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show what runs here and how it is."""
    settings = read_settings()
    state = running_state(settings.data_dir)
    client = client_if_any(settings)
    if client is None:
        say(f"nothing runs on {settings.data_dir}; start it with: meshgauge up")
        raise typer.Exit(failures.UNAVAILABLE)
    with client:
        ready = client.get("/readyz")
        sites = client.get("/api/v1/sites")
    if as_json:
        services = [] if state is None else [
            {"name": service.name, "phase": service.phase, "restarts": service.restarts, "note": service.note}
            for service in state.services
        ]  # fmt: skip
        show_json({"coordinator_url": client.url, "ready": ready, "services": services, "sites": sites})
        return
    out().print(f"coordinator {escape(client.url)}: {ready['status']}, delivery {escape(ready['delivery'])}")
    if state is not None:
        rows = [(service.name, service.phase, str(service.restarts), service.note) for service in state.services]
        out().print(table(("Service", "State", "Restarts", "Remark"), rows, right=("Restarts",)))
    if sites:
        rows = [(site["name"], site["state"], site["holder"] or "", site["reason"] or "") for site in sites]
        out().print(table(("Site", "State", "Held by", "Remark"), rows))


def doctor(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say what of this host is fit to measure on, what is not, and what to do about it."""
    from coordinator.doctor import examine, worst  # noqa: PLC0415 - only this command needs it

    checks = examine(read_settings())
    if as_json:
        show_json([{"name": check.name, "status": check.status, "sentence": check.sentence} for check in checks])
    else:
        for check in checks:
            style = _STYLES[check.status]
            out().print(f"[{style}]{check.status:4}[/{style}]  {check.name}: {escape(check.sentence)}", soft_wrap=True)
    if worst(checks) == "fail":
        raise typer.Exit(failures.CONFIGURATION)
