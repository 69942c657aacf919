"""An SMP test configuration as a plan: what it says, our defaults, and a note for the rest.

The file has the keys ``test:`` and ``mesh:``, as Meshery writes it. Whatever changes what would be measured and has
no counterpart here is an error; what only names or describes is a note. Nothing is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from meshgauge.errors import InvalidPlanError, Problem
from meshgauge.smp.messages import (
    HTTP,
    MESH_TYPES,
    SmpClient,
    SmpFile,
    SmpMesh,
    duration_s,
    mesh_name,
    protocol_number,
    read_smp,
)

DEFAULT_REPLY_BYTES = 1024
DESCRIPTION_CHARACTERS = 2000  # of a plan
KNOWN_GENERATORS = ("fortio", "wrk2", "nighthawk", "meshgauge")

# Whose proxy the local provider can run.
_DATA_PLANES = {
    "APP_MESH": "envoy", "CONSUL": "envoy", "ISTIO": "envoy", "KUMA": "envoy", "OPEN_SERVICE_MESH": "envoy",
    "TRAEFIK_MESH": "traefik", "NGINX_SERVICE_MESH": "nginx",
}  # fmt: skip
# Where a field of the plan came from, for what the plan's own limits say.
_ORIGINS = {
    "workloads[0].headers": "test.clients[0].headers",
    "workloads[0].path": "test.clients[0].endpoint_urls[0]",
    "workloads[0].body_bytes": "test.clients[0].body",
    "loads[0].rate_rps": "test.clients[0].rps",
    "loads[0].connections": "test.clients[0].connections",
    "loads[0].window_s": "test.duration",
    "name": "test.name",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Translation:
    """A test configuration as a plan's document, and what a reader must know about how it was read."""

    document: dict[str, Any]
    notes: tuple[str, ...]


def translate(document: Mapping[str, Any]) -> Translation:
    """Return an SMP test configuration as a plan's document.

    Raises:
        InvalidPlanError: lists every field that is wrong, or has no counterpart and would change what is measured.
    """
    file = read_smp(document)
    problems = list(_untranslatable(file))
    if problems:
        raise InvalidPlanError(problems)
    notes = tuple(_notes(file))
    return Translation(_plan(file, notes), notes)


def origin_of(problem: Problem) -> Problem:
    """Return a problem of the translated plan with the path of the SMP field it came from."""
    for ours, theirs in _ORIGINS.items():
        if problem.path == ours or problem.path.startswith((f"{ours}.", f"{ours}[")):
            return Problem(theirs, problem.message)
    return Problem(f"{problem.path} (of the plan made from this SMP test)" if problem.path else "", problem.message)


def _untranslatable(file: SmpFile) -> Iterator[Problem]:
    test = file.test
    seconds = duration_s(test.duration)
    if seconds is None:
        yield Problem("test.duration", f"{test.duration!r} is no duration; write 60s, 5m or 1m30s")
    elif seconds < 1:
        yield Problem("test.duration", f"{test.duration} is shorter than the shortest window, 1s")
    first = test.clients[0]
    for at, client in enumerate(test.clients):
        yield from _client_problems(client, f"test.clients[{at}]")
        if client.model_dump(exclude={"connections", "rps"}) != first.model_dump(exclude={"connections", "rps"}):
            yield Problem(
                f"test.clients[{at}]",
                "differs from clients[0] in more than connections and rps; several load workers share one load here: "
                "write a plan with a workload for each",
            )
    if 0 < sum(client.rps == 0 for client in test.clients) < len(test.clients):
        yield Problem("test.clients", "some have a rate and some run as fast as they can (rps 0); give all a rate")
    yield from _mesh_problems(file.mesh)


def _client_problems(client: SmpClient, path: str) -> Iterator[Problem]:
    if client.load_generator and client.load_generator not in KNOWN_GENERATORS:
        known = ", ".join(KNOWN_GENERATORS)
        yield Problem(
            f"{path}.load_generator", f"{client.load_generator!r} is no load generator of SMP's; known: {known}"
        )
    if protocol_number(client) not in (0, HTTP):
        yield Problem(f"{path}.protocol", f"{client.protocol!r}: only HTTP (1, PROTOCOL_HTTP) is driven")
    if len(client.endpoint_urls) > 1:
        yield Problem(f"{path}.endpoint_urls", "a workload has one address; write a plan with a workload for each")
    for at, url in enumerate(client.endpoint_urls):
        if not _is_http(url):
            yield Problem(f"{path}.endpoint_urls[{at}]", f"{url!r} is no http address")
    if client.ssl_certificate:
        yield Problem(
            f"{path}.ssl_certificate",
            "certificates are made for each environment; leave it out, and choose a profile with mtls",
        )
    if client.additional_options.strip() not in ("", "{}"):
        yield Problem(
            f"{path}.additional_options", "options of another load generator cannot be followed; leave them out"
        )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket without its other
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _mesh_problems(mesh: SmpMesh | None) -> Iterator[Problem]:
    if mesh is None:
        return
    name = mesh_name(mesh)
    if name is None:
        yield Problem("mesh.type", f"{mesh.type!r} is no mesh of SMP's; known: {', '.join(MESH_TYPES)}")
    elif name != "INVALID_MESH" and name not in _DATA_PLANES:
        known = ", ".join(_DATA_PLANES)
        yield Problem("mesh.type", f"no proxy of {name} can be run by the local provider; it can for: {known}")


