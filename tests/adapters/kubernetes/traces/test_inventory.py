"""What is in a cluster can be told from what was there before."""

from __future__ import annotations

from collections.abc import Callable

from fake_api import FakeCluster
from fake_rights import Rule

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.mesh import Residue
from adapters.kubernetes.traces.inventory import CLAIM, NAMESPACE, Entry, Inventory, difference, take

_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole")
_MAP = Kind("v1", "ConfigMap")


def _role(name: str, annotations: dict[str, str] | None = None) -> Manifest:
    metadata = {"name": name, "annotations": annotations or {}}
    return {"apiVersion": _ROLE.api_version, "kind": _ROLE.name, "metadata": metadata, "rules": []}


def _map(name: str, namespace: str = "default") -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}


def _namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def test_new_gone_and_replaced_objects_are_told_apart(cluster: Cluster) -> None:
    for name in ("stays", "goes", "changes"):
        cluster.apply(_role(name))
    before = take(cluster)
    cluster.delete(ObjectRef(_ROLE, "", "goes"))
    cluster.delete(ObjectRef(_ROLE, "", "changes"))
    cluster.apply(_role("changes"))
    cluster.apply(_namespace("comes"))
    found = difference(before, take(cluster))
    assert [entry.ref for entry in found.added] == [ObjectRef(NAMESPACE, "", "comes")]
    assert [entry.ref.name for entry in found.gone] == ["goes"]
    assert [entry.ref.name for entry in found.replaced] == ["changes"]
    assert str(found) == "new: Namespace comes; gone: ClusterRole goes; made anew: ClusterRole changes"


def test_an_unchanged_cluster_does_not_differ(cluster: Cluster) -> None:
    cluster.apply(_namespace("a"))
    assert not difference(take(cluster), take(cluster))


def test_what_comes_and_goes_by_itself_is_left_out(fake: FakeCluster, cluster: Cluster) -> None:
    before = take(cluster)
    fake.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    fake.store.put(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1.x.io", "labels": {"kube-aggregator.kubernetes.io/automanaged": "true"}},
            "spec": {"group": "x.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1},
        }
    )
    assert not difference(before, take(cluster))


def test_of_namespaced_kinds_only_what_the_residue_names_is_looked_at(cluster: Cluster) -> None:
    for name in ("mesh-root", "other"):
        cluster.apply(_map(name))
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    for namespace in ("mesh", "elsewhere"):
        cluster.apply(_namespace(namespace))
        metadata = {"name": "data", "namespace": namespace, "labels": {"app": "mesh"}}
        cluster.apply({"apiVersion": "v1", "kind": CLAIM.name, "metadata": metadata, "spec": spec})
    residue = Residue(everywhere=((_MAP, "mesh-*"),), namespaces=("mesh",), claims="app=mesh")
    found = take(cluster, residue).entries
    assert ObjectRef(_MAP, "default", "mesh-root") in found
    assert ObjectRef(_MAP, "default", "other") not in found
    assert [ref.namespace for ref in found if ref.kind == CLAIM] == ["mesh"]
    assert not [ref for ref in take(cluster).entries if ref.namespace]


def test_the_release_that_made_an_object_is_read_from_helms_annotations(cluster: Cluster) -> None:
    notes = {"meta.helm.sh/release-name": "base", "meta.helm.sh/release-namespace": "mesh"}
    cluster.apply(_role("r", notes))
    assert take(cluster).entries[ObjectRef(_ROLE, "", "r")].release == ("base", "mesh")


def test_helms_releases_are_known_by_their_secrets(cluster: Cluster) -> None:
    labels = {"owner": "helm", "name": "base", "version": "1"}
    metadata = {"name": "sh.helm.release.v1.base.v1", "namespace": "default", "labels": labels}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    assert take(cluster).releases == {("base", "default")}


def test_kinds_that_may_not_be_listed_count_as_there_before(
    fake: FakeCluster, connected: Callable[..., Cluster]
) -> None:
    poor = connected(fake.kubeconfig_of("poor", Rule("", "namespaces", ("list",))))
    found = take(poor)
    assert ObjectRef(NAMESPACE, "", "default") in found.entries
    assert (_ROLE.group, _ROLE.name) in found.unseen
    assert found.had(ObjectRef(_ROLE, "", "anything"))
    assert not found.had(ObjectRef(NAMESPACE, "", "new"))


def test_kinds_one_side_could_not_see_make_no_difference() -> None:
    ref = ObjectRef(_ROLE, "", "r")
    seen = Inventory({ref: Entry(ref, "1")})
    blind = Inventory({}, unseen=frozenset({(_ROLE.group, _ROLE.name)}))
    assert not difference(seen, blind)
    assert not difference(blind, seen)


def test_versions_of_a_group_show_the_same_object() -> None:
    old, new = (ObjectRef(Kind(f"x.io/{version}", "Widget"), "", "w") for version in ("v1alpha1", "v1"))
    assert Inventory({old: Entry(old, "1")}).had(new)
    assert not difference(Inventory({old: Entry(old, "1")}), Inventory({new: Entry(new, "1")}))
