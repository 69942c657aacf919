"""Errors as answers: problem+json (RFC 9457) for programs, a page for people, one sentence for both."""

from __future__ import annotations

import json
from typing import Any

import structlog
from flask import Flask, Response, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from coordinator.web.guards import is_page_request
from meshgauge.errors import (
    ConfigurationError,
    ConflictError,
    InvalidPlanError,
    InvalidRequestError,
    MeshgaugeError,
    ServiceUnavailableError,
    UnknownNameError,
    UnsupportedError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_MOST_ERRORS = 100
_IN_SENTENCE = 5

# First match wins. The type is a name relative to this API, not a page.
_KINDS: tuple[tuple[type[MeshgaugeError], int, str, str], ...] = (
    (InvalidPlanError, 422, "invalid-plan", "The plan cannot be run as it stands"),
    (InvalidRequestError, 400, "invalid-request", "The request cannot be taken as it stands"),
    (UnknownNameError, 404, "unknown-name", "Not found"),
    (ConflictError, 409, "conflict", "The state does not allow this"),
    (UnsupportedError, 422, "unsupported", "Not supported"),
    (ServiceUnavailableError, 503, "unavailable", "A service does not answer"),
    (ConfigurationError, 500, "configuration", "This installation needs attention"),
    (MeshgaugeError, 500, "error", "It did not work"),
)

log = structlog.get_logger()


def problem(status: int, kind: str, title: str, detail: str, **more: Any) -> Response:
    """Return one problem, as JSON or as a page."""
    if is_page_request():
        page = render_template("problem.html", status=status, title=title, detail=detail, errors=more.get("errors", ()))
        response = make_response(page, status)
    else:
        body = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": detail, **more}
        response = Response(json.dumps(body), status=status, mimetype=MEDIA_TYPE)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _of_ours(error: MeshgaugeError) -> Response:
    status, kind, title = next(row[1:] for row in _KINDS if isinstance(error, row[0]))
    more: dict[str, Any] = {}
    detail = str(error)
    if isinstance(error, InvalidPlanError):
        detail = _first_problems(error)
        more["errors"] = [{"path": item.path, "message": item.message} for item in error.problems[:_MOST_ERRORS]]
    if isinstance(error, UnknownNameError):
        more["unknown"] = {"kind": error.kind, "name": error.name, "known": list(error.known)}
    if status >= 500:
        log.warning("request_failed", path=request.path, status=status, reason=str(error))
    return problem(status, kind, title, detail, **more)


def _first_problems(error: InvalidPlanError) -> str:
    """Return the first problems as a sentence: a list written under the wrong key has thousands."""
    shown = "; ".join(map(str, error.problems[:_IN_SENTENCE]))
    left = len(error.problems) - _IN_SENTENCE
    return f"{shown}; and {left} more" if left > 0 else shown


def _of_http(error: HTTPException) -> Response:
    status = error.code or 500
    if status == 404:
        return problem(404, "unknown-path", "Not found", f"there is nothing at {request.path}")
    if status == 413:
        return problem(413, "too-large", "Too large", "the body is larger than this coordinator accepts")
    response = problem(status, "request", error.name, error.description or error.name)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="meshgauge"'
    if status == 405 and (allowed := getattr(error, "valid_methods", None)):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _of_surprise(error: Exception) -> Response:
    log.error("request_crashed", path=request.path, exc_info=error)
    return problem(500, "bug", "A fault of Meshgauge", "this should not happen; the coordinator's log has the details")


def register(app: Flask) -> None:
    """Answer every error of ``app`` here."""
    app.register_error_handler(MeshgaugeError, _of_ours)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _of_surprise)
