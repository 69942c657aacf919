"""Trends from the command line: a client of the API, against a coordinator of its own process."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from coordinator.cli import app

Nights = Any  # of this folder's conftest


def test_the_command_line_shows_acknowledges_annotates_and_pins(
    live: Any, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.pass_by(20, follow=False)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4, follow=False)
    nights.follow()
    monkeypatch.setenv("MESHGAUGE_COORDINATOR_URL", live.url)
    runner = CliRunner()

    def said(*words: str) -> str:
        done = runner.invoke(app, [*words])
        assert done.exit_code == 0, (words, done.output)
        return " ".join(done.output.split())

    step = nights.steps["p50"]
    shown = said("trend", "show", "nightly")
    assert "Suspected: median latency (p50) of envoy latest" in shown
    assert "/trends/nightly" in shown
    assert "nightly" in said("trend", "list")
    assert str(step.id) in said("trend", "steps", "--state", "suspected")
    assert "by ada: known" in said("trend", "acknowledge", str(step.id), "--reason", "known", "--by", "ada")
    assert "noted as" in said("trend", "annotate", "nightly", "new rack", "--at", "2026-10-03", "--by", "ada")
    run = nights.trend.points[0].run_id
    assert run in said("baseline", "pin", "nightly", run[:8], "--reason", "stable", "--by", "ada")
    assert "held against run" in said("trend", "show", "nightly")
    assert "no run" in said("baseline", "unpin", "nightly")

    again = runner.invoke(app, ["trend", "acknowledge", str(step.id), "--reason", "x"])
    assert (again.exit_code, "by ada already: known" in again.output) == (5, True)
    assert runner.invoke(app, ["trend", "acknowledge", str(step.id)]).exit_code == 2  # no reason
    assert runner.invoke(app, ["trend", "show", "nobody"]).exit_code == 5
