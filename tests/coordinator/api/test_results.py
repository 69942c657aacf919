"""Summaries, tables, reports and artefacts of a run."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from meshgauge.store import schema
from meshgauge.store.database import transaction

Submit = Callable[..., dict[str, Any]]


@pytest.fixture
def keep(engine: sa.Engine) -> Callable[..., int]:
    """Return a function that stores an artefact of a run."""

    def store(run_id: str, name: str = "envoy.yaml", content: bytes = b"static: {}") -> int:
        with transaction(engine) as connection:
            made = connection.execute(
                sa.insert(schema.artefact)
                .values(run_id=uuid.UUID(run_id), name=name, media_type="text/html", sha256="0" * 64, content=content)
                .returning(schema.artefact.c.id)
            ).scalar_one()
        return int(made)

    return store


def test_a_summary_speaks_even_of_a_run_without_measurements(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    client.post(f"/api/v1/runs/{run['id']}/cancel")
    summary = client.get(f"/api/v1/runs/{run['id']}/summary").json
    assert summary["run_id"] == run["id"]  # type: ignore[index]
    assert {row["n"] for row in summary["results"]} <= {0}  # type: ignore[index]


def test_trials_are_a_table_with_a_line_each(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    response = client.get(f"/api/v1/runs/{run['id']}/trials")
    assert response.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == 6
    assert {row["state"] for row in rows} == {"pending"}


def test_an_unknown_table_names_the_known_ones(client: FlaskClient, submit: Submit) -> None:
    run = submit()
    response = client.get(f"/api/v1/runs/{run['id']}/tables/trails.csv")
    assert response.status_code == 404
    assert "Did you mean 'trials'?" in response.json["detail"]  # type: ignore[index]


def test_artefacts_are_listed_and_downloaded_never_shown(
    client: FlaskClient, submit: Submit, keep: Callable[..., int]
) -> None:
    run = submit()
    keep(run["id"], content=b"<script>alert(1)</script>")
    (listed,) = client.get(f"/api/v1/runs/{run['id']}/artefacts").json  # type: ignore[misc]
    assert (listed["name"], listed["size_bytes"]) == ("envoy.yaml", 25)
    response = client.get(listed["link"])
    assert response.data == b"<script>alert(1)</script>"
    assert response.mimetype == "application/octet-stream"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        (".bashrc", "bashrc"),
        ('a"; filename="b.exe', "a_filename_b.exe"),
        ("x\r\nSet-Cookie: y", "x_Set-Cookie_y"),
        ("///", "_"),
    ],
)
def test_a_hostile_name_of_a_file_is_made_harmless(
    client: FlaskClient, submit: Submit, keep: Callable[..., int], name: str, saved: str
) -> None:
    run = submit()
    artefact = keep(run["id"], name=name)
    response = client.get(f"/api/v1/runs/{run['id']}/artefacts/{artefact}")
    assert response.headers["Content-Disposition"].partition("filename=")[2].strip('"') == saved
    assert "Set-Cookie" not in response.headers


def test_a_run_lets_in_to_its_own_files_only(client: FlaskClient, submit: Submit, keep: Callable[..., int]) -> None:
    first, second = submit(), submit()
    artefact = keep(first["id"])
    assert client.get(f"/api/v1/runs/{second['id']}/artefacts/{artefact}").status_code == 404
    assert client.get(f"/runs/{second['id']}/artefacts/{artefact}").status_code == 404
    assert client.get(f"/runs/{first['id']}/artefacts/{artefact}").status_code == 200
