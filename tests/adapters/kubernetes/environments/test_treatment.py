"""Treatment checks in a cluster: pods carry what they should, proxies counted what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from adapters.kubernetes.environments import treatment
from adapters.kubernetes.environments.pods import images_of, losses, seen
from adapters.kubernetes.environments.treatment import Counts, Expected, Side, SpanOrder
from adapters.kubernetes.mesh import Containers, Passage

OWN: dict[Side, frozenset[str]] = {"app": frozenset({"app"}), "load": frozenset({"load"})}
PAIR = [Containers("client", None, "", ("proxy",)), Containers("server", None, "", ("proxy",))]


def pod(name: str, containers: Sequence[str], sidecars: Sequence[str] = (), **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "bench", "uid": f"uid-{name}"},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": each} for each in containers],
            "initContainers": [
                *({"name": each, "restartPolicy": "Always"} for each in sidecars),
                {"name": "prepares"},
            ],
        },
        "status": {"phase": "Running", **status},
    }


@pytest.mark.parametrize("carried", [pod("a", ["app", "proxy"]), pod("a", ["app"], ["proxy"])])
def test_a_sidecar_counts_wherever_it_is_declared(carried: dict[str, Any]) -> None:
    assert treatment.check_containers("app", [carried], Expected.of(OWN, PAIR, "bench")).passed


def test_a_pod_without_its_proxy_is_named() -> None:
    pods = [pod("a", ["app"], ["proxy"]), pod("b", ["app"])]
    check = treatment.check_containers("app", pods, Expected.of(OWN, PAIR, "bench"))
    assert not check.passed
    assert check.seen == "b: none"
    assert check.expected == "proxy beside each"


def test_the_baseline_carries_no_proxy() -> None:
    expected = Expected.of(OWN, [], "bench")
    assert treatment.check_containers("app", [pod("a", ["app"])], expected).passed
    assert treatment.check_containers("app", [pod("a", ["app"], ["proxy"])], expected).seen == "a: proxy"


def test_a_side_the_placement_leaves_out_carries_no_proxy() -> None:
    expected = Expected.of(OWN, PAIR[1:], "bench")
    assert treatment.check_containers("load", [pod("l", ["load"])], expected).passed
    assert not treatment.check_containers("load", [pod("l", ["load", "proxy"])], expected).passed


def test_pods_of_a_shared_data_plane_are_nobodys_sidecars() -> None:
    shared = [Containers("node", "mesh-system", "app=ztunnel"), Containers("server", None, "gateway=w", ("proxy",))]
    assert Expected.of(OWN, shared, "bench").data_plane == {}


def test_no_pods_at_all_is_no_pass() -> None:
    assert not treatment.check_containers("app", [], Expected.of(OWN, [], "bench")).passed


def test_counts_of_several_proxies_are_summed_and_new_ones_begin_at_zero() -> None:
    before = {"a": Passage(requests=10.0, encrypted=10.0)}
    after = {"a": Passage(requests=110.0, encrypted=110.0), "b": Passage(requests=50.0, encrypted=50.0)}
    assert treatment.since(before, after) == Counts(requests=150.0, encrypted=150.0)


def test_counts_are_unknown_once_a_proxy_has_gone_or_says_nothing() -> None:
    assert treatment.since({"a": Passage(requests=10.0)}, {}) == Counts()
    partly = treatment.since({}, {"a": Passage(requests=10.0), "b": Passage()})
    assert partly.requests is None


def verdicts(counts: Counts, sent: int, *, mtls: bool) -> dict[str, bool]:
    return {check.name: check.passed for check in treatment.check_counts("server", counts, sent, mtls=mtls)}


def test_what_was_sent_passed_encrypted_and_once() -> None:
    assert verdicts(Counts(requests=50_100, encrypted=50_090, retries=0), 50_000, mtls=True) == {
        "data_plane/server: requests": True,
        "data_plane/server: encrypted": True,
        "data_plane/server: retries": True,
    }


@pytest.mark.parametrize(
    ("counts", "mtls", "wrong"),
    [
        (Counts(requests=49_000), False, "data_plane/server: requests"),
        (Counts(requests=51_000), False, "data_plane/server: requests"),
        (Counts(), False, "data_plane/server: requests"),
        (Counts(requests=50_000, encrypted=0), True, "data_plane/server: encrypted"),
        (Counts(requests=50_000, encrypted=49_000), True, "data_plane/server: encrypted"),
        (Counts(requests=50_000, encrypted=1), False, "data_plane/server: encrypted"),
        (Counts(requests=50_000, retries=1), False, "data_plane/server: retries"),
        (Counts(connections=0), False, "data_plane/server: connections"),
    ],
)
def test_what_went_elsewhere_is_told(counts: Counts, mtls: bool, wrong: str) -> None:
    assert [name for name, passed in verdicts(counts, 50_000, mtls=mtls).items() if not passed] == [wrong]


def test_a_few_requests_all_in_plaintext_are_no_tolerance() -> None:
    assert not verdicts(Counts(requests=50, encrypted=0), 50, mtls=True)["data_plane/server: encrypted"]


def test_a_proxy_of_connections_is_judged_by_connections() -> None:
    assert all(verdicts(Counts(connections=16, encrypted=16), 50_000, mtls=True).values())


def test_proxies_behind_their_control_plane_are_named() -> None:
    check = treatment.check_sync("server", {"a": Passage(in_sync=True), "b": Passage(in_sync=False)})
    assert check is not None
    assert not check.passed
    assert check.seen == "1 of 2; not b"
    assert treatment.check_sync("server", {"a": Passage()}) is None


def test_mutual_tls_that_nobody_saw_is_not_proven() -> None:
    check = treatment.check_mtls_is_proven({"node": Counts(connections=4)}, None)
    assert check is not None
    assert not check.passed
    assert treatment.check_mtls_is_proven({"node": Counts(connections=4, encrypted=4)}, None) is None


def test_pods_that_restarted_went_or_were_replaced_are_losses() -> None:
    def status(count: int, **last: Any) -> dict[str, Any]:
        return {"containerStatuses": [{"name": "app", "restartCount": count, "lastState": {"terminated": last}}]}

    before = seen([pod(name, ["app"], **status(0)) for name in "abcde"])
    replaced = pod("c", ["app"], **status(0))
    replaced["metadata"]["uid"] = "another"
    now = [
        pod("a", ["app"], **status(1, reason="OOMKilled", exitCode=137)),
        replaced,
        pod("d", ["app"], phase="Failed", reason="Evicted", message="low on memory"),
        pod("e", ["app"], **status(0)),
        pod("f", ["app"], **status(7)),  # not ours: it came later
    ]
    assert losses(before, now) == [
        "pod a: container app restarted: it ran out of memory (OOMKilled): raise its limit",
        "pod b is gone",
        "pod c is gone: another one of that name has taken its place",
        "pod d was evicted by its node: low on memory",
    ]


def test_images_are_told_by_digest() -> None:
    status: dict[str, Any] = {"containerStatuses": [{"name": "app", "image": "nginx:1", "imageID": "nginx@sha256:aa"}]}
    assert images_of([pod("a", ["app"], **status), pod("b", ["app"], **status)]) == {"app": "nginx@sha256:aa"}


@pytest.mark.parametrize(
    ("spans", "passes"), [(1000, True), (1000 + 171, True), (1000 + 172, False), (1000 - 172, False), (0, False)]
)
def test_spans_are_as_many_as_drawing_requests_gives(spans: int, passes: bool) -> None:
    # 100,000 requests at 1 %: standard deviation 31.5, 10 for requests nobody minds, 4 that the proxy still holds.
    check = treatment.check_spans("server", spans, 100_000, SpanOrder(0.01, held=4), proxies=1)
    assert (check.passed, check.seen) == (passes, str(spans))
    assert (check.name, check.expected) == ("data_plane/server: spans", "829 to 1171")


def test_no_span_at_all_is_never_right_where_some_are_sure() -> None:
    order = SpanOrder(0.01, held=4)
    assert not treatment.check_spans("client", 0, 1500, order, proxies=8).passed
    assert treatment.check_spans("client", 1, 1500, order, proxies=8).passed
    assert treatment.check_spans("client", 0, 300, order, proxies=8).passed, "three may well be none"


def test_an_application_whose_parts_call_each_other_reports_more() -> None:
    alone, many = SpanOrder(1.0, held=4), SpanOrder(1.0, held=4, is_exact=False)
    assert not treatment.check_spans("server", 5000, 1000, alone, proxies=1).passed
    assert treatment.check_spans("server", 5000, 1000, many, proxies=1).passed
    check = treatment.check_spans("server", 500, 1000, many, proxies=1)
    assert (check.passed, check.expected) == (False, "at least 896")
