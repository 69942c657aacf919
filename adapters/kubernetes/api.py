"""What the provider asks of a cluster's API server, and the words for its objects. No client library in here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NewType, Protocol

Manifest = dict[str, Any]
"""One object as the API server reads and writes it: apiVersion, kind, metadata, ..."""

FIELD_MANAGER: Final = "meshgauge"

# Labels on every object Meshgauge makes, so that a killed worker's leftovers are found (reliability.md 3). SITE is
# ``EnvironmentOrder.site`` and EPOCH the lease's; OWNER tells our objects from those of Helm and of controllers.
LABEL_OWNER: Final = "app.kubernetes.io/managed-by"
OWNER: Final = "meshgauge"
LABEL_SITE: Final = "meshgauge.io/site"
LABEL_EPOCH: Final = "meshgauge.io/epoch"
LABEL_ENVIRONMENT: Final = "meshgauge.io/environment"
LABEL_COMPONENT: Final = "meshgauge.io/component"
# Names the mesh a namespace takes part in. Injectors that would look at every pod of the cluster, and refuse it while
# they are down, are told to look at namespaces with this label alone.
LABEL_MESH: Final = "meshgauge.io/mesh"

ResourceVersion = NewType("ResourceVersion", str)


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of object. ``Kind("apps/v1", "Deployment")``."""

    api_version: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}.{self.api_version}"

    @property
    def group(self) -> str:
        """Its API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """One object by name. ``namespace`` is empty for cluster-scoped kinds."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.kind.name} {self.name}{where}"

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> ObjectRef:
        """Return the name of ``manifest``."""
        metadata = manifest["metadata"]
        kind = Kind(manifest["apiVersion"], manifest["kind"])
        return cls(kind, metadata.get("namespace") or "", metadata["name"])


@dataclass(frozen=True, slots=True)
class ServedKind:
    """A kind this API server serves, and how."""

    kind: Kind
    plural: str
    is_namespaced: bool
    verbs: frozenset[str]


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """A right to ask for with a SelfSubjectAccessReview and to grant with a ClusterRole.

    ``resource`` is a plural, perhaps with a subresource (``nodes/proxy``); ``*`` is everything.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.verbs)} {self.resource}{f'.{self.group}' if self.group else ''}"


EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change of an object."""

    type: EventType
    object: Manifest


class Cluster(Protocol):
    """One API server, as one user. Every method may raise what is listed here, and says nothing more about it.

    Raises:
        ServiceUnavailableError: the API server does not answer (retryable).
        ConfigurationError: it refuses us (401, 403): names verb and resource, and the permission that is missing.
        EnvironmentUpError: it refuses the object (409, 422 ...): its sentence is passed on.
    """

    name: str
    """The context, for messages; ``in-cluster`` inside one."""

    def version(self) -> str:
        """Return the API server's version, ``1.34.1``."""

    def kinds(self) -> Sequence[ServedKind]:
        """Return every preferred kind that can be listed. Asked anew each time: meshes bring kinds of their own."""

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object, or None when there is none (or when its kind is not served)."""

    def list(
        self, kind: Kind, namespace: str | None = None, labels: str | None = None, fields: str | None = None
    ) -> Sequence[Manifest]:
        """Return objects, each with apiVersion and kind; an empty list when the kind is not served.

        Args:
            namespace: None: of all namespaces.
            labels, fields: selectors as kubectl writes them.
        """

    def metadata(
        self, kind: Kind, namespace: str | None = None, labels: str | None = None, fields: str | None = None
    ) -> Sequence[Manifest]:
        """Like ``list``, but each with apiVersion, kind and metadata only: fast where objects are many or large."""

    def watch(
        self, kind: Kind, namespace: str | None, timeout_s: float, labels: str | None = None, fields: str | None = None
    ) -> Iterator[WatchEvent]:
        """Yield every object there is as ADDED, then every change, until ``timeout_s`` is over.

        A watch the API server ends early (410, closed connection) is taken up again from a fresh list: whoever
        reads may see an object ADDED twice, and never misses its last state.
        """

    def create(self, manifest: Manifest) -> Manifest:
        """Create the object; one that exists is an EnvironmentUpError."""

    def apply(self, manifest: Manifest, *, force: bool = False) -> Manifest:
        """Server-side apply as FIELD_MANAGER.

        Args:
            force: take over fields that somebody else set; else a conflict is an EnvironmentUpError naming them.
        """

    def patch(self, ref: ObjectRef, patch: Manifest) -> Manifest | None:
        """Merge-patch the object (``None`` values remove keys); return None when there is none."""

    def delete(self, ref: ObjectRef, *, grace_s: int | None = None) -> bool:
        """Delete with background propagation; return whether there was one. Does not wait."""

    def text(self, path: str, timeout_s: float = 10.0) -> str:
        """GET a text endpoint below the API server, such as ``/api/v1/nodes/n/proxy/metrics/cadvisor``."""

    def missing(self, permissions: Sequence[Permission]) -> Sequence[Permission]:
        """Return those we do not hold, asked with SelfSubjectAccessReviews."""

    def helm_environment(self) -> Mapping[str, str]:
        """Return variables under which Helm reaches this very API server as this very user (KUBECONFIG ...)."""

    def close(self) -> None:
        """Close connections and remove temporary files. Idempotent."""
