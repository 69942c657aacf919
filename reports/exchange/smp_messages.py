"""The messages of Service Mesh Performance that we write, field for field, and how each is put into JSON.

Source: protos/service_mesh_performance.proto, service_mesh.proto and metadata.proto of the repository
service-mesh-performance/service-mesh-performance (proto3, package ``smp``). Names and units are the spec's own.
A scalar that proto3 leaves out reads as 0, so a message is only made when its numbers were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

SMP_VERSION = "v0.0.1"
PROTOCOL_HTTP = 1
BYTES_PER_MB = 1e6  # the spec says MB

# ServiceMesh.Type by the names our adapters of real meshes have. A bare proxy is none of them.
MESH_TYPES: Mapping[str, int] = {
    "app-mesh": 1, "consul": 2, "istio": 3, "kuma": 4, "linkerd": 5, "traefik-mesh": 6, "octarine": 7,
    "network-service-mesh": 8, "tanzu": 9, "open-service-mesh": 10, "nginx-service-mesh": 11, "cilium": 12,
}  # fmt: skip
INVALID_MESH = 0

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Client:
    """PerformanceTestConfig.Client. ``rps`` is of all connections together; 0 reads as: as fast as it can."""

    internal: bool
    load_generator: str
    protocol: int
    connections: int
    rps: int
    headers: Labels
    endpoint_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TestConfig:
    """PerformanceTestConfig. ``duration`` as Go writes it, with unit."""

    __test__ = False  # pytest takes it for tests

    id: str
    name: str
    labels: Labels
    clients: tuple[Client, ...]
    duration: str
    smp_version: str = SMP_VERSION


@dataclass(frozen=True, slots=True)
class Latency:
    """PerformanceTestResult.Latency: milliseconds."""

    min: float
    average: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class TestResult:
    """PerformanceTestResult. Times are RFC 3339 in UTC."""

    __test__ = False

    id: str
    labels: Labels
    start_time: str
    end_time: str
    latencies_ms: Latency
    actual_qps: float
    details_uri: str
    test_id: str
    mesh_config_id: str
    env_id: str
    smp_version: str = SMP_VERSION


@dataclass(frozen=True, slots=True)
class Sidecar:
    """ServiceMeshConfig.Sidecar: of all sidecars together; ``rps`` is the requests traversing them, each counted.

    ``bps`` of the spec is left out: bytes through the proxies are not measured, and 0 would be a claim.
    """

    count: int
    cpu_mcores: int
    mem_mb: int
    rps: int


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """ServiceMeshConfig.MeshControlPlane: its CPU and memory."""

    count: int
    cpu_mcores: int
    mem_mb: int


@dataclass(frozen=True, slots=True)
class ServiceMesh:
    """ServiceMesh. ``type`` 0 is INVALID_MESH, the spec's only word for no mesh and for a bare proxy."""

    type: int
    version: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Application:
    """ApplicationMetadata."""

    application_name: str
    application_version: str
    application_protocol: int


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """ServiceMeshConfig."""

    id: str
    labels: Labels
    sidecar: Sidecar | None
    mesh_control_plane: ControlPlane | None
    mesh_telemetry_enabled: bool
    mtls_enabled: bool
    proxy_concurrency: int
    proxy_build: str
    exp_group_uuid: str
    profile: str
    mesh_type: ServiceMesh
    application_metadata: Application
    smp_version: str = SMP_VERSION


@dataclass(frozen=True, slots=True)
class Node:
    """EnvironmentConfig.Node."""

    type: str
    cores: int
    mem_mb: int


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """EnvironmentConfig. ``kubernetes_version`` is empty where there is no Kubernetes."""

    id: str
    labels: Labels
    nodes: tuple[Node, ...]
    kubernetes_version: str = ""
    smp_version: str = field(default=SMP_VERSION)


def as_json(message: Any) -> Any:
    """Return a message as proto3 JSON with the spec's field names; absent messages are left out."""
    if is_dataclass(message) and not isinstance(message, type):
        pairs = ((one.name, getattr(message, one.name)) for one in fields(message))
        return {name: as_json(value) for name, value in pairs if value is not None}
    if isinstance(message, tuple):
        return [as_json(value) for value in message]
    return dict(message) if isinstance(message, Mapping) else message
