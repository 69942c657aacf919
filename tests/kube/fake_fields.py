"""Who owns which field: managedFields and server-side apply, as far as conflicts and removals need it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fake_answers import RefusalError
from fake_kinds import Manifest

Path = tuple[str, ...]

# Lists that are maps by these keys (x-kubernetes-list-map-keys of the built-in kinds); every other list is one value.
_BY_NAME: Final = ("name",)
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": _BY_NAME,
    "initContainers": _BY_NAME,
    "ephemeralContainers": _BY_NAME,
    "volumes": _BY_NAME,
    "env": _BY_NAME,
    "imagePullSecrets": _BY_NAME,
    "webhooks": _BY_NAME,
    "matchConditions": _BY_NAME,
    "listeners": _BY_NAME,
    "volumeMounts": ("mountPath",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
}
_SETS: Final = frozenset({"finalizers"})
# Values the schema declares as one (labelSelectors), and schemas, whose thousand leaves nobody owns singly.
_ATOMIC: Final = frozenset({"selector", "namespaceSelector", "objectSelector", "matchLabels", "openAPIV3Schema"})
_SERVER_OWNED: Final = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
                "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generateName",
            )
        ),
    }
)  # fmt: skip


def keys_of(field: str, items: list[Any]) -> tuple[str, ...] | None:
    """Return the keys by which a list is a map; None: it is one value."""
    keys = _KEYS.get(field)
    if field == "ports" and items and isinstance(items[0], dict):
        keys = ("containerPort", "protocol") if "containerPort" in items[0] else ("port", "protocol")
    if keys and all(isinstance(item, dict) and keys[0] in item for item in items):
        return keys
    return None


def item_key(item: Mapping[str, Any], keys: Iterable[str]) -> str:
    values = {key: item.get(key, "TCP" if key == "protocol" else None) for key in keys}
    return "k:" + json.dumps(values, separators=(",", ":"))


def leaves(value: Any, path: Path = (), field: str = "") -> dict[Path, Any]:
    """Return every leaf of an object with its value; items of map lists are leaves too (their presence is owned)."""
    if isinstance(value, dict) and value and field not in _ATOMIC:
        return {p: v for key, below in value.items() for p, v in leaves(below, (*path, f"f:{key}"), key).items()}
    if isinstance(value, list) and value:
        if field in _SETS:
            return {(*path, "v:" + json.dumps(item)): item for item in value}
        if keys := keys_of(field, value):
            found: dict[Path, Any] = {}
            for item in value:
                below = (*path, item_key(item, keys))
                found |= {below: None, **leaves(item, below)}
            return found
    return {} if path in _SERVER_OWNED else {path: value}


def _to_fields(paths: Iterable[Path]) -> Manifest:
    tree: Manifest = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return _without_dots(tree)


def _without_dots(node: Manifest) -> Manifest:
    """Drop the mark of ownership from plain leaves, as the real server writes them."""
    return {k: {} if v == {".": {}} and not k.startswith("k:") else _without_dots(v) for k, v in node.items()}


def _from_fields(tree: Mapping[str, Any], path: Path = ()) -> set[Path]:
    found: set[Path] = set()
    for step, below in tree.items():
        if step == ".":
            found.add(path)
        elif below:
            found |= _from_fields(below, (*path, step))
        else:
            found.add((*path, step))
    return found


Owners = dict[tuple[str, str, str], set[Path]]  # (manager, operation, subresource) -> paths


def owners_of(manifest: Mapping[str, Any]) -> Owners:
    """Return who owns what."""
    entries = manifest.get("metadata", {}).get("managedFields") or ()
    return {
        (e["manager"], e["operation"], e.get("subresource", "")): _from_fields(e.get("fieldsV1", {})) for e in entries
    }


def write_owners(manifest: Manifest, owners: Owners, now: str) -> None:
    """Write ``owners`` into the object's managedFields."""
    entries = []
    for (manager, operation, subresource), paths in owners.items():
        if paths:
            entry = {
                "manager": manager,
                "operation": operation,
                "apiVersion": manifest["apiVersion"],
                "time": now,
                "fieldsType": "FieldsV1",
                "fieldsV1": _to_fields(paths),
            }
            entries.append({**entry, "subresource": subresource} if subresource else entry)
    manifest["metadata"]["managedFields"] = entries


