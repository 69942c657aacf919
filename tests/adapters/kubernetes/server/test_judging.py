"""Objects alone tell whether something is ready, and what ails a pod."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.kubernetes.api import Kind, Manifest, ObjectRef
from adapters.kubernetes.mesh import Condition, Injector, Rollout
from adapters.kubernetes.server.judging import ailment, beyond_hope, crashed_containers, is_ready, missing

_DEPLOYMENT = Rollout("Deployment", "ns", "d")
_ROUTE = Condition(ObjectRef(Kind("g.io/v1", "HTTPRoute"), "ns", "r"), "Accepted")


def _workload(kind: str, spec: dict[str, Any], generation: int = 2, **status: Any) -> Manifest:
    observed = {"observedGeneration": 2} | status
    return {"kind": kind, "metadata": {"name": "d", "generation": generation}, "spec": spec, "status": observed}


def _pod(**status: Any) -> Manifest:
    return {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": status}


def _waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"name": "c", "image": "img:1", "state": {"waiting": {"reason": reason, "message": message}}, **more}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            _workload(
                "Deployment", {"replicas": 2}, replicas=2, updatedReplicas=2, readyReplicas=2, availableReplicas=2
            ),
            None,
        ),
        (_workload("Deployment", {"replicas": 0}), None),
        (_workload("Deployment", {"replicas": 1}, generation=3), "is not yet seen by its controller"),
        (
            _workload(
                "Deployment", {"replicas": 3}, replicas=3, updatedReplicas=2, readyReplicas=1, availableReplicas=1
            ),
            "rolled out 2 of 3 pods, 1 of them ready",
        ),
        (
            _workload(
                "Deployment", {"replicas": 1}, replicas=2, updatedReplicas=1, readyReplicas=1, availableReplicas=1
            ),
            "has 1 old pods to end",
        ),
        (_workload("StatefulSet", {"replicas": 1}, replicas=1, updatedReplicas=1, readyReplicas=1), None),
        (
            _workload("StatefulSet", {"replicas": 1}, replicas=1, updatedReplicas=1),
            "rolled out 1 of 1 pods, 0 of them ready",
        ),
        (
            _workload("DaemonSet", {}, desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=1),
            "rolled out on 2 of 2 nodes, ready on 1",
        ),
        (_workload("DaemonSet", {}, desiredNumberScheduled=0), "fits no node"),
        (_workload("DaemonSet", {}, desiredNumberScheduled=1, updatedNumberScheduled=1, numberAvailable=1), None),
    ],
)
def test_a_rollout_is_ready_when_all_pods_are_new_and_available(found: Manifest, words: str | None) -> None:
    assert missing(_DEPLOYMENT, [found]) == words


def test_what_is_not_there_is_not_ready() -> None:
    assert missing(_DEPLOYMENT, []) == "does not exist"


def test_of_several_that_fit_a_selector_each_has_to_be_ready() -> None:
    ready = _workload("Deployment", {"replicas": 0})
    assert missing(_DEPLOYMENT, [ready, _workload("Deployment", {"replicas": 0}, generation=3)]) is not None
    assert missing(_DEPLOYMENT, [ready, ready]) is None


def test_an_injector_waits_for_the_bundle_of_every_webhook() -> None:
    injector = Injector("MutatingWebhookConfiguration", "i")
    hooks = [{"name": "a", "clientConfig": {"caBundle": "LS0"}}, {"name": "b", "clientConfig": {"caBundle": ""}}]
    assert missing(injector, [{"webhooks": hooks}]) == "waits for the CA bundle of b"
    assert missing(injector, [{"webhooks": hooks[:1]}]) is None
    assert missing(injector, [{"webhooks": []}]) == "has no webhooks"


def test_a_condition_has_to_be_true_and_says_why_it_is_not() -> None:
    def route(*conditions: dict[str, str]) -> Manifest:
        return {"kind": "HTTPRoute", "status": {"parents": [{"conditions": [each]} for each in conditions]}}

    good, bad = {"type": "Accepted", "status": "True"}, {"type": "Accepted", "status": "False", "reason": "NoParent"}
    assert missing(_ROUTE, [route(good, good)]) is None
    assert missing(_ROUTE, [route(good, bad)]) == "is not Accepted (NoParent)"
    assert missing(_ROUTE, [{"kind": "HTTPRoute"}]) == "has no condition Accepted yet"
    assert missing(Condition(_ROUTE.ref), [{"kind": "HTTPRoute"}]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (_pod(containerStatuses=[_waiting("ErrImageNeverPull")]), "img:1 of its container c may not be pulled"),
        (_pod(initContainerStatuses=[_waiting("InvalidImageName")]), "img:1 of its container c is no valid image name"),
        (
            {
                "kind": "Job",
                "metadata": {"name": "j"},
                "status": {"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit"}]},
            },
            "failed: backoff limit",
        ),
        (
            {
                "kind": "Deployment",
                "metadata": {"name": "d"},
                "status": {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]},
            },
            "gave up",
        ),
    ],
)
def test_waiting_is_given_up_where_it_cannot_help(found: Manifest, words: str) -> None:
    assert words in (beyond_hope(found) or "")


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff", "ContainerCreating"])
def test_what_may_pass_is_waited_for(reason: str) -> None:
    assert beyond_hope(_pod(containerStatuses=[_waiting(reason)])) is None


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (
            _pod(containerStatuses=[_waiting("ImagePullBackOff", "no such manifest")]),
            "cannot pull the image img:1 of its container c: no such manifest",
        ),
        (
            _pod(
                containerStatuses=[
                    _waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
                ]
            ),
            "crashes: its container c ended with code 137, OOMKilled",
        ),
        (
            _pod(
                phase="Pending",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes are available: Insufficient cpu.",
                    }
                ],
            ),
            "is Pending, Unschedulable: 0/2 nodes are available: Insufficient cpu.",
        ),
        (_pod(phase="Failed", reason="Evicted"), "failed: Evicted"),
        (
            _pod(phase="Running", containerStatuses=[{"name": "c", "ready": False, "state": {"running": {}}}]),
            "runs, but is not ready: c",
        ),
        (
            {"kind": "Pod", "spec": {}, "metadata": {}, "status": {"phase": "Pending"}},
            "is Pending, no node takes it yet",
        ),
    ],
)
def test_a_pods_status_tells_what_ails_it(pod: Manifest, words: str) -> None:
    assert ailment(pod) == words


def test_a_pod_is_ready_when_it_says_so_or_has_done_its_work_and_is_not_going() -> None:
    ready = _pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    assert is_ready(ready)
    assert is_ready(_pod(phase="Succeeded"))
    assert not is_ready(_pod(phase="Running", conditions=[{"type": "Ready", "status": "False"}]))
    assert not is_ready(ready | {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}})


def test_the_log_of_a_container_that_ended_badly_is_worth_reading() -> None:
    statuses = [
        _waiting("CrashLoopBackOff"),
        {"name": "fine", "state": {"terminated": {"exitCode": 0}}},
        {"name": "again", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}},
    ]
    assert crashed_containers(_pod(containerStatuses=statuses)) == ["c", "again"]
