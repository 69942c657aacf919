"""``mesh``: install, configure, verify, upgrade and remove a mesh outside of any run; ``clean`` a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from coordinator.commands.connection import open_client
from coordinator.commands.failures import read_settings
from coordinator.commands.operating import Context, carry_out, cluster_of, conclude
from coordinator.commands.runs import AsJson, ended_like_ctrl_c, some_coordinator
from coordinator.commands.terminal import out, say, show_json, table
from meshgauge.errors import ConflictError

mesh = typer.Typer(help="Meshes in clusters, outside of any run.", no_args_is_help=True)

Adapter = Annotated[str, typer.Argument(metavar="ADAPTER", help="A mesh of: meshgauge adapters")]
Version = Annotated[str, typer.Option("--version", metavar="V", help="exact, latest, previous or a range")]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="P", help="plain, mtls ...; else as installed, or the first the mesh can run."),
]
Place = Annotated[str | None, typer.Option("--placement", help="pair, client, server or node; else the mesh's own")]
Charts = Annotated[
    str | None, typer.Option("--charts", metavar="DIR", help="Mirror of charts: a folder on the worker, or an address.")
]
Images = Annotated[str | None, typer.Option("--images", help="Registry to take all images from.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once and print the operation's id.")]

_STANDING: Final = ("install", "upgrade", "configure")  # after these a mesh is there


def _do(
    action: str,
    adapter: str,
    cluster: Mapping[str, Any],
    *,
    detach: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Ask for an operation; follow it, unless it shall go on alone."""
    given = {name: value for name, value in fields.items() if value is not None}
    request = {"action": action, "adapter": adapter, "cluster": cluster, **given}
    if detach:
        with open_client() as client:  # one that goes on without us
            out().print(client.operate(request)["id"])
        return
    with ended_like_ctrl_c(), some_coordinator(read_settings()) as client:
        last = carry_out(client, request)
        conclude([last], as_json=as_json)


@mesh.command("install")
def install(
    adapter: Adapter,
    version: Version = "latest",
    profile: Profile = None,
    placement: Place = None,
    context: Context = None,
    charts: Charts = None,
    images: Images = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Install a mesh that stays until it is uninstalled. Runs on that cluster are refused meanwhile."""
    cluster = cluster_of(context, charts, images)
    _do("install", adapter, cluster, version=version, profile=profile, placement=placement, detach=detach,
        as_json=as_json)  # fmt: skip


@mesh.command("configure")
def configure(
    adapter: Adapter,
    profile: Profile = None,
    placement: Place = None,
    context: Context = None,
    charts: Charts = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Give an installed mesh another profile."""
    _do("configure", adapter, cluster_of(context, charts), profile=profile, placement=placement, detach=detach,
        as_json=as_json)  # fmt: skip


@mesh.command("verify")
def verify(
    adapter: Adapter,
    profile: Profile = None,
    placement: Place = None,
    context: Context = None,
    charts: Charts = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Check that an installed mesh stands as it was ordered; exit code 1 when it does not."""
    _do("verify", adapter, cluster_of(context, charts), profile=profile, placement=placement, detach=detach,
        as_json=as_json)  # fmt: skip


@mesh.command("upgrade")
def upgrade(
    adapter: Adapter,
    version: Version = "latest",
    profile: Profile = None,
    placement: Place = None,
    context: Context = None,
    charts: Charts = None,
    images: Images = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Take an installed mesh to another version in place."""
    cluster = cluster_of(context, charts, images)
    _do("upgrade", adapter, cluster, version=version, profile=profile, placement=placement, detach=detach,
        as_json=as_json)  # fmt: skip


@mesh.command("uninstall")
def uninstall(
    adapter: Adapter, context: Context = None, charts: Charts = None, detach: Detach = False, as_json: AsJson = False
) -> None:
    """Remove an installed mesh and everything it left, never what was there before."""
    _do("uninstall", adapter, cluster_of(context, charts), detach=detach, as_json=as_json)


@mesh.command("status")
def status(
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many operations.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show which meshes were installed to stay, and the last operations."""
    with open_client() as client:
        known = client.get("/api/v1/operations", limit=200)["operations"]
    there = list(standing(known))
    if as_json:
        show_json({"installed": there, "operations": known[:limit]})
        return
    for one in there:
        out().print(escape(f"{one['adapter']} {one['version']} is installed on {one['site']}"), soft_wrap=True)
    if not there:
        out().print("no mesh is installed to stay")
    rows = [
        (one["id"][:8], one["subject"], one["site"], one["state"], _remark(one), one["created_at"][:19])
        for one in known[:limit]
    ]
    out().print(table(("Operation", "What", "Site", "State", "Remark", "Asked for (UTC)"), rows))


@mesh.command("cancel")
def cancel(
    operation: Annotated[str, typer.Argument(metavar="OPERATION", help="Its id, or 6 characters of it")],
) -> None:
    """Stop an operation; a half-done installation is removed."""
    with open_client() as client:
        found = client.post(f"/api/v1/operations/{operation}/cancel")
    state = found["state"]
    say(f"operation {found['id'][:8]} is {'being cancelled' if state == 'running' else state}")


def _remark(operation: Mapping[str, Any]) -> str:
    if operation["waits_for"]:
        return f"waits for {operation['waits_for']}"
    return operation["reason"] or (operation["phase"] or "" if operation["state"] == "running" else "")


def standing(operations: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, str]]:
    """Yield what is installed, given operations from the newest to the oldest."""
    settled: set[tuple[str, str | None]] = set()
    for one in operations:
        if one["state"] != "done" or one["action"] not in (*_STANDING, "uninstall", "clean"):
            continue
        if one["action"] == "clean":
            if not one["request"]["dry_run"]:
                settled.add((one["site"], None))
            continue
        key = (one["site"], one["adapter"])
        if key in settled or (one["site"], None) in settled:
            continue
        settled.add(key)
        if one["action"] in _STANDING:
            yield {"site": one["site"], "adapter": one["adapter"], "version": one["result"].get("version", "")}


def clean(
    context: Context = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove everything Meshgauge ever made in a cluster, installed meshes included. Lists it and asks first."""
    cluster = cluster_of(context)
    with ended_like_ctrl_c(), some_coordinator(read_settings()) as client:
        looked = carry_out(client, {"action": "clean", "dry_run": True, "cluster": cluster})
        if looked["state"] != "done":
            conclude([looked], as_json=as_json)
        found = looked["result"].get("found", [])
        if not found:
            say("nothing of Meshgauge's is in that cluster")
            conclude([looked], as_json=as_json)
            return
        if not yes and not typer.confirm(f"remove these {len(found)} from the cluster?", err=True):
            raise ConflictError("nothing was removed: not confirmed (--yes does not ask)")
        conclude([carry_out(client, {"action": "clean", "cluster": cluster})], as_json=as_json)
