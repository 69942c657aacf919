"""The messages of Service Mesh Performance (SMP) that a test configuration is made of, read strictly.

Source: protos/service_mesh_performance.proto and service_mesh.proto of the repository
service-mesh-performance/service-mesh-performance; PerformanceTestConfigFile in meshery/meshery,
server/models/performance_profiles.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from meshgauge.errors import InvalidPlanError, Problem, nearest_name

HTTP = 1
PROTOCOLS = {"PROTOCOL_INVALID": 0, "PROTOCOL_HTTP": HTTP, "PROTOCOL_TCP": 2, "PROTOCOL_UDP": 3, "PROTOCOL_GRPC": 4}
MESH_TYPES = {
    "INVALID_MESH": 0, "APP_MESH": 1, "CONSUL": 2, "ISTIO": 3, "KUMA": 4, "LINKERD": 5, "TRAEFIK_MESH": 6,
    "OCTARINE": 7, "NETWORK_SERVICE_MESH": 8, "TANZU": 9, "OPEN_SERVICE_MESH": 10, "NGINX_SERVICE_MESH": 11,
    "CILIUM_SERVICE_MESH": 12,
}  # fmt: skip

_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def _number_in_text(value: Any) -> Any:
    """Proto3's JSON writes 64-bit integers as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value) else value


def _nothing(value: Any) -> Any:
    return "" if value is None else value


def _no_entries(value: Any) -> Any:
    return {} if value is None else value


Whole = Annotated[int, Field(ge=0, strict=True), BeforeValidator(_number_in_text)]
Word = Annotated[str, BeforeValidator(_nothing)]
Labels = Annotated[dict[str, str], BeforeValidator(_no_entries)]


class _Message(BaseModel):
    """Field names of the spec, in its own spelling or in that of proto3's JSON; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class SmpClient(_Message):
    """PerformanceTestConfig.Client."""

    internal: bool = False
    load_generator: Word = ""
    protocol: Whole | str = 0
    connections: Whole = 0
    rps: Whole = 0
    headers: Labels = Field(default_factory=dict)
    cookies: Labels = Field(default_factory=dict)
    body: Word = ""
    content_type: Word = ""
    endpoint_urls: tuple[str, ...] = ()
    ssl_certificate: Word = ""
    additional_options: Word = ""


class SmpTest(_Message):
    """PerformanceTestConfig."""

    smp_version: Word = ""
    id: Word = ""
    name: Word = ""
    labels: Labels = Field(default_factory=dict)
    clients: tuple[SmpClient, ...] = Field(min_length=1)
    duration: Annotated[str, BeforeValidator(str)]  # a bare 60 is judged as text, with a sentence about units


class SmpMesh(_Message):
    """ServiceMesh."""

    type: Whole | str = 0
    version: Word = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)


class SmpFile(_Message):
    """What Meshery reads: a test, and the mesh it is said to be of."""

    test: SmpTest
    mesh: SmpMesh | None = None


def is_smp(document: Mapping[str, Any]) -> bool:
    """Return whether a document is an SMP test configuration rather than a plan."""
    return "test" in document and "meshes" not in document


def read_smp(document: Mapping[str, Any]) -> SmpFile:
    """Return the messages in ``document``.

    Raises:
        InvalidPlanError: lists every field that is missing, unknown or of a wrong kind.
    """
    try:
        return SmpFile.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise InvalidPlanError(
            _problem(detail) for detail in details if not _is_consequence(detail, details)
        ) from error


def protocol_number(client: SmpClient) -> int | None:
    """Return the protocol's number in the spec, given as number or as name; None where it is none."""
    if isinstance(client.protocol, str):
        return PROTOCOLS.get(client.protocol.strip().upper())
    return client.protocol if client.protocol in PROTOCOLS.values() else None


def mesh_name(mesh: SmpMesh) -> str | None:
    """Return the spec's name of a mesh given by number or by name, in any case; None where it has none."""
    if isinstance(mesh.type, str):
        name = mesh.type.strip().upper().replace("-", "_").replace(" ", "_")
        return name if name in MESH_TYPES else None
    return next((name for name, number in MESH_TYPES.items() if number == mesh.type), None)


def duration_s(text: str) -> float | None:
    """Return a duration as Go writes it (``90s``, ``1m30s``, ``500ms``) in seconds; None where it is none.

    Source: Go's time.ParseDuration.
    """
    if _PART.sub("", text.strip()) or not text.strip():
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def _is_consequence(detail: Any, details: Sequence[Any]) -> bool:
    """Return whether a list only counts as too short because one of its items is wrong."""
    place = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(d["loc"]) > len(place) and d["loc"][: len(place)] == place for d in details
    )


def _problem(detail: Any) -> Problem:
    path = ""
    for step in detail["loc"]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith(("constrained", "function", "str", "int")):  # branches of a union, not keys
            path += f".{step}" if path else step
    if detail["type"] == "extra_forbidden":
        names = _fields_of(path)
        nearest = nearest_name(path.rpartition(".")[2], names)
        hint = f"did you mean {nearest!r}?" if nearest else f"known: {', '.join(names)}"
        return Problem(path, f"unknown key of an SMP test configuration; {hint}")
    return Problem(path, "is needed" if detail["type"] == "missing" else str(detail["msg"]))


def _fields_of(path: str) -> list[str]:
    holder = path.rpartition(".")[0]
    model: type[BaseModel] = SmpFile
    if holder.startswith("test.clients"):
        model = SmpClient
    elif holder == "test":
        model = SmpTest
    elif holder == "mesh":
        model = SmpMesh
    return list(model.model_fields)
