"""An environment in a cluster once cluster and Helm are at hand: its steps, its checks, its evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.contract import Artefact, Check, Endpoint, EnvironmentOrder
from adapters.kubernetes.api import Cluster, Manifest
from adapters.kubernetes.arms import MeshOf, adapter_of
from adapters.kubernetes.counting.components import watched
from adapters.kubernetes.counting.counters import KubernetesMeter
from adapters.kubernetes.counting.prometheus import metrics_or_reason
from adapters.kubernetes.environments import evidence, treatment
from adapters.kubernetes.environments.application import APP, LOAD, AppOrder, service_of
from adapters.kubernetes.environments.collector import COLLECTOR_PODS, Collector, reporting
from adapters.kubernetes.environments.load_jobs import POD, OwnPods
from adapters.kubernetes.environments.pods import PodState, is_running, losses, nodes_of, seen
from adapters.kubernetes.environments.proxies import Proxies
from adapters.kubernetes.environments.treatment import Expected, Side, SpanOrder
from adapters.kubernetes.environments.workload import APP_PODS, LOAD_PODS, ClusterWorkload
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.lifecycle import LifeOrder, MeshLife
from adapters.kubernetes.mesh import Containers, KubernetesMesh, Passage
from adapters.kubernetes.mesh_parts.tracing import SPANS_HELD
from adapters.kubernetes.traces.ledger import Owner
from meshgauge.errors import EnvironmentUpError, MeshgaugeError
from meshgauge.matrix import EnvironmentKey, Role
from meshgauge.trial import Nodes


def life_order(key: EnvironmentKey, owner: Owner, namespace: str, load_workers: int, mesh_of: MeshOf) -> LifeOrder:
    """Return what an environment asks of its mesh."""
    adapter, version = adapter_of(key.mesh)
    name, port = service_of(key)
    return LifeOrder(
        owner=owner,
        mesh=mesh_of(adapter) if adapter else None,
        version=version,
        profile=key.profile,
        placement=key.mesh.placement,
        infrastructure=key.infrastructure,
        namespace=namespace,
        app=name,
        port=port,
        load_workers=load_workers if key.infrastructure.brings_load_workers else 0,
    )


class Standing:
    """An environment with its cluster and Helm at hand."""

    def __init__(
        self,
        order: EnvironmentOrder,
        mesh_of: MeshOf,
        cluster: Cluster,
        helm: HelmBackend,
        on_line: Callable[[str], None],
    ) -> None:
        self._owner = Owner(order.site, order.epoch, order.environment_id)
        self._order = order
        self._cluster = cluster
        self._namespace = f"meshgauge-{order.environment_id[:8]}-{order.epoch}"
        self._helm = helm
        self._on_line = on_line
        wanted = life_order(order.key, self._owner, self._namespace, order.load_workers, mesh_of)
        self._mesh: KubernetesMesh | None = wanted.mesh
        self._life = MeshLife(cluster, helm, wanted, order.cache_dir, on_line)
        self._workload: ClusterWorkload | None = None
        self._collector = self._make_collector()
        self._meter: KubernetesMeter | None = None
        self._watched_from_s: float | None = None
        self._known: dict[str, PodState] = {}
        self._known_load: dict[str, PodState] = {}
        self._passages: dict[Role, dict[str, Passage]] = {}
        self._plaintext: Check | None = None
        self._has_begun = False

    @property
    def meter(self) -> KubernetesMeter:
        """Who counts CPU and memory."""
        if self._meter is None:
            raise EnvironmentUpError(f"environment {self._order.environment_id} is not up; call up() first")
        return self._meter

    @property
    def workload(self) -> ClusterWorkload:
        """Application and load."""
        if self._workload is None:
            raise EnvironmentUpError(f"environment {self._order.environment_id} is not up; call up() first")
        return self._workload

    def up(self, on_phase: Callable[[str], None]) -> Endpoint:
        """Bring everything up."""
        life = self._life
        life.preflight()
        self._has_begun = True
        life.install()
        on_phase("configure")
        if self._collector is not None:
            life.make_namespace()
            self._collector.start(life.enrolment.outsider_labels, self._on_line)
        life.configure()
        on_phase("workload")
        self._workload = self._make_workload()
        self._workload.deploy()
        on_phase("enroll")
        life.settle()
        on_phase("ready")
        self._workload.wait()
        self._begin_watch()
        return self._workload.endpoint()

    def _make_workload(self) -> ClusterWorkload:
        order = self._order
        near = tuple((order.first_nodes or {}).get(APP, ()))
        app = AppOrder(order.key, self._namespace, self._owner.labels, self._life.enrolment, order.connections, near)
        return ClusterWorkload(self._cluster, self._helm, app, order.load_image, self._on_line)

    def _make_collector(self) -> Collector | None:
        """Return the collector of a profile with traces; None: nobody reports any."""
        order, key = self._order, self._order.key
        if self._mesh is None or not key.profile.tracing_ratio:
            return None
        pods = OwnPods(order.load_image, self._namespace, self._owner.labels, key.infrastructure.in_cluster)
        deployment = key.workload.deployment
        is_alone = deployment is None or deployment.image is not None
        spans = SpanOrder(key.profile.tracing_ratio, SPANS_HELD * key.profile.proxy_threads, is_alone)
        proxies = reporting((hop.role for hop in key.mesh.hops), key.infrastructure.size.replicas, order.load_workers)
        return Collector(self._cluster, pods, spans, proxies)

    def _begin_watch(self) -> None:
        load = LOAD_PODS if self._order.key.infrastructure.brings_load_workers else None
        collector = COLLECTOR_PODS if self._collector is not None else None
        parts = watched(self._containers(), self._namespace, APP_PODS, load, collector)
        self._meter = KubernetesMeter(self._cluster, parts)
        self._meter.start()
        self._watched_from_s = time.time()
        if self._meter.problem:
            self._on_line(f"CPU and memory are not measured: {self._meter.problem}")
        self._known = seen(self._watched_pods())

    def _containers(self) -> Sequence[Containers]:
        return () if self._mesh is None else self._mesh.containers(self._life.mesh_order)

    def _pods(self, labels: str) -> list[Manifest]:
        return [pod for pod in self._cluster.list(POD, self._namespace, labels) if is_running(pod)]

    def _watched_pods(self) -> list[Manifest]:
        """Return the pods of application, collector, control plane and shared data planes: all that has to last."""
        found = [*self._cluster.list(POD, self._namespace, APP_PODS)]
        if self._collector is not None:
            found += self._cluster.list(POD, self._namespace, COLLECTOR_PODS)
        for group in self._containers():
            if group.namespace and group.namespace != self._namespace:
                found += self._cluster.list(POD, group.namespace, group.labels or None)
        return [pod for pod in found if not _is_done(pod)]

    def losses(self) -> list[str]:
        """Return a sentence for each pod and container that did not last."""
        return losses(self._known, self._watched_pods()) if self._known else []

    def nodes(self) -> Nodes:
        """Return the nodes of application and load.

        Those of a mesh's own pods are left out: the baseline has none to compare them with.
        """
        sides = {APP: APP_PODS} | ({LOAD: LOAD_PODS} if self._order.key.infrastructure.brings_load_workers else {})
        return {side: sorted(nodes_of(self._pods(labels))) for side, labels in sides.items()}

    def start_load(self, trial_id: str, master: str, count: int, near: Sequence[str]) -> None:
        """Start load workers that no proxy keeps from their master."""
        port = int(master.rpartition(":")[2])
        self.workload.start_load(self._life.enrolment_for(port), trial_id, master, count, near)

    def verify_before(self) -> Sequence[Check]:
        """Look at pods, control plane and plaintext, and remember the counters."""
        checks = [self._check_side("app", APP_PODS)]
        if self._order.key.infrastructure.brings_load_workers:
            checks.append(self._check_side("load", LOAD_PODS))
            self._known_load = seen(self._pods(LOAD_PODS))
        checks += [treatment.check_losses(self.losses()), *self._life.verify(), *self._check_plaintext()]
        if self._mesh is None:
            return checks
        if self._collector is not None:
            checks += self._collector.remember()
        proxies = Proxies(self._cluster, self._mesh, self._life.mesh_order)
        self._passages = proxies.passages()
        synced = (treatment.check_sync(role, read) for role, read in self._passages.items())
        return [*checks, *proxies.problems, *(check for check in synced if check is not None)]

    def _check_side(self, side: Side, labels: str) -> Check:
        own: dict[Side, frozenset[str]] = {"app": self.workload.own_containers, "load": frozenset({LOAD})}
        expected = Expected.of(own, self._containers(), self._namespace)
        return treatment.check_containers(side, self._pods(labels), expected)

    def _check_plaintext(self) -> list[Check]:
        """Probe once: what lets plaintext in does so from the start."""
        profile = self._order.key.profile
        if self._mesh is None or not profile.mtls or not self._order.load_image:
            return []
        if self._plaintext is None:
            self._plaintext = self.workload.probe_from_outside(may_answer=profile.permissive)
        return [self._plaintext]

    def verify_after(self, requests_sent: int) -> Sequence[Check]:
        """Compare counters, and look once more for what did not last."""
        if self._mesh is None:  # load workers may have gone by now, and nothing beside them could have restarted
            return [treatment.check_losses(self.losses()), self._check_side("app", APP_PODS)]
        beside_load = losses(self._known_load, self._cluster.list(POD, self._namespace, LOAD_PODS))
        checks = [treatment.check_losses([*self.losses(), *beside_load])]
        mtls = self._order.key.profile.mtls
        proxies = Proxies(self._cluster, self._mesh, self._life.mesh_order)
        now = proxies.passages()
        counted = {role: treatment.since(self._passages.get(role, {}), read) for role, read in now.items()}
        for role, counts in counted.items():
            checks += treatment.check_counts(role, counts, requests_sent, mtls=mtls)
        if self._collector is not None:
            checks += self._collector.checks(requests_sent)
        unproven = treatment.check_mtls_is_proven(counted, self._plaintext) if mtls else None
        return [*checks, *proxies.problems, *([unproven] if unproven else [])]

    def artefacts(self) -> Sequence[Artefact]:
        """Return charts' values, objects, pods and logs, as far as the cluster still answers."""
        found = [evidence.document(f"values/{one.name}.yaml", dict(one.values)) for one in self._life.releases]
        try:
            found += self._rendered()
            found += evidence.pods(self._cluster, self._namespace)
        except MeshgaugeError as error:  # what brought the environment down may keep its pods from us too
            found.append(evidence.text("missing.txt", f"the rest could not be read: {error}"))
        url = self._order.key.infrastructure.in_cluster.prometheus_url
        if url is not None and self._watched_from_s is not None:
            found.append(metrics_or_reason(url, self._namespace, self._watched_from_s, time.time()))
        return found

    def _rendered(self) -> list[Artefact]:
        found = []
        if self._workload is not None:
            found.append(evidence.documents("application.yaml", self._workload.objects))
        if self._collector is not None:
            found.append(evidence.documents("collector.yaml", self._collector.objects))
        if self._mesh is not None:
            found.append(evidence.documents("configuration.yaml", self._mesh.configuration(self._life.mesh_order)))
        return found

    def provenance(self) -> Mapping[str, Any]:
        """Return what stood here, in what versions, on which nodes."""
        found = evidence.provenance(self._cluster, self._namespace, self._order.key, self._mesh)
        found |= self._life.provenance()
        if self._meter is None:
            return found
        return found | {"nodes": dict(self._meter.nodes()), "counters": dict(self._meter.facts())}

    def down(self) -> None:
        """Remove everything; what preflight refused has made nothing."""
        if self._meter is not None:
            self._meter.close()
        if self._has_begun:
            self._life.uninstall()


def _is_done(pod: Manifest) -> bool:
    """Return whether the pod ended well, as those of Jobs do."""
    return (pod.get("status") or {}).get("phase") == "Succeeded"
