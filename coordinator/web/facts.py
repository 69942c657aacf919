"""What each view declares about itself: who may call it, what it takes and what it answers.

Access control and the OpenAPI document are both made from these facts, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from flask import Flask
from pydantic import BaseModel

from meshgauge.store.tokens import Role

# open: anybody, no caller is looked for; the others are the roles of tokens, each including those before it.
Access = Role | Literal["open"]

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "meshgauge_facts"


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter of the query string (or, with ``header``, a header)."""

    name: str
    summary: str
    schema: dict[str, Any]
    header: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """One view.

    Attributes:
        answers: type of the JSON body of a good answer; None: not JSON, see ``media_type``.
        takes_plan: the body is a plan, YAML or JSON.
        takes: the body is JSON of this model; the view reads it with ``guards.body_of``.
        accepts_cookie: a page: the session of a browser counts as its token.
    """

    access: Access
    summary: str
    answers: Any = None
    media_type: str = "application/json"
    status: int = 200
    takes_plan: bool = False
    takes: type[BaseModel] | None = None
    parameters: tuple[QueryParameter, ...] = ()
    accepts_cookie: bool = False


def declared(facts: Facts) -> Callable[[View], View]:
    """Return a decorator that attaches ``facts`` to a view."""

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, facts)
        return view

    return attach


def facts_of(view: Callable[..., Any]) -> Facts | None:
    """Return what a view declared, or None."""
    return cast(Facts | None, getattr(view, _ATTRIBUTE, None))


def refuse_undeclared(app: Flask) -> None:
    """See that every view says who may call it; the files of ``static`` are for all.

    Raises:
        AssertionError: one does not.
    """
    silent = [name for name, view in app.view_functions.items() if name != "static" and facts_of(view) is None]
    if silent:
        raise AssertionError(f"views without declared access: {silent}")
