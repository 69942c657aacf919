"""Following an operation in the terminal: its log as it comes, a line of progress below, Ctrl-C cancels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from coordinator.client import Client
from coordinator.commands import failures
from coordinator.commands.terminal import err, out, say, show_json
from coordinator.commands.watching import FINISHED
from coordinator.web.spoken import duration
from meshgauge.errors import ServiceUnavailableError

_POLL_S = 0.5
_PATIENCE_S = 120.0  # a coordinator away for longer will not come back by itself
_SWEEP_PATIENCE_S = 600.0  # namespaces of a mesh may take minutes to go
_CANCEL_PATIENCE_S = 90.0  # a lease (60 s) may have to run out when the worker is dead

Context = Annotated[
    str | None, typer.Option("--context", metavar="C", help="Of the worker's kubeconfig; the current one by default.")
]

_LINE_STYLES: Final = {"phase": "bold", "finished": "bold", "cancel_requested": "yellow", "interrupted": "yellow"}

Show = Callable[[str], None]  # what it does now


def cluster_of(context: str | None, charts: str | None = None, images: str | None = None) -> dict[str, Any]:
    """Return the ``cluster`` of a request; a folder that is here is named in full, for the worker."""
    if charts is not None and Path(charts).is_dir():
        charts = str(Path(charts).resolve())
    given = {"context": context, "charts": charts, "images": images or None}
    return {name: value for name, value in given.items() if value is not None}


def carry_out(client: Client, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ask for an operation and follow it to its end; return it. Ctrl-C cancels it and waits for that.

    One that did not succeed is over only when its site was swept: who started the workers ends them then.
    """
    made = client.operate(request)
    say(f"{made['subject']} on site {made['site']}: operation {made['id']}")
    log = _Log(client, made["id"])
    try:
        last = log.follow()
    except KeyboardInterrupt:
        say("cancelling (Ctrl-C again leaves at once)")
        client.post(f"/api/v1/operations/{made['id']}/cancel")
        last = log.follow(_CANCEL_PATIENCE_S)
    if last["state"] != "done" and last["started_at"] is not None:
        _until_swept(client, last)
    return last


def _until_swept(client: Client, operation: Mapping[str, Any]) -> None:
    """Wait until nothing of the operation is left on its site, or somebody has to look at it."""
    deadline_s = time.monotonic() + _SWEEP_PATIENCE_S
    with _progress() as show:
        show(f"removing what is left on {operation['site']}")
        while time.monotonic() < deadline_s:
            site = next(one for one in client.get("/api/v1/sites") if one["name"] == operation["site"])
            if site["state"] == "quarantined":
                say(f"site {site['name']} is quarantined: {site['reason']}")
            if site["state"] not in ("dirty", "cleaning"):
                return
            time.sleep(_POLL_S)
    say(f"what is left on {operation['site']} is not removed yet; it goes on by itself: meshgauge site list")


class _Log:
    """One operation's log, shown as it comes; remembers how far it was shown."""

    def __init__(self, client: Client, operation_id: str) -> None:
        self._client, self._path, self._after = client, f"/api/v1/operations/{operation_id}", 0
        self._waits_for: str | None = None

    def follow(self, patience_s: float | None = None) -> Mapping[str, Any]:
        """Show what comes until the operation is over; return it as it was last seen.

        Args:
            patience_s: give up following after so long; None: never.

        Raises:
            ServiceUnavailableError: the coordinator has been away for too long.
        """
        began_s = time.monotonic()
        with _progress() as show:
            while True:
                seen = _patiently(self._client, self._path, self._after, show)
                self._show(seen["lines"])
                operation: Mapping[str, Any] = seen["operation"]
                if operation["state"] in FINISHED and not seen["more"]:
                    return operation
                if patience_s is not None and time.monotonic() - began_s > patience_s:
                    say(f"it is not over after {patience_s:.0f} s; it goes on by itself: meshgauge mesh status")
                    return operation
                self._say_what_it_waits_for(operation["waits_for"])
                show(_now(operation, time.monotonic() - began_s))
                if not seen["more"]:
                    time.sleep(_POLL_S)

    def _say_what_it_waits_for(self, waits_for: str | None) -> None:
        if waits_for is not None and waits_for != self._waits_for:
            say(f"waits for {waits_for}")
        self._waits_for = waits_for

    def _show(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            self._after = line["id"]
            err().print(Text(_said(line), style=_LINE_STYLES.get(line["kind"], "")), soft_wrap=True)


def _patiently(client: Client, path: str, after: int, show: Show) -> Mapping[str, Any]:
    """Return an operation; wait for a coordinator that is away."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            seen: Mapping[str, Any] = client.get(path, after=after)
        except ServiceUnavailableError:
            if time.monotonic() > deadline_s:
                raise
            show("the coordinator does not answer; trying again")
            time.sleep(_POLL_S)
        else:
            return seen


@contextmanager
def _progress() -> Iterator[Show]:
    """Give a function that shows what happens now: a spinner in a terminal, nothing elsewhere."""
    console = err()
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update


def _said(line: Mapping[str, Any]) -> str:
    at = str(line["at"])[11:19]
    return f"{at} {'== ' if line['kind'] == 'phase' else ''}{line['text']}"


def _now(operation: Mapping[str, Any], elapsed_s: float) -> str:
    if operation["state"] == "queued":
        return f"waits for {operation['waits_for'] or 'its turn'}, {duration(elapsed_s)}"
    return f"{operation['phase'] or 'begins'}, {duration(elapsed_s)}"


def exit_code(operation: Mapping[str, Any]) -> int:
    """Return the exit code that says how an operation ended."""
    return {"done": failures.DONE, "failed": failures.RUN_FAILED}.get(operation["state"], failures.CANCELLED)


def conclude(operations: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print what came out.

    Raises:
        typer.Exit: one of them was not done.
    """
    if as_json:
        show_json(list(operations) if len(operations) != 1 else operations[0])
    for operation in operations:
        if not as_json:
            out().print(Text(told(operation)), soft_wrap=True)
    code = max(map(exit_code, operations))
    if code:
        raise typer.Exit(code)


def told(operation: Mapping[str, Any]) -> str:
    """Return one sentence on how an operation ended."""
    version, skipped = operation["result"].get("version"), operation["result"].get("skipped")
    what = operation["subject"] if version is None else f"{operation['action']} {operation['adapter']} {version}"
    ended = f"skipped, {skipped}" if skipped else operation["state"]
    return f"{what} on {operation['site']}: {ended}" + (f", {operation['reason']}" if operation["reason"] else "")
