"""The pages of runs and of what is between them, as the folder of pages has them, made when they are asked for."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from coordinator.api.answers import run_id_of
from coordinator.api.results import download
from coordinator.web import books
from coordinator.web.callers import caller
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.installation import installation
from meshgauge.errors import UnknownNameError
from meshgauge.store import runs
from meshgauge.store.database import transaction

if TYPE_CHECKING:
    from reports.pages.book import Book

blueprint = Blueprint("browsing", __name__)

_FIRST = "index.html"
_MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "svg": "image/svg+xml"}
_RUNS_TO_CHOOSE_FROM = 200
_RUN = {"type": "string"}


def _page(summary: str, *parameters: QueryParameter) -> Facts:
    return Facts("read", summary, media_type="text/html", accepts_cookie=True, parameters=parameters)


@blueprint.get("/runs/<run>/pages")
@declared(_page("The pages of a run"))
def run_pages(run: str) -> AnyResponse:
    with transaction(installation().engine) as connection:
        return redirect(f"/runs/{run_id_of(connection, run)}/pages/{_FIRST}")


@blueprint.get("/runs/<run>/pages/<path:name>")
@declared(_page("One page of a run, or a figure or table of one"))
def run_page(run: str, name: str) -> AnyResponse:
    installed = installation()
    with transaction(installed.engine) as connection:
        run_id = run_id_of(connection, run)
    if str(run_id) != run:  # relative links of the page need the whole id
        return redirect(f"/runs/{run_id}/pages/{name}")
    return _file(name, installed.reporting.run_file(installed.engine, run_id, name))


@blueprint.get("/compare")
@declared(
    _page(
        "Choose two runs to compare, or go to their comparison",
        QueryParameter("a", "The first run, what the other is held against: its id or its first characters", _RUN),
        QueryParameter("b", "The second run", _RUN),
    )
)
def compare() -> AnyResponse:
    first, second = request.args.get("a", "").strip(), request.args.get("b", "").strip()
    with transaction(installation().engine) as connection:
        if first and second:
            folder = books.comparison_folder(run_id_of(connection, first), run_id_of(connection, second))
            return redirect(f"/{folder}/{_FIRST}")
        rows = runs.newest(connection, _RUNS_TO_CHOOSE_FROM)
    measured = [row for row in rows if row.trials.get("measured")]
    return Response(render_template("compare.html", runs=measured, first=first, second=second, caller=caller()))


@blueprint.get("/compare/<pair>/<path:name>")
@declared(_page("One run against another, or a figure or table of that page"))
def comparison(pair: str, name: str) -> AnyResponse:
    installed = installation()
    first, between, second = pair.partition(books.BETWEEN)
    if not between:
        raise UnknownNameError("comparison", pair, [])
    with transaction(installed.engine) as connection:
        ids = run_id_of(connection, first), run_id_of(connection, second)
    return _book_file(*books.comparison(installed, *ids), name)


@blueprint.get("/trends/<schedule>")
@declared(_page("The nights of a schedule"))
def trend_pages(schedule: str) -> AnyResponse:
    return redirect(f"/{books.trend_folder(schedule)}/{_FIRST}")


@blueprint.get("/trends/<schedule>/<path:name>")
@declared(_page("The nights of a schedule, or a figure or table of that page"))
def trend(schedule: str, name: str) -> AnyResponse:
    return _book_file(*books.trend(installation(), schedule), name)


def _book_file(key: Hashable, book: Book, name: str) -> Response:
    return _file(name, installation().reporting.file(key, book, name))


def _file(name: str, content: bytes) -> Response:
    """Return a file of a book: pages and pictures to be shown, everything else to be saved."""
    ending = name.rpartition(".")[2]
    if ending == "html":
        from reports.pages.document import security_policy  # noqa: PLC0415

        response = Response(content, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = f"{security_policy('linked')}; frame-ancestors 'none'"
        return response
    if ending == "png":
        return Response(content, content_type="image/png")
    return download(content, _MEDIA_TYPES.get(ending, "application/octet-stream"), name.rpartition("/")[2])
