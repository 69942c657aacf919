"""``run``, ``submit``, ``watch``, ``cancel``, ``list``, ``show`` and ``report``: everything about runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from coordinator.client import Client
from coordinator.commands import failures, instance
from coordinator.commands.connection import client_if_any, open_client
from coordinator.commands.failures import read_settings
from coordinator.commands.results import result_view, save_report
from coordinator.commands.terminal import err, out, say, show_json, table
from coordinator.commands.watching import FINISHED, watch
from coordinator.embedded.state import running_state
from coordinator.planner import notes_on, read_plan
from coordinator.web.spoken import duration
from meshgauge.errors import ConfigurationError, InvalidPlanError, Problem, UnknownNameError
from meshgauge.settings import Settings

_CANCEL_PATIENCE_S = 90.0  # a lease (60 s) may have to run out when the worker is dead
_POLL_S = 0.5

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan: YAML or JSON.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, its first 6 characters, or: latest")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Report = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Where to save the HTML report.")]


def read_plan_file(path: Path) -> str:
    """Return the text of a plan file.

    Raises:
        InvalidPlanError: it cannot be read, or is no plan; known before anything is started.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidPlanError([Problem(str(path), f"cannot be read ({error.strerror}); name a plan file")]) from error
    except UnicodeDecodeError as error:
        raise InvalidPlanError([Problem(str(path), "is not UTF-8 text")]) from error
    read_plan(text)
    return text


def tell_notes(text: str) -> None:
    """Say how a document that is no plan itself was read as one."""
    for note in notes_on(text):
        say(f"note: {note}")


def run(plan: PlanFile, report: Report = None) -> None:
    """Run a plan from start to report: live progress, the result table, one HTML page.

    Starts Meshgauge where none runs, and then stops it at the end. Ctrl-C cancels the run and keeps
    what was measured.
    """
    text = read_plan_file(plan)
    tell_notes(text)
    settings = read_settings()
    with ended_like_ctrl_c(), some_coordinator(settings) as client:
        made = client.submit(text)
        say(f"{made['name']}: run {made['id']}, about {duration(made['estimate_s'])}; {client.url}/runs/{made['id']}")
        last = watch_or_cancel(client, made["id"])
        _conclude(client, last["run"], report)
        code = _exit_code(last["run"])
    if code:
        raise typer.Exit(code)


@contextmanager
def some_coordinator(settings: Settings) -> Iterator[Client]:
    """Give a client of the coordinator there is; where there is none, of one that lives as long as this."""
    state = None if settings.coordinator_url else running_state(settings.data_dir)
    if state is not None and state.phase == "starting":
        instance.start(settings)  # somebody else's: wait for it, and leave it running
    client = client_if_any(settings)
    if client is not None:
        with client:
            yield client
        return
    try:
        instance.start(settings)
        client = client_if_any(settings)
        if client is None:
            raise ConfigurationError("Meshgauge came up and ended at once; see: meshgauge status")
        with client:
            yield client
    finally:
        instance.stop(settings)
        say(f"Meshgauge is down again; the results stay in {settings.data_dir} (meshgauge up shows them)")


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Treat a request to end (timeout, a closed terminal) as Ctrl-C: cancel, tear down, leave nothing running."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch_or_cancel(client: Client, run_id: str) -> Mapping[str, Any]:
    """Follow the run to its end; Ctrl-C cancels it and waits until everything is torn down."""
    try:
        return watch(client, run_id, err())
    except KeyboardInterrupt:
        say("cancelling: environments are torn down, what was measured is kept (Ctrl-C again leaves at once)")
        client.post(f"/api/v1/runs/{run_id}/cancel")
        return _until_finished(client, run_id)


def _until_finished(client: Client, run_id: str) -> Mapping[str, Any]:
    deadline_s = time.monotonic() + _CANCEL_PATIENCE_S
    while True:
        progress: Mapping[str, Any] = client.get(f"/api/v1/runs/{run_id}/progress")
        if progress["run"]["state"] in FINISHED:
            return progress
        if time.monotonic() > deadline_s:
            say(f"it is not torn down after {_CANCEL_PATIENCE_S:.0f} s; it goes on by itself: meshgauge show {run_id}")
            return progress
        time.sleep(_POLL_S)


