"""``gate``: hold a run against the thresholds of its plan, for people and for CI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coordinator.client import Client
from coordinator.commands import failures
from coordinator.commands.connection import open_client
from coordinator.commands.failures import read_settings
from coordinator.commands.runs import (
    ended_like_ctrl_c,
    find_run,
    read_plan_file,
    some_coordinator,
    watch_or_cancel,
)
from coordinator.commands.terminal import err, out, say
from coordinator.commands.watching import FINISHED, watch
from coordinator.plan_check import VERDICT_BLOCKS
from coordinator.planner import read_plan
from coordinator.web.spoken import duration
from meshgauge.errors import ConfigurationError, InvalidPlanError, Problem

_PLAN_SUFFIXES = (".yaml", ".yml", ".json")
_STYLES = {"passed": "green", "failed": "red", "undecided": "yellow"}
_ORDER = {"failed": 0, "undecided": 1, "passed": 2}


class Undecided(StrEnum):
    """What an undecided threshold counts as."""

    fail = "fail"
    passing = "pass"
    own = "own"


@dataclass(frozen=True, slots=True)
class _Files:
    """Where answers are written; None: nowhere."""

    junit: Path | None
    markdown: Path | None
    json: Path | None
    report: Path | None


EXIT_CODES = (
    "Exit codes: 0 every threshold is kept; 1 one is broken; 6 none is broken, but something could not be decided "
    "(--undecided pass makes it 0, fail makes it 1); the others as for all commands, see: meshgauge --help"
)


def gate(
    what: Annotated[str, typer.Argument(metavar="RUN|PLAN", help="A run (id, first 6 characters, latest), or a plan.")],
    confirm: Annotated[
        bool | None,
        typer.Option(
            "--confirm/--no-confirm",
            help="Repeat what the run found on fresh blocks before it counts. Default: for a plan yes, for a run no.",
        ),
    ] = None,
    undecided: Annotated[
        Undecided, typer.Option("--undecided", help="What undecided counts as; own: exit code 6.")
    ] = Undecided.own,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write a Markdown summary.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write JSON.")] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Save the HTML report.")] = None,
) -> None:
    """Hold a run against the thresholds of its plan; the exit code is the answer.

    Given a plan it submits it, follows it, repeats on fresh blocks what it found, and then answers. Starts Meshgauge
    for that where none runs, and stops it at the end.
    """
    files = _Files(junit, markdown, json_file, report)
    if _is_plan(what):
        text = _plan_with_thresholds(Path(what))
        with ended_like_ctrl_c(), some_coordinator(read_settings()) as client:
            run_id = _measured(client, text)
            answer = _answer(client, run_id, files, undecided, confirms=confirm is not False)
    else:
        with ended_like_ctrl_c(), open_client() as client:
            run = find_run(client, what)
            if run["confirms"]:
                say(f"run {run['id'][:8]} repeats findings of run {run['confirms'][:8]}; this is the gate of that one")
                run = find_run(client, run["confirms"])
            if run["state"] not in FINISHED:
                say(f"run {run['id'][:8]} is not over; following it (Ctrl-C only stops following)")
                _refuse_cancelled(watch(client, run["id"], err())["run"])
            answer = _answer(client, run["id"], files, undecided, confirms=confirm is True)
    code = _exit_code(answer["status"], undecided)
    if code:
        raise typer.Exit(code)


def _is_plan(what: str) -> bool:
    return what.lower().endswith(_PLAN_SUFFIXES) or Path(what).is_file()


def _plan_with_thresholds(path: Path) -> str:
    """Return the text of a plan that can be held against something.

    Raises:
        InvalidPlanError: it is no plan, or has no thresholds: known before hours of measuring.
    """
    text = read_plan_file(path)
    plan = read_plan(text)
    if plan.blocks < VERDICT_BLOCKS:
        say(f"{plan.blocks} blocks decide nothing: {VERDICT_BLOCKS} are the fewest; every threshold will be undecided")
    if not plan.thresholds:
        from reports.thresholds.selection import HOW_TO_WRITE  # noqa: PLC0415 - loads the statistics

        raise InvalidPlanError([Problem("thresholds", HOW_TO_WRITE)])
    return text


def _measured(client: Client, text: str) -> str:
    """Submit a plan and follow its run to the end; return its id.

    Raises:
        InvalidPlanError: a threshold selects nothing; the run is cancelled before it measures for nothing.
    """
    made = client.submit(text)
    try:
        _gate_of(client, made["id"])
    except InvalidPlanError:
        client.post(f"/api/v1/runs/{made['id']}/cancel")
        raise
    _follow(client, made)
    return str(made["id"])


def _gate_of(client: Client, run_id: str) -> Mapping[str, Any]:
    """Return how a run stands. Asked for as text, whose patience fits an analysis of thousands of trials."""
    answer: Mapping[str, Any] = json.loads(client.text(f"/api/v1/runs/{run_id}/gate"))
    return answer


def _follow(client: Client, made: Mapping[str, Any]) -> None:
    page = f"{client.url}/runs/{made['id']}"
    say(f"{made['name']}: run {made['id']}, about {duration(made['estimate_s'])}; {page}")
    run = watch_or_cancel(client, made["id"])["run"]
    say(f"{run['state']}: {run['reason'] or 'not over yet'}")
    _refuse_cancelled(run)


def _refuse_cancelled(run: Mapping[str, Any]) -> None:
    """End here when a run was cancelled: half a run answers nothing."""
    if run["state"] == "cancelled":
        raise typer.Exit(failures.CANCELLED)


def _answer(client: Client, run_id: str, files: _Files, undecided: Undecided, *, confirms: bool) -> Mapping[str, Any]:
    """Confirm where that is wanted and needed, print the answer, write the files; return the answer."""
    answer: Mapping[str, Any] = _gate_of(client, run_id)
    if confirms and answer["to_confirm"]:
        say(f"{answer['sentence']}\nrepeating {len(answer['to_confirm'])} cells on fresh blocks")
        _follow(client, client.post(f"/api/v1/runs/{run_id}/confirm"))
        answer = _gate_of(client, run_id)
    _write(client, run_id, answer, files, undecided)
    _show(answer)
    where = answer["links"]["report"] if files.report is None else files.report.resolve()
    out().print(f"Report: {escape(str(where))}", soft_wrap=True)
    if answer["to_confirm"] and not confirms:
        say(f"to confirm it on fresh blocks: meshgauge gate {run_id[:8]} --confirm")
    return answer


def _write(client: Client, run_id: str, answer: Mapping[str, Any], files: _Files, undecided: Undecided) -> None:
    base = f"/api/v1/runs/{run_id}"
    if files.junit is not None:
        counts_as = "pass" if undecided is Undecided.passing else "fail"
        _save(client.text(f"{base}/gate.xml?undecided={counts_as}"), files.junit, "--junit")
    if files.markdown is not None:
        _save(client.text(f"{base}/gate.md"), files.markdown, "--markdown")
    if files.json is not None:
        _save(json.dumps(answer, indent=2, ensure_ascii=False) + "\n", files.json, "--json")
    if files.report is not None:
        _save(client.text(f"{base}/report"), files.report, "--report")


def _save(text: str, path: Path, option: str) -> None:
    with _told(path, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@contextmanager
def _told(path: Path, option: str) -> Iterator[None]:
    """Raise a file's trouble as a sentence.

    Raises:
        ConfigurationError: it cannot be written there.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); name another place with {option}"
        ) from error


def _show(answer: Mapping[str, Any]) -> None:
    out().print(Text(answer["sentence"], style=f"bold {_STYLES[answer['status']]}"), soft_wrap=True)
    for remark in answer["remarks"]:
        out().print(Text(remark, style="yellow"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Answer", no_wrap=True)
    table.add_column("Threshold", overflow="fold")
    table.add_column("What was seen", overflow="fold")
    for check in sorted(answer["checks"], key=lambda check: _ORDER[check["status"]]):
        word = Text(check["word"], style=_STYLES[check["status"]])
        table.add_row(word, escape(check["threshold"]), escape(f"{check['subject']}: {check['sentence']}"))
    out().print(table)


def _exit_code(status: str, undecided: Undecided) -> int:
    if status == "undecided":
        return {
            Undecided.own: failures.UNDECIDED,
            Undecided.fail: failures.THRESHOLD_BROKEN,
            Undecided.passing: failures.DONE,
        }[undecided]
    return failures.DONE if status == "passed" else failures.THRESHOLD_BROKEN
