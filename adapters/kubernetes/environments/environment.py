"""One environment in a cluster: a mesh and a workload brought up, watched while they are measured, taken down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from adapters.contract import Artefact, Check, Endpoint, EnvironmentOrder, HostTuning
from adapters.kubernetes.api import Cluster
from adapters.kubernetes.arms import MeshOf
from adapters.kubernetes.environments import evidence
from adapters.kubernetes.environments.standing import Standing
from adapters.kubernetes.helm.contract import HelmBackend
from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError
from meshgauge.trial import Nodes, UsageSample

Connect = Callable[[str | None], Cluster]
GetHelm = Callable[[], HelmBackend]

_UNTUNED: Final = HostTuning(measured={"quiet_host": "not in a cluster: its nodes are as their owner set them up"})


class KubernetesEnvironment:
    """Implements ``adapters.contract.Environment``.

    Args:
        mesh_of: returns the mesh of a name.
        connect, helm: how the cluster and Helm are reached; asked by ``up``.
    """

    def __init__(self, order: EnvironmentOrder, mesh_of: MeshOf, connect: Connect, helm: GetHelm) -> None:
        self._order = order
        self._mesh_of = mesh_of
        self._connect = connect
        self._get_helm = helm
        self._lines: list[str] = []
        self._cluster: Cluster | None = None
        self._standing: Standing | None = None

    def up(self, on_phase: Callable[[str], None]) -> Endpoint:
        """Install and configure the mesh, bring the workload in, and wait until all of it is ready.

        Raises:
            EnvironmentUpError: something does not come up: names it, with its last words.
            ConfigurationError: a right, an image, a chart or a node is missing.
            UnsupportedError: the mesh cannot do what the profile asks.
        """
        infrastructure = self._order.key.infrastructure
        if not self._order.load_image:
            self._refuse_without_image()
        on_phase("install")
        self._cluster = self._connect(infrastructure.in_cluster.context)
        self._standing = Standing(self._order, self._mesh_of, self._cluster, self._get_helm(), self._lines.append)
        try:
            return self._standing.up(on_phase)
        except MeshgaugeError as error:
            self._lines.append(str(error))
            raise

    def _refuse_without_image(self) -> None:
        if self._order.key.infrastructure.brings_load_workers:
            raise ConfigurationError(
                "load workers in the cluster run Meshgauge's own image, and none is named: set MESHGAUGE_IMAGE, "
                "or write load_from: workers in the plan's cluster"
            )
        if self._order.key.mesh.hops and self._order.key.profile.tracing_ratio:
            raise ConfigurationError(
                "the trace collector that tracing_ratio asks for runs Meshgauge's own image, and none is named: set "
                "MESHGAUGE_IMAGE"
            )

    def _up(self) -> Standing:
        if self._standing is None:
            raise EnvironmentUpError(f"environment {self._order.environment_id} is not up; call up() first")
        return self._standing

    def verify_before(self) -> Sequence[Check]:
        """Prove from pods, control plane and a probe what is there, and remember all counters."""
        return self._up().verify_before()

    def verify_connected(self) -> Sequence[Check]:
        """Return nothing: who is connected to whom inside a pod is told by the counters, after the trial."""
        return ()

    def verify_after(self, requests_sent: int) -> Sequence[Check]:
        """Compare what the proxies counted since ``verify_before`` with what was sent."""
        return self._up().verify_after(requests_sent)

    def sample(self) -> Sequence[UsageSample]:
        """Return counters that were counted since the last call, container by container."""
        return self._up().meter.sample()

    @property
    def host_cores(self) -> float:
        """Cores of all nodes that application or load run on."""
        return self._up().meter.host_cores

    def lost_components(self) -> Sequence[str]:
        """Return a sentence for each pod that went and each container that restarted since ``up``."""
        return self._up().losses()

    def start_load_workers(self, trial_id: str, master: str, count: int, near: Sequence[str] = ()) -> None:
        """Start ``count`` pods that join the Locust master; those of the trial before have gone by then.

        Raises:
            EnvironmentUpError: one of them does not come up.
        """
        self._up().start_load(trial_id, master, count, near)

    def load_generator_joined(self, process_ids: Sequence[int]) -> None:
        """Do nothing: load workers of a cluster are known by their pods; those of this host share none of its nodes."""

    def nodes(self) -> Nodes:
        """Return the nodes that application and load run on now; without load where that comes from elsewhere."""
        return self._up().nodes()

    @property
    def tuning(self) -> HostTuning:
        """No tuning: the nodes are not ours."""
        return _UNTUNED

    @property
    def load_cpus(self) -> tuple[int, ...]:
        """No cores in particular: the kubelet's business."""
        return ()

    def artefacts(self) -> Sequence[Artefact]:
        """Return what was applied and how it went: values of charts, objects, pods as injected, ends of logs."""
        diary = [evidence.text("lifecycle.log", "\n".join(self._lines))] if self._lines else []
        return diary if self._standing is None else [*diary, *self._standing.artefacts()]

    def provenance(self) -> Mapping[str, Any]:
        """Return versions and digests of all there is, features in play, nodes, who counted."""
        told = {} if self._standing is None else self._standing.provenance()
        return {**told, "tuning": {"measured": dict(_UNTUNED.measured)}}

    def down(self) -> None:
        """Remove everything and compare with what was there before. Idempotent; what is left is the next sweep's.

        Raises:
            EnvironmentUpError: something is left: names it.
        """
        cluster, standing = self._cluster, self._standing
        self._cluster = self._standing = None
        if cluster is None:
            return
        try:
            if standing is not None:
                standing.down()
        finally:
            cluster.close()
