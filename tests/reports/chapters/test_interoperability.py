"""Interoperability: every combination is there, with what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.matrix import Hop, MeshArm, Skipped
from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, TrialRecord
from reports.gates import EVERYTHING
from reports.readings.interoperability import matrices_of

MakeRun = Callable[..., RunRecord]
Read = Callable[[RunRecord], Any]
VERSIONS = {"envoy": "1.40.0", "haproxy": "2.8.9", "nginx": "1.31.0"}
SLUG = "interoperability"


def _pair(client: str, server: str) -> MeshArm:
    hops = (Hop("client", client, VERSIONS[client]), Hop("server", server, VERSIONS[server]))
    return MeshArm(f"{client}-{server}", "pair", hops)


@pytest.fixture
def arms(make_arm: Callable[..., MeshArm]) -> Sequence[MeshArm]:
    """Return no mesh, a pure pair and three mixed ones."""
    mixed = (("envoy", "envoy"), ("envoy", "haproxy"), ("haproxy", "envoy"), ("nginx", "envoy"))
    return (make_arm("none"), *(_pair(client, server) for client, server in mixed))


def _states(read: Read, run: RunRecord) -> dict[tuple[str, str], str]:
    (matrix,) = matrices_of(read(run).analysis)
    return {(c.split()[0], s.split()[0]): field.state for (c, s), field in matrix.fields.items()}


def test_every_combination_has_a_field(make_run: MakeRun, arms: Sequence[MeshArm], read: Read) -> None:
    states = _states(read, make_run(arms))
    assert set(states) == {(c, s) for c in VERSIONS for s in ("envoy", "haproxy")}
    assert states["haproxy", "haproxy"] == "not in the plan"
    assert list(states.values()).count("works") == 4


def test_a_pair_that_fails_is_shown_with_the_reason(make_run: MakeRun, arms: Sequence[MeshArm], read: Read) -> None:
    def edit(trial: TrialRecord) -> TrialRecord:
        if not trial.cell.startswith("nginx-envoy"):
            return trial
        return replace(trial, load=None, usage=(), gates=(), state="failed", reason="certificate refused")

    run = make_run(arms, ratio={"envoy-haproxy": 1.4}, edit=edit)
    book = read(run)
    assert _states(read, run)["nginx", "envoy"] == "does not come up"
    assert book[SLUG].answer.startswith("2 of 3 pairs of different meshes work together; nginx 1.31.0 → envoy 1.40.0")
    rows = {row["combination"]: row for row in book.grid(SLUG, "combinations-1")}
    assert rows["nginx 1.31.0 → envoy 1.40.0"]["why"] == "certificate refused"
    (page,) = book.figures(SLUG)
    assert any(row["reason"] == "certificate refused" for row in page.rows)
    words = {text.get_text() for text in page.draw().axes[0].texts}
    assert {"does not come up", "not in the plan"} <= words


def test_traffic_that_went_around_a_proxy_is_not_called_working(
    make_run: MakeRun, arms: Sequence[MeshArm], read: Read
) -> None:
    gate = GateResult("treatment", "invalid", EVERYTHING, 1.0, 0.0, "failed checks", "the server proxy saw no request")

    def edit(trial: TrialRecord) -> TrialRecord:
        return replace(trial, gates=(gate,), state="invalid") if trial.cell.startswith("envoy-haproxy") else trial

    run = make_run(arms, edit=edit)
    assert _states(read, run)["envoy", "haproxy"] == "check failed"
    assert "the server proxy saw no request" in read(run).words(SLUG)


def test_what_an_adapter_cannot_do_is_called_unsupported(
    make_run: MakeRun, arms: Sequence[MeshArm], read: Read
) -> None:
    run = make_run(arms)
    cells = tuple(cell for cell in run.cells if cell.environment.mesh.label != "nginx-envoy")
    skipped = (Skipped("nginx-envoy", "mtls", "local", "nginx has no client certificates here"),)
    trials = tuple(trial for trial in run.trials if not trial.cell.startswith("nginx-envoy"))
    without = replace(run, cells=cells, skipped=skipped, trials=trials)
    assert _states(read, without)["nginx", "envoy"] == "not supported"


def test_what_has_not_been_measured_yet_is_not_called_broken(
    make_run: MakeRun, arms: Sequence[MeshArm], read: Read
) -> None:
    run = make_run(arms, state="running", edit=lambda t: None if t.cell.startswith("haproxy-envoy") else t)
    assert _states(read, run)["haproxy", "envoy"] == "not measured"


def test_the_fields_numbers_are_those_of_the_comparisons(
    make_run: MakeRun, arms: Sequence[MeshArm], read: Read
) -> None:
    book = read(
        make_run(arms, ratio={"envoy-haproxy": 1.4, "haproxy-envoy": 1.5, "envoy-envoy": 1.6, "nginx-envoy": 1.3})
    )
    field = book.grid(SLUG, "matrix-1")[0]["haproxy 2.8.9"]
    median = next(row for row in book.grid(SLUG, "results-1") if row["comparison"] == "envoy-haproxy · mtls")
    assert field.startswith("slower; p50 ")
    assert median["difference"] in field


def test_pure_meshes_alone_make_no_matrix(make_run: MakeRun, read: Read) -> None:
    assert SLUG not in read(make_run())
