"""Finds, before anything is made in a cluster, what cannot come to a good end there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from packaging.specifiers import SpecifierSet

from adapters.kubernetes import gateway_api
from adapters.kubernetes.api import Cluster, Kind, Permission
from adapters.kubernetes.environments.load_jobs import MEMORY_REQUEST
from adapters.kubernetes.mesh import Containers, KubernetesMesh, MeshOrder, Needs
from adapters.kubernetes.mesh_parts import tracing
from adapters.kubernetes.preflight import capacity
from adapters.kubernetes.preflight.capacity import Room, Wish
from adapters.kubernetes.preflight.permissions import OPTIONAL, PROVIDER
from adapters.kubernetes.server.quantities import quantity
from adapters.kubernetes.traces.inventory import CRD, HELM_SECRETS, SECRET, group_of_crd
from adapters.kubernetes.traces.ledger import Ledger, Owner, ledgers
from adapters.kubernetes.traces.leftovers import fits
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import Role

_POD: Final = Kind("v1", "Pod")
_STORAGE_CLASS: Final = Kind("storage.k8s.io/v1", "StorageClass")
_IS_DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
_NUMBERS: Final = re.compile(r"\d+\.\d+(\.\d+)?")  # 1.34.1-gke.1829001, 1.34.1+k3s1, 1.34.1-eks-113cf36


@dataclass(frozen=True, slots=True)
class Ask:
    """What is going to be brought into a cluster.

    Attributes:
        mesh, order: None: the baseline.
        load_workers: pods that will generate load at once; 0: none in the cluster.
        has_workload: whether an application comes in; without, there has to be room for the mesh alone.
    """

    owner: Owner
    infrastructure: Infrastructure
    mesh: KubernetesMesh | None = None
    order: MeshOrder | None = None
    load_workers: int = 0
    has_workload: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of the cluster.

    Attributes:
        lacking, lacking_optional: rights we do not hold; where some are lacking, nothing else was read.
        rooms: nodes that take our pods.
        no_bundle: why the Gateway API cannot be brought from the plan's mirror, where the mesh needs it.
        is_ours: what is there of the mesh is this very owner's: an environment that is brought up again.
        lives: records of other lives of ours in the cluster, of this site and of others.
        control_planes: (namespace, pod) of the mesh's control plane that is there already.
        releases: (name, namespace) of Helm releases of the mesh's that are there already.
        crds: names of CRDs of the mesh's groups that are there already.
    """

    version: str
    lacking: Sequence[Permission]
    lacking_optional: Sequence[Permission] = ()
    rooms: Sequence[Room] = ()
    has_default_storage: bool = True
    gateway: gateway_api.Found | None = None
    no_bundle: str | None = None
    is_ours: bool = False
    lives: Sequence[Ledger] = ()
    control_planes: Sequence[tuple[str, str]] = ()
    releases: Sequence[tuple[str, str]] = ()
    crds: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What preflight says.

    Attributes:
        problems: each a reason not to begin, with what to do about it.
        notes: what will be unknown or different, and is no reason to stop.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def preflight(cluster: Cluster, ask: Ask) -> Verdict:
    """Read the cluster and judge. Changes nothing.

    Raises:
        ServiceUnavailableError: the API server does not answer (retryable).
        ConfigurationError: it does not accept our credentials.
    """
    return judge(read(cluster, ask), ask)


def refusal(cluster: Cluster, mesh: KubernetesMesh | None) -> str | None:
    """Return a sentence that names every right we lack for ``mesh``; None: we lack none. Reads nothing else."""
    lacking = cluster.missing(_wanted(mesh))
    return _no_rights(lacking) if lacking else None


def read(cluster: Cluster, ask: Ask) -> Facts:
    """Return what the judgement needs; where rights are missing, only which."""
    mesh, order = ask.mesh, ask.order
    version = cluster.version()
    lacking = cluster.missing(_wanted(mesh))
    if lacking:  # reading on would end in the first of them
        return Facts(version, lacking)
    needs = _needs(ask)
    others = [life for life in ledgers(cluster) if life.owner != ask.owner]
    facts = Facts(
        version=version,
        lacking=(),
        lacking_optional=cluster.missing(tuple(OPTIONAL)),
        rooms=capacity.rooms(cluster),
        has_default_storage=not needs.storage_class or _has_default_storage(cluster),
        gateway=gateway_api.found(cluster) if needs.gateway_api else None,
        lives=others,
    )
    if needs.gateway_api and facts.gateway is None:
        mirror = ask.infrastructure.in_cluster.charts
        facts = replace(facts, no_bundle=gateway_api.missing_from(mirror, needs.gateway_api))
    if mesh is None or order is None:
        return facts
    if _is_ours(cluster, ask):
        return replace(facts, is_ours=True)
    return _with_mesh(facts, cluster, mesh, order)


