"""Label and field selectors as the API server reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fake_answers import RefusalError

Test = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<not>!?)\s*(?P<key>[^\s!=,()]+)\s*$")


def selects(labels: str, fields: str) -> Test:
    """Return the test of both selectors; empty ones let everything through."""
    label_tests = [_label_test(part) for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
    field_tests = [_field_test(part) for part in fields.split(",") if part.strip()]

    def test(manifest: Mapping[str, Any]) -> bool:
        held = manifest["metadata"].get("labels") or {}
        return all(t(held) for t in label_tests) and all(t(manifest) for t in field_tests)

    return test


def _label_test(part: str) -> Test:
    if found := _SET.match(part):
        values = {value.strip() for value in found["values"].split(",")}
        key, wanted = found["key"], found["op"] == "in"
        return lambda labels: (labels.get(key) in values) is wanted if key in labels else not wanted
    if found := _EQUAL.match(part):
        key, value, equal = found["key"], found["value"], found["op"] != "!="
        return lambda labels: (labels.get(key) == value) is equal
    if found := _EXISTS.match(part):
        key, present = found["key"], not found["not"]
        return lambda labels: (key in labels) is present
    raise RefusalError(400, f"unable to parse requirement: {part!r}")


def _field_test(part: str) -> Test:
    found = _EQUAL.match(part)
    if not found:
        raise RefusalError(400, f"invalid field selector: {part!r}")
    path, value, equal = found["key"].split("."), found["value"], found["op"] != "!="

    def test(manifest: Mapping[str, Any]) -> bool:
        node: Any = manifest
        for step in path:
            node = node.get(step) if isinstance(node, Mapping) else None
        return (str(node if node is not None else "") == value) is equal

    return test