def _conclude(client: Client, run: Mapping[str, Any], report: Path | None) -> None:
    """Print what came out and save the report; a run without any measurement has neither."""
    say(f"{run['state']}: {run['reason'] or 'not over yet'}")
    if not run["trials"].get("measured"):
        say(f"no trial was measured; what happened: {client.url}/runs/{run['id']}")
        return
    out().print(result_view(client.get(f"/api/v1/runs/{run['id']}/summary")))
    path = report or Path(f"meshgauge-report-{run['name']}-{run['id'][:8]}.html")
    saved = save_report(client.text(f"/api/v1/runs/{run['id']}/report"), path)
    out().print(f"\nReport: {escape(str(saved))}", soft_wrap=True)


def _exit_code(run: Mapping[str, Any]) -> int:
    return {"done": failures.DONE, "failed": failures.RUN_FAILED}.get(run["state"], failures.CANCELLED)


def submit(
    plan: PlanFile,
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: the same key and plan give the same run.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a plan and return at once; prints the run's id."""
    text = read_plan_file(plan)
    tell_notes(text)
    with open_client() as client:
        made = client.submit(text, key)
        if as_json:
            show_json(made)
            return
        out().print(made["id"])
        say(f"about {duration(made['estimate_s'])}; follow it with: meshgauge watch {made['id'][:8]}")


def watch_run(run: RunName) -> None:
    """Follow a run to its end. Ctrl-C only stops watching."""
    with open_client() as client:
        last = watch(client, find_run(client, run)["id"], err())
        say(f"{last['run']['state']}: {last['run']['reason']}")
        code = _exit_code(last["run"])
    if code:
        raise typer.Exit(code)


def cancel(run: RunName) -> None:
    """Stop a run at once; what was measured is kept."""
    with open_client() as client:
        found = find_run(client, run)
        if found["state"] in FINISHED:
            say(f"run {found['id'][:8]} was over already: {found['state']}, {found['reason']}")
            return
        client.post(f"/api/v1/runs/{found['id']}/cancel")
        last = _until_finished(client, found["id"])["run"]
        say(f"{last['state']}: {last['reason'] or 'environments are being torn down'}")


def list_runs(
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many.")] = 20, as_json: AsJson = False
) -> None:
    """List runs, newest first."""
    with open_client() as client:
        runs = client.get("/api/v1/runs", limit=limit)["runs"]
    if as_json:
        show_json(runs)
        return
    rows = [
        (run["id"][:8], run["name"], run["state"], _counts(run["trials"]), run["created_at"][:19], run["submitted_by"])
        for run in runs
    ]
    out().print(table(("Run", "Plan", "State", "Trials", "Submitted (UTC)", "By"), rows))


def _counts(trials: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(trials.items()))


def show(run: RunName, as_json: AsJson = False) -> None:
    """Show one run: its state and, as far as there are any, its results."""
    with open_client() as client:
        found = find_run(client, run)
        summary = client.get(f"/api/v1/runs/{found['id']}/summary") if found["trials"].get("measured") else None
    if as_json:
        show_json({"run": found, "summary": summary})
        return
    out().print(f"{escape(found['name'])}, run {found['id']}: {found['state']}", soft_wrap=True)
    out().print(escape(found["reason"] or _counts(found["trials"])), soft_wrap=True)
    if summary is not None:
        out().print(result_view(summary))


def report(
    run: RunName,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to save it.")] = None,
) -> None:
    """Save the HTML report of a run."""
    with open_client() as client:
        found = find_run(client, run)
        page = client.text(f"/api/v1/runs/{found['id']}/report")
    path = output or Path(f"meshgauge-report-{found['name']}-{found['id'][:8]}.html")
    out().print(escape(str(save_report(page, path))), soft_wrap=True)


def find_run(client: Client, name: str) -> Mapping[str, Any]:
    """Return the run a user means.

    Raises:
        UnknownNameError: there is none.
    """
    if name == "latest":
        newest = client.get("/api/v1/runs", limit=1)["runs"]
        if not newest:
            raise UnknownNameError("run", name, [])
        name = newest[0]["id"]
    return dict(client.get(f"/api/v1/runs/{name}"))
