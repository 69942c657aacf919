"""A life leaves nothing behind, and takes nothing along that was there before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fake_api import FakeCluster

from adapters.kubernetes.api import LABEL_SITE, Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.mesh import Residue
from adapters.kubernetes.traces import ledger as ledgers_module
from adapters.kubernetes.traces import removal
from adapters.kubernetes.traces.inventory import NAMESPACE, difference, take
from adapters.kubernetes.traces.ledger import Ledger, Owner, Undertaking, begin, find, ledgers
from adapters.kubernetes.traces.removal import remove
from adapters.kubernetes.traces.sweep import clean, remains, sweep
from meshgauge.errors import EnvironmentUpError

_OWNER = Owner("site.1", 4, "env-1")
_MAP = Kind("v1", "ConfigMap")
_RULE = Kind("policy.mesh.io/v1", "Rule")
_RESIDUE = Residue(
    groups=("*.mesh.io",),
    kinds=((Kind("rbac.authorization.k8s.io/v1", "ClusterRole"), "mesh-made-*"),),
    everywhere=((_MAP, "mesh-root-cert"),),
    namespaces=("mesh-system",),
    claims="app=mesh",
    finalizers=("policy.mesh.io",),
)
_MESH = Undertaking("mesh", "1.2.3", releases=(("base", "mesh-system"), ("control", "mesh-system")), residue=_RESIDUE)


def _namespace(name: str, owner: Owner | None = None) -> Manifest:
    labels = owner.labels if owner else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _map(name: str, namespace: str, **metadata: Any) -> Manifest:
    named = {"name": name, "namespace": namespace} | metadata
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named}


def _role(name: str) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [],
    }


def _crd(plural: str = "rules", kind: str = "Rule", group: str = "policy.mesh.io") -> Manifest:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def _rule(namespace: str, *finalizers: str) -> Manifest:
    metadata = {"name": "r", "namespace": namespace, "finalizers": list(finalizers)}
    return {"apiVersion": _RULE.api_version, "kind": _RULE.name, "metadata": metadata}


def _webhook() -> Manifest:
    hook = {
        "name": "inject.mesh.io",
        "clientConfig": {"service": {"name": "control", "namespace": "mesh-system"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "mesh-injector"},
        "webhooks": [hook],
    }


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give things that hang a second instead of a minute."""
    monkeypatch.setattr(removal, "_STEP_S", 1.0)
    monkeypatch.setattr(ledgers_module, "_GONE_WITHIN_S", 10.0)


def _live(cluster: Cluster, helm: Any, owner: Owner = _OWNER) -> Ledger:
    """Bring a mesh and an environment up, with all that controllers of meshes make behind our back."""
    life = begin(cluster, owner, _MESH)
    cluster.apply(_namespace("mesh-system", owner))
    helm.put(cluster, "base", "mesh-system", _crd())
    helm.put(cluster, "control", "mesh-system", _webhook(), _role("mesh-control"))
    cluster.apply(_namespace("bench", owner))
    for namespace in ("default", "bench", "kube-system"):
        cluster.apply(_map("mesh-root-cert", namespace))
    cluster.apply(_role("mesh-made-later"))
    cluster.apply(_rule("bench"))
    return life


def _names(cluster: Cluster, kind: Kind, labels: str | None = None) -> list[str]:
    return sorted(item["metadata"]["name"] for item in cluster.metadata(kind, labels=labels))


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def test_all_that_a_mesh_brought_goes_and_the_cluster_is_as_before(cluster: Cluster, release_keeper: Any) -> None:
    before, lines = take(cluster, _RESIDUE), list[str]()
    found = remove(cluster, release_keeper, _live(cluster, release_keeper), lines.append)
    assert not found
    assert str(difference(before, take(cluster, _RESIDUE))) == ""
    assert release_keeper.uninstalled == ["control", "base"]
    assert "mesh-root-cert" not in _names(cluster, _MAP)
    assert ledgers(cluster) == []
    told = _lines(lines)
    assert told.index("Namespace bench") < told.index("release control") < told.index("Namespace mesh-system")


