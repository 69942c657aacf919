"""Trends over HTTP: what is shown, who may say what, and refusals that say what to do."""

from __future__ import annotations

import io
import re
import uuid
import zipfile
from typing import Any

import pytest
from flask.testing import FlaskClient

Nights = Any  # of this folder's conftest


@pytest.fixture
def stepped(nights: Nights) -> Nights:
    """Nights with a suspected step of a release, in p50 and p99."""
    nights.pass_by(20, follow=False)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4, follow=False)
    nights.follow()
    return nights


def test_a_schedule_without_nights_is_listed_and_shown(client: FlaskClient, nights: Nights) -> None:
    lines: Any = client.get("/api/v1/trends").json
    (line,) = lines
    assert line == {
        "schedule": "nightly", "answer": "No night of nightly has given a value yet.", "nights": 0, "open_steps": 0
    }  # fmt: skip
    shown: Any = client.get("/api/v1/trends/nightly").json
    assert (shown["series"], shown["steps"], shown["baseline"]) == ([], [], None)
    refused = client.get("/api/v1/trends/nightlies")
    assert (refused.status_code, "nightly" in refused.json["detail"]) == (404, True)  # type: ignore[index]


def test_nights_and_steps_are_shown_with_their_unit(client: FlaskClient, stepped: Nights) -> None:
    shown: Any = client.get("/api/v1/trends/nightly").json
    assert shown["answer"].startswith("Suspected: ")
    latency = next(one for one in shown["series"] if one["metric"] == "p50")
    assert latency["unit"] == "%"
    assert len(latency["nights"]) == 24
    last = latency["nights"][-1]
    assert last["low_95"] < last["difference"] < last["high_95"]
    assert last["difference"] == pytest.approx(65, abs=5)
    assert last["version"] == "1.41.0"
    step = next(one for one in shown["steps"] if one["metric"] == "p50")
    assert (step["state"], step["cause"], step["change"]) == ("suspected", "version", "1.40.0 to 1.41.0")
    assert step["size"] == pytest.approx(10, abs=3)
    assert client.get(f"/api/v1/steps/{step['id']}").json == step
    assert step in (client.get("/api/v1/steps?state=suspected").json or ())
    assert client.get("/api/v1/steps?state=confirmed").json == []


def test_acknowledging_needs_a_reason_and_keeps_a_name(client: FlaskClient, stepped: Nights) -> None:
    step = stepped.steps["p50"].id
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x", "who": "ada"}):
        assert client.post(f"/api/v1/steps/{step}/acknowledge", json=body).status_code == 400, body
    done: Any = client.post(f"/api/v1/steps/{step}/acknowledge", json={"reason": "known", "by": "ada"}).json
    assert (done["state"], done["reason"], done["acknowledged_by"]) == ("acknowledged", "known", "ada")
    again = client.post(f"/api/v1/steps/{step}/acknowledge", json={"reason": "again"})
    assert (again.status_code, "by ada already: known" in again.json["detail"]) == (409, True)  # type: ignore[index]
    assert client.post("/api/v1/steps/999999999/acknowledge", json={"reason": "x"}).status_code == 404


def test_a_token_speaks_in_its_own_name(client: FlaskClient, stepped: Nights) -> None:
    from meshgauge.store import tokens  # noqa: PLC0415
    from meshgauge.store.database import transaction  # noqa: PLC0415

    with transaction(stepped.engine) as connection:
        secrets = {role: tokens.create(connection, f"{role}-bot", role) for role in ("read", "run")}
    step = stepped.steps["p50"].id

    def post(role: str) -> Any:
        header = {"Authorization": f"Bearer {secrets[role]}"}
        body = {"reason": "known", "by": "somebody else"}
        return client.post(f"/api/v1/steps/{step}/acknowledge", json=body, headers=header)

    assert post("read").status_code == 403
    assert post("run").json["acknowledged_by"] == "run-bot"


def test_a_confirming_run_under_way_is_not_doubled(client: FlaskClient, stepped: Nights) -> None:
    step = stepped.steps["p50"]
    refused = client.post(f"/api/v1/steps/{step.id}/confirm")
    assert refused.status_code == 409
    stepped.measure(uuid.UUID(step.confirming_run_id), failed=True)
    stepped.follow()
    again = client.post(f"/api/v1/steps/{step.id}/confirm")
    assert again.status_code == 202
    assert again.json["confirming_run"] not in (None, step.confirming_run_id)  # type: ignore[index]
    assert client.get(f"/api/v1/runs/{again.json['confirming_run']}").json["blocks"] == 10  # type: ignore[index]


