"""``/api/v1/compare``: one run against another."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from coordinator.api.results import known_run
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.installation import installation
from meshgauge.errors import InvalidRequestError

blueprint = Blueprint("compare", __name__, url_prefix="/api/v1/compare")

_RUN = {"type": "string"}
_PARAMETERS = (
    QueryParameter("a", "The first run, what the other is held against: its id or the first characters of it", _RUN),
    QueryParameter("b", "The second run", _RUN),
)


@blueprint.get("")
@declared(
    Facts(
        "read",
        "One run against another: what else differs, then each arm divided by the control of its own run",
        dict[str, Any],
        parameters=_PARAMETERS,
    )
)
def compare() -> Response:
    # Statistics take a second to import, serving anything else needs none of them.
    from reports.comparing.across import compare_runs  # noqa: PLC0415
    from reports.comparing.across_words import to_json  # noqa: PLC0415

    installed = installation()
    first, second = (
        installed.reporting.analysis(installed.engine, known_run(_named(parameter.name))) for parameter in _PARAMETERS
    )
    return jsonify(to_json(compare_runs(first, second)))


def _named(parameter: str) -> str:
    name = request.args.get(parameter, "")
    if not name:
        raise InvalidRequestError(f"name two runs: /api/v1/compare?a=RUN&b=RUN ({parameter} is missing)")
    return name
