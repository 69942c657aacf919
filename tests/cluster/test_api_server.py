"""The fake API server answers as a real one does: each of these runs against both."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ground import Ground
from plain_client import APPLY, JSON_PATCH, MERGE, Manifest

STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
def space(server: Ground) -> str:
    """Return the path of a namespace of one's own."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": server.namespace}}
    assert server.client.post("/api/v1/namespaces", body)
    return f"/api/v1/namespaces/{server.namespace}"


def config_map(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def eventually(true: Callable[[], Any], within_s: float = 60.0) -> Any:
    deadline_s = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.05)
    return found


def send(server: Ground, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str) -> Any:
    content = None if body is None else json.dumps(body)
    return server.client.http.request(method, path, content=content, headers={"content-type": kind}, params=query)


def test_an_object_is_named_versioned_and_refused_a_second_time(server: Ground, space: str) -> None:
    made = server.client.post(f"{space}/configmaps", config_map("a", k="v"))
    assert made is not None
    assert made["metadata"]["namespace"] == server.namespace
    assert made["metadata"]["uid"]
    assert int(made["metadata"]["resourceVersion"]) > 0
    again = send(server, "POST", f"{space}/configmaps", config_map("a"))
    assert (again.status_code, again.json()["reason"]) == (409, "AlreadyExists")


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        (config_map("Upper_Case"), 422),
        ({**config_map("a"), "metadata": {"name": "a", "labels": {"site": "kubernetes:kind"}}}, 422),
        ({**config_map("a"), "metadata": {"name": "a", "labels": {"long": "x" * 64}}}, 422),
        ({**config_map("a"), "metadata": {"name": "a", "annotations": {"what a key": "v"}}}, 422),
        ({**config_map("a"), "metadata": {"name": "a", "namespace": "elsewhere"}}, 400),
        ({**config_map("a"), "kind": "Secret"}, 400),
    ],
)
def test_what_is_no_name_label_or_kind_is_refused(server: Ground, space: str, manifest: Manifest, code: int) -> None:
    assert send(server, "POST", f"{space}/configmaps", manifest).status_code == code


@pytest.mark.parametrize(("bytes_", "code"), [(1 << 20, 201), ((1 << 20) + 1, 422)])
def test_what_is_too_long_for_a_secret_is_refused(server: Ground, space: str, bytes_: int, code: int) -> None:
    data = {"data": {"release": base64.b64encode(b"x" * bytes_).decode()}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **data}
    assert send(server, "POST", f"{space}/secrets", secret).status_code == code


def test_a_dry_run_keeps_nothing(server: Ground, space: str) -> None:
    assert send(server, "POST", f"{space}/configmaps", config_map("a"), dryRun="All").status_code == 201
    assert server.client.get(f"{space}/configmaps/a") is None


def test_lists_are_selected_and_paged(server: Ground, space: str) -> None:
    for number in range(5):
        body = config_map(f"m{number}")
        body["metadata"]["labels"] = {"parity": "odd" if number % 2 else "even"}
        server.client.post(f"{space}/configmaps", body)
    found = server.client.items(f"{space}/configmaps", labelSelector="parity in (odd,none),parity!=none")
    assert [m["metadata"]["name"] for m in found] == ["m1", "m3"]
    found = server.client.items(f"{space}/configmaps", fieldSelector="metadata.name=m2")
    assert [m["metadata"]["name"] for m in found] == ["m2"]
    names, token = [], ""
    while True:
        page = server.client.get(f"{space}/configmaps", labelSelector="parity", limit=2, **{"continue": token})
        assert page is not None
        names += [m["metadata"]["name"] for m in page["items"]]
        if not (token := page["metadata"].get("continue", "")):
            break
        assert "remainingItemCount" not in page["metadata"], "nobody counts what a selector would let through"
    assert names == [f"m{number}" for number in range(5)]


def test_a_write_from_an_old_state_is_a_conflict(server: Ground, space: str) -> None:
    old = server.client.post(f"{space}/configmaps", config_map("a", k="1"))
    assert old is not None
    server.client.patch(f"{space}/configmaps/a", {"data": {"k": "2"}})
    answer = send(server, "PUT", f"{space}/configmaps/a", {**old, "data": {"k": "3"}})
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")


