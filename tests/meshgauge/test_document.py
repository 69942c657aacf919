"""Plan documents: every mistake has a path and a fix, and YAML's traps are closed."""

from __future__ import annotations

import pytest

from meshgauge.document import load_plan, parse_document
from meshgauge.errors import InvalidPlanError
from meshgauge.plan import CLUSTER_WINDOW_S

GOOD = """
name: quick
meshes: [none, {adapter: envoy, version: latest}]
workloads: {name: http-1k, app: fixed-reply, reply_bytes: 1024}
loads: {rate_rps: 1000}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidPlanError) as caught:
        load_plan(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_short_plan_gets_every_default() -> None:
    plan = load_plan(GOOD)
    load = plan.loads[0]
    assert (load.arrival, load.loop, load.warm_up_s, load.window_s, load.cool_down_s) == ("poisson", "open", 30, 60, 15)
    assert plan.blocks == 10
    assert plan.profiles[0].name == "plain"
    assert [mesh.adapter for mesh in plan.meshes] == ["none", "envoy"]


@pytest.mark.parametrize("places", ["kubernetes", "[local, {name: far, provider: kubernetes}]"])
def test_windows_nobody_set_are_long_enough_for_kubelets_to_count_in_clusters_alone(places: str) -> None:
    loads = "loads: [{rate_rps: 1000}, {rate_rps: 2000, window_s: 60}, {rate_rps: 3000, window_s: 30}]"
    text = GOOD.replace("loads: {rate_rps: 1000}", loads)
    assert [load.window_s for load in load_plan(text).loads] == [60, 60, 30]
    plan = load_plan(f"{text}infrastructures: {places}\n")
    assert [load.window_s for load in plan.loads] == [CLUSTER_WINDOW_S, 60, 30]
    stored = plan.model_dump(mode="json", exclude_none=True)  # what a run keeps says so, too
    assert [load["window_s"] for load in stored["loads"]] == [CLUSTER_WINDOW_S, 60, 30]
    assert type(plan).model_validate(stored) == plan


@pytest.mark.parametrize("domain", ["cluster.local.", ".local", "Cluster.local", "a..b", "-a.b", "a b", "x" * 64])
def test_a_cluster_domain_is_a_dns_name(domain: str) -> None:
    place = f"infrastructures: {{name: k, provider: kubernetes, cluster: {{domain: '{domain}'}}}}\n"
    (problem,) = problems(GOOD + place)
    assert problem.startswith("infrastructures[0].cluster.domain")
    assert load_plan(GOOD + place.replace(domain, "k8s.example-1.org")).infrastructures[0].in_cluster.domain


def test_json_is_accepted_too() -> None:
    assert parse_document('{"name": "x", "list": [1, 2.5, true, null, "no"]}') == {
        "name": "x",
        "list": [1, 2.5, True, None, "no"],
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("meshes:", "meshs:"), ["meshs: unknown key; did you mean 'meshes'?", "meshes: is needed"]),
        (("reply_bytes", "reply_byte"), ["workloads[0].reply_byte: unknown key; did you mean 'reply_bytes'?"]),
        (("rate_rps: 1000", "rate_rps: 0"), ["loads[0].rate_rps: Input should be greater than 0; got 0"]),
        (("adapter: envoy", "adaptor: envoy"), ["meshes[1].adaptor: unknown key; did you mean 'adapter'?"]),
        (("name: quick", "name: Quick!"), ["name: String should match pattern"]),
        (("name: quick", "name: q\nprofiles: [mtl]"), ["profiles[0]: unknown profile 'mtl'; known: plain, mtls"]),
        (("name: quick", "name: q\napi_token: abc"), ["api_token: looks like a secret"]),
        (("rate_rps: 1000", "rate_rps: 1000, loop: closed"), ["loads[0]: rate_rps is needed with loop: open"]),
        (("version: latest", "version: a, versions: [b]"), ["meshes[1]: give version or versions, not both"]),
    ],
)
def test_each_mistake_names_its_field_and_its_fix(change: tuple[str, str], expected: list[str]) -> None:
    found = problems(GOOD.replace(*change))
    for start in expected:
        assert any(problem.startswith(start) for problem in found), found


def test_a_list_is_not_called_short_because_an_item_is_wrong() -> None:
    assert not any("at least" in problem for problem in problems(GOOD.replace("rate_rps: 1000", "rate: 1")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b", "line 2: key 'name' appears twice"),
        ("a: &x 1\nb: *x", "line 2: aliases (*name) are not accepted; write the value out"),
        ("a: " + "[" * 20_000, "nested deeper than 20 levels"),
        ("a: [" + "1," * 30_000 + "]", "more than 20000 values"),
        ("- 1", "a plan is a mapping of fields; start with name: and meshes:"),
        ("a: [", "not valid YAML"),
        ("? [1]\n: 2", "keys must be plain names"),
    ],
)
def test_dangerous_yaml_is_refused_with_its_line(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(text))


def test_values_mean_what_they_look_like() -> None:
    data = parse_document(
        "a: no\nb: 12:30:45\nc: 2026-11-23\nd: 010\ne: 1_000\nf: 0x1F\ng: 7\nh: 1.5\ni: true\nj: null"
    )
    assert data == {
        "a": "no", "b": "12:30:45", "c": "2026-11-23", "d": "010", "e": "1_000", "f": "0x1F",
        "g": 7, "h": 1.5, "i": True, "j": None,
    }  # fmt: skip
