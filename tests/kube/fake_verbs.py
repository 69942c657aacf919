"""What each verb of the fake API server does, requests in, objects out; no sockets in here."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import fake_fields
import fake_patches
from fake_answers import RefusalError, not_found
from fake_kinds import Manifest, Resource
from fake_requests import Request, Target, as_list
from fake_selectors import selects
from fake_store import Change, Store, Writer, now_text

APPLY: Final = ("application/apply-patch+yaml", "application/apply-patch+cbor")
_PATCHES: Final = {
    "application/merge-patch+json": fake_patches.merge_patch,
    "application/strategic-merge-patch+json": fake_patches.strategic_patch,
    "application/json-patch+json": fake_patches.json_patch,
}
BOOKMARK_S: Final = 1.0
INITIAL_END: Final = "k8s.io/initial-events-end"


def _writer(request: Request, target: Target) -> Writer:
    subresource = target.subresource if target.subresource in ("status", "finalize") else ""
    return Writer(request.manager, subresource, request.is_dry_run)


def listing(store: Store, request: Request, target: Target) -> Manifest:
    """Answer a list, a page of it where ``limit`` asks for one."""
    test = selects(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
    with store.changed:
        version = str(store.version)
        items = [m for m in store.list(target.resource, target.namespace) if test(m)]
        after = ("", "")
        if token := request.query.get("continue"):
            page = json.loads(base64.b64decode(token))
            if page["version"] < store.oldest:
                raise RefusalError(
                    410, "The provided continue parameter is too old to display a consistent list result."
                )
            after, version = tuple(page["after"]), str(page["version"])
    items = [m for m in items if _place(m) > after]
    limit = int(request.query.get("limit") or 0)
    if not limit or len(items) <= limit:
        return as_list(target.resource, items, version)
    page = {"version": int(version), "after": _place(items[limit - 1])}
    carry_on = base64.b64encode(json.dumps(page).encode()).decode()
    is_selected = bool(request.query.get("labelSelector") or request.query.get("fieldSelector"))
    return as_list(target.resource, items[:limit], version, carry_on, 0 if is_selected else len(items) - limit)


def _place(manifest: Manifest) -> tuple[str, str]:
    return (manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"])


def create(store: Store, request: Request, target: Target) -> Manifest:
    """Answer a POST to a collection."""
    body = request.content()
    if isinstance(body, dict):  # typed clients leave both out of what they send
        body.setdefault("apiVersion", target.resource.api_version)
        body.setdefault("kind", target.resource.kind)
    return store.create(target.resource, target.namespace, body, _writer(request, target))


def replace(store: Store, request: Request, target: Target) -> Manifest:
    """Answer a PUT."""
    old = store.read(target.resource, target.namespace, target.name)
    body = request.content()
    body.setdefault("apiVersion", target.resource.api_version)
    body.setdefault("kind", target.resource.kind)
    return store.write(target.resource, old, body, _writer(request, target))


def patch(store: Store, request: Request, target: Target) -> tuple[Manifest, bool]:
    """Answer a PATCH; return the object and whether it is new."""
    if request.media_type in APPLY:
        return _apply(store, request, target)
    change = _PATCHES.get(request.media_type)
    if change is None or (target.resource.custom and "strategic" in request.media_type):
        raise RefusalError(415, f"the body of the request was in an unknown format: {request.media_type!r}")
    with store.changed:
        old = store.read(target.resource, target.namespace, target.name)
        new = change(copy.deepcopy(old), request.content())
        return store.write(target.resource, old, new, _writer(request, target)), False


def _apply(store: Store, request: Request, target: Target) -> tuple[Manifest, bool]:
    if not request.query.get("fieldManager"):
        raise RefusalError(
            400, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        )
    wanted = request.content()
    wanted.setdefault("metadata", {}).setdefault("name", target.name)
    if wanted["metadata"].get("managedFields"):
        raise RefusalError(400, "metadata.managedFields must be nil")
    resource, writer = target.resource, _writer(request, target)
    with store.changed:
        try:
            live: Manifest | None = store.read(resource, target.namespace, target.name)
        except RefusalError:
            live = None
        force = request.is_true("force")
        merged = fake_fields.applied(live, wanted, request.manager, force, now_text())
        if live is None:
            if target.subresource:
                raise not_found(resource, target.name)
            return store.create(resource, target.namespace, merged, writer), True
        return store.write(resource, live, merged, writer, owned=True), False


def delete(store: Store, request: Request, target: Target) -> Manifest:
    """Answer a DELETE of one object."""
    last, is_gone = store.delete(target.resource, target.namespace, target.name, _delete_options(request))
    if not is_gone:
        return last
    details = {"name": target.name, "kind": target.resource.plural, "uid": last["metadata"]["uid"]}
    if target.resource.group:
        details["group"] = target.resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def delete_collection(store: Store, request: Request, target: Target) -> Manifest:
    """Answer a DELETE of a collection."""
    found = listing(store, request, target)
    options = _delete_options(request)
    for item in found["items"]:
        metadata = item["metadata"]
        store.delete(target.resource, metadata.get("namespace") or "", metadata["name"], options)
    return found


def _delete_options(request: Request) -> Manifest:
    options = dict(request.content())
    if policy := request.query.get("propagationPolicy"):
        options["propagationPolicy"] = policy
    if grace := request.query.get("gracePeriodSeconds"):
        options["gracePeriodSeconds"] = int(grace)
    if request.is_dry_run:
        options["dryRun"] = ["All"]
    return options


def watching(store: Store, request: Request, target: Target) -> Iterator[Manifest]:
    """Yield the events of a watch until its time is over; the first yield comes at once or with the first event."""
    test = selects(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
    deadline_s = time.monotonic() + float(request.query.get("timeoutSeconds") or 1800)
    asked = request.query.get("resourceVersion", "")
    with store.changed:
        version = store.version if asked in ("", "0") else int(asked)
        wants_all = asked in ("", "0") or request.is_true("sendInitialEvents")
        first = store.list(target.resource, target.namespace) if wants_all else []
        version = store.version if wants_all else version
    for item in first:
        if test(item):
            yield {"type": "ADDED", "object": item}
    if request.is_true("sendInitialEvents"):
        yield _bookmark(target.resource, version, {INITIAL_END: "true"})
    while not store.is_closed and (left_s := deadline_s - time.monotonic()) > 0:
        try:
            changes = store.since(version, min(BOOKMARK_S, left_s))
        except RefusalError as gone:
            yield {"type": "ERROR", "object": gone.status()}
            return
        for change in changes:
            version = change.version
            if event := _event(change, target, test):
                yield event
        if not changes and request.is_true("allowWatchBookmarks"):
            yield _bookmark(target.resource, version, {})


def _bookmark(resource: Resource, version: int, annotations: dict[str, str]) -> Manifest:
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "type": "BOOKMARK",
        "object": {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata},
    }


def _event(change: Change, target: Target, test: Any) -> Manifest | None:
    """Return what a watch with this selector sees of a change: leaving the selection is a deletion."""
    if change.stored_as != target.resource.stored_as:
        return None
    last = change.new or change.old
    assert last is not None
    if target.namespace and last["metadata"].get("namespace") != target.namespace:
        return None
    if target.name and last["metadata"]["name"] != target.name:
        return None
    before = change.old is not None and test(change.old)
    after = change.new is not None and test(change.new)
    if not before and not after:
        return None
    kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    metadata = {**last["metadata"], "resourceVersion": str(change.version)}
    return {"type": kind, "object": {**last, "apiVersion": target.resource.api_version, "metadata": metadata}}


def bind(store: Store, request: Request, target: Target) -> None:
    """Put a pod on a node: what a scheduler asks for."""
    node = request.content()["target"]["name"]

    def bound(pod: Manifest) -> Manifest:
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now_text()}
        status = {**pod.get("status", {}), "conditions": [condition]}
        return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}

    store.edit(target.resource, target.namespace, target.name, bound, Writer(request.manager, "finalize"))
