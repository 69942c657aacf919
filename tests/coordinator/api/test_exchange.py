"""Exports and imports over HTTP."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from meshgauge.store import tokens
from meshgauge.store.database import transaction
from meshgauge.store.schema_tracking import published_series

Submit = Callable[..., dict[str, Any]]

CSV = (
    "Labels,NumThreads,ActualQPS,p50,p90,p99\n"
    "aa_qps_1000_c_16_1024_none_mtls_both,16,1000,1214,1696,2186\n"
    "bb_qps_1000_c_16_1024_none_mtls_baseline,16,1000,316,421,547\n"
)
DRAFT = {"name": "istio-2020", "source": "istio/tools, 2020-08-12, GKE", "text": CSV}


@pytest.fixture(autouse=True)
def no_series_left(engine: sa.Engine) -> Iterator[None]:
    """The database of these tests is shared, and its cleaner does not know this table."""
    yield
    with transaction(engine) as connection:
        connection.execute(sa.delete(published_series))


@pytest.mark.parametrize(
    ("name", "media_type", "ending"),
    [
        ("csv", "text/csv", "-trials.csv"),
        ("parquet", "application/vnd.apache.parquet", "-trials.parquet"),
        ("json", "application/json", ".json"),
        ("hdr", "text/plain", ".hlog"),
        ("smp", "application/json", ".smp.json"),
        ("meshmark", "application/json", ".meshmark.json"),
    ],
)
def test_a_run_is_downloaded_in_every_format(
    client: FlaskClient, submit: Submit, name: str, media_type: str, ending: str
) -> None:
    run = submit()
    response = client.get(f"/api/v1/runs/{run['id'][:8]}/export/{name}")
    assert response.status_code == 200
    assert response.mimetype == media_type
    assert response.headers["Content-Disposition"] == f"attachment; filename={run['id'][:8]}{ending}"
    assert response.data


def test_every_format_is_one_of_those_the_command_line_saves() -> None:
    from coordinator.commands.exchange import _ENDINGS, _ONE_TABLE  # noqa: PLC0415
    from reports.exchange.formats import FORMATS  # noqa: PLC0415

    assert {name: made.ending for name, made in FORMATS.items()} == _ENDINGS
    assert tuple(name for name, made in FORMATS.items() if made.is_table) == _ONE_TABLE


def test_the_table_is_chosen(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    response = client.get(f"/api/v1/runs/{run['id']}/export/parquet?table=comparisons")
    found = pq.read_table(io.BytesIO(response.data))
    assert "difference_unit" in found.column_names
    assert found.num_rows > 0


@pytest.mark.parametrize(("path", "told"), [("xml", "export format"), ("csv?table=trails", "Did you mean 'trials'?")])
def test_unknown_formats_and_tables_name_the_known_ones(
    client: FlaskClient, submit: Submit, path: str, told: str
) -> None:
    run = submit()
    response = client.get(f"/api/v1/runs/{run['id']}/export/{path}")
    assert response.status_code == 404
    assert told in response.json["detail"]  # type: ignore[index]


def test_without_pyarrow_the_answer_says_what_to_install(
    client: FlaskClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    response = client.get(f"/api/v1/runs/{run['id']}/export/parquet")
    assert response.status_code == 500
    assert 'pip install "meshgauge[exchange]"' in response.json["detail"]  # type: ignore[index]


def test_the_schema_of_the_document_is_published(client: FlaskClient) -> None:
    response = client.get("/api/v1/export/schema")
    assert response.mimetype == "application/schema+json"
    assert response.json["properties"]["format"]["const"] == "meshgauge-run"  # type: ignore[index]


def test_published_results_are_imported_listed_shown_and_removed(client: FlaskClient) -> None:
    made = client.post("/api/v1/published", json=DRAFT)
    assert made.status_code == 201, made.text
    assert (made.json["points"], made.json["importer"]) == (2, "istio-csv")  # type: ignore[index]
    assert any("coordinated omission" in caveat for caveat in made.json["caveats"])  # type: ignore[index]
    (listed,) = client.get("/api/v1/published").json  # type: ignore[misc]
    whole = client.get(listed["link"]).json
    assert [point["p50_ms"] for point in whole["points"]] == [1.214, 0.316]  # type: ignore[index]
    assert whole["points"][0]["errors_percent"] is None  # type: ignore[index]
    assert client.delete(listed["link"]).status_code == 204
    assert client.get("/api/v1/published").json == []
    assert client.delete(listed["link"]).status_code == 404


def test_nothing_is_overwritten(client: FlaskClient) -> None:
    client.post("/api/v1/published", json=DRAFT)
    again = client.post("/api/v1/published", json={**DRAFT, "source": "somebody else"})
    assert again.status_code == 409
    assert client.get("/api/v1/published/istio-2020").json["series"]["source"] == DRAFT["source"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": "a,b\n1,2\n"}, "no column Labels"),
        ({"text": '{"x": 1}'}, "no Fortio result"),
        ({"importer": "fortio"}, "not JSON"),
        ({"name": "Istio 2020"}, "name"),
        ({"sauce": "x"}, "sauce"),
        ({"source": ""}, "source"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_kept(client: FlaskClient, changes: dict[str, Any], told: str) -> None:
    response = client.post("/api/v1/published", json={**DRAFT, **changes})
    assert response.status_code in (400, 422)
    assert told in json.dumps(response.json)
    assert client.get("/api/v1/published").json == []


def test_a_reader_may_look_and_not_import(remote_client: FlaskClient, engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        secret = tokens.create(connection, "looker", "read")
    header = {"Authorization": f"Bearer {secret}"}
    assert remote_client.get("/api/v1/published", headers=header).status_code == 200
    assert remote_client.post("/api/v1/published", json=DRAFT, headers=header).status_code == 403
    assert remote_client.get("/api/v1/published").status_code == 401


def test_an_import_shows_beside_a_run_at_once_and_is_gone_when_removed(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    page = f"/runs/{run['id']}/pages/published.html"
    assert client.get(page).status_code == 404
    client.post("/api/v1/published", json=DRAFT)
    shown = client.get(page)
    assert shown.status_code == 200
    assert "published, not measured here" in shown.text
    assert "istio/tools, 2020-08-12, GKE" in shown.text
    client.delete("/api/v1/published/istio-2020")
    assert client.get(page).status_code == 404
