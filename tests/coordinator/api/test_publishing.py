"""Pages as archives: complete, with links that stay within, made once while nothing changes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from coordinator.web.installation import Installation

Submit = Callable[..., dict[str, Any]]


def archive_at(client: FlaskClient, path: str) -> dict[str, bytes]:
    """Return the files of an archive by name."""
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.mimetype == "application/zip"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=meshgauge-")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_archive_of_a_run_holds_its_pages_figures_and_data_and_needs_nothing_else(
    client: FlaskClient, submit: Submit
) -> None:
    files = archive_at(client, f"/api/v1/runs/{submit()['id']}/pages.zip")
    assert {"index.html", "provenance.html", "data/trials.csv"} <= set(files)
    for name, content in files.items():
        if name.endswith(".html"):
            for target in re.findall(r'(?:href|src)="(?!data:)([^"#]+)', content.decode()):
                assert target in files, (name, target)


def test_the_archive_of_everything_has_an_index_of_runs(client: FlaskClient, submit: Submit) -> None:
    ids = [submit(**{"Idempotency-Key": name})["id"] for name in ("one", "two")]
    files = archive_at(client, "/api/v1/pages.zip")
    for run_id in ids:
        assert f"runs/{run_id}/index.html" in files
        assert f'href="runs/{run_id}/index.html"'.encode() in files["index.html"]
    assert b"2 runs." in files["index.html"]
    newest = archive_at(client, "/api/v1/pages.zip?limit=1")
    assert f"runs/{ids[1]}/index.html" in newest
    assert f"runs/{ids[0]}/index.html" not in newest


def test_the_newest_two_finished_runs_of_a_plan_are_compared(
    client: FlaskClient, submit: Submit, set_state: Callable[..., None], installed: Installation
) -> None:
    first, second = (submit(**{"Idempotency-Key": name})["id"] for name in ("one", "two"))
    with installed.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial SET state = 'measured'")
    for run_id in (first, second):
        set_state(run_id)
    files = archive_at(client, "/api/v1/pages.zip")
    page = files[f"compare/{first}--{second}/index.html"].decode()
    assert 'href="../../index.html"' in page
    assert f"compare/{first}--{second}/index.html".encode() in files["index.html"]


def test_what_did_not_change_is_not_made_again(client: FlaskClient, submit: Submit, installed: Installation) -> None:
    run = submit()
    archive_at(client, "/api/v1/pages.zip")
    page = installed.settings.data_dir / "pages" / "runs" / run["id"] / "index.html"
    before = page.stat().st_mtime_ns
    archive_at(client, "/api/v1/pages.zip")
    assert page.stat().st_mtime_ns == before
    client.post(f"/api/v1/runs/{run['id']}/cancel")
    archive_at(client, "/api/v1/pages.zip")
    assert page.stat().st_mtime_ns != before


@pytest.mark.parametrize("limit", ["0", "-1", "many", "2001", "1.5"])
def test_a_limit_that_is_no_number_of_runs_is_refused(client: FlaskClient, limit: str) -> None:
    answer = client.get(f"/api/v1/pages.zip?limit={limit}")
    assert answer.status_code == 400
    assert "limit" in answer.json["detail"]  # type: ignore[index]


def test_a_run_that_is_not_there_has_no_archive(client: FlaskClient) -> None:
    assert client.get("/api/v1/runs/abcdefab/pages.zip").status_code == 404