def test_remarks_are_made_and_taken_back(client: FlaskClient, nights: Nights) -> None:
    made = client.post("/api/v1/trends/nightly/annotations", json={"text": "new rack", "at": "2026-10-03", "by": "ada"})
    assert made.status_code == 201
    remark: Any = made.json
    assert (remark["text"], remark["made_by"], remark["at"]) == ("new rack", "ada", "2026-10-03T00:00:00Z")
    assert client.get("/api/v1/trends/nightly").json["annotations"] == [remark]  # type: ignore[index]
    assert client.post("/api/v1/trends/nightly/annotations", json={"text": " "}).status_code == 400
    assert client.delete(f"/api/v1/trends/nightly/annotations/{remark['id']}").status_code == 204
    assert client.delete(f"/api/v1/trends/nightly/annotations/{remark['id']}").status_code == 404


def test_a_run_is_pinned_and_unpinned(client: FlaskClient, stepped: Nights) -> None:
    first = next(point.run_id for point in stepped.trend.points)
    pinned = client.post("/api/v1/trends/nightly/baseline", json={"run": first[:8], "reason": "stable", "by": "ada"})
    assert pinned.status_code == 200, pinned.text
    baseline: Any = pinned.json["baseline"]  # type: ignore[index]
    assert (baseline["run"], baseline["reason"], baseline["pinned_by"]) == (first, "stable", "ada")
    kept = stepped.trend.baseline
    own = {(point.series, point.metric): point.value for point in stepped.trend.points if point.run_id == first}
    assert {(point.series, point.metric): point.value for point in kept.points} == own
    assert client.delete("/api/v1/trends/nightly/baseline").status_code == 204
    assert client.delete("/api/v1/trends/nightly/baseline").status_code == 409
    assert stepped.trend.baseline is None


def test_only_a_finished_run_with_values_can_be_pinned(client: FlaskClient, nights: Nights, submit: Any) -> None:
    run = submit()["id"]
    for_open = client.post("/api/v1/trends/nightly/baseline", json={"run": run, "reason": "x"})
    assert (for_open.status_code, "not over" in for_open.json["detail"]) == (409, True)  # type: ignore[index]
    nights.measure(uuid.UUID(run), failed=True)
    empty = client.post("/api/v1/trends/nightly/baseline", json={"run": run, "reason": "x"})
    assert (empty.status_code, "no valid comparison" in empty.json["detail"]) == (409, True)  # type: ignore[index]
    assert client.post("/api/v1/trends/nightly/baseline", json={"run": "deadbeef", "reason": "x"}).status_code == 404


def test_the_page_of_a_schedule_is_served_and_in_the_archive(client: FlaskClient, stepped: Nights) -> None:
    moved = client.get("/trends/nightly")
    assert moved.headers["Location"] == "/trends/nightly/index.html"
    page = client.get("/trends/nightly/index.html")
    assert page.status_code == 200
    assert "Suspected: " in page.text
    assert client.get("/trends/nightly/figures/trend-1-p50.png").data.startswith(b"\x89PNG")
    assert len(client.get("/trends/nightly/data/trend-1-p50.csv").text.splitlines()) == 1 + 24
    for table in set(re.findall(r'href="(data/[^"]+)"', page.text)):
        assert client.get(f"/trends/nightly/{table}").status_code == 200, table
    assert client.get("/trends/nobody/index.html").status_code == 404
    assert '<a href="/trends/nightly">' in client.get("/").text

    client.post("/api/v1/trends/nightly/annotations", json={"text": "a new rack", "by": "ada"})
    assert "a new rack" in client.get("/trends/nightly/index.html").text  # not the page of before

    with zipfile.ZipFile(io.BytesIO(client.get("/api/v1/pages.zip?limit=1").data)) as archive:
        names = archive.namelist()
        assert "trends/nightly/index.html" in names
        inside = archive.read("trends/nightly/index.html").decode()
    linked = set(re.findall(r'href="\.\./\.\./(runs/[^"]+)"', inside))
    assert linked <= set(names)


def test_a_nightly_plan_without_its_twin_is_warned_about(client: FlaskClient, nights: Nights, plan_text: str) -> None:
    listed: Any = client.get("/api/v1/schedules").json
    assert [schedule["warnings"] for schedule in listed] == [[]]  # this one has it
    cron = 'schedule: {cron: "0 1 * * *"}\n'
    made: Any = client.post("/api/v1/schedules", data=plan_text + cron, content_type="application/yaml").json
    assert "aa_arm: true" in made["warnings"][0]
    check: Any = client.post("/api/v1/plans/validate", data=plan_text + cron, content_type="application/yaml").json
    assert made["warnings"][0] in check["warnings"]
    plain: Any = client.post("/api/v1/plans/validate", data=plan_text, content_type="application/yaml").json
    assert made["warnings"][0] not in plain["warnings"]
