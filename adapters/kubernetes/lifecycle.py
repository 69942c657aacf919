"""The life of one mesh in one cluster, step by step: what environments and ``meshgauge mesh`` both do."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from adapters.contract import Check
from adapters.kubernetes import gateway_api
from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.helm.charts import ChartStore
from adapters.kubernetes.helm.contract import ChartRelease, HelmBackend
from adapters.kubernetes.mesh import Condition, Enrolment, KubernetesMesh, MeshOrder, Readiness, Rollout
from adapters.kubernetes.platform import platform_of
from adapters.kubernetes.preflight.judgement import Ask, preflight, refusal
from adapters.kubernetes.server.domain import told_domain
from adapters.kubernetes.server.waiting import wait_ready
from adapters.kubernetes.traces.inventory import NAMESPACE
from adapters.kubernetes.traces.ledger import Ledger, Owner, Undertaking, begin, find
from adapters.kubernetes.traces.removal import remove
from meshgauge.errors import (
    ConfigurationError,
    EnvironmentUpError,
    MeshgaugeError,
    ServiceUnavailableError,
    UnsupportedError,
)
from meshgauge.infrastructures import CLUSTER_DOMAIN, Infrastructure
from meshgauge.plan import Placement, Profile

OnLine = Callable[[str], None]

_RELEASE_S: Final = 300.0  # hooks may have to pull an image
_READY_S: Final = 600.0  # all images of a mesh pulled onto a fresh node; a node that cannot pull is told at once
_REACHED_S: Final = 30.0  # a control plane that is ready is reachable once kube-proxy has heard of its endpoints
_AGAIN_S: Final = 0.5
_LOOK_S: Final = 15.0  # for what should be ready already, and may just be settling

# Injected init containers of most meshes change the pod's firewall, which only this level lets in; our own containers
# ask for nothing that the level "restricted" would refuse. The same for every mesh, the baseline included.
# Source: kubernetes.io, Pod Security Standards.
_POD_SECURITY: Final = {
    "pod-security.kubernetes.io/enforce": "privileged",
    "pod-security.kubernetes.io/warn": "privileged",
}


@dataclass(frozen=True, slots=True)
class LifeOrder:
    """One mesh that is to live in one cluster.

    Attributes:
        owner: stamped as labels on every object made, so that a sweep finds them: the environment or operation.
        mesh: None: the baseline, which installs nothing.
        version: exact; of the baseline empty.
        namespace: of application and load, ours; made by ``configure``.
        app, port: the application's Service.
        load_workers: pods that will generate load at once; 0: none in the cluster.
        has_workload: whether an application comes in; without, what only its coming makes ready is not waited for.
    """

    owner: Owner
    mesh: KubernetesMesh | None
    version: str
    profile: Profile
    placement: Placement
    infrastructure: Infrastructure
    namespace: str
    app: str = "app"
    port: int = 8080
    load_workers: int = 0
    has_workload: bool = True


class MeshLife:
    """A mesh from preflight to nothing left. Each step tells ``on_line`` what it does, and may be called once more.

    Order: ``preflight``, ``install``, ``configure``, (the workload comes in), ``settle``, ``verify``, ``upgrade``,
    ``uninstall``. A life that another process began is taken up again, by an order of the same owner, with any step
    but the first two: what has to be known of it is kept in the cluster.

    Every step may raise:
        EnvironmentUpError: something did not come up, or did not go: names it, with its last words.
        ServiceUnavailableError: the API server or a chart repository is away (retryable).
        ConfigurationError: a right, a chart or a node is missing: trying again cannot help.
        UnsupportedError: the mesh cannot do what the profile asks.
    """

    def __init__(
        self, cluster: Cluster, helm: HelmBackend, order: LifeOrder, cache_dir: Path, on_line: OnLine = lambda _: None
    ) -> None:
        self._cluster = cluster
        self._helm = helm
        self._order = order
        self._on_line = on_line
        self._cache_dir = cache_dir
        self._charts = ChartStore(helm, cache_dir, order.infrastructure.in_cluster.charts)
        self._ledger: Ledger | None = None
        self._mesh_order: MeshOrder | None = None
        self._installed: tuple[ChartRelease, ...] = ()

    def preflight(self) -> None:
        """Refuse what cannot come to a good end, all reasons at once; changes nothing."""
        order, mesh = self._order, self._order.mesh
        if mesh is not None and (reason := mesh.unsupported(order.profile, order.placement)):
            raise UnsupportedError(f"{mesh.name} {order.version} cannot run profile {order.profile.name}: {reason}")
        if problems := self.problems():
            raise ConfigurationError(f"cluster {self._cluster.name}: {'; '.join(problems)}")

    def problems(self) -> Sequence[str]:
        """Look at the cluster and return why this cannot come to a good end there; changes nothing."""
        order, mesh = self._order, self._order.mesh
        self._on_line(f"looking at cluster {self._cluster.name}")
        self._on_line(f"{self._cluster.name} is Kubernetes {self._cluster.version()}")
        if (refused := refusal(self._cluster, mesh)) is not None:
            return (refused,)  # before anything is read: the first refusal would hide the others
        mesh_order = self.mesh_order if mesh else None
        ask = Ask(order.owner, order.infrastructure, mesh, mesh_order, order.load_workers, order.has_workload)
        verdict = preflight(self._cluster, ask)
        for note in verdict.notes:
            self._on_line(f"note: {note}")
        return verdict.problems

    def install(self) -> None:
        """Write down what is there, then install Gateway API, objects and charts, and wait until all is ready."""
        owner, mesh = self._order.owner, self._order.mesh
        self._on_line("writing down what is in the cluster")
        if mesh is None:
            self._ledger = begin(self._cluster, owner, Undertaking())
            return
        order = self.mesh_order
        self._ledger = begin(self._cluster, owner, Undertaking.of(mesh, order))
        self._bring_gateway_api(mesh, self._ledger)
        self._apply(mesh.objects(order))
        for release in mesh.releases(order):
            self._release(release, self._helm.install, "installing")
        wait_ready(self._cluster, mesh.readiness(order), _READY_S, self._on_line)

    def make_namespace(self) -> None:
        """Make the enrolled namespace; ``configure`` does so too, unless something of ours has to come before."""
        self._cluster.apply(self._namespace())

    def configure(self) -> None:
        """Make the enrolled namespace, and apply the objects that make the profile true."""
        self.make_namespace()
        if self._order.mesh is not None:
            self._on_line(f"configuring {self._order.mesh.name} for profile {self._order.profile.name}")
            self._apply(self._order.mesh.configuration(self.mesh_order))
            wait_ready(self._cluster, self.enrolment.read_once, _READY_S, self._on_line)

    def settle(self) -> None:
        """Wait for what has to be ready once configuration and workload are in."""
        if self._order.mesh is not None:
            wait_ready(self._cluster, self._configured(self._order.mesh), _READY_S, self._on_line)

    def verify(self) -> Sequence[Check]:
        """Return whether the mesh stands as ordered: releases, control plane, configuration. The baseline has none."""
        mesh = self._order.mesh
        if mesh is None:
            return ()
        order = self.mesh_order
        releases = mesh.releases(order)  # none of a mesh that is attached to
        return [
            *([self._check_releases(releases)] if releases else []),
            self._check_ready("control_plane", mesh.readiness(order)),
            self._check_ready("configuration", self._configured(mesh)),
        ]

    def upgrade(self, version: str) -> None:
        """Take the mesh to ``version`` in place, keep its profile, and wait until it is ready again."""
        mesh = self._order.mesh
        if mesh is None:
            raise UnsupportedError("there is no mesh to upgrade")
        ledger = self._known_ledger()
        self._order, self._mesh_order = replace(self._order, version=version), None
        order = self.mesh_order
        coming = Undertaking.of(mesh, order)
        ledger.add(coming.objects, coming.releases)
        self._apply(mesh.objects(order))
        for release in mesh.releases(order):
            self._release(release, self._helm.upgrade, "upgrading to")
        wait_ready(self._cluster, mesh.readiness(order), _READY_S, self._on_line)
        self.configure()
        self.settle()

    def uninstall(self) -> None:
        """Remove everything this life made, and compare with what was there before. Idempotent."""
        ledger = self._ledger or find(self._cluster, self._order.owner)
        if ledger is not None:
            remove(self._cluster, self._helm, ledger, self._on_line)
        else:  # cut off before its record was whole: nothing else was made
            self._cluster.delete(ObjectRef(NAMESPACE, "", self._order.owner.namespace))
        self._ledger = None

    def provenance(self) -> Mapping[str, Any]:
        """Return the mesh with its charts and their digests, and the versions of Helm and of the API server."""
        found: dict[str, Any] = {
            "kubernetes": self._cluster.version(),
            "helm": f"{self._helm.name} {self._helm.version()}",
        }
        mesh = self._order.mesh
        if mesh is not None:
            found["mesh"] = {"adapter": mesh.name, "version": self._order.version}
            found["charts"] = {
                release.name: {
                    "chart": release.source.chart,
                    "version": release.version,
                    "sha256": self._charts.digest(release),
                }
                for release in self._installed
            }
        if self._mesh_order is not None:
            found["cluster_domain"] = self._mesh_order.cluster_domain
        return found

    @property
    def releases(self) -> Sequence[ChartRelease]:
        """What was installed, with the values given to each chart."""
        return self._installed

    @property
    def enrolment(self) -> Enrolment:
        """What makes the environment's pods part of the mesh; nothing for the baseline."""
        mesh = self._order.mesh
        return Enrolment() if mesh is None else mesh.enrolment(self.mesh_order)

    def enrolment_for(self, master_port: int) -> Enrolment:
        """Return the enrolment of load workers that have to reach their master past every proxy."""
        mesh = self._order.mesh
        return Enrolment() if mesh is None else mesh.enrolment(replace(self.mesh_order, master_port=master_port))

    @property
    def mesh_order(self) -> MeshOrder:
        """The order in the words of the mesh: exact versions of charts, and its secrets."""
        if self._mesh_order is None:
            self._mesh_order = self._make_mesh_order()
        return self._mesh_order

    def _make_mesh_order(self) -> MeshOrder:
        order, mesh = self._order, self._order.mesh
        nodes = self._cluster.list(Kind("v1", "Node"))
        made = MeshOrder(
            version=order.version,
            chart_versions=self._charts.resolve(mesh, order.version) if mesh else {},
            profile=order.profile,
            placement=order.placement,
            namespace=order.namespace,
            labels=order.owner.labels,
            app=order.app,
            port=order.port,
            kube_version=self._cluster.version(),
            cluster_domain=order.infrastructure.in_cluster.domain or self._domain(nodes),
            platform=platform_of(nodes),
            images=order.infrastructure.in_cluster.images or "",
        )
        return made if mesh is None else replace(made, secrets=self._secrets(mesh, made))

    def _domain(self, nodes: Sequence[Manifest]) -> str:
        """Return the cluster's domain as its kubelets have it, or the usual one, and say so."""
        told = told_domain(self._cluster, (node["metadata"]["name"] for node in nodes))
        if told is None:
            self._on_line(
                f"note: no kubelet tells the cluster's domain, which is taken for {CLUSTER_DOMAIN}; "
                "where it is another, write domain in the plan's cluster"
            )
        return told or CLUSTER_DOMAIN

    def _secrets(self, mesh: KubernetesMesh, order: MeshOrder) -> Mapping[str, str]:
        """Return the secrets the cluster holds of this life, else new ones."""
        fresh = mesh.secrets()
        if not fresh:
            return {}
        for manifest in mesh.objects(replace(order, secrets=fresh)):
            if manifest["kind"] == "Secret" and fresh.keys() <= manifest.get("data", {}).keys():
                kept = self._cluster.get(ObjectRef.of(manifest))
                data = (kept or {}).get("data") or {}
                if fresh.keys() <= data.keys():
                    return {name: base64.b64decode(data[name]).decode() for name in fresh}
        return fresh

    def _configured(self, mesh: KubernetesMesh) -> list[Readiness]:
        """Return what has to be ready; without an application, of our own namespace only that its objects are there."""
        found = list(mesh.configured(self.mesh_order))
        if self._order.has_workload:
            return found
        own = {ObjectRef.of(manifest) for manifest in mesh.configuration(self.mesh_order)}
        elsewhere = [one for one in found if _namespace_of(one) != self._order.namespace]
        return [*elsewhere, *(Condition(ref) for ref in sorted(own) if ref.namespace == self._order.namespace)]

    def _namespace(self) -> Manifest:
        enrolment = self.enrolment
        metadata = {
            "name": self._order.namespace,
            "labels": self._order.owner.labels | _POD_SECURITY | dict(enrolment.namespace_labels),
            "annotations": dict(enrolment.namespace_annotations),
        }
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}

    def _bring_gateway_api(self, mesh: KubernetesMesh, ledger: Ledger) -> None:
        """Install the Gateway API's kinds for a mesh that reads them, where the cluster has none and we may."""
        plan = self._order.infrastructure.in_cluster
        wanted = mesh.needs(self._order.version).gateway_api
        if wanted is None or not plan.install_gateway_api or gateway_api.found(self._cluster) is not None:
            return
        version = gateway_api.version_for(wanted)
        self._on_line(f"installing Gateway API {version}, which {mesh.title} reads")
        objects = gateway_api.bundle(version, self._cache_dir, plan.charts)
        ledger.add(objects=gateway_api.references(objects))
        gateway_api.install(self._cluster, objects, self._order.owner.labels, _READY_S)

    def _apply(self, manifests: Sequence[Manifest]) -> None:
        """Apply each; webhooks of a control plane that came up a moment ago may not be within reach yet."""
        deadline_s = time.monotonic() + _REACHED_S
        for manifest in manifests:
            while True:
                try:
                    self._cluster.apply(manifest)
                    break
                except ServiceUnavailableError:
                    if time.monotonic() >= deadline_s:
                        raise
                    time.sleep(_AGAIN_S)

    def _release(self, release: ChartRelease, act: Callable[..., Any], verb: str) -> None:
        local = self._charts.local(release)
        self._on_line(f"{verb} chart {release.source.chart} {release.version}")
        act(self._cluster, local, _RELEASE_S)
        others = tuple(one for one in self._installed if one.name != release.name)
        self._installed = (*others, release)

    def _known_ledger(self) -> Ledger:
        self._ledger = self._ledger or find(self._cluster, self._order.owner)
        if self._ledger is None:
            raise EnvironmentUpError(
                f"nothing of {self._order.owner.id} is in cluster {self._cluster.name}: install first"
            )
        return self._ledger

    def _check_releases(self, wanted: Sequence[ChartRelease]) -> Check:
        there = {(one.name, one.namespace): one for one in self._helm.releases(self._cluster)}
        expected, seen = [], []
        for release in wanted:
            expected.append(f"{release.name} {release.version} deployed")
            found = there.get((release.name, release.namespace))
            seen.append(f"{release.name} {found.chart_version} {found.status}" if found else f"no {release.name}")
        return Check("releases", expected == seen, ", ".join(expected), ", ".join(seen))

    def _check_ready(self, name: str, readiness: Sequence[Any]) -> Check:
        expected = f"{len(readiness)} of {len(readiness)} ready"
        try:
            wait_ready(self._cluster, readiness, _LOOK_S)
        except MeshgaugeError as error:
            return Check(name, False, expected, str(error))
        return Check(name, True, expected, expected)


def _namespace_of(readiness: Readiness) -> str:
    """Return the namespace of what is waited for; empty for what belongs to the whole cluster."""
    if isinstance(readiness, Condition):
        return readiness.ref.namespace
    return readiness.namespace if isinstance(readiness, Rollout) else ""
