"""The served pages: the files of a folder, by the same names, behind the same guards."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from meshgauge.store import events
from meshgauge.store.database import transaction

Submit = Callable[..., dict[str, Any]]


def links(page: str) -> set[str]:
    """Return every address a page names."""
    return set(re.findall(r'(?:href|src)="(?!data:)([^"#]+)', page))


def test_every_page_of_a_run_is_served_and_leads_to_pages_that_are(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    base = f"/runs/{run['id']}/pages/"
    assert client.get(base.rstrip("/")).headers["Location"] == f"{base}index.html"
    first = client.get(f"{base}index.html").text
    assert '<p class="first">So far:' in first
    found = {link if link.startswith("/") else base + link for link in links(first)}
    assert f"{base}provenance.html" in found
    assert f"{base}data/trials.csv" in found | {
        link if link.startswith("/") else base + link for link in links(client.get(f"{base}data.html").text)
    }
    for link in found:
        assert client.get(link).status_code == 200, link


def test_a_page_may_run_nothing_and_load_only_what_is_beside_it(client: FlaskClient, submit: Submit) -> None:
    answer = client.get(f"/runs/{submit()['id']}/pages/index.html")
    policy = answer.headers["Content-Security-Policy"]
    assert answer.mimetype == "text/html"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy


def test_tables_are_saved_never_shown(client: FlaskClient, submit: Submit) -> None:
    answer = client.get(f"/runs/{submit()['id']}/pages/data/trials.csv")
    assert answer.headers["Content-Disposition"] == "attachment; filename=trials.csv"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["absent.html", "figures/absent.png", "data/absent.csv", "../../secret", "%2e%2e/x"])
def test_what_a_run_does_not_have_is_not_found(client: FlaskClient, submit: Submit, name: str) -> None:
    assert client.get(f"/runs/{submit()['id']}/pages/{name}").status_code == 404


def test_a_short_id_leads_to_the_whole_one(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    answer = client.get(f"/runs/{run['id'][:13]}/pages/data.html")
    assert answer.headers["Location"] == f"/runs/{run['id']}/pages/data.html"


def test_pages_change_with_the_run(client: FlaskClient, submit: Submit, engine: sa.Engine) -> None:
    run = submit()
    path = f"/runs/{run['id']}/pages/index.html"
    assert "Queued" in client.get(path).text
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE run SET state = 'cancelled', finished_at = now(), reason = 'enough'"))
        events.append(connection, uuid.UUID(run["id"]), "finished", {"state": "cancelled"})
    assert "The run was cancelled" in client.get(path).text


def test_pages_ask_who_calls_where_tokens_are_asked_for(remote_client: FlaskClient) -> None:
    for path in ("/compare", f"/runs/{uuid.uuid4()}/pages/index.html"):
        assert remote_client.get(path).headers["Location"].startswith("/login?next=")


def test_two_runs_are_chosen_in_a_form_without_script(client: FlaskClient, submit: Submit, engine: sa.Engine) -> None:
    ids = [submit(**{"Idempotency-Key": name})["id"] for name in ("one", "two")]
    assert "Two runs with measured trials are needed; there is none." in client.get("/compare").text
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE trial SET state = 'measured'"))
    page = client.get(f"/compare?b={ids[0]}").text
    assert page.count("<option") == 4
    assert re.search(rf'name="b" required>.*?<option value="{ids[0]}" selected>', page, re.DOTALL)
    answer = client.get(f"/compare?a={ids[0]}&b={ids[1][:13]}")
    assert answer.headers["Location"] == f"/compare/{ids[0]}--{ids[1]}/index.html"


def test_a_comparison_is_a_page_of_its_own(client: FlaskClient, submit: Submit) -> None:
    first, second = (submit(**{"Idempotency-Key": name})["id"] for name in ("one", "two"))
    page = client.get(f"/compare/{first}--{second}/index.html")
    assert page.status_code == 200
    assert page.text.count('<p class="first">') == 1
    assert "/" in links(page.text)
    assert client.get(f"/compare/{first}/index.html").status_code == 404
    assert client.get(f"/compare/{first}--{uuid.uuid4()}/index.html").status_code == 404
