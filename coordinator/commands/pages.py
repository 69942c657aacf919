"""``pages``: everything worth reading as a folder that opens from disk."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import typer
from rich.markup import escape

from coordinator.commands.connection import open_client
from coordinator.commands.runs import find_run
from coordinator.commands.terminal import out, say
from meshgauge.errors import ConfigurationError
from reports.pages.files import write_whole

_FIRST = "index.html"


def pages(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; pages of before are replaced.")],
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Only this run: its id, its first characters, or: latest")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=2000, help="How many runs, newest first.")] = 50,
) -> None:
    """Write the pages of runs into a folder that opens from disk and can be hosted anywhere."""
    refuse_foreign(folder)
    with open_client() as client, tempfile.TemporaryFile() as archive:
        if run is None:
            say(f"making the pages of the newest {limit} runs; the first time takes seconds a run")
            client.download("/api/v1/pages.zip", archive, limit=str(limit))
        else:
            client.download(f"/api/v1/runs/{find_run(client, run)['id']}/pages.zip", archive)
        number = unpack(archive, folder)
    say(f"{number} files written; open {_FIRST} in a browser")
    out().print(escape(str((folder / _FIRST).resolve())), soft_wrap=True)


def refuse_foreign(folder: Path) -> None:
    """See that nothing of somebody else's is written over.

    Raises:
        ConfigurationError: it is a file, or a folder with content that is not ours.
    """
    if folder.is_file():
        raise ConfigurationError(f"{folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        first = folder / _FIRST
        if not first.is_file() or b"Made by Meshgauge" not in first.read_bytes():
            raise ConfigurationError(f"{folder} holds something that is not pages of Meshgauge; name another folder")


def unpack(archive: IO[bytes], folder: Path) -> int:
    """Write an archive's files, pages last; return how many.

    Raises:
        ConfigurationError: a name leads out of the folder, or it cannot be written there.
    """
    archive.seek(0)
    with zipfile.ZipFile(archive) as found:
        names = [info.filename for info in found.infolist() if not info.is_dir()]
        for name in names:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ConfigurationError(f"the archive names a file outside the folder: {name!r}; nothing was written")
        try:
            for name in sorted(names, key=lambda name: (name.endswith(".html"), name == _FIRST)):
                write_whole(folder / name, found.read(name))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(f"pages cannot be written to {folder} ({reason}); name another folder") from error
    return len(names)
