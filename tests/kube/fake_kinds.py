"""The kinds the fake API server serves from the start, and what it answers about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Manifest = dict[str, Any]

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS: Final = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource in one version. ``subresources``: name -> verbs."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...] = VERBS
    short_names: tuple[str, ...] = ()
    subresources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    custom: bool = False

    @property
    def api_version(self) -> str:
        """As objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def stored_as(self) -> tuple[str, str]:
        """All versions of a resource are one store."""
        return (self.group, self.plural)


# group version: kind plural scope(n, c) short-names subresources. From `kubectl api-resources` of Kubernetes 1.36.
_TABLE: Final = """
/v1: ConfigMap configmaps n cm
/v1: Endpoints endpoints n ep
/v1: Event events n ev
/v1: LimitRange limitranges n limits
/v1: Namespace namespaces c ns status,finalize
/v1: Node nodes c no status,proxy
/v1: PersistentVolumeClaim persistentvolumeclaims n pvc status
/v1: PersistentVolume persistentvolumes c pv status
/v1: Pod pods n po status,log,proxy,binding,eviction,exec
/v1: PodTemplate podtemplates n
/v1: ReplicationController replicationcontrollers n rc status
/v1: ResourceQuota resourcequotas n quota status
/v1: Secret secrets n
/v1: ServiceAccount serviceaccounts n sa token
/v1: Service services n svc status,proxy
admissionregistration.k8s.io/v1: MutatingWebhookConfiguration mutatingwebhookconfigurations c
admissionregistration.k8s.io/v1: ValidatingWebhookConfiguration validatingwebhookconfigurations c
admissionregistration.k8s.io/v1: ValidatingAdmissionPolicy validatingadmissionpolicies c - status
admissionregistration.k8s.io/v1: ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings c
apiextensions.k8s.io/v1: CustomResourceDefinition customresourcedefinitions c crd,crds status
apiregistration.k8s.io/v1: APIService apiservices c - status
apps/v1: ControllerRevision controllerrevisions n
apps/v1: DaemonSet daemonsets n ds status
apps/v1: Deployment deployments n deploy status
apps/v1: ReplicaSet replicasets n rs status
apps/v1: StatefulSet statefulsets n sts status
autoscaling/v2: HorizontalPodAutoscaler horizontalpodautoscalers n hpa status
batch/v1: CronJob cronjobs n cj status
batch/v1: Job jobs n - status
certificates.k8s.io/v1: CertificateSigningRequest certificatesigningrequests c csr status
coordination.k8s.io/v1: Lease leases n
discovery.k8s.io/v1: EndpointSlice endpointslices n
networking.k8s.io/v1: Ingress ingresses n ing status
networking.k8s.io/v1: IngressClass ingressclasses c
networking.k8s.io/v1: NetworkPolicy networkpolicies n netpol
node.k8s.io/v1: RuntimeClass runtimeclasses c
policy/v1: PodDisruptionBudget poddisruptionbudgets n pdb status
rbac.authorization.k8s.io/v1: ClusterRole clusterroles c
rbac.authorization.k8s.io/v1: ClusterRoleBinding clusterrolebindings c
rbac.authorization.k8s.io/v1: Role roles n
rbac.authorization.k8s.io/v1: RoleBinding rolebindings n
scheduling.k8s.io/v1: PriorityClass priorityclasses c pc
storage.k8s.io/v1: CSIDriver csidrivers c
storage.k8s.io/v1: StorageClass storageclasses c sc
storage.k8s.io/v1: VolumeAttachment volumeattachments c - status
"""
# Asked, never stored: create is all they know.
_REVIEWS: Final = """
authorization.k8s.io/v1: SelfSubjectAccessReview selfsubjectaccessreviews c
authorization.k8s.io/v1: SelfSubjectRulesReview selfsubjectrulesreviews c
authentication.k8s.io/v1: SelfSubjectReview selfsubjectreviews c
"""
_SUBRESOURCE_VERBS: Final = {
    "status": STATUS_VERBS,
    "log": ("get",),
    "proxy": ("create", "delete", "get", "patch", "update"),
    "binding": ("create",),
    "eviction": ("create",),
    "exec": ("create", "get"),
    "finalize": ("update",),
    "token": ("create",),
}


def _row(line: str, verbs: tuple[str, ...]) -> Resource:
    where, _, rest = line.partition(": ")
    group, _, version = where.rpartition("/")
    kind, plural, scope, *more = rest.split()
    short = tuple(more[0].split(",")) if more and more[0] != "-" else ()
    subresources = {name: _SUBRESOURCE_VERBS[name] for name in more[1].split(",")} if len(more) > 1 else {}
    return Resource(group, version, plural, kind, scope == "n", verbs, short, subresources)


def built_in() -> list[Resource]:
    """Return the kinds of a bare cluster."""
    rows = [_row(line, VERBS) for line in _TABLE.strip().splitlines()]
    return [*rows, *(_row(line, ("create",)) for line in _REVIEWS.strip().splitlines())]


def metrics_server() -> list[Resource]:
    """Return what metrics-server adds (an aggregated API; here its objects are simply stored)."""
    read = ("get", "list")
    group, version = "metrics.k8s.io", "v1beta1"
    return [
        Resource(group, version, "nodes", "NodeMetrics", False, read),
        Resource(group, version, "pods", "PodMetrics", True, read),
    ]


def of_definition(crd: Manifest) -> Iterable[Resource]:
    """Yield what a CustomResourceDefinition makes served, the preferred (newest stable) version first."""
    spec = crd["spec"]
    names = spec["names"]
    for version in sorted(spec["versions"], key=lambda entry: _maturity(entry["name"]), reverse=True):
        if version.get("served"):
            subresources = {name: STATUS_VERBS for name in version.get("subresources") or {} if name == "status"}
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            yield Resource(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                spec["scope"] == "Namespaced",
                VERBS,
                tuple(names.get("shortNames") or ()),
                subresources,
                schema,
                custom=True,
            )


def _maturity(version: str) -> tuple[int, int, int]:
    """Order versions as the API server does: v2, v1, v1beta1, v1alpha1."""
    for rank, word in ((1, "alpha"), (2, "beta")):
        major, found, minor = version.removeprefix("v").partition(word)
        if found and major.isdigit():
            return (rank, int(major), int(minor or 0))
    major = version.removeprefix("v")
    return (3, int(major), 0) if major.isdigit() else (0, 0, 0)