def test_what_was_there_before_stays_though_the_mesh_would_leave_the_same(
    cluster: Cluster, release_keeper: Any
) -> None:
    cluster.apply(_map("mesh-root-cert", "kube-system"))
    cluster.apply(_role("mesh-made-long-ago"))
    cluster.apply(_crd("gates", "Gate", "gate.mesh.io"))
    cluster.apply(_namespace("mesh-system"))
    release_keeper.put(cluster, "control", "mesh-system", _role("theirs"))
    before = take(cluster, _RESIDUE)
    life = begin(cluster, _OWNER, _MESH)
    cluster.apply(_map("mesh-root-cert", "default"))
    release_keeper.put(cluster, "base", "mesh-system", _crd())
    lines: list[str] = []
    remove(cluster, release_keeper, life, lines.append)
    assert str(difference(before, take(cluster, _RESIDUE))) == ""
    assert release_keeper.uninstalled == ["base"]
    assert "release control in namespace mesh-system was there before: left alone" in lines


def test_what_others_make_meanwhile_is_told_and_left_alone(cluster: Cluster, release_keeper: Any) -> None:
    life = _live(cluster, release_keeper)
    cluster.apply(_namespace("somebodys"))
    cluster.apply(_role("somebodys"))
    lines: list[str] = []
    found = remove(cluster, release_keeper, life, lines.append)
    assert sorted(entry.ref.name for entry in found.added) == ["somebodys", "somebodys"]
    assert cluster.get(ObjectRef(NAMESPACE, "", "somebodys")) is not None
    assert "left alone: new: ClusterRole somebodys, Namespace somebodys" in _lines(lines)


def test_removing_twice_is_removing_once(cluster: Cluster, release_keeper: Any) -> None:
    life = _live(cluster, release_keeper)
    remove(cluster, release_keeper, life)
    assert not remove(cluster, release_keeper, life)


@pytest.mark.parametrize("step", ["nothing", "namespace", "first release", "all"])
def test_a_life_cut_off_anywhere_is_undone_by_another_process_of_the_next_epoch(
    cluster: Cluster, release_keeper: Any, step: str
) -> None:
    before = take(cluster, _RESIDUE)
    if step == "all":
        _live(cluster, release_keeper)
    else:
        begin(cluster, _OWNER, _MESH)
        if step != "nothing":
            cluster.apply(_namespace("mesh-system", _OWNER))
        if step == "first release":
            release_keeper.put(cluster, "base", "mesh-system", _crd())
    assert sweep(cluster, release_keeper, _OWNER.site, 4) == []
    lines = sweep(cluster, release_keeper, _OWNER.site, 5)
    assert lines == ["removed mesh 1.2.3 of env-1 (site site.1, epoch 4)"]
    assert str(difference(before, take(cluster, _RESIDUE))) == ""
    assert sweep(cluster, release_keeper, _OWNER.site, 6) == []


def test_a_life_cut_off_before_its_record_was_whole_leaves_no_namespace(cluster: Cluster, release_keeper: Any) -> None:
    cluster.apply(_namespace(_OWNER.namespace, _OWNER))
    assert ledgers(cluster) == []
    assert sweep(cluster, release_keeper, _OWNER.site, 5) == [f"removed Namespace {_OWNER.namespace}"]
    assert cluster.get(ObjectRef(NAMESPACE, "", _OWNER.namespace)) is None


def test_another_sites_life_is_not_swept(cluster: Cluster, release_keeper: Any) -> None:
    _live(cluster, release_keeper)
    assert sweep(cluster, release_keeper, "site.2", 99) == []
    assert "bench" in _names(cluster, NAMESPACE)


def test_a_life_that_is_meant_to_stay_stays_until_it_is_removed_on_purpose(
    cluster: Cluster, release_keeper: Any
) -> None:
    before, life = take(cluster, _RESIDUE), _live(cluster, release_keeper)
    life.stay()
    assert sweep(cluster, release_keeper, _OWNER.site, 9) == []
    assert remains(cluster) == ["mesh 1.2.3 of env-1 (site site.1, epoch 4), meant to stay"]
    known = find(cluster, _OWNER)
    assert known is not None
    assert known.stays
    remove(cluster, release_keeper, known)
    assert str(difference(before, take(cluster, _RESIDUE))) == ""


