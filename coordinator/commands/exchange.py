"""``export``, ``import`` and ``published``: results for other tools, and others' results beside ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from coordinator.commands.connection import open_client
from coordinator.commands.runs import AsJson, RunName, find_run
from coordinator.commands.terminal import out, say, show_json, table
from meshgauge.errors import ConfigurationError, InvalidRequestError
from reports.pages.files import write_whole

published = typer.Typer(help="Results others published, shown beside ours, never judged.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the published series.")]

_ENDINGS = {"csv": "csv", "parquet": "parquet", "json": "json", "hdr": "hlog", "smp": "smp.json",
            "meshmark": "meshmark.json"}  # fmt: skip
_ONE_TABLE = ("csv", "parquet")
_STDOUT = "-"


def export(
    run: RunName,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, parquet, json, hdr, smp or meshmark.")
    ] = "json",
    to: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Where to save it; - is standard output.")
    ] = None,
    which: Annotated[
        str, typer.Option("--table", help="csv, parquet: trials, comparisons, blocks, gates or seconds.")
    ] = "trials",
) -> None:
    """Save a run for other tools.

    json: everything, versioned. csv, parquet: one table, with units. hdr: all histograms, latencies in ns.
    smp: Service Mesh Performance messages. meshmark: MeshMark, with what its definition leaves open.
    """
    with open_client() as client:
        found = find_run(client, run)
        content = client.content(f"/api/v1/runs/{found['id']}/export/{form}", table=which)
    if to == _STDOUT:
        sys.stdout.buffer.write(content)
        return
    middle = f"-{which}" if form in _ONE_TABLE else ""
    path = Path(to or f"meshgauge-{found['name']}-{found['id'][:8]}{middle}.{_ENDINGS.get(form, form)}")
    out().print(escape(str(_save(content, path))), soft_wrap=True)


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Fortio's JSON result, or Istio's benchmark CSV.")],
    name: Annotated[str, typer.Option("--name", help="What pages call it: lower-case letters, digits and . _ + -")],
    source: Annotated[str, typer.Option("--source", help="Who measured it, and where it was published.")],
    importer: Annotated[
        str | None, typer.Option("--as", metavar="KIND", help="fortio or istio-csv; told from the file by default.")
    ] = None,
) -> None:
    """Import results others published: drawn beside ours, labelled as not measured here, never part of a verdict."""
    text = _read(file)
    body = {"name": name, "source": source, "importer": importer, "text": text}
    with open_client() as client:
        made = client.post_json("/api/v1/published", body)
    say(f"{name}: {made['points']} measurements, read as {made['importer']}")
    for caveat in made["caveats"]:
        say(f"note: {caveat}")


@published.command("list")
def list_published(as_json: AsJson = False) -> None:
    """List published series."""
    with open_client() as client:
        found = client.get("/api/v1/published")
    if as_json:
        show_json(found)
        return
    rows = [
        (
            item["name"],
            str(item["points"]),
            item["importer"],
            item["source"],
            item["created_at"][:10],
            item["imported_by"],
        )
        for item in found
    ]
    columns = ("Published", "Measurements", "Read as", "Source", "Imported", "By")
    out().print(table(columns, rows, right=("Measurements",)))


@published.command("show")
def show_published(name: Name) -> None:
    """Print a published series with its measurements, in our units, as JSON."""
    with open_client() as client:
        show_json(client.get(f"/api/v1/published/{name}"))


@published.command("remove")
def remove(name: Name) -> None:
    """Remove a published series."""
    with open_client() as client:
        client.delete(f"/api/v1/published/{name}")
    say(f"{name} is removed")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be read ({error.strerror}); name a file of results") from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{file} is not UTF-8 text") from error


def _save(content: bytes, path: Path) -> Path:
    """Write the bytes whole or not at all; return the full path.

    Raises:
        ConfigurationError: they cannot be written there.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise ConfigurationError(
            f"nothing can be written to {path} ({error.strerror}); name another place with --out"
        ) from error
    return path.resolve()
