"""``adapters``: what there is to compare; the rights each takes in a cluster; the contract suite that earns stages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.registry import AdapterRow
from coordinator.client import Client
from coordinator.commands.connection import client_if_any
from coordinator.commands.failures import read_settings
from coordinator.commands.operating import Context, carry_out, cluster_of, conclude
from coordinator.commands.runs import AsJson, ended_like_ctrl_c, some_coordinator
from coordinator.commands.terminal import out, say, show_json, table
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import ConfigurationError, UnknownNameError

adapters = typer.Typer(help="The meshes there are.", invoke_without_command=True)

Names = Annotated[list[str] | None, typer.Argument(metavar="[ADAPTER]...", help="All by default.")]


@adapters.callback()
def listed(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the meshes there are: provider, stage, placements, profiles, what they cannot do."""
    if ctx.invoked_subcommand is not None:
        return
    rows = _rows()
    if as_json:
        show_json([{**row, "checked_on": row["checked_on"] and str(row["checked_on"])} for row in rows])
        return
    shown = [
        (
            row["name"],
            row["title"],
            ", ".join(row["providers"]) or "-",
            row["stage"],
            str(row["checked_on"] or "-"),
            row["package"],
            ", ".join(row["placements"]),
            ", ".join(row["profiles"]),
            row["note"],
        )
        for row in rows
    ]
    columns = ("Mesh", "Title", "Runs on", "Stage", "Checked", "Package", "Placements", "Profiles", "Remark")
    out().print(table(columns, shown))
    say("versions: exact, latest, previous, latest-N or a range such as >=1.38,<1.40")


def _rows() -> Sequence[Mapping[str, Any]]:
    """Return the rows as the coordinator knows them, with its own results; where none runs, as they are shipped."""
    client = client_if_any(read_settings())
    if client is not None:
        with client:
            rows: Sequence[Mapping[str, Any]] = client.get("/api/v1/adapters")
            return rows
    from adapters.registry import adapter_rows  # noqa: PLC0415 - loads every adapter

    return [{name: getattr(row, name) for name in AdapterRow.__slots__} for row in adapter_rows()]


@adapters.command("rbac")
def rbac(
    names: Annotated[list[str], typer.Argument(metavar="ADAPTER...", help="Meshes that run in clusters.")],
    role: Annotated[str, typer.Option("--name", help="Of the ClusterRole.")] = "meshgauge",
    optional: Annotated[
        bool, typer.Option("--optional/--needed-only", help="Also rights whose lack only loses numbers.")
    ] = True,
) -> None:
    """Print the ClusterRole Meshgauge needs for these meshes: ... | kubectl apply -f -"""
    from adapters.kubernetes.preflight.roles import cluster_role  # noqa: PLC0415 - loads the meshes
    from adapters.registry import kubernetes_mesh  # noqa: PLC0415

    text = cluster_role(role, [kubernetes_mesh(name) for name in names], optional=optional)
    out().print(text, end="", soft_wrap=True, markup=False)


@adapters.command("conformance")
def conformance(
    names: Names = None,
    versions: Annotated[
        list[str] | None,
        typer.Option("--version", metavar="V", help="May be repeated; latest and previous if none."),
    ] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="local or kubernetes")] = None,
    context: Context = None,
    charts: Annotated[str | None, typer.Option("--charts", metavar="DIR", help="Mirror of charts.")] = None,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="FILE", help="Also keep the results in this JSON file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the contract suite and keep its dated results, which the stage is read from.

    Without names: every local adapter; with --context every mesh that runs in clusters.
    """
    with ended_like_ctrl_c(), some_coordinator(read_settings()) as client:
        wanted = _wanted(client.get("/api/v1/adapters"), names, provider or ("kubernetes" if context else None))
        done = []
        for adapter, where in wanted:
            cluster = cluster_of(context, charts) if where == "kubernetes" else {}
            for version in versions or ("latest", "previous"):
                request = {"action": "conformance", "adapter": adapter, "provider": where, "version": version}
                done.append(carry_out(client, request | ({"cluster": cluster} if cluster else {})))
                if done[-1]["state"] == "cancelled":
                    conclude(done, as_json=as_json)
        if into is not None:
            _keep(into, _results_of(client, done))
        conclude(done, as_json=as_json)


def _wanted(
    rows: Iterable[Mapping[str, Any]], names: Sequence[str] | None, provider: str | None
) -> list[tuple[str, str]]:
    """Return each adapter and the provider it is checked on.

    Raises:
        UnknownNameError: no such adapter on that provider.
    """
    known = {row["name"]: row["providers"] for row in rows if row["package"]}
    if not names:
        every = provider or "local"
        return [(name, every) for name, places in known.items() if every in places]
    pairs = []
    for name in names:
        places = [place for place in known.get(name, ()) if provider in (None, place)]
        if not places:
            raise UnknownNameError(
                "mesh adapter", name, [one for one, its in known.items() if provider is None or provider in its]
            )
        pairs.append((name, places[0]))
    return pairs


def _results_of(client: Client, operations: Iterable[Mapping[str, Any]]) -> list[ConformanceResult]:
    """Return the results these operations gave."""
    checked = {(one["adapter"], one["request"]["provider"], one["result"].get("version")) for one in operations}
    results = [ConformanceResult.of_json(item) for item in client.get("/api/v1/conformance")]
    return [one for one in results if (one.adapter, one.provider, one.version) in checked]


def _keep(path: Path, results: Iterable[ConformanceResult]) -> None:
    """Write results into a file beside those it has; of one version of an adapter the newest stays.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        kept = {_key(one): one for one in map(ConformanceResult.of_json, known)} | {_key(one): one for one in results}
        ordered = [kept[key].to_json() for key in sorted(kept)]
        path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot keep the results: {error}") from error
    say(f"{len(kept)} results in {path}")


def _key(result: ConformanceResult) -> tuple[str, str, str]:
    return result.provider, result.adapter, result.version
