"""``schedule``: plans that fire by themselves."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from coordinator.commands.connection import open_client
from coordinator.commands.runs import AsJson, PlanFile, read_plan_file, tell_notes
from coordinator.commands.terminal import out, say, show_json, table

schedule = typer.Typer(help="Plans that fire by themselves.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]


@schedule.command("add")
def add(
    plan_file: PlanFile,
    name: Annotated[str | None, typer.Option("--name", help="The plan's name by default.")] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="Five cron fields, instead of the plan's.")] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", help="IANA name, instead of the plan's.")] = None,
) -> None:
    """Let a plan fire by itself; its versions are resolved anew each time."""
    text = read_plan_file(plan_file)
    tell_notes(text)
    given = {"name": name, "cron": cron, "time_zone": time_zone}
    with open_client() as client:
        parameters = {key: value for key, value in given.items() if value is not None}
        made = client.post_plan("/api/v1/schedules", text, **parameters)
    out().print(f"{escape(made['name'])}: next at {made['next_fire_at']}", soft_wrap=True)
    for warning in made["warnings"]:
        say(f"note: {warning}")
    say("it fires while Meshgauge is up; a time missed by less than 2 h is made up for")


@schedule.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """List schedules with their next time and what became of the last one."""
    with open_client() as client:
        found = client.get("/api/v1/schedules")
    if as_json:
        show_json(found)
        return
    rows = []
    for item in found:
        last = item["fires"][0] if item["fires"] else None
        story = "" if last is None else f"{last['fire_at']} {last['decision']} {last['run'] or last['reason'] or ''}"
        following = "paused" if item["paused"] else item["problem"] or item["next_fire_at"]
        rows.append((item["name"], item["cron"], item["time_zone"], following, story))
    out().print(table(("Schedule", "Cron", "Time zone", "Next (UTC)", "Last (UTC)"), rows))


@schedule.command("pause")
def pause(name: Name) -> None:
    """Let no further run start."""
    with open_client() as client:
        client.post(f"/api/v1/schedules/{name}/pause")
    say(f"{name} is paused; go on with: meshgauge schedule resume {name}")


@schedule.command("resume")
def resume(name: Name) -> None:
    """Let it fire again, from now on."""
    with open_client() as client:
        made = client.post(f"/api/v1/schedules/{name}/resume")
    say(f"{name}: next at {made['next_fire_at']}")


@schedule.command("remove")
def remove(name: Name) -> None:
    """Remove a schedule; its runs stay."""
    with open_client() as client:
        client.delete(f"/api/v1/schedules/{name}")
    say(f"{name} is removed; its runs stay")