def test_cleaning_by_hand_takes_everything_of_any_site(cluster: Cluster, release_keeper: Any) -> None:
    before, life = take(cluster, _RESIDUE), _live(cluster, release_keeper)
    life.stay()
    loose = Owner("site.7", 1, "lost")
    cluster.apply(_map("lost", "default", labels=loose.labels))
    assert remains(cluster)[1:] == ["ConfigMap lost in namespace default of site site.7"]
    assert len(clean(cluster, release_keeper)) == 2
    assert remains(cluster) == []
    assert str(difference(before, take(cluster, _RESIDUE))) == ""


def test_finalizers_are_cleared_once_their_controller_is_gone(cluster: Cluster, release_keeper: Any) -> None:
    life = _live(cluster, release_keeper)
    cluster.apply(_rule("default", "controller.mesh.io/clean"))
    cluster.apply(_rule("bench", "controller.mesh.io/clean"), force=True)
    lines: list[str] = []
    remove(cluster, release_keeper, life, lines.append)
    told = _lines(lines)
    assert told.index("uninstalled release base") < told.index("letting go of")
    assert cluster.list(_RULE) == []


def test_a_finalizer_nobody_declared_is_told_and_the_record_kept_for_another_try(
    cluster: Cluster, release_keeper: Any
) -> None:
    life = _live(cluster, release_keeper)
    held = _map("held", "bench", finalizers=["somebody.else/hold"])
    cluster.apply(held)
    with pytest.raises(EnvironmentUpError, match=r"(?s)cannot be removed wholly.*left: Namespace bench"):
        remove(cluster, release_keeper, life, timeout_s=3.0)
    cluster.patch(ObjectRef.of(held), {"metadata": {"finalizers": None}})
    assert sweep(cluster, release_keeper, _OWNER.site, 5)
    assert remains(cluster) == []


def test_a_release_helm_cannot_uninstall_goes_with_its_namespace(cluster: Cluster, release_keeper: Any) -> None:
    before, life = take(cluster, _RESIDUE), _live(cluster, release_keeper)
    release_keeper.failing = {"control": 5}
    lines: list[str] = []
    remove(cluster, release_keeper, life, lines.append)
    assert str(difference(before, take(cluster, _RESIDUE))) == ""
    assert "the hook timed out" in _lines(lines)


def test_webhooks_in_the_way_of_an_uninstallation_are_removed_for_a_second_try(
    cluster: Cluster, release_keeper: Any
) -> None:
    life = _live(cluster, release_keeper)
    release_keeper.failing = {"control": 1}
    remove(cluster, release_keeper, life)
    assert release_keeper.uninstalled == ["control", "base"]


def test_a_deletion_that_is_refused_stops_no_other_one(
    fake: FakeCluster, cluster: Cluster, release_keeper: Any
) -> None:
    before, life, lines = take(cluster, _RESIDUE), _live(cluster, release_keeper), list[str]()
    fake.fail(1, 409, "DELETE", "*/namespaces/bench")
    remove(cluster, release_keeper, life, lines.append)
    assert str(difference(before, take(cluster, _RESIDUE))) == ""
    assert "refused to delete Namespace bench" in _lines(lines)


def test_what_is_brought_later_is_noted_before_and_goes_too(cluster: Cluster, release_keeper: Any) -> None:
    life = _live(cluster, release_keeper)
    theirs, ours = _map("shared", "kube-public"), _map("ours", "kube-public")
    cluster.apply(theirs)
    life.add(objects=[ObjectRef.of(theirs), ObjectRef.of(ours)], releases=[("shop", "bench")])
    cluster.apply(ours)
    again = find(cluster, _OWNER)
    assert again is not None
    assert ("shop", "bench") in again.undertaking.releases
    remove(cluster, release_keeper, again)
    assert cluster.get(ObjectRef.of(theirs)) is not None
    assert cluster.get(ObjectRef.of(ours)) is None


