"""Patches that are not server-side apply: merge, strategic merge and JSON patch."""

from __future__ import annotations

import copy
from typing import Any

import fake_fields
from fake_answers import RefusalError


def merge_patch(live: Any, patch: Any) -> Any:
    """Return ``live`` after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_patch(live: Any, patch: Any, field: str = "") -> Any:
    """Return ``live`` after a strategic merge patch: lists that are maps are merged by key.

    ``$patch: replace|delete`` is obeyed, ``$setElementOrder/...`` and ``$retainKeys`` are hints and dropped.
    """
    if isinstance(patch, dict):
        return _strategic_mapping(live if isinstance(live, dict) else {}, patch)
    if isinstance(patch, list) and isinstance(live, list):
        keys = fake_fields.keys_of(field, [*live, *patch])
        if keys:
            return _strategic_list(live, patch, keys)
    return copy.deepcopy(patch)


def _strategic_mapping(live: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    directive = patch.get("$patch")
    result = {} if directive == "replace" else dict(live)
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [item for item in result.get(name, []) if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = strategic_patch(result.get(key), value, key)
    return result


def _strategic_list(live: list[Any], patch: list[Any], keys: tuple[str, ...]) -> list[Any]:
    items = {fake_fields.item_key(item, keys): item for item in live}
    for item in patch:
        key = fake_fields.item_key(item, keys)
        if item.get("$patch") == "delete":
            items.pop(key, None)
        else:
            items[key] = _strategic_mapping(items.get(key, {}), item)
    return list(items.values())


def json_patch(live: Any, operations: list[dict[str, Any]]) -> Any:
    """Return ``live`` after a JSON patch (RFC 6902) of add, remove, replace and test."""
    result = copy.deepcopy(live)
    for operation in operations:
        parts = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        node = result
        try:
            for part in parts[:-1]:
                node = node[int(part)] if isinstance(node, list) else node[part]
            _one(node, parts[-1], operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise RefusalError(
                422, f"the server rejected our request due to an error in our request: {error}"
            ) from error
    return result


def _one(node: Any, last: str, operation: dict[str, Any]) -> None:
    key: Any = last
    if isinstance(node, list):
        key = len(node) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(node, list):
            node.insert(key, operation["value"])
        case "add":
            node[key] = operation["value"]
        case "replace":
            node[key]  # has to be there
            node[key] = operation["value"]
        case "remove":
            del node[key]
        case "test":
            if node[key] != operation["value"]:
                raise ValueError(f"testing value {operation['path']} failed")
        case other:
            raise ValueError(f"no such operation: {other}")
