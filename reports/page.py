"""A run's page: one self-contained HTML document, no script, no request to anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache

import jinja2

from meshgauge.run import RunRecord
from reports import view
from reports.analysis import Analysis, analyse
from reports.csv_text import to_csv
from reports.figures.canvas import FigurePage
from reports.figures.gallery import Gallery, gallery_of
from reports.gates import THRESHOLDS
from reports.headlines import overall
from reports.tables import tables_of
from reports.verdict import FLAG_MEANINGS
from reports.wording import difference_unit, level

# Larger tables stay in the run's folder: a page has to open on a phone.
MOST_EMBEDDED_BYTES = 1_000_000

TABLE_TITLES: Mapping[str, str] = {
    "comparisons": "every comparison",
    "blocks": "block differences behind each effect",
    "trials": "every trial with all metrics and clocks",
    "gates": "every gate of every trial",
    "seconds": "every second of every trial",
}


def render_run_page(run: RunRecord) -> str:
    """Return the page of a run in any state.

    Raises:
        MeasurementError: a trial is counted twice.
    """
    analysis = analyse(run)
    gallery = gallery_of(analysis)
    images = {figure.name: figure.png() for figure in gallery.all}
    return render_page(analysis, gallery, images, tables_of(analysis))


def render_page(analysis: Analysis, gallery: Gallery, images: Mapping[str, bytes], tables: Mapping[str, str]) -> str:
    """Return the page from parts already made.

    Args:
        images: PNG per figure name.
        tables: CSV per table name.
    """
    template = _environment().get_template("run.html.j2")
    return template.render(
        style=page_style(),
        policy=page_security_policy(),
        run=analysis.run,
        analysis=analysis,
        overall=overall(analysis),
        sections=view.sections(analysis, gallery),
        features=view.features_table(analysis.run),
        trials=view.trial_rows(analysis),
        environments=view.failed_environments(analysis.run),
        facts=view.run_facts(analysis.run),
        hosts=view.host_tables(analysis.run),
        binaries=view.environment_tables(analysis.run),
        diary=gallery.diary,
        flags=FLAG_MEANINGS,
        gates=THRESHOLDS,
        images=lambda figure: _data_uri("image/png", images[figure.name]),
        figure_csv=_figure_csv,
        downloads=[
            (f"{name}.csv", TABLE_TITLES[name], csv_uri(text), len(text.encode()))
            for name, text in tables.items()
            if text
        ],
        most_embedded=MOST_EMBEDDED_BYTES,
    )


def page_style() -> str:
    """Return the style sheet that is part of every page."""
    source, _, _ = _loader().get_source(_environment(), "page.css")
    return source


def page_security_policy() -> str:
    """Return the Content-Security-Policy that a page allows: its own style, embedded images, nothing else."""
    digest = base64.b64encode(hashlib.sha256(page_style().encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def csv_uri(text: str) -> str:
    """Return CSV as a link target that a browser saves."""
    return _data_uri("text/csv;charset=utf-8", text.encode())


def _figure_csv(figure: FigurePage) -> str:
    return csv_uri(to_csv(figure.rows))


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


@cache
def _loader() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("reports", "templates")


@cache
def _environment() -> jinja2.Environment:
    # Names and reasons come from plans and proxies: every value is escaped, and a missing one is an error.
    environment = jinja2.Environment(
        loader=_loader(), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["level"] = level
    environment.globals["difference_unit"] = difference_unit
    return environment
