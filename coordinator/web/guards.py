"""Refusals before a view is reached, and headers on every answer. Source: reference/operations.md 8."""

from __future__ import annotations

import secrets
from typing import TypeVar
from urllib.parse import urlsplit

from flask import Flask, Request, Response, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, Forbidden, LengthRequired, MisdirectedRequest, UnsupportedMediaType

from coordinator.web.callers import is_loopback
from coordinator.web.installation import installation
from meshgauge.errors import InvalidRequestError

Model = TypeVar("Model", bound=BaseModel)

PLAN_MEDIA_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json")
FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"
CSRF_FIELD = "csrf"

_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# Added to the policy a report states itself (its own style, its own figures, nothing else).
REPORT_POLICY = "frame-ancestors 'none'; sandbox allow-downloads allow-popups"
# What others made (logs, rendered configurations) is downloaded, never shown.
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


class CookieSessions(SecureCookieSessionInterface):
    """Sessions whose cookie is sent back over TLS only, when it came over TLS."""

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's signature
        """Return whether the browser reached us, or the proxy before us, over TLS."""
        return request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"


def check_request() -> None:
    """Refuse what no honest client sends.

    Raises:
        HTTPException: with what was wrong and what to do.
    """
    _refuse_rebinding(request)
    if request.method in _UNSAFE:
        _refuse_foreign_pages(request)
        if "Transfer-Encoding" in request.headers:
            raise _length_required()


def _length_required() -> LengthRequired:
    # A chunked body cut at the limit arrives as a complete one, and a plan in half may be valid YAML.
    return LengthRequired("send the body with a Content-Length, not chunked")


def _refuse_rebinding(incoming: Request) -> None:
    """On loopback the Host must be a loopback name: a page of elsewhere may point its own name at 127.0.0.1."""
    if not is_loopback(installation().settings.listen_host):
        return
    host = urlsplit(f"//{incoming.host}").hostname or ""
    if not is_loopback(host):
        raise MisdirectedRequest(f"this coordinator answers on loopback only, not as {host!r}; use 127.0.0.1")


def _refuse_foreign_pages(incoming: Request) -> None:
    """A browser says where a request comes from; other clients say nothing."""
    origin = incoming.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != incoming.host:
        raise Forbidden(f"requests from pages of {origin} are not accepted")
    if incoming.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("requests from pages of other sites are not accepted")


def plan_text() -> str:
    """Return the plan in the body of this request.

    Raises:
        HTTPException: another media type, or not UTF-8.
    """
    if request.mimetype not in PLAN_MEDIA_TYPES:
        given = request.mimetype or "none"
        raise UnsupportedMediaType(f"a plan is application/yaml or application/json; the Content-Type was {given}")
    if request.content_length is None:
        raise _length_required()
    try:
        return request.get_data().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the plan is not UTF-8: {error.reason} at byte {error.start}") from error


def body_of(model: type[Model]) -> Model:
    """Return the JSON body of this request.

    Raises:
        InvalidRequestError: a field is wrong, missing or unknown; says which.
        HTTPException: another media type, or no JSON.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(f"the body is application/json; the Content-Type was {request.mimetype or 'none'}")
    if request.content_length is None:
        raise _length_required()
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in found)
        raise InvalidRequestError(wrong) from error


def csrf_token() -> str:
    """Return this session's token for forms, made at first use."""
    if CSRF_FIELD not in session:
        session[CSRF_FIELD] = secrets.token_urlsafe(24)
    return str(session[CSRF_FIELD])


def check_form() -> None:
    """See that the form was one of our pages.

    Raises:
        HTTPException: it was not.
    """
    if request.mimetype != FORM_MEDIA_TYPE:
        raise UnsupportedMediaType(f"a form is {FORM_MEDIA_TYPE}")
    if not secrets.compare_digest(
        request.form.get(CSRF_FIELD, ""), str(session.get(CSRF_FIELD) or secrets.token_hex())
    ):
        raise Forbidden("the form is too old, or not of this page; load the page again and repeat")


def add_headers(response: Response) -> Response:
    """Put the security headers on an answer; a view may have set a policy of its own."""
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def configure(app: Flask, max_body_bytes: int, secret_key: str) -> None:
    """Set what Flask itself limits and signs."""
    app.session_interface = CookieSessions()
    app.config.update(
        MAX_CONTENT_LENGTH=max_body_bytes,
        MAX_FORM_MEMORY_SIZE=16_384,
        MAX_FORM_PARTS=20,
        SECRET_KEY=secret_key,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        TRUSTED_HOSTS=None,  # judged in check_request, with a sentence
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it


def is_page_request() -> bool:
    """Return whether an error should be a page: everything but the API and what machines scrape."""
    machine = ("/api/", "/healthz", "/readyz", "/metrics")
    return not request.path.startswith(machine) and bool(current_app)
