"""``/api/v1/.../pages.zip``: pages to be unpacked anywhere: a disk, a file server, an artefact of CI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from flask import Blueprint, Response, request

from coordinator.api.results import download, known_run
from coordinator.web import publishing
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.installation import installation
from meshgauge.errors import InvalidRequestError

blueprint = Blueprint("publishing", __name__, url_prefix="/api/v1")

DEFAULT_RUNS = 50
MOST_RUNS = 2000
_ZIP = "application/zip"
_PIECE_BYTES = 65_536


@blueprint.get("/runs/<run>/pages.zip")
@declared(Facts("read", "The pages of a run as a folder that opens from disk, zipped", media_type=_ZIP))
def run_pages(run: str) -> Response:
    run_id = known_run(run)
    return _archive(publishing.run_archive(installation(), run_id), f"meshgauge-{str(run_id)[:8]}.zip")


@blueprint.get("/pages.zip")
@declared(
    Facts(
        "read",
        "The pages of the newest runs, their comparisons and trends, with an index, as a folder, zipped",
        media_type=_ZIP,
        parameters=(
            QueryParameter(
                "limit",
                "How many runs, newest first",
                {"type": "integer", "minimum": 1, "maximum": MOST_RUNS, "default": DEFAULT_RUNS},
            ),
        ),
    )
)
def pages() -> Response:
    return _archive(publishing.site_archive(installation(), _limit()), "meshgauge-pages.zip")


def _limit() -> int:
    text = request.args.get("limit", str(DEFAULT_RUNS))
    if not text.isdecimal() or not 1 <= int(text) <= MOST_RUNS:
        raise InvalidRequestError(f"limit: {text!r} is no number of runs from 1 to {MOST_RUNS}")
    return int(text)


def _archive(content: IO[bytes], name: str) -> Response:
    response = download(b"", _ZIP, name)
    response.response = _pieces(content)
    response.headers.pop("Content-Length", None)
    return response


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    with content:
        while piece := content.read(_PIECE_BYTES):
            yield piece
