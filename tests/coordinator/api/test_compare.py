"""Two runs over HTTP and on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from rich.console import Console

from coordinator.commands.compare import comparison_view

Submit = Callable[..., dict[str, Any]]


@pytest.fixture
def two_runs(submit: Submit, client: FlaskClient) -> tuple[str, str]:
    """The ids of two cancelled runs of one plan."""
    made = [submit(**{"Idempotency-Key": key})["id"] for key in ("one", "two")]
    for run in made:
        client.post(f"/api/v1/runs/{run}/cancel")
    return made[0], made[1]


def test_two_runs_are_compared_by_id_or_by_its_first_characters(client: FlaskClient, two_runs: tuple[str, str]) -> None:
    first, second = two_runs
    for names in ((first, second), (first[:8], second[:8])):
        found = client.get("/api/v1/compare", query_string=dict(zip("ab", names, strict=True)))
        assert found.status_code == 200, found.text
        body: Any = found.json
        assert (body["first"]["id"], body["second"]["id"]) == (first, second)
        assert body["level"] == 0.95
        assert {row["verdict"] for row in body["results"]} == {"invalid"}
        assert all("first run: 0 of 2 planned blocks are valid" in row["reason"] for row in body["results"])
        assert "each divided by its own control" in body["answer"]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({}, 400, "name two runs: /api/v1/compare?a=RUN&b=RUN (a is missing)"),
        ({"a": "{first}"}, 400, "(b is missing)"),
        ({"a": "{first}", "b": "{first}"}, 400, "a run cannot be compared with itself"),
        ({"a": "{first}", "b": "00000000"}, 404, "unknown run '00000000'"),
    ],
)
def test_what_cannot_be_compared_says_why(
    client: FlaskClient, two_runs: tuple[str, str], query: dict[str, str], status: int, said: str
) -> None:
    named = {name: value.format(first=two_runs[0]) for name, value in query.items()}
    found = client.get("/api/v1/compare", query_string=named)
    assert found.status_code == status
    assert said in found.json["detail"]  # type: ignore[index]


def test_the_terminal_shows_conditions_first_then_a_line_a_result() -> None:
    row = {
        "label": "envoy · mtls", "workload": "web", "load": "1000rps-8c", "metric": "p50", "difference": 9.96,
        "low": 7.1, "high": 12.9, "first_to_control": 59.2, "second_to_control": 75.1, "n_first": 10, "n_second": 8,
        "verdict": "slower", "flags": ["unconfirmed", "fragile", "across runs"], "reason": "",
    }  # fmt: skip
    refused = {**row, "metric": "p99", "low": None, "high": None, "difference": None, "verdict": "invalid",
               "flags": ["across runs"], "reason": "first run: too few"}  # fmt: skip
    found = {
        "answer": "1 slower.", "indicative": None, "level": 0.982, "caveat": "They did not share their blocks.",
        "conditions": [{"fact": "host: kernel", "first": "6.8", "second": "6.12", "weighty": True}],
        "results": [row, refused], "unmatched": [{"run": "0" * 36, "cell": "nginx/plain", "reason": "not there"}],
    }  # fmt: skip
    console = Console(width=140, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(comparison_view(found))
    text = captured.get()
    assert text.index("host: kernel: 6.8 | 6.12") < text.index("98.2 % interval") < text.index("left out: nginx/plain")
    line = next(line for line in text.splitlines() if "p50" in line)
    assert "+59.2 %" in line
    assert "+75.1 %" in line
    assert "[+7.1 .. +12.9]" in line
    assert "10 + 8" in line
    assert line.rstrip().endswith("slower (fragile)")
    assert "invalid: first run: too few" in text
