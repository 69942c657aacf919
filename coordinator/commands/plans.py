"""``plan check`` and ``plan schema``: what works without a coordinator."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer
from rich.markup import escape

from coordinator.commands.failures import CONFIGURATION, read_settings
from coordinator.commands.in_play import in_play
from coordinator.commands.runs import AsJson, PlanFile, read_plan_file
from coordinator.commands.terminal import err, out, show_json
from coordinator.plan_check import PlanCheck, PlannedLoad, check_plan
from coordinator.planner import installed_planner
from coordinator.web.spoken import duration
from meshgauge.settings import Settings

plan = typer.Typer(help="Look at plans before they run.", no_args_is_help=True)

_CELLS_SHOWN = 40


@plan.command("check")
def check(
    plan_file: PlanFile,
    all_cells: Annotated[bool, typer.Option("--all", help="List every cell and turn.")] = False,
    as_json: AsJson = False,
    reach: Annotated[
        bool, typer.Option("--reach", help="Look at the plan's clusters too: rights, versions, room, leftovers.")
    ] = False,
) -> None:
    """Say what a plan would do: versions, cells, order of the first block, time, warnings. Starts nothing."""
    text = read_plan_file(plan_file)
    settings = read_settings()
    found, problems = _checked(settings, text, reach=reach)
    if as_json:
        show_json({**found.to_json(), **({"preflight": problems} if reach else {})})
    else:
        for line in _lines(found, 10**9 if all_cells else _CELLS_SHOWN):
            out().print(line, soft_wrap=True)
        for line in _reached(problems):
            out().print(line, soft_wrap=True)
    if any(problems.values()):
        raise typer.Exit(CONFIGURATION)


def _checked(settings: Settings, text: str, *, reach: bool) -> tuple[PlanCheck, Mapping[str, Sequence[str]]]:
    """Resolve a plan here, and look at its clusters if asked to.

    The versions of meshes are looked up on the package index, then kept for an hour.
    """
    planner, cores = installed_planner(settings), len(os.sched_getaffinity(0))
    console = err()
    with console.status("looking up versions") if console.is_terminal else contextlib.nullcontext():
        resolved = planner.resolve(text, may_run_programs=settings.allow_commands)
        return check_plan(resolved, settings, cores), planner.preflight(resolved) if reach else {}


def _reached(problems: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if problems:
        yield "\n[bold]Clusters[/bold]"
    for environment, found in problems.items():
        yield f"  {escape(environment)}: {escape('; '.join(found)) or 'nothing is in the way'}"


def _lines(found: PlanCheck, most: int) -> Iterator[str]:
    yield (
        f"[bold]{escape(found.name)}[/bold]: {len(found.cells)} cells, {found.blocks} blocks, "
        f"{found.environments} environments, {found.trials} trials, about {duration(found.estimate_s)} (an estimate)"
    )
    seed = "is drawn at submit" if found.seed_is_drawn else str(found.seed)
    yield f"plan {found.plan_sha256[:12]}, seed {seed}"
    yield "\n[bold]Meshes[/bold]"
    for label, hops in found.meshes:
        path = ", ".join(f"{hop.role} {hop.adapter} {hop.version}" for hop in hops) or "no proxy on the path"
        yield f"  {escape(label)}: {escape(path)}"
    yield "\n[bold]Cells[/bold] (mesh/profile/workload/infrastructure/load)"
    yield from _some([f"  {escape(cell)}" for cell in found.cells], most)
    yield "\n[bold]Loads[/bold]"
    yield from (f"  {escape(_load(load))}" for load in found.loads)
    if found.skipped:
        yield "\n[bold]Left out[/bold]"
        left_out = [f"{item.mesh}/{item.profile} on {item.infrastructure}: {item.reason}" for item in found.skipped]
        yield from _some([f"  {escape(line)}" for line in left_out], most)
    if any(found.features.values()):
        yield "\n[bold]Features in play[/bold] (what each proxy does to a request)"
        yield from (f"  {name}: {escape(value)}" for name, value in in_play(found.features))
    shuffle = " of one possible shuffle" if found.seed_is_drawn else ""
    yield f"\n[bold]Order of block 1[/bold]{shuffle}"
    turns = [
        f"  {turn.position + 1}. {escape(turn.environment)}: {', '.join(turn.loads)}" for turn in found.first_block
    ]
    yield from _some(turns, most)
    for warning in found.warnings:
        yield f"\n[yellow]Note:[/yellow] {escape(warning)}"


def _load(load: PlannedLoad) -> str:
    rate = "closed loop" if load.rate_rps is None else f"{load.rate_rps:g} requests/s"
    return (
        f"{load.label}: {rate} over {load.connections} connection{'s' if load.connections > 1 else ''}; "
        f"{load.warm_up_s:g} s warm-up, {load.window_s:g} s window, {load.cool_down_s:g} s cool-down"
    )


def _some(lines: list[str], most: int) -> Iterator[str]:
    yield from lines[:most]
    if len(lines) > most:
        yield f"  ... and {len(lines) - most} more (--all shows them)"


@plan.command("schema")
def schema() -> None:
    """Print the JSON Schema of a plan, for editors."""
    from coordinator.api.plans import plan_schema  # noqa: PLC0415 - loads Flask

    show_json(plan_schema())