def test_a_patch_that_changes_nothing_makes_no_new_version(server: Ground, space: str) -> None:
    made = server.client.post(f"{space}/configmaps", config_map("a", k="1"))
    same = server.client.patch(f"{space}/configmaps/a", {"data": {"k": "1"}})
    assert made is not None
    assert same is not None
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_merge_strategic_and_json_patches(server: Ground, space: str) -> None:
    containers = [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
    server.client.post(f"{space}/pods", body)
    path = f"{space}/pods/p"
    change = {"spec": {"containers": [{"name": "b", "image": "y:2"}]}}
    patched = send(server, "PATCH", path, change, STRATEGIC).json()
    assert [c["image"] for c in patched["spec"]["containers"]] == ["x:1", "y:2"]
    patched = send(server, "PATCH", path, {"metadata": {"labels": {"k": "v", "gone": None}}}, MERGE).json()
    assert patched["metadata"]["labels"] == {"k": "v"}
    steps = [{"op": "test", "path": "/metadata/labels/k", "value": "v"}, {"op": "remove", "path": "/metadata/labels/k"}]
    patched = send(server, "PATCH", path, steps, JSON_PATCH).json()
    assert not patched["metadata"].get("labels")
    assert send(server, "PATCH", path, steps, JSON_PATCH).status_code == 422


def apply(server: Ground, path: str, body: Manifest, manager: str, force: bool = False) -> Any:
    return send(server, "PATCH", path, body, APPLY, fieldManager=manager, force=str(force).lower())


def test_server_side_apply_creates_owns_and_removes_what_is_no_longer_applied(server: Ground, space: str) -> None:
    path = f"{space}/configmaps/a"
    assert apply(server, path, config_map("a", k="1", other="2"), "one").status_code == 201
    server.client.patch(path, {"data": {"theirs": "3"}}, fieldManager="two")
    again = apply(server, path, config_map("a", k="1"), "one")
    assert again.status_code == 200
    assert again.json()["data"] == {"k": "1", "theirs": "3"}


def test_an_apply_over_anothers_field_is_a_conflict_that_names_it_until_forced(server: Ground, space: str) -> None:
    path = f"{space}/configmaps/a"
    apply(server, path, config_map("a", k="1"), "one")
    refused = apply(server, path, config_map("a", k="2"), "two")
    assert refused.status_code == 409
    cause = refused.json()["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.k")
    assert 'conflict with "one"' in cause["message"]
    assert apply(server, path, config_map("a", k="1"), "two").status_code == 200, "the same value is shared"
    assert apply(server, path, config_map("a", k="2"), "two", force=True).json()["data"] == {"k": "2"}
    owners = {e["manager"] for e in server.client.get(path)["metadata"]["managedFields"]}  # type: ignore[index]
    assert owners == {"two"}, "what was all one had is lost"


def test_apply_merges_containers_by_name(server: Ground, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{server.namespace}/deployments/d"
    labels = {"app": "d"}

    def body(*containers: Manifest) -> Manifest:
        template = {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}}
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}

    apply(server, path, body({"name": "a", "image": "a:1"}), "one")
    partial = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    sidecar = {**partial, "spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:1"}]}}}}
    assert apply(server, path, sidecar, "two").status_code == 200
    names = [
        c["name"]
        for c in apply(server, path, body({"name": "a", "image": "a:2"}), "one").json()["spec"]["template"]["spec"][
            "containers"
        ]
    ]
    assert sorted(names) == ["a", "b"]
    changed = server.client.get(path)
    assert changed is not None
    assert changed["metadata"]["generation"] == 3


