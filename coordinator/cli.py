"""The console script ``meshgauge``: all commands put together."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.commands import (
    adapters,
    channels,
    compare,
    exchange,
    gate,
    instance,
    meshes,
    operators,
    pages,
    plans,
    runs,
    schedules,
    trends,
)
from coordinator.commands.failures import SentenceGroup
from meshgauge.revision import own_version

_HELP = """Benchmarks service meshes: how much slower, with what certainty, and at what cost.

Start with: meshgauge run plans/quickstart.yaml
"""
_EXIT_CODES = (
    "Exit codes: 0 done; 1 the run ended without a valid measurement, or broke a threshold (gate); 2 command line or "
    "plan wrong; 3 a service does not answer; 4 a setting or the host stands in the way; 5 no such thing, or not in "
    "this state; 6 thresholds undecided (gate); 70 a fault of Meshgauge; 130 cancelled."
)

app = typer.Typer(
    name="meshgauge",
    help=_HELP,
    epilog=_EXIT_CODES,
    cls=SentenceGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"meshgauge {own_version()}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Benchmarks service meshes."""


app.command("run")(runs.run)
app.command("submit")(runs.submit)
app.command("watch")(runs.watch_run)
app.command("cancel")(runs.cancel)
app.command("list")(runs.list_runs)
app.command("show")(runs.show)
app.command("report")(runs.report)
app.command("pages")(pages.pages)
app.command("gate", epilog=gate.EXIT_CODES)(gate.gate)
app.command("compare")(compare.compare)
app.command("export")(exchange.export)
app.command("import")(exchange.import_file)
app.command("up")(instance.up)
app.command("down")(instance.down)
app.command("status")(instance.status)
app.command("doctor")(instance.doctor)
app.command("clean")(meshes.clean)
app.add_typer(adapters.adapters, name="adapters")
app.add_typer(meshes.mesh, name="mesh")
app.add_typer(plans.plan, name="plan")
app.add_typer(schedules.schedule, name="schedule")
app.add_typer(trends.trend, name="trend")
app.add_typer(trends.baseline, name="baseline")
app.add_typer(channels.notify, name="notify")
app.add_typer(exchange.published, name="published")
app.add_typer(operators.site, name="site")
app.add_typer(operators.token, name="token")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
