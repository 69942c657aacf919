"""A cluster of puppets, and environments that are brought up in it by the product's own means."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import stand_in_charts
import yaml
from puppet import Puppet, Running, living_cluster

from adapters import registry
from adapters.contract import Check, Endpoint, EnvironmentOrder
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Manifest
from adapters.kubernetes.environments.environment import KubernetesEnvironment
from adapters.kubernetes.environments.load_jobs import PROBE
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.provider import KubernetesProvider
from adapters.kubernetes.server.connection import connect
from meshgauge.infrastructures import Cluster as ClusterPlan
from meshgauge.infrastructures import Infrastructure, Size
from meshgauge.matrix import EnvironmentKey, Hop, MeshArm, Workload
from meshgauge.plan import BUILT_IN_PROFILES, Profile
from meshgauge.workloads import Workload as Spec

REFUSED: Final = 3
MASTER: Final = "192.0.2.7:40001"


@dataclass
class Place:
    """A living cluster, and what a test needs to bring environments up in it."""

    fake: Any
    puppet: Puppet
    charts: Path
    folder: Path
    probe_exit: int = REFUSED

    def connect(self, context: str | None = None) -> Cluster:
        return connect(self.fake.name)

    def run(self, pod: Manifest) -> Running:
        """Everything runs until it is ended, but for probes."""
        is_probe = pod["metadata"]["labels"].get(LABEL_COMPONENT) == PROBE
        return Running("127.0.0.1", self.probe_exit if is_probe else None)

    def provider(self) -> KubernetesProvider:
        return KubernetesProvider(registry.kubernetes_mesh, self.folder / "cache", self.connect, backend)

    def infrastructure(self, **cluster: Any) -> Infrastructure:
        size = cluster.pop("size", Size())
        return Infrastructure(
            name="k", provider="kubernetes", size=size, cluster=ClusterPlan(charts=str(self.charts), **cluster)
        )

    def environment(
        self,
        arm: MeshArm,
        profile: Profile = BUILT_IN_PROFILES["plain"],
        workload: Workload | None = None,
        infrastructure: Infrastructure | None = None,
        **order: Any,
    ) -> KubernetesEnvironment:
        spec = Spec(name="small", app="fixed-reply", reply_bytes=64)
        key = EnvironmentKey(
            arm, profile, workload or Workload("small", spec, None), infrastructure or self.infrastructure()
        )
        given = EnvironmentOrder(
            environment_id=str(uuid.uuid4()),
            site="kubernetes.test",
            epoch=3,
            key=key,
            connections=8,
            directory=self.folder,
            cache_dir=self.folder / "cache",
            load_image="example/meshgauge:1",
        )
        return KubernetesEnvironment(replace(given, **order), registry.kubernetes_mesh, self.connect, backend)

    def answers(self, pattern: str, text: str | Callable[[str], str]) -> None:
        """Let pods answer so through the API server."""
        self.fake.texts[pattern] = text


@contextlib.contextmanager
def living_place(folder: Path) -> Iterator[Place]:
    """Yield a fake API server, and puppets that make it live. KUBECONFIG has to name its kubeconfig."""
    charts = stand_in_charts.write(folder / "charts")
    bundle = yaml.safe_dump_all(stand_in_charts.gateway_api())
    (charts / "gateway-api-v1.5.1.yaml").write_text(bundle)
    made: list[Place] = []
    with living_cluster(run=lambda pod: made[0].run(pod) if made else Running("127.0.0.1")) as (fake, puppet):
        made.append(Place(fake, puppet, charts, folder))
        yield made[0]


def none() -> MeshArm:
    return MeshArm("none", "pair", ())


def pair(adapter: str, version: str) -> MeshArm:
    return MeshArm(adapter, "pair", (Hop("client", adapter, version), Hop("server", adapter, version)))


def failed(checks: Any) -> list[Check]:
    return [check for check in checks if not check.passed]


def up(environment: KubernetesEnvironment) -> tuple[Endpoint, list[str]]:
    phases: list[str] = []
    return environment.up(phases.append), phases