def test_status_is_written_apart(server: Ground, space: str) -> None:
    spec = {"containers": [{"name": "a", "image": "x"}]}
    server.client.post(f"{space}/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    server.client.patch(f"{space}/pods/p", {"status": {"phase": "Running"}})
    assert server.client.get(f"{space}/pods/p")["status"]["phase"] == "Pending"  # type: ignore[index]
    server.client.patch(f"{space}/pods/p/status", {"status": {"phase": "Running"}})
    assert server.client.get(f"{space}/pods/p")["status"]["phase"] == "Running"  # type: ignore[index]


def test_a_watch_tells_what_enters_changes_and_leaves_a_selection(server: Ground, space: str) -> None:
    start = server.client.get(f"{space}/configmaps")
    assert start is not None
    events: list[tuple[str, str]] = []
    query = {"labelSelector": "in=yes", "watch": "true", "timeoutSeconds": "8"}
    query["resourceVersion"] = start["metadata"]["resourceVersion"]

    def read() -> None:
        with server.client.http.stream("GET", f"{space}/configmaps", params=query, timeout=30) as answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                events.append((event["type"], event["object"]["metadata"]["name"]))
                if event["type"] == "DELETED" and event["object"]["metadata"]["name"] == "b":
                    return

    reader = threading.Thread(target=read)
    reader.start()
    for name, labels in (("out", {}), ("a", {"in": "yes"}), ("b", {"in": "yes"})):
        body = config_map(name)
        server.client.post(f"{space}/configmaps", {**body, "metadata": {"name": name, "labels": labels}})
    server.client.patch(f"{space}/configmaps/a", {"data": {"k": "1"}})
    server.client.patch(f"{space}/configmaps/a", {"metadata": {"labels": {"in": "no"}}})
    server.client.delete(f"{space}/configmaps/b")
    reader.join(30)
    assert not reader.is_alive()
    assert events == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a"), ("DELETED", "b")]


def test_finalizers_hold_an_object_until_they_are_gone(server: Ground, space: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    server.client.post(f"{space}/configmaps", body)
    server.client.delete(f"{space}/configmaps/a")
    held = server.client.get(f"{space}/configmaps/a")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    server.client.patch(f"{space}/configmaps/a", {"metadata": {"finalizers": None}})
    assert server.client.get(f"{space}/configmaps/a") is None


def test_what_an_object_owned_goes_after_it(server: Ground, space: str) -> None:
    owner = server.client.post(f"{space}/configmaps", config_map("owner"))
    assert owner is not None
    owned = config_map("owned")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned["metadata"]["ownerReferences"] = [reference]
    server.client.post(f"{space}/configmaps", owned)
    server.client.delete(f"{space}/configmaps/owner", propagationPolicy="Background")
    eventually(lambda: server.client.get(f"{space}/configmaps/owned") is None)
    server.client.post(f"{space}/configmaps", owned)  # by a controller that has not heard
    eventually(lambda: server.client.get(f"{space}/configmaps/owned") is None)


def test_a_namespace_takes_all_that_is_in_it_along_and_nothing_new_in(server: Ground, space: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    server.client.post(f"{space}/configmaps", body)
    server.client.delete(space)
    assert server.client.get(space)["status"]["phase"] == "Terminating"  # type: ignore[index]
    refused = send(server, "POST", f"{space}/configmaps", config_map("b"))
    assert (refused.status_code, refused.json()["reason"]) == (403, "Forbidden")
    held = eventually(
        lambda: (server.client.get(f"{space}/configmaps/a") or {}).get("metadata", {}).get("deletionTimestamp")
    )
    assert held
    server.client.patch(f"{space}/configmaps/a", {"metadata": {"finalizers": None}})
    eventually(lambda: server.client.get(space) is None)


def test_there_is_nothing_to_make_in_a_namespace_that_is_none(server: Ground) -> None:
    answer = send(server, "POST", "/api/v1/namespaces/not-there/configmaps", config_map("a"))
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")


def test_a_definition_makes_a_kind_served_checked_and_forgotten_again(server: Ground, space: str) -> None:
    group = f"{server.namespace.replace('-', '')}.example.com"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    things = f"/apis/{group}/v1/namespaces/{server.namespace}/things"
    assert send(server, "GET", things).status_code == 404
    server.client.post(definitions, crd)
    try:
        eventually(lambda: send(server, "GET", things).status_code == 200)
        thing = {
            "apiVersion": f"{group}/v1",
            "kind": "Thing",
            "metadata": {"name": "t", "finalizers": ["example.com/hold"]},
        }
        assert send(server, "POST", things, {**thing, "spec": {"n": "many"}}).status_code == 422
        assert send(server, "POST", things, {**thing, "spec": {"n": 1}}).status_code == 201
        found = eventually(lambda: server.client.get(f"/apis/{group}/v1"))
        assert [r["kind"] for r in found["resources"]] == ["Thing"]
        server.client.delete(f"{definitions}/things.{group}")
        held = server.client.get(f"{definitions}/things.{group}")
        assert held is not None
        assert held["metadata"]["deletionTimestamp"]
        eventually(lambda: server.client.get(f"{things}/t")["metadata"].get("deletionTimestamp"))  # type: ignore[index]
        server.client.patch(f"{things}/t", {"metadata": {"finalizers": None}})
        eventually(lambda: server.client.get(f"{definitions}/things.{group}") is None)
        eventually(lambda: send(server, "GET", things).status_code == 404)
    finally:
        server.client.delete(f"{definitions}/things.{group}")


def test_what_one_may_do_can_be_asked(server: Ground) -> None:
    attributes = {"verb": "create", "resource": "namespaces"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = send(server, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    assert (answer.status_code, answer.json()["status"]["allowed"]) == (201, True)


def test_metadata_alone_is_given_where_it_is_asked_for(server: Ground, space: str) -> None:
    server.client.post(f"{space}/configmaps", config_map("a", k="v"))
    accept = {"accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    answer = server.client.http.get(f"{space}/configmaps", headers=accept).json()
    assert answer["kind"] == "PartialObjectMetadataList"
    assert all("data" not in item for item in answer["items"])
