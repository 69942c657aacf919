"""A run's report as a folder that opens from disk: the page, PNG figures, CSV tables."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.csv_text import to_csv
from reports.figures.gallery import gallery_of
from reports.page import render_page
from reports.tables import tables_of


def render_run_folder(run: RunRecord, directory: Path) -> Path:
    """Write index.html, figures/*.png and data/*.csv; return the page's path.

    Each file appears whole or not at all, the page last, so that a reader never meets half a report.
    """
    analysis = analyse(run)
    gallery, tables = gallery_of(analysis), tables_of(analysis)
    images = {figure.name: figure.png() for figure in gallery.all}
    for figure in gallery.all:
        _write(directory / "figures" / f"{figure.name}.png", images[figure.name])
        _write(directory / "data" / f"{figure.name}.csv", to_csv(figure.rows).encode())
    for name, text in tables.items():
        _write(directory / "data" / f"{name}.csv", text.encode())
    page = directory / "index.html"
    _write(page, render_page(analysis, gallery, images, tables).encode())
    return page


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