def judge(facts: Facts, ask: Ask) -> Verdict:
    """Return what stands in the way, and what will be missing. Pure."""
    if facts.lacking:
        return Verdict((_no_rights(facts.lacking),))
    problems = [
        *_version(facts, ask),
        *_lives(facts, ask),
        *_mesh(facts, ask),
        *_needs_met(facts, ask),
        *_room(facts, ask),
    ]
    return Verdict(tuple(problems), tuple(_unknown(permission) for permission in facts.lacking_optional))


# -- reading


def _wanted(mesh: KubernetesMesh | None) -> list[Permission]:
    """Return all rights it takes, each resource once."""
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    for permission in (*PROVIDER, *(mesh.permissions() if mesh else ())):
        verbs.setdefault((permission.group, permission.resource), {}).update(dict.fromkeys(permission.verbs))
    return [Permission(group, resource, tuple(named)) for (group, resource), named in verbs.items()]


def _is_ours(cluster: Cluster, ask: Ask) -> bool:
    """Return whether what is there of the mesh is this very owner's."""
    return any(life.owner == ask.owner for life in ledgers(cluster, ask.owner.site))


def _with_mesh(facts: Facts, cluster: Cluster, mesh: KubernetesMesh, order: MeshOrder) -> Facts:
    residue = mesh.residue()
    control = [each for each in mesh.containers(order) if each.role is None and each.labels]
    pods = [item["metadata"] for each in control for item in cluster.metadata(_POD, None, each.labels)]
    secrets = [item["metadata"] for item in cluster.metadata(SECRET, labels=HELM_SECRETS)]
    ours = {(release.name, release.namespace) for release in mesh.releases(order)}
    installed = {(metadata["labels"]["name"], metadata["namespace"]) for metadata in secrets}
    names = [str(item["metadata"]["name"]) for item in cluster.metadata(CRD)]
    return Facts(
        version=facts.version,
        lacking=facts.lacking,
        lacking_optional=facts.lacking_optional,
        rooms=facts.rooms,
        has_default_storage=facts.has_default_storage,
        gateway=facts.gateway,
        lives=facts.lives,
        control_planes=sorted({(str(pod["namespace"]), str(pod["name"])) for pod in pods}),
        releases=sorted(ours & installed),
        crds=sorted(name for name in names if fits(group_of_crd(name), residue.groups)),
    )


def _has_default_storage(cluster: Cluster) -> bool:
    classes = cluster.metadata(_STORAGE_CLASS)
    return any((item["metadata"].get("annotations") or {}).get(_IS_DEFAULT) == "true" for item in classes)


def _needs(ask: Ask) -> Needs:
    if ask.mesh is None or ask.order is None:
        return Needs()
    return ask.mesh.needs(ask.order.version)


# -- judging


def _no_rights(lacking: Sequence[Permission]) -> str:
    rights = "; ".join(str(permission) for permission in lacking)
    return (
        f"these rights are missing: {rights}. Grant them with the ClusterRole that 'meshgauge adapters rbac' prints, "
        "or use a context that holds them"
    )


def _unknown(permission: Permission) -> str:
    consequences = [
        words
        for asked, words in OPTIONAL.items()
        if (asked.group, asked.resource) == (permission.group, permission.resource)
    ]
    return f"we may not {permission}: {consequences[0]}"


def _version(facts: Facts, ask: Ask) -> Iterator[str]:
    needs, number = _needs(ask), _NUMBERS.search(facts.version)
    if number and number[0] not in SpecifierSet(needs.kube):
        name = _title(ask)
        yield f"the cluster is Kubernetes {facts.version}, and {name} needs {needs.kube}: choose another version of it"


