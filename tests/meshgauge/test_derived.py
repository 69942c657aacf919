"""Confirming plans: the kept cells and nothing else, under the same keys and at the same versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from meshgauge.derived import confirming_plan
from meshgauge.document import load_plan, validate_plan
from meshgauge.matrix import expand
from meshgauge.plan import Plan
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms

Versions = Callable[[str], Sequence[str]]

RICH = """
name: rich
description: everything a plan can name
meshes:
- none
- {adapter: envoy, versions: [latest, previous], label: sidecar}
- {adapter: haproxy, version: ">=2.8", placement: node}
- {client: {adapter: envoy, version: previous}, server: {adapter: haproxy}}
- {adapter: nginx, binary: /opt/nginx, label: ours}
profiles: [plain, {name: tuned, mtls: true, proxy_threads: 2}]
workloads:
- {name: web, app: fixed-reply, reply_bytes: 64}
- name: shop
  headers: {x-odd: '1e5 "yes"'}
  commands:
  - {version: "1.0", command: [shop, "{port}"]}
  - {version: "1e5", command: [shop, --new, "{port}"], env: {MODE: "no"}}
infrastructures: [local, {name: wide, provider: local, size: {app_threads: 2}}]
loads:
- {rate_rps: 100, window_s: 1}
- {name: fast, rate_rps: 1e3, window_s: 1}
exclude: [{mesh: none, load: fast}]
blocks: 20
sequential: true
seed: 9223372036854775807
aa_arm: true
thresholds: [{metric: p99, worse_by_at_most: 5}]
confirm_blocks: 8
schedule: {cron: "0 1 * * *"}
"""


def resolve(plan: Plan, text: str, versions: Versions) -> ResolvedPlan:
    arms = resolve_arms(plan, versions)
    return ResolvedPlan(text, plan, arms, expand(plan, arms, lambda *_: None), 7, {})


@pytest.fixture
def rich(versions: Versions) -> ResolvedPlan:
    return resolve(load_plan(RICH), RICH, versions)


def again(text: str, versions: Versions) -> ResolvedPlan:
    """Resolve a derived plan in a world where newer releases have come out since."""

    def later(adapter: str) -> Sequence[str]:
        return [*(["9.0.0"] if versions(adapter) else []), *versions(adapter)]

    return resolve(validate_plan(json.loads(text)), text, later)


def test_each_cell_alone_comes_back_under_its_key_at_its_version(rich: ResolvedPlan, versions: Versions) -> None:
    assert len(rich.matrix.cells) > 100
    for cell in rich.matrix.cells:
        (found,) = again(confirming_plan(rich, [cell.key], 10), versions).matrix.cells
        assert found == cell


def test_all_cells_together_come_back_in_their_order(rich: ResolvedPlan, versions: Versions) -> None:
    keys = [cell.key for cell in rich.matrix.cells]
    found = again(confirming_plan(rich, keys, 10), versions)
    assert found.matrix.cells == rich.matrix.cells
    assert found.arms == rich.arms


def test_it_is_measured_once_without_looks_and_without_thresholds_of_its_own(rich: ResolvedPlan) -> None:
    plan = load_plan(confirming_plan(rich, [rich.matrix.cells[0].key], 12))
    assert (plan.blocks, plan.sequential, plan.confirm_blocks) == (12, False, 0)
    assert (plan.seed, plan.schedule, plan.aa_arm) == (None, None, False)
    assert plan.thresholds == ()
    assert plan.margins == rich.plan.margins
    assert plan.name == "rich-confirm"


def test_only_what_the_kept_cells_need_is_named(rich: ResolvedPlan) -> None:
    kept = "envoy-1.39.3+haproxy-2.8.25/tuned/shop-1e5/local/fast"
    plan = load_plan(confirming_plan(rich, [kept], 10))
    assert [mesh.adapter for mesh in plan.meshes] == ["none", None]
    assert [workload.name for workload in plan.workloads] == ["shop"]
    assert [load.label for load in plan.loads] == ["fast"]
    assert [infrastructure.name for infrastructure in plan.infrastructures] == ["local"]


def test_the_same_cells_give_the_same_text_in_any_order(rich: ResolvedPlan) -> None:
    keys = [cell.key for cell in rich.matrix.cells[:3]]
    assert confirming_plan(rich, keys, 10) == confirming_plan(rich, reversed(keys), 10)


def test_a_long_name_stays_within_the_limit(rich: ResolvedPlan) -> None:
    long = ResolvedPlan("", rich.plan.model_copy(update={"name": "x" * 64}), rich.arms, rich.matrix, 7, {})
    assert len(load_plan(confirming_plan(long, [rich.matrix.cells[0].key], 10)).name) == 64


@pytest.mark.parametrize("keys", [[], ["envoy-9/plain/web/local/fast"]])
def test_cells_the_plan_does_not_have_are_refused(rich: ResolvedPlan, keys: list[str]) -> None:
    with pytest.raises(ValueError, match="no cells of this plan"):
        confirming_plan(rich, keys, 10)
