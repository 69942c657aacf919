"""A request to the fake API server taken apart: which resource, which object, which subresource."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import fake_protobuf
import yaml
from fake_answers import RefusalError
from fake_kinds import Manifest, Resource
from fake_store import Store


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path`` is decoded; ``query`` holds the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: str

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        """Return a request as http.server hands it over; the bearer token's text before ``-token`` is the user."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        lower = {name.lower(): value for name, value in headers.items()}
        token = lower.get("authorization", "").removeprefix("Bearer ")
        return cls(method, unquote(parts.path), query, lower, body, token.removesuffix("-token"))

    @property
    def media_type(self) -> str:
        """Of the body."""
        return self.headers.get("content-type", "").partition(";")[0].strip()

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is to be kept."""
        return self.query.get("dryRun") == "All"

    @property
    def manager(self) -> str:
        """Who owns what is written: the field manager, or the first word of the user agent."""
        agent = self.headers.get("user-agent", "unknown").partition("/")[0]
        return self.query.get("fieldManager") or agent

    def is_true(self, name: str) -> bool:
        """Read a flag of the query."""
        return self.query.get(name, "").lower() in ("true", "1")

    def content(self) -> Any:
        """Return the body: JSON, YAML (which JSON is, too) or protobuf; an empty body is an empty mapping."""
        if not self.body:
            return {}
        try:
            if self.body.startswith(fake_protobuf.MAGIC):
                return fake_protobuf.decode(self.body)
            return json.loads(self.body) if self.body[:1] in b"{[" else yaml.safe_load(self.body)
        except (ValueError, yaml.YAMLError) as error:
            raise RefusalError(400, f"the body cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. ``name`` empty: the collection. ``rest``: what follows the subresource (proxies)."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    rest: str = ""

    @property
    def qualified(self) -> str:
        """As rules name it: ``pods/log``."""
        return self.resource.plural + (f"/{self.subresource}" if self.subresource else "")


def target_of(store: Store, path: str) -> Target | None:
    """Return what ``path`` names, or None when nothing serves it."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"]:
        group, version, rest = "", *_two(parts[1:])
    elif parts[:1] == ["apis"] and len(parts) > 2:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and (group or rest[2] not in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    if not rest:
        return None
    plural, name, subresource, *more = [*rest, "", ""][: max(3, len(rest))]
    resource = store.find(group, version, plural)
    if resource is None or (subresource and subresource not in resource.subresources):
        return None
    return Target(resource, namespace, name, subresource, "/".join(more))


def _two(parts: list[str]) -> tuple[str, list[str]]:
    return (parts[0], parts[1:]) if parts else ("", [])


def as_list(resource: Resource, items: list[Manifest], version: str, carry_on: str = "", left: int = 0) -> Manifest:
    """Return a list object; items carry no kind of their own unless they are custom, as the real server has it."""
    metadata: dict[str, Any] = {"resourceVersion": version}
    if carry_on:
        metadata |= {"continue": carry_on, **({"remainingItemCount": left} if left else {})}
    plain = (
        items if resource.custom else [{k: v for k, v in m.items() if k not in ("apiVersion", "kind")} for m in items]
    )
    return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": plain}
