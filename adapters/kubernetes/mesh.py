"""What one mesh has to say to be installed, configured, proven and removed in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from adapters.kubernetes.api import Kind, Manifest, ObjectRef, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.platform import Platform
from meshgauge.infrastructures import CLUSTER_DOMAIN
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

# The Service that takes spans in an environment's namespace.
COLLECTOR_NAME: Final = "trace-collector"

Upkeep = Literal["maintained", "dormant", "archived", "ended"]


@dataclass(frozen=True, slots=True)
class MeshOrder:
    """One mesh as it is to stand in one cluster. Everything an adapter may look at; it reaches no cluster itself.

    Attributes:
        version: of the mesh, exact, as ``KubernetesMesh.versions_of`` gave it.
        chart_version: per chart name, the exact chart version to install.
        namespace: of the application and its load, ours.
        labels: to be put on every object an adapter renders.
        app, load: names of the Services (and of the Deployments or Jobs behind them) of application and load.
        collector: name of the Service that takes spans; it is there where the profile has a tracing_ratio.
        port: of the application.
        master_port: where the load generator's pods reach their conductor outside the cluster, which no proxy may
            catch: ``Enrolment.load_annotations`` exclude it; 0: not known (the order is for something else).
        kube_version: of the API server, ``1.34.1``.
        cluster_domain: what names of Services end in.
        platform: of the cluster, where its nodes are laid out in a way of their own.
        images: registry that replaces every image's own; empty: their own.
        secrets: generated once a cluster and mesh (Linkerd's issuer); never logged, never an artefact. Private keys
            are in no chart values: ``objects`` holds them in one Secret whose data has their names, from which a life
            that is taken up again, or upgraded, reads them back.
    """

    version: str
    chart_versions: Mapping[str, str]
    profile: Profile
    placement: Placement
    namespace: str
    labels: Mapping[str, str]
    app: str = "app"
    load: str = "load"
    collector: str = COLLECTOR_NAME
    port: int = 8080
    master_port: int = 0
    kube_version: str = "1.34.0"
    cluster_domain: str = CLUSTER_DOMAIN
    platform: Platform = ""
    images: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be there before a mesh is installed; preflight asks for each.

    Attributes:
        kube: specifier of Kubernetes versions, ``>=1.31``.
        gateway_api: specifier of Gateway API versions the mesh reads; None: it needs none.
        storage_class: whether a default StorageClass has to exist.
        installed: the mesh itself has to run already (Cilium is the CNI): a sentence that says how; empty: no.
    """

    kube: str = ">=1.29"
    gateway_api: str | None = None
    storage_class: bool = False
    installed: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Something whose rollout has to be complete: a Deployment, StatefulSet or DaemonSet (name or label selector)."""

    kind: Literal["Deployment", "StatefulSet", "DaemonSet"]
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Injector:
    """A webhook configuration that is ready once every webhook has a CA bundle."""

    kind: Literal["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
    name: str


@dataclass(frozen=True, slots=True)
class Condition:
    """An object that has to carry ``status.conditions[type] == True``; an empty ``type``: it has to exist.

    A route carries its conditions in ``status.parents[].conditions``, one set for each of its parents: all of them.
    """

    ref: ObjectRef
    type: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A field that has to have a value already, of an object that is not ours: waiting cannot help.

    Attributes:
        path: keys, and positions in lists, from the object's root.
        pattern: shell pattern of the value; a list is joined with spaces, an absent field is the empty text.
        advice: what its owner has to do, the end of a sentence.
    """

    ref: ObjectRef
    path: tuple[str | int, ...]
    pattern: str
    advice: str


Readiness = Rollout | Injector | Condition | Setting


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What makes pods part of the mesh. Empty mappings: nothing of that sort.

    Attributes:
        app, load: labels and annotations of the pods of application and load generator. Where the placement leaves
            one of them out, they say so explicitly.
        outsider_labels: of pods and Services of ours in the namespace that are no part of the mesh.
        read_once: what has to be ready before a pod is made: its proxy reads it as it starts, and not again.
    """

    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    app_labels: Mapping[str, str] = field(default_factory=dict)
    app_annotations: Mapping[str, str] = field(default_factory=dict)
    load_labels: Mapping[str, str] = field(default_factory=dict)
    load_annotations: Mapping[str, str] = field(default_factory=dict)
    outsider_labels: Mapping[str, str] = field(default_factory=dict)
    read_once: tuple[Readiness, ...] = ()
    app_service_protocol: str = "http"  # the Service port's appProtocol, and the prefix of its name
    app_host: str = ""  # where load is sent instead of the Service's name (Traefik Mesh)
    service_account_token: bool = False
    probe_method: str = "GET"  # of a probe from outside: Linkerd lets everybody GET the path the kubelet asks for


@dataclass(frozen=True, slots=True)
class Containers:
    """Containers that do one job: where they run and what they are called.

    Attributes:
        role: the hop whose data plane they are; None: they are control plane.
        namespace: None: the environment's own namespace, in pods of application or load.
        labels: selector of the pods; within the own namespace, empty: the pods of the role's side.
        names: container names, among ``containers`` and native sidecars (``initContainers`` that restart always);
            empty: all of the pod's.
        requests: what those of one pod ask their node for, as Kubernetes quantities by ``cpu`` and ``memory``; for
            preflight, so rather too little than too much. Empty: nothing, or not known.
        copies: pods the mesh makes of them; None: one on every node; 0: none, they are put into ours.
    """

    role: Role | None
    namespace: str | None
    labels: str
    names: tuple[str, ...] = ()
    requests: Mapping[str, str] = field(default_factory=dict)
    copies: int | None = 0


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """Where one proxy tells its metrics, in Prometheus text, through the API server's pod proxy."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Cumulative counts of one proxy. None: this proxy does not count it.

    Attributes:
        requests: HTTP requests (for a layer 4 proxy None).
        connections: TCP connections taken for the application.
        encrypted: of ``requests`` (or, without them, of ``connections``), those under mutual TLS.
        retries: requests sent upstream again.
        in_sync: whether the proxy holds, and took, all that its control plane last told it; no cumulative count.
    """

    requests: float | None = None
    connections: float | None = None
    encrypted: float | None = None
    retries: float | None = None
    in_sync: bool | None = None


@dataclass(frozen=True, slots=True)
class Residue:
    """What removal of the charts leaves, and has to go, when it was not there before.

    Attributes:
        groups: API groups whose CRDs go (their objects first); ``*.istio.io`` means every group below.
        kinds: further cluster-scoped or namespaced objects, by kind and pattern of their name.
        everywhere: objects a controller puts into every namespace, by kind and pattern of their name.
        namespaces: namespaces of the mesh itself.
        claims: label selector of PersistentVolumeClaims, in those namespaces.
        finalizers: groups whose objects' finalizers may be cleared once their controller is gone.
    """

    groups: tuple[str, ...] = ()
    kinds: tuple[tuple[Kind, str], ...] = ()
    everywhere: tuple[tuple[Kind, str], ...] = ()
    namespaces: tuple[str, ...] = ()
    claims: str = ""
    finalizers: tuple[str, ...] = ()


class KubernetesMesh(Protocol):
    """One mesh, as one file in ``meshes/``. Pure: it renders and reads, the provider acts.

    ``@property`` throughout, so that a frozen dataclass or a plain class may implement it.
    """

    @property
    def name(self) -> str:
        """The adapter's name in plans."""

    @property
    def title(self) -> str:
        """Its name on pages."""

    @property
    def upkeep(self) -> Upkeep:
        """Whether its makers still keep it."""

    @property
    def note(self) -> str:
        """A sentence a user must read before choosing it; may be empty."""

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Where its data plane can stand: sidecars ``pair``, ``client``, ``server``; shared by a node ``node``."""

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """Its charts by name; the first one's index tells which versions of the mesh there are."""

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return mesh version -> version of the first chart, from that chart's index."""

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the exact version of each chart for mesh ``version``.

        Raises:
            ConfigurationError: a chart has none that fits.
        """

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why this mesh cannot run ``profile`` in ``placement``, or None."""

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return a value for every name in ``adapters.contract.FEATURES``."""

    def needs(self, version: str) -> Needs:
        """Return what has to be there before."""

    def permissions(self) -> Sequence[Permission]:
        """Return every right its life takes beyond the provider's own; granting and asking use the same list."""

    def secrets(self) -> Mapping[str, str]:
        """Make what has to be secret anew (PEM texts); empty for most."""

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return objects to apply before the charts: the mesh's namespaces, secrets."""

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the charts in the order they are installed; removal goes the other way."""

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return what to wait for once all releases are in."""

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return what makes the environment's pods part of the mesh."""

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the objects that make the profile true, with the mesh's own kinds."""

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return what to wait for once configuration and workload are in (a waypoint, a policy accepted)."""

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the containers of its data plane, by role, and of its control plane."""

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return where the data plane of ``role`` tells its metrics; None: nowhere."""

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what one proxy's metrics say of the application's traffic. Pure."""

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return objects to delete, and to see gone, while the control plane still runs (finalizers, waypoints)."""

    def residue(self) -> Residue:
        """Return what removal of the charts leaves."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A mesh that is named and not run: what it was, and why."""

    name: str
    title: str
    upkeep: Upkeep
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
