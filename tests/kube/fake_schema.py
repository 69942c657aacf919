"""Check objects against their schemas: Kubernetes' own by kubernetes_validate, custom ones by their definition."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from fake_answers import invalid
from fake_kinds import Manifest, Resource


def check_schema(resource: Resource, manifest: Manifest) -> None:
    """Refuse a custom object that its CustomResourceDefinition's schema refuses."""
    if resource.schema is None:
        return
    validator = _validator(json.dumps(_plain(resource.schema), sort_keys=True))
    for error in validator.iter_errors({k: v for k, v in manifest.items() if k != "metadata"}):
        path = ".".join(str(step) for step in error.absolute_path) or "<nil>"
        raise invalid(resource, manifest["metadata"]["name"], path, f"Invalid value: {error.message[:300]}")


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    return jsonschema.Draft4Validator(json.loads(schema))


def _plain(schema: Any) -> Any:
    """Turn a structural schema into JSON schema: ``nullable`` and ``int-or-string`` are OpenAPI's own words."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {k: _plain(v) for k, v in schema.items() if not k.startswith("x-kubernetes-") and k != "pattern"}
    if schema.get("x-kubernetes-int-or-string"):
        plain.pop("anyOf", None)
        plain["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    if isinstance(plain.get("properties"), dict):
        plain["properties"] = {k: v for k, v in plain["properties"].items() if k != "metadata"}
    return plain
