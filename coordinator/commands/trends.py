"""``trend`` and ``baseline``: whether nights stepped, and what people have to say about it."""

from __future__ import annotations

import datetime as dt
import getpass
from typing import Annotated, Any

import typer
from rich.markup import escape

from coordinator.commands.connection import open_client
from coordinator.commands.runs import AsJson
from coordinator.commands.terminal import out, say, show_json, table
from meshgauge.errors import InvalidRequestError

trend = typer.Typer(help="Nights of schedules: steps, and what is known of them.", no_args_is_help=True)
baseline = typer.Typer(help="The run that the nights of a schedule are held against.", no_args_is_help=True)

Schedule = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Name of the schedule.")]
StepId = Annotated[int, typer.Argument(metavar="STEP", help="Number of the step: meshgauge trend show SCHEDULE")]
Reason = Annotated[str, typer.Option("--reason", help="Why; shown on the page for everybody.")]
Name = Annotated[str | None, typer.Option("--by", help="Who says so; your login name by default.")]


def _who(given: str | None) -> str:
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # an account without a name, as in some containers
        raise InvalidRequestError("say who you are: --by NAME") from error


@trend.command("list")
def list_trends(as_json: AsJson = False) -> None:
    """List schedules with the answer of their nights."""
    with open_client() as client:
        found = client.get("/api/v1/trends")
    if as_json:
        show_json(found)
        return
    rows = [(item["schedule"], str(item["nights"]), str(item["open_steps"]), item["answer"]) for item in found]
    out().print(table(("Schedule", "Nights", "Open steps", "Answer"), rows, right=("Nights", "Open steps")))


@trend.command("show")
def show(schedule: Schedule, as_json: AsJson = False) -> None:
    """Show the last night of every series, and every step."""
    with open_client() as client:
        found = client.get(f"/api/v1/trends/{schedule}")
        page = f"{client.url}/trends/{schedule}"
    if as_json:
        show_json(found)
        return
    out().print(escape(found["answer"]), soft_wrap=True)
    if found["series"]:
        columns = ("Series", "Measured", "Nights", "Last night", "Difference", "Smallest visible step", "Version")
        out().print(table(columns, map(_series_row, found["series"]), right=("Nights", "Difference")))
    if found["steps"]:
        rows = [(str(s["id"]), s["state"], s["sentence"], s["finding"] or s["reason"] or "") for s in found["steps"]]
        out().print(table(("Step", "State", "What", "Finding"), rows, right=("Step",)))
    if found["baseline"]:
        pinned = found["baseline"]
        say(f"held against run {pinned['run']} ({pinned['reason']}, {pinned['pinned_by']})")
    say(f"figures: {page}")


def _series_row(series: dict[str, Any]) -> tuple[str, ...]:
    known = [night for night in series["nights"] if night["difference"] is not None]
    visible = series["smallest_visible"]
    shown = "not known yet" if visible is None else f"{visible:.1f} {series['unit']}"
    if not known:
        return series["title"], series["metric"], "0", "none", "", shown, ""
    last = known[-1]
    size = f"{last['difference']:+.1f} {series['unit']}"
    return series["title"], series["metric"], str(len(known)), last["at"][:10], size, shown, last["version"]


@trend.command("steps")
def list_steps(
    state: Annotated[
        str | None, typer.Option("--state", help="suspected, confirmed, not_reproduced or acknowledged.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the steps of all schedules, newest first."""
    with open_client() as client:
        found = client.get("/api/v1/steps", **({"state": state} if state else {}))
    if as_json:
        show_json(found)
        return
    rows = [(str(s["id"]), s["schedule"], s["state"], s["sentence"]) for s in found]
    out().print(table(("Step", "Schedule", "State", "What"), rows, right=("Step",)))


@trend.command("acknowledge")
def acknowledge(step: StepId, reason: Reason, by: Name = None) -> None:
    """Take note of a step: it is no news any more."""
    with open_client() as client:
        done = client.post_json(f"/api/v1/steps/{step}/acknowledge", {"reason": reason, "by": _who(by)})
    say(f"step {step} is acknowledged by {done['acknowledged_by']}: {done['reason']}")


@trend.command("confirm")
def confirm(step: StepId) -> None:
    """Measure a step again on 10 fresh blocks."""
    with open_client() as client:
        done = client.post(f"/api/v1/steps/{step}/confirm")
    say(f"step {step} is measured again; follow it with: meshgauge watch {done['confirming_run']}")


@trend.command("annotate")
def annotate(
    schedule: Schedule,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What happened, as others should read it.")],
    at: Annotated[
        dt.datetime | None,
        typer.Option("--at", help="When (UTC); now by default.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"]),
    ] = None,
    by: Name = None,
) -> None:
    """Note what happened on a night; it is drawn into every figure of the schedule."""
    body = {"text": text, "by": _who(by), "at": None if at is None else at.replace(tzinfo=dt.UTC).isoformat()}
    with open_client() as client:
        made = client.post_json(f"/api/v1/trends/{schedule}/annotations", body)
    say(f"noted as {made['id']} on {made['at']}; take it back with: meshgauge trend forget {schedule} {made['id']}")


@trend.command("forget")
def forget(
    schedule: Schedule, annotation: Annotated[int, typer.Argument(metavar="REMARK", help="Number of the remark.")]
) -> None:
    """Take a remark back."""
    with open_client() as client:
        client.delete(f"/api/v1/trends/{schedule}/annotations/{annotation}")
    say(f"remark {annotation} is gone")


@baseline.command("pin")
def pin(
    schedule: Schedule,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, or its first characters.")],
    reason: Reason,
    by: Name = None,
) -> None:
    """Hold the nights of a schedule against this run, each divided by its own control."""
    with open_client() as client:
        body = {"run": run, "reason": reason, "by": _who(by)}
        done = client.post_json(f"/api/v1/trends/{schedule}/baseline", body)
    say(f"{schedule} is held against run {done['baseline']['run']}")


@baseline.command("unpin")
def unpin(schedule: Schedule) -> None:
    """Hold the nights of a schedule against no run."""
    with open_client() as client:
        client.delete(f"/api/v1/trends/{schedule}/baseline")
    say(f"{schedule} is held against no run")
