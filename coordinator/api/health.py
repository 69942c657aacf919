"""``/healthz``, ``/readyz`` and ``/metrics``: for supervisors, load balancers and Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import alembic.script
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from flask import Blueprint, Response, jsonify
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.web.facts import Facts, declared
from coordinator.web.installation import Installation, installation
from meshgauge.errors import ConfigurationError
from meshgauge.revision import own_version
from meshgauge.store import schema, schema_tracking
from meshgauge.store.database import migration_config, transaction

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@declared(Facts("open", "This process answers", dict[str, str]))
def healthz() -> Response:
    return jsonify({"status": "ok", "version": own_version()})


@blueprint.get("/readyz")
@declared(Facts("open", "Runs can be accepted; delivery says whether the broker is up", dict[str, str]))
def readyz() -> Response:
    """Postgres is needed. The broker is not: what it cannot deliver now is announced again later."""
    installed = installation()
    began_s = time.monotonic()
    with transaction(installed.engine) as connection:
        _refuse_old_schema(connection)
    latency_ms = (time.monotonic() - began_s) * 1e3
    problem = installed.broker_problem()
    delivery = "up" if problem is None else f"down: {problem}"
    return jsonify({"status": "ready", "database": f"up, {latency_ms:.1f} ms", "delivery": delivery})


def _refuse_old_schema(connection: sa.Connection) -> None:
    newest = alembic.script.ScriptDirectory.from_config(migration_config(connection)).get_current_head()
    current = MigrationContext.configure(connection).get_current_revision()
    if current != newest:
        raise ConfigurationError(
            f"the database is at revision {current or 'none'} and this release needs {newest}; "
            "run: python -m coordinator.migrate"
        )


class _Rows(Collector):
    """Reads the numbers from Postgres at the moment they are asked for."""

    def __init__(self, installed: Installation) -> None:
        self._installed = installed

    def collect(self) -> Iterable[Metric]:
        with transaction(self._installed.engine) as connection:
            yield _by(connection, "meshgauge_runs", "Runs by state.", schema.run.c.state)
            yield _by(connection, "meshgauge_environments", "Environments by state.", schema.environment.c.state)
            yield _by(connection, "meshgauge_trials", "Trials by state.", schema.trial.c.state)
            yield _by(connection, "meshgauge_sites", "Sites by state.", schema.site.c.state)
            yield _by(connection, "meshgauge_notices", "Notices by state.", schema_tracking.notice.c.state)
            yield _leases(connection)
            yield _due(connection)
            yield _workers(connection)
        delivery = GaugeMetricFamily("meshgauge_delivery_up", "Whether the broker can be reached (1) or not (0).")
        delivery.add_metric([], 1.0 if self._installed.broker_problem() is None else 0.0)
        yield delivery


def _by(connection: sa.Connection, name: str, help_text: str, state: sa.Column[Any]) -> Metric:
    metric = GaugeMetricFamily(name, help_text, labels=["state"])
    for row in connection.execute(sa.select(state.label("state"), sa.func.count().label("number")).group_by(state)):
        metric.add_metric([row.state], row.number)
    return metric


def _leases(connection: sa.Connection) -> Metric:
    metric = GaugeMetricFamily("meshgauge_lease_left_seconds", "Time to the end of a site's lease.", labels=["site"])
    left = sa.func.extract("epoch", schema.site.c.lease_until - sa.func.now())
    for row in connection.execute(
        sa.select(schema.site.c.name, left.label("left_s")).where(schema.site.c.lease_until.is_not(None))
    ):
        metric.add_metric([row.name], float(row.left_s))
    return metric


def _due(connection: sa.Connection) -> Metric:
    metric = GaugeMetricFamily("meshgauge_environments_due", "Pending environments by site.", labels=["site"])
    environment = schema.environment
    for row in connection.execute(
        sa.select(environment.c.site, sa.func.count().label("number"))
        .where(environment.c.state == "pending")
        .group_by(environment.c.site)
    ):
        metric.add_metric([row.site], row.number)
    return metric


def _workers(connection: sa.Connection) -> Metric:
    metric = GaugeMetricFamily(
        "meshgauge_worker_silence_seconds", "Time since a worker was last seen.", labels=["worker", "queue"]
    )
    silence = sa.func.extract("epoch", sa.func.now() - schema.worker.c.seen_at)
    for row in connection.execute(sa.select(schema.worker.c.name, schema.worker.c.queue, silence.label("silence_s"))):
        metric.add_metric([row.name, row.queue], float(row.silence_s))
    return metric


@blueprint.get("/metrics")
@declared(Facts("read", "Numbers for Prometheus", media_type="text/plain"))
def metrics() -> Response:
    registry = CollectorRegistry(auto_describe=False)
    rows = _Rows(installation())
    registry.register(rows)
    return Response(generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8")