def _lives(facts: Facts, ask: Ask) -> Iterator[str]:
    context = ask.infrastructure.in_cluster.context
    there = f" --context {context}" if context else ""
    for life in facts.lives:
        if life.stays:
            mesh = life.undertaking.mesh
            yield f"{life} is installed there to stay: end it with 'meshgauge mesh uninstall {mesh}{there}' first"
        else:
            yield (
                f"{life} is still there: two in one cluster disturb each other; wait for its end, "
                f"or remove it with 'meshgauge clean{there}'"
            )


def _mesh(facts: Facts, ask: Ask) -> Iterator[str]:
    needs, title = _needs(ask), _title(ask)
    if needs.installed:
        if not facts.control_planes:
            yield f"{title} is not in this cluster: {needs.installed}"
        return
    if facts.lives:  # told already: what is there of the mesh is theirs
        return
    there = [f"pod {pod} in namespace {namespace}" for namespace, pod in facts.control_planes[:3]]
    there += [f"Helm release {name} in namespace {namespace}" for name, namespace in facts.releases]
    if there:
        yield (
            f"{title} is installed in this cluster already, and not by Meshgauge ({', '.join(there)}): "
            "Meshgauge does not touch it; remove it, or choose another cluster"
        )
    elif facts.crds:
        yield (
            f"{len(facts.crds)} CRDs of {title} are there already, and not from Meshgauge ({', '.join(facts.crds[:3])}"
            f"{', ...' if len(facts.crds) > 3 else ''}): its charts would not take them over; "
            "remove them, or choose another cluster"
        )


def _needs_met(facts: Facts, ask: Ask) -> Iterator[str]:
    needs, may_install = _needs(ask), ask.infrastructure.in_cluster.install_gateway_api
    if not facts.has_default_storage:
        yield f"{_title(ask)} keeps data on a volume, and the cluster has no default StorageClass: mark one as default"
    if needs.gateway_api is not None:
        obstacle = gateway_api.obstacle(facts.gateway, needs.gateway_api, may_install)
        if problem := obstacle or facts.no_bundle:
            yield problem


def _room(facts: Facts, ask: Ask) -> Iterator[str]:
    size, cluster = ask.infrastructure.size, ask.infrastructure.in_cluster
    wishes = []
    if ask.has_workload:
        app = Wish(
            "copies of the application", size.replicas, size.app_cpu_cores, size.app_memory_bytes, cluster.app_nodes
        )
        wishes.append(app.with_more(_beside(ask, "server"), "with sidecars"))
    if ask.load_workers:
        load = Wish(
            "load workers", ask.load_workers, cluster.load_cpu_cores, quantity(MEMORY_REQUEST), cluster.load_nodes
        )
        wishes.append(load.with_more(_beside(ask, "client"), "with sidecars"))
    if ask.has_workload and ask.order and ask.order.profile.tracing_ratio:
        wishes.append(Wish("trace collectors", 1, tracing.COLLECTOR_CORES, tracing.COLLECTOR_MEMORY_BYTES, {}))
    if not facts.is_ours:  # else they run already
        mesh = capacity.of_mesh(_groups(ask))
        # Pods that may run anywhere come last: they give way to those that may not.
        wishes = [one for one in mesh if one.count is None] + wishes + [one for one in mesh if one.count is not None]
    yield from capacity.shortages(wishes or [Wish("pods of the mesh", 1, None, None, {})], facts.rooms)
    if both := capacity.overlap(cluster.app_nodes, cluster.load_nodes, facts.rooms):
        yield (
            f"cluster.app_nodes and cluster.load_nodes both select {', '.join(both[:3])}: application and load "
            "would share nodes; give them labels that no node has both of"
        )


def _groups(ask: Ask) -> Sequence[Containers]:
    """Return what the mesh runs, and without an application only what it runs in namespaces of its own."""
    if ask.mesh is None or ask.order is None or _needs(ask).installed:
        return ()
    found = ask.mesh.containers(ask.order)
    return [one for one in found if ask.has_workload or one.namespace not in {None, ask.order.namespace}]


def _beside(ask: Ask, role: Role) -> Mapping[str, str]:
    """Return what a sidecar of that side asks for, if there is one."""
    return next((one.requests for one in _groups(ask) if one.role == role and one.copies == 0), {})


def _title(ask: Ask) -> str:
    return f"{ask.mesh.title} {ask.order.version}" if ask.mesh and ask.order else "the baseline"
