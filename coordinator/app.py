"""The Flask application: views, guards and errors put together around one installation."""

from __future__ import annotations

from flask import Flask

from coordinator.api import (
    channels,
    compare,
    exchange,
    gate,
    health,
    openapi,
    operations,
    plans,
    publishing,
    results,
    runs,
    schedules,
    sites,
    trends,
)
from coordinator.web import browsing, guards, operation_pages, pages, problems
from coordinator.web.callers import let_in
from coordinator.web.facts import refuse_undeclared
from coordinator.web.installation import Installation, attach

_BLUEPRINTS = (
    health.blueprint,
    openapi.blueprint,
    plans.blueprint,
    runs.blueprint,
    operations.blueprint,
    results.blueprint,
    publishing.blueprint,
    compare.blueprint,
    gate.blueprint,
    schedules.blueprint,
    trends.blueprint,
    sites.blueprint,
    channels.blueprint,
    exchange.blueprint,
    pages.blueprint,
    browsing.blueprint,
    operation_pages.blueprint,
)


def create_app(installed: Installation, secret_key: str) -> Flask:
    """Return the coordinator's application.

    Args:
        secret_key: signs the sessions of browsers; the same in all processes, and over restarts.
    """
    app = Flask("coordinator.web", static_folder="static", template_folder="templates")
    guards.configure(app, installed.settings.max_plan_bytes, secret_key)
    app.config["SESSION_COOKIE_NAME"] = f"meshgauge_{installed.settings.listen_port}"  # ports share cookies
    attach(app, installed)
    app.before_request(guards.check_request)
    app.before_request(let_in)
    app.after_request(guards.add_headers)
    problems.register(app)
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    pages.add_filters(app)
    refuse_undeclared(app)
    return app
