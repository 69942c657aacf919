"""A run held against its thresholds over HTTP, repeated on fresh blocks, and told to who asked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from coordinator import confirming
from meshgauge.store import channels, events
from meshgauge.store.database import transaction

Finish = Callable[..., None]
Submit = Callable[..., dict[str, Any]]

THRESHOLDS = """\
thresholds:
- {metric: p50, worse_by_at_most: 5, name: no-regression}
- {metric: p50, at_most: 1}
confirm_blocks: 6
"""


@pytest.fixture
def gated(submit: Submit, plan_text: str) -> dict[str, Any]:
    """A submitted run of six blocks whose plan has two thresholds."""
    return submit(plan_text.replace("blocks: 2", "blocks: 6") + THRESHOLDS)


def gate_of(client: FlaskClient, run: str) -> dict[str, Any]:
    response = client.get(f"/api/v1/runs/{run}/gate")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json  # type: ignore[assignment]
    return found


def confirm(client: FlaskClient, run: str, status: int) -> dict[str, Any]:
    response = client.post(f"/api/v1/runs/{run}/confirm")
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json  # type: ignore[assignment]
    return found


def test_a_run_within_its_thresholds_passes(client: FlaskClient, gated: dict[str, Any], finish: Finish) -> None:
    finish(gated["id"])
    answer = gate_of(client, gated["id"])
    assert answer["status"] == "passed"
    assert answer["counts"] == {"passed": 3, "failed": 0, "undecided": 0}
    assert "nothing" not in answer["sentence"]
    assert "no finding" in confirm(client, gated["id"], 409)["detail"]


def test_a_run_under_way_is_undecided_and_cannot_be_confirmed(client: FlaskClient, gated: dict[str, Any]) -> None:
    answer = gate_of(client, gated["id"])
    assert answer["status"] == "undecided"
    assert "not over yet" in answer["remarks"][0]
    assert "is not over" in confirm(client, gated["id"], 409)["detail"]


def test_a_finding_is_repeated_once_on_fresh_blocks_and_then_decided(
    client: FlaskClient, gated: dict[str, Any], finish: Finish, mailbox: Any
) -> None:
    finish(gated["id"], newest_us=240.0)
    first = gate_of(client, gated["id"])
    assert (first["status"], first["checks"][0]["word"]) == ("failed", "failed (unconfirmed)")

    made = confirm(client, gated["id"], 201)
    assert confirm(client, gated["id"], 200)["id"] == made["id"]
    assert gate_of(client, gated["id"])["confirming_under_way"] == made["id"]
    plan = json.loads(client.get(f"/api/v1/runs/{made['id']}/plan").text)
    assert {rule["mesh"] for rule in plan["include"]} == {"envoy-1.40.0", "envoy-1.39.1"}
    assert (made["blocks"], made["name"], made["confirms"]) == (6, "first-confirm", gated["id"])
    assert made["trials"] == {"pending": 12}

    finish(made["id"], seed=100, newest_us=230.0)
    answer = gate_of(client, gated["id"])
    assert (answer["status"], answer["confirming_run_id"]) == ("failed", made["id"])
    assert answer["checks"][0]["confirmation"] == "confirmed"
    assert answer["checks"][0]["value"] == pytest.approx(15, abs=0.5), "the fresh estimate"
    assert "no finding" in confirm(client, gated["id"], 409)["detail"]
    assert "ask for the gate of that run" in client.get(f"/api/v1/runs/{made['id']}/gate").json["detail"]  # type: ignore[index]


def test_versions_that_came_out_since_change_nothing(
    client: FlaskClient, gated: dict[str, Any], finish: Finish, shelf: Any
) -> None:
    finish(gated["id"], newest_us=240.0)
    shelf.known["envoy"].insert(0, "1.41.0")
    made = confirm(client, gated["id"], 201)
    finish(made["id"], seed=100)
    answer = gate_of(client, gated["id"])
    assert (answer["status"], answer["checks"][0]["confirmation"]) == ("passed", "not reproduced")


def test_a_confirmation_that_was_cancelled_can_be_asked_for_again(
    client: FlaskClient, gated: dict[str, Any], finish: Finish
) -> None:
    finish(gated["id"], newest_us=240.0)
    first = confirm(client, gated["id"], 201)
    client.post(f"/api/v1/runs/{first['id']}/cancel")
    assert gate_of(client, gated["id"])["checks"][0]["confirmation"] == "unconfirmed"
    assert confirm(client, gated["id"], 201)["id"] != first["id"]


def test_a_plan_without_thresholds_is_told_how_to_write_one(client: FlaskClient, submit: Submit) -> None:
    response = client.get(f"/api/v1/runs/{submit()['id']}/gate")
    assert response.status_code == 422
    assert "worse_by_at_most" in response.json["errors"][0]["message"]  # type: ignore[index]


def test_the_answer_comes_as_junit_and_as_markdown(client: FlaskClient, gated: dict[str, Any], finish: Finish) -> None:
    finish(gated["id"])
    path = f"/api/v1/runs/{gated['id']}/gate"
    xml = client.get(f"{path}.xml")
    assert xml.mimetype == "application/xml"
    suite = Xml.fromstring(xml.text)[0]  # noqa: S314 - our own text
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "0")
    text = client.get(f"{path}.md")
    assert text.mimetype == "text/markdown"
    assert "**Passed: all 3 checks keep their thresholds.**" in text.text
    assert "](http" not in text.text, "no link that a reader of a pull request could not open"
    assert client.get(f"{path}.xml?undecided=maybe").status_code == 400


def test_what_is_over_is_held_once_noted_and_told(
    client: FlaskClient, engine: sa.Engine, gated: dict[str, Any], finish: Finish
) -> None:
    with transaction(engine) as connection:
        channels.add(connection, "ci", "webhook", "https://example.org/hook", "s", ["gate_failed"])
    assert confirming.hold_due(engine) is False, "not over yet"
    finish(gated["id"], newest_us=240.0)
    assert confirming.hold_due(engine) is True
    assert confirming.hold_due(engine) is False
    made = confirm(client, gated["id"], 201)
    finish(made["id"], seed=100, newest_us=240.0)
    assert confirming.hold_due(engine) is True
    with transaction(engine) as connection:
        told = connection.execute(
            sa.text("SELECT payload FROM notice WHERE event = 'gate_failed' ORDER BY id")
        ).scalars()
        answers = [payload["answer"] for payload in told]
        noted = [e.data for e in events.after(connection, uuid.UUID(gated["id"]), 0) if e.kind == confirming.HELD]
    assert [answer.partition(":")[0] for answer in answers] == ["Failed (unconfirmed)", "Failed"]
    assert [data["status"] for data in noted] == ["failed"]


def test_a_threshold_that_holds_nothing_is_noted_and_not_tried_forever(
    engine: sa.Engine, submit: Submit, finish: Finish, plan_text: str
) -> None:
    run = submit(plan_text + "thresholds: [{metric: p50, at_most: 1, where: {mesh: envoi}}]\n")
    finish(run["id"])
    assert confirming.hold_due(engine) is True
    assert confirming.hold_due(engine) is False
    with transaction(engine) as connection:
        (noted,) = [e.data for e in events.after(connection, uuid.UUID(run["id"]), 0) if e.kind == confirming.HELD]
    assert noted["status"] == "undecided"
    assert "selects no cell" in noted["answer"]