def _plan(file: SmpFile, notes: Sequence[str]) -> dict[str, Any]:
    test, first = file.test, file.test.clients[0]
    rate_rps = sum(client.rps for client in test.clients)
    load: dict[str, Any] = {
        "connections": sum(max(client.connections, 1) for client in test.clients),
        "window_s": duration_s(test.duration),
        "load_workers": len(test.clients),
    }
    load |= {"rate_rps": rate_rps} if rate_rps else {"loop": "closed"}
    workload = {
        "name": "smp",
        "app": "fixed-reply",
        "reply_bytes": DEFAULT_REPLY_BYTES,
        "method": "POST" if first.body else "GET",
        "path": _path(first),
        "headers": _headers(first),
        "body_bytes": len(first.body.encode()),
    }
    description = "Made from an SMP test configuration. " + " ".join(f"{note}." for note in notes)
    return {
        "name": _slug(test.name),
        "description": _shortened(description),
        "meshes": ["none", *_adapters(file.mesh)],
        "workloads": [workload],
        "loads": [load],
    }


def _shortened(description: str) -> str:
    if len(description) <= DESCRIPTION_CHARACTERS:
        return description
    rest = " ... (all of it: meshgauge plan check)"
    return description[: DESCRIPTION_CHARACTERS - len(rest)] + rest


def _adapters(mesh: SmpMesh | None) -> list[str]:
    name = None if mesh is None else mesh_name(mesh)
    return [_DATA_PLANES[name]] if name in _DATA_PLANES else []


def _path(client: SmpClient) -> str:
    if not client.endpoint_urls:
        return "/"
    parts = urlsplit(client.endpoint_urls[0])
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _headers(client: SmpClient) -> dict[str, str]:
    headers = dict(client.headers)
    if client.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    if client.content_type:
        headers["Content-Type"] = client.content_type
    return headers


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9._+-]+", "-", name.lower()).strip("-._+")[:64].strip("-._+")
    return slug or "smp-test"


def _notes(file: SmpFile) -> Iterator[str]:
    test, first = file.test, file.test.clients[0]
    if test.name and _slug(test.name) != test.name:
        yield f"test.name {test.name!r} became {_slug(test.name)!r}"
    if test.id:
        yield f"test.id is {test.id}"
    for holder, labels in (("test.labels", test.labels), *_mesh_labels(file.mesh)):
        if labels:
            yield f"{holder}, kept as text only: " + ", ".join(f"{name}={value}" for name, value in labels.items())
    yield from _mesh_notes(file.mesh)
    yield from _client_notes(first, len(test.clients))
    yield (
        "SMP says nothing of these, so the plan's defaults hold: 10 blocks in random order, profile plain, 30 s of "
        f"warm-up and 15 s of cool-down around the window, Poisson arrivals, replies of {DEFAULT_REPLY_BYTES} bytes"
    )


def _mesh_labels(mesh: SmpMesh | None) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return () if mesh is None else (("mesh.labels", mesh.labels), ("mesh.annotations", mesh.annotations))


def _mesh_notes(mesh: SmpMesh | None) -> Iterator[str]:
    adapters = _adapters(mesh)
    if mesh is None or not adapters:
        yield "mesh names no mesh: only the baseline without one is measured"
        return
    yield (
        f"mesh.type {mesh_name(mesh)} became its data plane, the latest {adapters[0]}, brought up here as a pair of "
        "sidecars beside a baseline without mesh; its control plane is not"
    )
    if mesh.version:
        yield f"mesh.version {mesh.version} is the mesh's, not its proxy's, and chooses nothing here"


def _client_notes(client: SmpClient, clients: int) -> Iterator[str]:
    if client.load_generator not in ("", "meshgauge"):
        yield f"load_generator {client.load_generator} became Meshgauge's own: numbers of the two cannot be compared"
    if client.internal:
        yield "internal: the client's sidecar is on the path, as it is for every pair"
    if protocol_number(client) == 0:
        yield "protocol is not given: HTTP/1.1"
    if client.connections == 0:
        yield "connections is not given: 1 for each client"
    if client.rps == 0:
        yield "rps 0 is as fast as it goes: a closed loop, labelled, without verdicts"
    if client.endpoint_urls:
        yield (
            f"endpoint_urls {client.endpoint_urls[0]}: only the path is used; nothing is sent to that host, the "
            "application is Meshgauge's own behind the proxies it brings up"
        )
    if client.body:
        yield f"body: {len(client.body.encode())} bytes are sent, of Meshgauge's own content"
    if clients > 1:
        yield f"{clients} clients became {clients} load workers that share the sum of rates and connections"
