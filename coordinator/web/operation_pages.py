"""Pages of operations: what was asked for, and one operation with its log as it comes."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template
from werkzeug.wrappers import Response

from coordinator.api.operations import cancelled, operation_id_of, operation_view
from coordinator.web.callers import caller
from coordinator.web.facts import Facts, declared
from coordinator.web.guards import check_form
from coordinator.web.installation import installation
from meshgauge.store import operations
from meshgauge.store.database import transaction

blueprint = Blueprint("operation_pages", __name__)

_SHOWN = 100
_LINES_SHOWN = 500


@blueprint.get("/operations")
@declared(Facts("read", "Operations", media_type="text/html", accepts_cookie=True))
def index() -> str:
    with transaction(installation().engine) as connection:
        views = [operation_view(connection, row) for row in operations.newest(connection, _SHOWN)]
    return render_template("operations.html", operations=views, caller=caller())


@blueprint.get("/operations/<operation>")
@declared(Facts("read", "One operation, live", media_type="text/html", accepts_cookie=True))
def show(operation: str) -> str:
    with transaction(installation().engine) as connection:
        row = operations.get(connection, operation_id_of(connection, operation))
        lines = operations.last_lines(connection, row.id, _LINES_SHOWN)
        view = operation_view(connection, row)
    return render_template("operation.html", operation=view, lines=lines, caller=caller())


@blueprint.post("/operations/<operation>/cancel")
@declared(Facts("run", "Cancel an operation from its page", media_type="text/html", accepts_cookie=True))
def cancel(operation: str) -> Response:
    check_form()
    return redirect(f"/operations/{cancelled(operation).id}", 303)
