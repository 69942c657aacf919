"""Health, readiness and numbers: what is needed, what may be away."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from coordinator.web.installation import Installation
from meshgauge.store import channels, notices
from meshgauge.store.database import connect, transaction


def numbers(client: FlaskClient) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_coordinator_is_ready_when_its_database_is(client: FlaskClient) -> None:
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json["delivery"] == "up"  # type: ignore[index]


def test_an_absent_broker_is_named_and_does_no_harm(client: FlaskClient, mailbox: Any) -> None:
    mailbox.is_away = True
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json["delivery"].startswith("down: ")  # type: ignore[index]
    assert numbers(client)["meshgauge_delivery_up", ""] == 0


def test_an_old_schema_is_not_ready_and_says_what_to_do(client: FlaskClient, engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    ready = client.get("/readyz")
    assert ready.status_code == 500
    assert "python -m coordinator.migrate" in ready.json["detail"]  # type: ignore[index]


def test_without_a_database_it_lives_and_is_not_ready(
    installed: Installation, make_app: Callable[[Installation], Flask]
) -> None:
    nowhere = connect("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    client = make_app(dataclasses.replace(installed, engine=nowhere)).test_client()
    assert client.get("/healthz").status_code == 200
    for path in ("/readyz", "/api/v1/runs", "/metrics"):
        response = client.get(path)
        assert response.status_code == 503, path
        assert "Postgres does not answer" in response.json["detail"]  # type: ignore[index]
        assert response.headers["Retry-After"]
    assert client.get("/").status_code == 503


def test_numbers_for_prometheus_are_the_rows(
    client: FlaskClient, engine: sa.Engine, submit: Callable[..., dict[str, Any]]
) -> None:
    submit()
    with transaction(engine) as connection:
        channels.add(connection, "ci", "email", "me@example.org", None, ["gate_failed"])
        notices.put(connection, "gate_failed", "gate 1", {})
    found = numbers(client)
    assert found["meshgauge_runs", "queued"] == 1
    assert found["meshgauge_trials", "pending"] == 6
    assert found["meshgauge_sites", "dirty"] == 1
    assert found["meshgauge_environments_due", "local"] == 6
    assert found["meshgauge_delivery_up", ""] == 1
    assert found["meshgauge_notices", "pending"] == 1
