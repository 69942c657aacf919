"""Nodes have room for what a plan wants on them, or it is told where the room ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_api import FakeCluster

from adapters.kubernetes.api import Cluster, Manifest
from adapters.kubernetes.preflight.capacity import Room, Wish, overlap, requested, rooms, shortages

_GIB = 1 << 30


def _room(node: str, cores: float = 4.0, memory_bytes: float = 8 * _GIB, pods: int = 100, **labels: str) -> Room:
    return Room(node, labels, cores, memory_bytes, pods)


def _wish(count: int, cores: float | None = None, memory_bytes: float | None = None, **selector: str) -> Wish:
    return Wish("copies of the application", count, cores, memory_bytes, selector)


def _container(cpu: str, memory: str = "0", **more: Any) -> Manifest:
    return {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


def test_pods_that_fit_are_no_shortage() -> None:
    assert shortages([_wish(8, 1.0)], [_room("a"), _room("b")]) == []
    assert shortages([_wish(3, 0.1)], [_room("a", cores=0.3)]) == []
    assert shortages([_wish(5)], [_room("a", cores=0.0)]) == []


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (_wish(9, 1.0), "9 copies of the application of 1 cores each do not fit on the 2 nodes: room for 8"),
        (_wish(2, 5.0), "room for 0"),
        (_wish(5, 1.0, 4 * _GIB), "5 copies of the application of 1 cores and 4096 MiB each do not fit"),
        (_wish(1, role="app"), "no node with labels role=app takes pods"),
    ],
)
def test_what_does_not_fit_is_told_with_the_room_there_is(wish: Wish, words: str) -> None:
    (sentence,) = shortages([wish], [_room("a"), _room("b")])
    assert words in sentence


def test_wishes_share_the_room() -> None:
    free = [_room("a", cores=4.0)]
    assert shortages([_wish(2, 1.0), _wish(2, 1.0)], free) == []
    assert len(shortages([_wish(3, 1.0), _wish(2, 1.0)], free)) == 1


def test_nodes_are_chosen_by_all_labels_of_the_selector() -> None:
    free = [_room("a", zone="1", role="app"), _room("b", zone="1", role="load")]
    assert shortages([_wish(1, role="app", zone="1")], free) == []
    assert overlap({"role": "app"}, {"role": "load"}, free) == []
    assert overlap({"role": "app"}, {"zone": "1"}, free) == ["a"]
    assert overlap({}, {"zone": "1"}, free) == []


def test_a_node_takes_only_so_many_pods() -> None:
    assert "room for 2" in shortages([_wish(3)], [_room("a", pods=2)])[0]


def test_a_pods_requests_count_native_sidecars_and_the_largest_init_container() -> None:
    sidecar = _container("200m", "64Mi", restartPolicy="Always")
    spec = {
        "containers": [_container("500m", "128Mi"), {"name": "x", "resources": {"limits": {"cpu": "100m"}}}],
        "initContainers": [sidecar, _container("2", "32Mi")],
        "overhead": {"cpu": "10m"},
    }
    cores, memory_bytes = requested({"spec": spec})
    assert cores == pytest.approx(2.21)
    assert memory_bytes == (128 + 64) * (1 << 20)


def test_free_room_is_what_running_pods_leave_on_nodes_that_take_ours(
    fake: FakeCluster, cluster: Cluster, add_node: Callable[..., None]
) -> None:
    add_node("open")
    add_node("cordoned", unschedulable=True)
    add_node("master", taints=[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}])
    add_node("preferred", taints=[{"key": "spot", "effect": "PreferNoSchedule"}])
    pod = {"nodeName": "open", "containers": [_container("1500m", "1Gi", image="i")]}
    fake.store.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": pod})
    found = {room.node: room for room in rooms(cluster)}
    assert found.keys() == {"open", "preferred"}
    assert (found["open"].cores, found["open"].memory_bytes, found["open"].pods) == (2.5, 7 * _GIB, 9)
    assert found["preferred"].cores == 4.0
