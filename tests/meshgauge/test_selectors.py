"""Version selectors: what each means, and what it says when nothing fits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshgauge.document import load_plan
from meshgauge.errors import InvalidPlanError
from meshgauge.selectors import resolve_arms, resolve_selector

ENVOY = ("1.40.0", "1.39.3", "1.39.1", "1.39.0", "1.38.3", "1.37.0", "1.36.4", "1.36.2.post1", "1.41.0rc1")
REST = "workloads: {name: w, app: fixed-reply, reply_bytes: 1}\nloads: {rate_rps: 1}\n"


@pytest.mark.parametrize(
    ("selector", "version"),
    [
        ("1.39.1", "1.39.1"),
        ("latest", "1.40.0"),
        ("previous", "1.39.3"),
        ("latest-1", "1.39.3"),
        ("latest-4", "1.36.4"),
        (">=1.38,<1.40", "1.39.3"),
        ("~=1.36.2", "1.36.4"),
        ("1.41.0rc1", "1.41.0rc1"),
    ],
)
def test_a_selector_gives_one_exact_version(selector: str, version: str) -> None:
    assert resolve_selector(selector, ENVOY) == version


def test_a_package_with_one_minor_line_is_walked_by_its_point_releases() -> None:
    assert resolve_selector("previous", ("2.8.25", "2.8.21", "2.8.20")) == "2.8.21"


@pytest.mark.parametrize("selector", ["9.9", "latest-9", ">=2", "newest"])
def test_a_selector_that_fits_nothing_says_what_there_is(selector: str) -> None:
    with pytest.raises(InvalidPlanError, match=r"1\.40\.0|write 1\.40\.0"):
        resolve_selector(selector, ENVOY, "meshes[0].versions[0]")


def test_arms_are_labelled_by_adapter_version_and_placement(versions: Callable[[str], tuple[str, ...]]) -> None:
    plan = load_plan(
        "name: x\naa_arm: true\nmeshes:\n- none\n- {adapter: envoy, versions: [latest, previous]}\n"
        "- {adapter: nginx, placement: server}\n- {client: {adapter: envoy}, server: {adapter: haproxy}}\n"
        "- {adapter: envoy, label: mine, versions: [latest, previous]}\n" + REST
    )
    arms = resolve_arms(plan, versions)
    assert [arm.label for arm in arms] == [
        "none",
        "envoy-1.40.0",
        "envoy-1.39.3",
        "nginx-1.31.3-server",
        "envoy-1.40.0+haproxy-2.8.25",
        "mine-1.40.0",
        "mine-1.39.3",
        "none-again",
    ]
    assert [hop.role for hop in arms[1].hops] == ["client", "server"]
    assert [(hop.role, hop.adapter) for hop in arms[4].hops] == [("client", "envoy"), ("server", "haproxy")]


def test_all_problems_of_all_meshes_come_at_once(versions: Callable[[str], tuple[str, ...]]) -> None:
    plan = load_plan("name: x\nmeshes: [none, {adapter: envoy, version: '7'}, {adapter: nginx, version: '8'}]\n" + REST)
    with pytest.raises(InvalidPlanError) as caught:
        resolve_arms(plan, versions)
    assert [problem.path for problem in caught.value.problems] == ["meshes[1].versions[0]", "meshes[2].versions[0]"]


def test_a_baseline_that_is_no_arm_is_refused(versions: Callable[[str], tuple[str, ...]]) -> None:
    plan = load_plan("name: x\nmeshes: [{adapter: envoy}]\n" + REST)
    with pytest.raises(InvalidPlanError, match="baseline: 'none' is no mesh of this plan"):
        resolve_arms(plan, versions)
