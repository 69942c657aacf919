"""Many figures as files: only those that changed are drawn, in processes of their own, one a core.

Why processes: Matplotlib is not safe in threads, and drawing holds the interpreter. Why new ones, not forked: the
coordinator has threads, and a fork copies the locks that they hold. Why not ``multiprocessing``: it imports the
program's main module again, and is refused inside Celery's workers. So each process is ``reports.figures.drawing``
with its share of pickled figures in a file as standard input; it writes the images itself and says nothing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.figures.canvas import FigurePage
from reports.pages.code_key import code_key
from reports.pages.files import write_whole

# A process takes some 1.5 s of CPU to start (NumPy, SciPy, Matplotlib), as long as half a dozen figures.
FEWEST_A_PROCESS = 8
MOST_PROCESSES = 8
_MARK_WITHIN_BYTES = 4096  # both formats carry the mark before the picture

Marked = tuple[FigurePage, str]


@dataclass(frozen=True, slots=True)
class Rendered:
    """How many figures were drawn, and how many were on disk as they should be."""

    drawn: int
    kept: int


def render_figures(figures: Sequence[FigurePage], directory: Path, processes: int | None = None) -> Rendered:
    """Write ``<name>.png`` and ``<name>.svg`` of each figure into ``directory``, each whole or not at all.

    A figure whose files carry the mark of its content (``content_mark``) is left as it is. May be called from any
    thread. Figures whose ``draw`` cannot be pickled are drawn in this process, and so is what a process that died
    has left undone: an error of a figure is raised here, where the caller sees it.

    Args:
        figures: with different names.
        processes: at most so many; None: one for each core this process may use.
    """
    marked = [(figure, content_mark(figure)) for figure in figures]
    pending = [(figure, mark) for figure, mark in marked if not _is_there(directory, figure, mark)]
    directory.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if processes is None else processes
    workers = min(cores, len(pending) // FEWEST_A_PROCESS, MOST_PROCESSES)
    if workers > 1:
        _draw_elsewhere(pending, directory, workers)
    for figure, mark in pending:
        if workers <= 1 or not _is_there(directory, figure, mark):
            draw_into(directory, figure, mark)
    return Rendered(len(pending), len(figures) - len(pending))


def content_mark(figure: FigurePage) -> str:
    """Return what names the picture: a hash of its title, alt text and rows, and of the code that draws it."""
    content = repr((code_key(), figure.name, figure.title, figure.alt, [dict(row) for row in figure.rows]))
    return f"meshgauge:sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def draw_into(directory: Path, figure: FigurePage, mark: str) -> None:
    """Draw one figure and write both of its files."""
    png, svg = figure.images(mark)
    for kind, content in (("png", png), ("svg", svg)):
        write_whole(directory / f"{figure.name}.{kind}", content)


def _is_there(directory: Path, figure: FigurePage, mark: str) -> bool:
    for kind in ("png", "svg"):
        try:
            with (directory / f"{figure.name}.{kind}").open("rb") as file:
                if mark.encode() not in file.read(_MARK_WITHIN_BYTES):
                    return False
        except FileNotFoundError:
            return False
    return True


def _draw_elsewhere(pending: Sequence[Marked], directory: Path, workers: int) -> None:
    """Have processes draw what can travel to them; return when all of them have ended."""
    parcels = [parcel for figure in pending if (parcel := _packed(figure)) is not None]
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="meshgauge-figures-") as room:
        try:
            for at in range(workers):
                # Every n-th one: figures of a kind stand together, and kinds differ in what they cost.
                share = Path(room) / f"{at}.pickle"
                share.write_bytes(pickle.dumps((directory.absolute(), parcels[at::workers])))
                started.append(_started(share))
            for process in started:
                process.wait()
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                    process.wait()


def _packed(figure: Marked) -> bytes | None:
    try:
        return pickle.dumps(figure)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None  # a closure or a lock inside: it stays here


def _started(share: Path) -> subprocess.Popen[bytes]:
    # The same modules from the same places; one thread each, there is a process for every core.
    paths: dict[str, Any] = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with share.open("rb") as figures:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "reports.figures.drawing"],
            stdin=figures,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **paths, **threads},
        )
