"""Planning: what is refused, with which path, and what is frozen into a resolved plan."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from coordinator.estimate import estimate_s
from coordinator.plan_check import PlanCheck, check_plan
from coordinator.planner import Planner, read_plan
from meshgauge.document import load_plan
from meshgauge.errors import InvalidPlanError, ServiceUnavailableError
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import block_order, expand
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.settings import Settings


def problems_of(planner: Planner, text: str, *, may_run_programs: bool = True) -> dict[str, str]:
    with pytest.raises(InvalidPlanError) as refused:
        planner.resolve(text, may_run_programs=may_run_programs)
    return {problem.path: problem.message for problem in refused.value.problems}


def test_selectors_are_fixed_to_exact_versions(planner: Planner, plan_text: str) -> None:
    resolved = planner.resolve(plan_text, may_run_programs=False)
    assert [arm.label for arm in resolved.arms] == ["none", "envoy-1.40.0", "envoy-1.39.1"]
    assert resolved.seed == 7


def test_a_seed_is_drawn_where_the_plan_has_none(planner: Planner, plan_text: str) -> None:
    text = plan_text.replace("seed: 7\n", "")
    seeds = {planner.resolve(text, may_run_programs=False).seed for _ in range(3)}
    assert len(seeds) == 3


def test_features_are_kept_for_every_environment(planner: Planner, plan_text: str) -> None:
    features = planner.resolve(plan_text, may_run_programs=False).features
    assert features["none/plain/web/local"] == {}
    assert features["envoy-1.40.0/mtls/web/local"]["client"]["tls"] == "1.3"


def test_what_a_mesh_cannot_do_is_left_out_with_the_reason(planner: Planner, plan_text: str) -> None:
    resolved = planner.resolve(plan_text.replace("- none", "- none\n  - haproxy"), may_run_programs=False)
    assert [(skipped.mesh, skipped.reason) for skipped in resolved.matrix.skipped] == [
        ("haproxy-3.2.1", "haproxy has no mTLS here")
    ]


def test_an_unknown_mesh_is_named_at_its_place(planner: Planner, plan_text: str) -> None:
    problems = problems_of(planner, plan_text.replace("envoy", "envoi"))
    assert "Did you mean 'envoy'?" in problems["meshes[1].adapter"]


def test_an_unknown_provider_is_named_at_its_place(planner: Planner, plan_text: str) -> None:
    problems = problems_of(planner, plan_text + "infrastructures: [kubernetes]\n")
    assert "unknown infrastructure provider 'kubernetes'" in problems["infrastructures[0].provider"]


def test_an_unfitting_version_lists_those_there_are(planner: Planner, plan_text: str) -> None:
    problems = problems_of(planner, plan_text.replace("latest-1", "2.0.0"))
    assert "1.40.0, 1.39.1" in problems["meshes[1].versions[1]"]


def test_an_absent_index_is_no_fault_of_the_plan(planner: Planner, plan_text: str, shelf: Any) -> None:
    shelf.is_away = True
    with pytest.raises(ServiceUnavailableError):
        planner.resolve(plan_text, may_run_programs=False)


def test_a_matrix_beyond_the_limit_is_refused_before_it_is_expanded(planner: Planner, plan_text: str) -> None:
    loads = ", ".join(f"{{rate_rps: {rate}}}" for rate in range(1, 2000))
    text = plan_text.replace(
        plan_text[plan_text.index("\nloads:") + 1 : plan_text.index("blocks:")], f"loads: [{loads}]\n"
    )
    assert "5997 cells, and 5000 are allowed" in problems_of(planner, text)[""]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (
            "app: fixed-reply, reply_bytes: 1024",
            "commands: [{version: '1', command: [sh, -c, id]}]",
            "workloads[0].commands",
        ),
        ("reply_bytes: 1024", "reply_bytes: 1024, locust_file: /tmp/x.py", "workloads[0].locust_file"),
        ("- none", "- none\n  - {adapter: envoy, label: own, binary: /bin/sh}", "meshes[1].binary"),
        (
            "- none",
            "- none\n  - {client: {adapter: envoy, binary: /bin/sh}, server: {adapter: envoy}}",
            "meshes[1].client.binary",
        ),
    ],
)
def test_programs_are_refused_to_those_who_may_not_run_them(
    planner: Planner, plan_text: str, old: str, new: str, path: str
) -> None:
    text = plan_text.replace(old, new)
    assert "not open to you" in problems_of(planner, text, may_run_programs=False)[path]
    planner.resolve(text, may_run_programs=True)


@pytest.mark.parametrize("field", ["charts", "images"])
def test_charts_and_images_of_ones_own_are_programs_too(planner: Planner, plan_text: str, field: str) -> None:
    where = f"infrastructures: {{name: k, provider: kubernetes, cluster: {{{field}: 'http://192.0.2.1/'}}}}"
    text = plan_text.replace("\nloads:", f"\n{where}\nloads:")
    refused = problems_of(planner, text, may_run_programs=False)
    assert "not open to you" in refused[f"infrastructures[0].cluster.{field}"]


def test_json_is_read_strictly() -> None:
    with pytest.raises(InvalidPlanError, match="appears twice"):
        read_plan('{"name": "a", "name": "b"}')
    with pytest.raises(InvalidPlanError, match="NaN is not JSON"):
        read_plan('{"name": NaN}')
    with pytest.raises(InvalidPlanError, match="nested deeper"):
        read_plan('{"name": ' + "[" * 500 + "]" * 500 + "}")
    with pytest.raises(InvalidPlanError, match="nested deeper"):
        read_plan('{"name": ' + "[" * 100_000 + "]" * 100_000 + "}")


def test_a_yaml_mapping_in_braces_is_still_yaml() -> None:
    text = "{name: a, meshes: [none], workloads: {name: w, app: fixed-reply, reply_bytes: 1}, loads: {rate_rps: 10}}"
    assert read_plan(text).name == "a"


def test_the_dry_run_lists_cells_order_and_time(planner: Planner, plan_text: str) -> None:
    check = check_plan(planner.resolve(plan_text, may_run_programs=False), planner.settings, cores=2)
    assert len(check.cells) == 3
    assert (check.environments, check.trials) == (6, 6)
    assert {turn.environment for turn in check.first_block} == {cell.rpartition("/")[0] for cell in check.cells}
    assert check.estimate_s > 6 * 12  # warm-up, window and cool-down alone
    assert json.loads(json.dumps(check.to_json()))["meshes"][1]["hops"][0]["version"] == "1.40.0"


def test_the_dry_run_warns_of_what_a_reader_should_know(planner: Planner, plan_text: str) -> None:
    text = plan_text.replace("window_s: 10", "window_s: 5") + 'schedule: {cron: "30 2 * * *"}\n'
    check = check_plan(planner.resolve(text, may_run_programs=False), planner.settings, cores=2)
    said = " | ".join(check.warnings)
    assert "2 blocks give no verdict" in said
    assert "2 cores" in said
    assert "5000 requests in a window of 5 s are too few for p99" in said
    assert "a window of 10 s would do" in said
    assert "a warm-up of 1 s is short" in said
    assert "meshgauge schedule add" in said


def test_a_thorough_plan_on_a_large_host_gives_no_warning(planner: Planner, plan_text: str) -> None:
    text = plan_text.replace("blocks: 2", "blocks: 10").replace("warm_up_s: 1", "warm_up_s: 30")
    text = text.replace("window_s: 10", "window_s: 60")
    assert check_plan(planner.resolve(text, may_run_programs=False), planner.settings, cores=16).warnings == ()


def test_sites_that_work_side_by_side_take_the_time_of_the_slower(planner: Planner, plan_text: str) -> None:
    resolved = planner.resolve(plan_text, may_run_programs=False)
    turns = block_order(resolved.matrix, 2, 7, "none")
    elsewhere = Infrastructure(name="far", provider="external", target_url="http://192.0.2.1")
    moved = [replace(turn, environment=replace(turn.environment, infrastructure=elsewhere)) for turn in turns]
    alone_s = estimate_s(turns, planner.settings)
    assert estimate_s([*turns, *moved[:2]], planner.settings) == alone_s
    assert estimate_s([*turns, *turns[:2]], planner.settings) > alone_s


def test_a_threshold_that_would_hold_nothing_is_told_before_anything_is_measured(
    planner: Planner, plan_text: str
) -> None:
    def warnings(thresholds: str) -> str:
        resolved = planner.resolve(f"{plan_text}thresholds: [{thresholds}]\n", may_run_programs=False)
        return " ".join(check_plan(resolved, planner.settings, cores=8).warnings)

    assert "thresholds[0]: selects no cell" in warnings("{metric: p50, at_most: 1, where: {mesh: envoi}}")
    assert "thresholds[0]: selects no comparison" in warnings(
        "{metric: p50, worse_by_at_most: 1, against: application}"
    )
    assert "thresholds" not in warnings("{metric: p50, worse_by_at_most: 1}")


def check_of(provider: str, load: str) -> PlanCheck:
    text = (
        "name: x\nmeshes: [none]\nworkloads: {name: w, app: fixed-reply, reply_bytes: 1}\n"
        f"loads: {load}\ninfrastructures: [{provider}]\n"
    )
    plan = load_plan(text)
    arms = resolve_arms(plan, lambda _: ())
    resolved = ResolvedPlan(text, plan, arms, expand(plan, arms, lambda *_: None), 3, {})
    return check_plan(resolved, Settings(), 8)


def test_the_dry_run_shows_the_window_a_plan_leaves_to_us_and_counts_its_time() -> None:
    local, cluster = (check_of(provider, "{rate_rps: 1000}") for provider in ("local", "kubernetes"))
    (short,), (long,) = local.loads, cluster.loads
    assert (short.window_s, long.window_s) == (60, 120)
    stated = check_of("kubernetes", "{rate_rps: 1000, window_s: 60}")
    assert cluster.estimate_s - stated.estimate_s == 60 * cluster.trials
    assert not [warning for warning in cluster.warnings if "window" in warning]


def test_a_window_too_short_to_count_cpu_in_a_cluster_is_warned_of() -> None:
    def said(provider: str, window_s: int) -> str:
        return " | ".join(check_of(provider, f"{{rate_rps: 1000, window_s: {window_s}}}").warnings)

    assert "a window of 60 s often gives none" in said("kubernetes", 60)
    assert "often gives none" not in said("kubernetes", 80)
    assert "often gives none" not in said("local", 20)
