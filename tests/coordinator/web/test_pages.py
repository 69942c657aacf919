"""Pages: hostile names stay text, forms prove where they come from, everything works without script."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask.testing import FlaskClient

from meshgauge.store import events
from meshgauge.store.database import transaction

Submit = Callable[..., dict[str, Any]]
HOSTILE = "<script>alert(1)</script>"


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found[1]


def test_an_empty_installation_says_how_to_start(client: FlaskClient) -> None:
    page = client.get("/").text
    assert "meshgauge run plans/quickstart.yaml" in page
    assert "meshgauge schedule add PLAN" in page


def test_runs_and_schedules_are_listed(client: FlaskClient, submit: Submit, plan_text: str) -> None:
    run = submit()
    client.post("/api/v1/schedules?cron=30+2+*+*+*", data=plan_text, content_type="application/yaml")
    page = client.get("/").text
    assert f"/runs/{run['id']}" in page
    assert "30 2 * * *" in page
    assert "0 of 6" in page


def test_a_runs_page_shows_its_progress_and_diary(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    page = client.get(f"/runs/{run['id']}").text
    assert "Block</dt><dd>1 of 2" in page
    assert "submitted" in page
    assert '<meta http-equiv="refresh"' in page  # without script
    assert "<script>" not in page  # none inline: the policy forbids it


def test_names_from_elsewhere_stay_text(client: FlaskClient, submit: Submit, engine: sa.Engine) -> None:
    run = submit()
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE run SET reason = :x, submitted_by = :x, name = :x"), {"x": HOSTILE})
        connection.execute(sa.text("UPDATE site SET reason = :x, state = 'quarantined'"), {"x": HOSTILE})
        events.append(connection, __import__("uuid").UUID(run["id"]), HOSTILE, {HOSTILE: HOSTILE})
    for path in ("/", f"/runs/{run['id']}"):
        page = client.get(path).text
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page
    missing = client.get(f"/runs/{HOSTILE}")
    assert missing.status_code == 404
    assert HOSTILE not in missing.text


def test_a_run_is_cancelled_from_its_page(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    page = client.get(f"/runs/{run['id']}").text
    response = client.post(f"/runs/{run['id']}/cancel", data={"csrf": csrf_of(page)})
    assert response.status_code == 303
    assert client.get(f"/api/v1/runs/{run['id']}").json["cancel_requested_at"]  # type: ignore[index]


def test_a_form_that_is_not_ours_cancels_nothing(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    client.get(f"/runs/{run['id']}")
    for data in ({"csrf": "wrong"}, {"csrf": ""}, {}):
        assert client.post(f"/runs/{run['id']}/cancel", data=data).status_code in (403, 415)
    assert client.get(f"/api/v1/runs/{run['id']}").json["cancel_requested_at"] is None  # type: ignore[index]


def test_an_old_session_does_not_vouch_for_an_empty_form(client: FlaskClient, submit: Submit) -> None:
    run = submit()  # no page was loaded: the session holds no token to be equal to
    response = client.post(f"/runs/{run['id']}/cancel", data={"csrf": ""})
    assert response.status_code == 403


def test_the_report_may_neither_run_nor_load_anything(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    client.post(f"/api/v1/runs/{run['id']}/cancel")
    for path in (f"/runs/{run['id']}/report", f"/api/v1/runs/{run['id']}/report"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.mimetype == "text/html"
        policy = response.headers["Content-Security-Policy"]
        assert "script-src" not in policy
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "first" in response.text


def test_a_report_is_made_once_until_the_run_changes(
    client: FlaskClient, submit: Submit, installed: Any, engine: sa.Engine
) -> None:
    run = submit()
    path = f"/api/v1/runs/{run['id']}/report"
    assert client.get(path).text == client.get(path).text
    assert len(installed.reporting._pages) == 1
    client.post(f"/api/v1/runs/{run['id']}/cancel")
    client.get(path)
    assert len(installed.reporting._pages) == 2