def test_an_environment_begun_again_keeps_its_first_record(cluster: Cluster, release_keeper: Any) -> None:
    before = take(cluster, _RESIDUE)
    _live(cluster, release_keeper)
    again = begin(cluster, _OWNER, _MESH)
    assert not again.before.had(ObjectRef(NAMESPACE, "", "bench"))
    remove(cluster, release_keeper, again)
    assert str(difference(before, take(cluster, _RESIDUE))) == ""


def _volume(name: str, namespace: str, policy: str) -> Manifest:
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": policy,
        "claimRef": {"namespace": namespace, "name": "data"},
        "hostPath": {"path": "/x"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def test_volumes_of_its_claims_are_left_to_their_provisioner_or_deleted_where_it_retains_them(
    cluster: Cluster, release_keeper: Any
) -> None:
    life = _live(cluster, release_keeper)
    ours, kept = _volume("ours", "mesh-system", "Delete"), _volume("kept", "bench", "Retain")
    for volume in (ours, kept, _volume("theirs", "default", "Retain")):
        cluster.apply(volume)
    with pytest.raises(EnvironmentUpError, match=r"(?s)left: PersistentVolume ours.*provisioner does not delete"):
        remove(cluster, release_keeper, life)
    cluster.delete(ObjectRef.of(ours))  # as its provisioner does in the end
    remove(cluster, release_keeper, life)
    assert _names(cluster, Kind("v1", "PersistentVolume")) == ["theirs"]


def test_a_record_larger_than_a_config_map_is_kept_in_parts(
    fake: FakeCluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers_module, "_PART_BYTES", 500)
    for number in range(60):
        fake.store.put(_role(f"role-{number}"))
    life = begin(cluster, _OWNER, _MESH)
    assert len(_names(cluster, _MAP, f"{LABEL_SITE}={_OWNER.site}")) > 3
    known = find(cluster, _OWNER)
    assert known is not None
    assert known.before.entries.keys() == life.before.entries.keys()
    assert known.undertaking == life.undertaking


def _parts(cluster: Cluster) -> list[ObjectRef]:
    items = cluster.metadata(_MAP, _OWNER.namespace, f"{LABEL_SITE}={_OWNER.site}")
    return [ObjectRef.of(item) for item in items if item["metadata"]["name"].startswith("before-")]


def test_a_record_with_a_part_missing_or_changed_is_not_trusted(cluster: Cluster) -> None:
    life = begin(cluster, _OWNER, _MESH)
    (part,) = _parts(cluster)
    cluster.patch(part, {"binaryData": {"inventory": "AAAA"}})
    with pytest.raises(EnvironmentUpError, match="was changed by somebody"):
        find(cluster, _OWNER)
    cluster.delete(part)
    with pytest.raises(EnvironmentUpError, match=f"{part.name}.* is missing; .*delete namespace {_OWNER.namespace}"):
        find(cluster, _OWNER)
    life.write()
    assert find(cluster, _OWNER) is not None


def test_a_record_cut_off_while_it_is_written_anew_stays_as_it_was(fake: FakeCluster, cluster: Cluster) -> None:
    life = begin(cluster, _OWNER, _MESH)
    cluster.apply(_map("theirs", "default"))
    fake.fail(1, 500, "PATCH", "*/configmaps/ledger")
    with pytest.raises(EnvironmentUpError):
        life.add(objects=[ObjectRef(_MAP, "default", "theirs")], releases=[("shop", "bench")])
    known = find(cluster, _OWNER)
    assert known is not None
    assert known.undertaking == _MESH
    assert not known.before.had(ObjectRef(_MAP, "default", "theirs"))


def test_parts_of_former_records_are_dropped(cluster: Cluster) -> None:
    life = begin(cluster, _OWNER, _MESH)
    first = _parts(cluster)
    cluster.apply(_map("theirs", "default"))
    life.add(objects=[ObjectRef(_MAP, "default", "theirs")])
    assert len(_parts(cluster)) == 1
    assert _parts(cluster) != first