def updated(old: Manifest | None, new: Manifest, manager: str, subresource: str, now: str) -> None:
    """Give ``manager`` what it changed by create, replace or patch, and take it from everybody else."""
    before, after = leaves(old) if old else {}, leaves(new)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    owners = {who: paths - changed - gone for who, paths in owners_of(old or {}).items()}
    mine = (manager, "Update", subresource)
    owners[mine] = owners.get(mine, set()) | changed
    write_owners(new, owners, now)


def applied(live: Manifest | None, wanted: Manifest, manager: str, force: bool, now: str) -> Manifest:
    """Return ``live`` with ``wanted`` applied by ``manager``.

    Raises:
        RefusalError: 409: fields to change are somebody else's, and ``force`` is not given.
    """
    live = live or {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": {}}
    mine = (manager, "Apply", "")
    owners, want, have = owners_of(live), leaves(wanted), leaves(live)
    differing = {path for path, value in want.items() if path in have and have[path] != value}
    rivals = {who: paths & differing for who, paths in owners.items() if who != mine}
    if not force and any(rivals.values()):
        raise _conflict({who: paths for who, paths in rivals.items() if paths})
    owners = {who: paths if who == mine else paths - differing for who, paths in owners.items()}
    given_up = owners.get(mine, set()) - want.keys()
    kept = set().union(*(paths for who, paths in owners.items() if who != mine))
    merged: Manifest = merge(copy.deepcopy(live), wanted)
    for path in sorted(given_up - kept, key=len, reverse=True):
        if not any(other[: len(path)] == path for other in (*want, *kept)):
            _remove(merged, path)
    owners[mine] = set(want)
    write_owners(merged, owners, now)
    return merged


def _conflict(rivals: Mapping[tuple[str, str, str], set[Path]]) -> RefusalError:
    causes = []
    for (manager, operation, _), paths in rivals.items():
        verb = "" if operation == "Apply" else " using v1"
        for path in sorted(paths):
            field = "".join("." + p[2:] if p.startswith("f:") else f"[{p[2:]}]" for p in path)
            causes.append(
                {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"{verb}', "field": field}
            )
    who = f'"{next(iter(rivals))[0]}"'
    many = "conflict" if len(causes) == 1 else "conflicts"
    fields = ", ".join(cause["field"] for cause in causes)
    message = f"Apply failed with {len(causes)} {many}: {many} with {who}: {fields}"
    return RefusalError(409, message, details={"causes": causes})


def merge(live: Any, wanted: Any, field: str = "") -> Any:
    """Return ``live`` with ``wanted`` laid over it: mappings and map lists by key, all else replaced."""
    if isinstance(live, dict) and isinstance(wanted, dict) and field not in _ATOMIC:
        return {**live, **{k: merge(live.get(k), v, k) for k, v in wanted.items()}}
    if isinstance(live, list) and isinstance(wanted, list):
        if field in _SETS:
            return [*live, *(item for item in wanted if item not in live)]
        keys = keys_of(field, [*live, *wanted])
        if keys:
            items = {item_key(item, keys): item for item in live}
            for item in wanted:
                key = item_key(item, keys)
                items[key] = merge(items.get(key), item)
            return list(items.values())
    return copy.deepcopy(wanted)


def _remove(node: Any, path: Path) -> None:
    """Take a leaf out, and the mappings it leaves empty."""
    step, *rest = path
    if step.startswith("f:") and isinstance(node, dict) and step[2:] in node:
        if rest:
            _remove(node[step[2:]], tuple(rest))
        if not rest or node[step[2:]] in ({}, []):
            del node[step[2:]]
    elif isinstance(node, list):
        _remove_item(node, step, tuple(rest))


def _remove_item(items: list[Any], step: str, rest: Path) -> None:
    wanted = json.loads(step[2:])
    for item in list(items):
        same = item == wanted if step.startswith("v:") else item_key(item, wanted) == step
        if same and rest:
            _remove(item, rest)
        elif same:
            items.remove(item)
