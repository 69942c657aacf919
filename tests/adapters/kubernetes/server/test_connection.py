"""One API server as one user: reads, writes, watches, rights, and what is said when it fails."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_api import FakeCluster
from fake_rights import Rule

from adapters.kubernetes.api import FIELD_MANAGER, Cluster, Kind, Manifest, ObjectRef, Permission
from adapters.kubernetes.server import connection, kubeconfig
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError

_MAP = Kind("v1", "ConfigMap")
_WIDGET = Kind("x.io/v1", "Widget")
_Connected = Callable[..., Cluster]


def _map(name: str, labels: dict[str, str] | None = None, **data: str) -> Manifest:
    metadata = {"name": name, "namespace": "default", "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _crd() -> Manifest:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Cluster",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [version],
        },
    }


def _widget(name: str) -> Manifest:
    return {"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": name}}


def test_what_is_applied_is_read_patched_and_deleted(cluster: Cluster) -> None:
    ref = ObjectRef(_MAP, "default", "a")
    applied = cluster.apply(_map("a", x="1", y="2"))
    assert applied["metadata"]["managedFields"][0]["manager"] == FIELD_MANAGER
    patched = cluster.patch(ref, {"data": {"y": None}})
    assert patched is not None
    assert patched["data"] == {"x": "1"}
    assert cluster.delete(ref)
    assert cluster.get(ref) is None
    assert not cluster.delete(ref)
    assert cluster.patch(ref, {"data": {}}) is None


def test_creating_what_exists_passes_the_servers_sentence_on(cluster: Cluster) -> None:
    cluster.create(_map("a"))
    with pytest.raises(EnvironmentUpError, match=r'refused to create ConfigMap a in namespace default.*"a" already'):
        cluster.create(_map("a"))


def test_a_field_somebody_else_set_is_taken_over_only_by_force(fake: FakeCluster, connected: _Connected) -> None:
    cluster = connected(fake.kubeconfig)
    fake.store.put(
        _map("a", x="theirs")
        | {
            "metadata": {
                "name": "a",
                "namespace": "default",
                "managedFields": [
                    {
                        "manager": "kubectl",
                        "operation": "Apply",
                        "apiVersion": "v1",
                        "fieldsType": "FieldsV1",
                        "fieldsV1": {"f:data": {"f:x": {}}},
                    }
                ],
            }
        }
    )
    with pytest.raises(EnvironmentUpError, match="kubectl"):
        cluster.apply(_map("a", x="ours"))
    assert cluster.apply(_map("a", x="ours"), force=True)["data"] == {"x": "ours"}


def test_lists_are_whole_though_they_come_in_pages(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_PAGE", 3)
    for number in range(8):
        cluster.apply(_map(f"m{number}", {"even": str(number % 2 == 0).lower()}))
    assert {item["metadata"]["name"] for item in cluster.list(_MAP, "default", "even=true")} == {"m0", "m2", "m4", "m6"}
    assert cluster.list(_MAP, fields="metadata.name=m3")[0]["kind"] == "ConfigMap"
    assert len([item for item in cluster.list(_MAP) if item["metadata"]["name"].startswith("m")]) == 8


def test_metadata_leaves_out_what_objects_hold(cluster: Cluster) -> None:
    cluster.apply(_map("a", {"l": "1"}, x="large"))
    found = cluster.metadata(_MAP, "default", "l=1")
    assert [set(item) for item in found] == [{"apiVersion", "kind", "metadata"}]
    assert found[0]["metadata"]["name"] == "a"


def test_kinds_nobody_serves_have_no_objects(cluster: Cluster) -> None:
    assert cluster.get(ObjectRef(_WIDGET, "", "a")) is None
    assert cluster.list(_WIDGET) == []
    assert list(cluster.watch(_WIDGET, None, 5.0)) == []
    assert not cluster.delete(ObjectRef(_WIDGET, "", "a"))
    with pytest.raises(EnvironmentUpError, match=r"does not serve Widget\.x\.io/v1; install the CRD"):
        cluster.apply(_widget("a"))


def test_kinds_come_and_go_with_their_crd(cluster: Cluster) -> None:
    cluster.apply(_crd())
    assert cluster.apply(_widget("a"))["metadata"]["name"] == "a"
    assert _WIDGET in {served.kind for served in cluster.kinds()}
    cluster.delete(ObjectRef.of(_crd()))
    for _ in cluster.watch(Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition"), None, 0.1):
        pass
    assert cluster.list(_WIDGET) == []
    assert _WIDGET not in {served.kind for served in cluster.kinds()}


def test_the_plain_form_of_discovery_tells_the_same(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = {served.kind: served for served in cluster.kinds()}
    monkeypatch.setattr("adapters.kubernetes.server.discovery.ACCEPT", "application/json")
    one_by_one = {served.kind: served for served in cluster.kinds()}
    assert one_by_one == at_once
    assert len(at_once) > 20


def test_a_watch_tells_what_there_is_then_what_changes(cluster: Cluster) -> None:
    cluster.apply(_map("a"))
    ref, seen = ObjectRef(_MAP, "default", "a"), []
    for event in cluster.watch(_MAP, "default", 20.0, fields="metadata.name=a"):
        seen.append(event.type)
        if event.type == "ADDED":
            cluster.patch(ref, {"data": {"x": "1"}})
        if event.type == "MODIFIED":
            cluster.delete(ref)
        if event.type == "DELETED":
            break
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_ends_in_time_when_nothing_happens(cluster: Cluster) -> None:
    assert [event.type for event in cluster.watch(_MAP, "default", 0.3, fields="metadata.name=none")] == []


@pytest.mark.parametrize("code", [410, 0])
def test_a_watch_that_is_ended_early_is_taken_up_again(fake: FakeCluster, cluster: Cluster, code: int) -> None:
    cluster.apply(_map("a"))
    fake.fail(1, code, "GET", "*/configmaps")  # the list is asked again as well: what counts is the last state
    seen: dict[str, str] = {}
    changer = threading.Timer(0.3, lambda: cluster.patch(ObjectRef(_MAP, "default", "a"), {"data": {"x": "1"}}))
    changer.start()
    for event in cluster.watch(_MAP, "default", 20.0, fields="metadata.name=a"):
        seen = event.object.get("data") or {}
        if seen.get("x") == "1":
            break
    changer.join()
    assert seen == {"x": "1"}


def test_what_goes_while_nobody_watches_is_told_as_deleted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.apply(_map("a"))
    cluster.apply(_map("b"))

    def lost(*_: Any) -> Iterator[str]:
        """End a watch with 410, after what it would have told was missed."""
        cluster.delete(ObjectRef(_MAP, "default", "a"))
        yield ""

    monkeypatch.setattr(cluster, "_follow", lost)
    seen = []
    for event in cluster.watch(_MAP, "default", 20.0):
        seen.append((event.type, event.object["metadata"]["name"]))
        if event.type == "DELETED":
            break
    assert ("ADDED", "a") in seen
    assert seen[-1] == ("DELETED", "a")


def test_a_connection_that_is_cut_is_opened_again_where_that_is_safe(fake: FakeCluster, cluster: Cluster) -> None:
    cluster.apply(_map("a"))
    fake.fail(2, 0, "GET")
    assert cluster.get(ObjectRef(_MAP, "default", "a")) is not None
    fake.fail(1, 0, "POST")
    with pytest.raises(ServiceUnavailableError, match="does not answer, asked to create ConfigMap b"):
        cluster.create(_map("b"))


def test_a_server_that_is_too_busy_is_asked_again_and_then_told(
    fake: FakeCluster, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.kubernetes.server.wire._LONGEST_PAUSE_S", 0.01)
    fake.fail(2, 429, "POST")
    assert cluster.create(_map("a"))["metadata"]["uid"]
    fake.fail(50, 429, "GET")
    with pytest.raises(ServiceUnavailableError, match="cannot get ConfigMap a in namespace default now"):
        cluster.get(ObjectRef(_MAP, "default", "a"))


def test_what_a_busy_server_cannot_tell_is_not_taken_for_absent(fake: FakeCluster, connected: _Connected) -> None:
    fake.fail(1, 503, "GET", "/api/v1")
    with pytest.raises(ServiceUnavailableError, match="cannot tell the kinds of v1 now"):
        connected(fake.kubeconfig).list(_MAP)


def test_a_handshake_that_breaks_off_is_no_fault_of_the_kubeconfig(
    tmp_path: Path, fake: FakeCluster, connected: _Connected
) -> None:
    def hang_up() -> None:
        caller, _ = server.accept()
        caller.recv(1 << 16)  # its greeting
        caller.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=hang_up)
        answering.start()
        config = yaml.safe_load(fake.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{server.getsockname()[1]}"
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config))
        with pytest.raises(ServiceUnavailableError, match="does not answer, asked to tell its version"):
            connected(path).version()
        answering.join()


def test_a_server_that_is_not_there_is_named_with_its_address(
    tmp_path: Path, fake: FakeCluster, connected: _Connected
) -> None:
    config = yaml.safe_load(fake.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ServiceUnavailableError, match=r"fake \(https://127.0.0.1:1\) does not answer.*refused"):
        connected(path).version()


def test_a_server_with_another_certificate_is_not_trusted(
    tmp_path: Path, fake: FakeCluster, connected: _Connected
) -> None:
    config = yaml.safe_load(fake.kubeconfig.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigurationError, match=r"no TLS connection.*self-signed certificate"):
        connected(path).version()
    config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    path.write_text(yaml.safe_dump(config))
    assert connected(path).version()


def test_rights_that_are_missing_are_told_verb_by_verb(fake: FakeCluster, connected: _Connected) -> None:
    poor = connected(fake.kubeconfig_of("poor", Rule("", "pods", ("get", "list"))))
    asked = [Permission("", "pods", ("get", "create")), Permission("apps", "deployments", ("list",))]
    assert poor.missing(asked) == [Permission("", "pods", ("create",)), Permission("apps", "deployments", ("list",))]
    with pytest.raises(ConfigurationError, match="user 'poor' of fake may not list configmaps cluster-wide"):
        poor.list(_MAP)


def test_an_administrator_is_asked_once(fake: FakeCluster, cluster: Cluster) -> None:
    before = len(fake.requests)
    assert cluster.missing([Permission("", "pods", ("get", "create"))] * 20) == []
    assert len(fake.requests) - before == 1


def test_unknown_users_are_told_to_renew_their_credentials(fake: FakeCluster, connected: _Connected) -> None:
    stranger = connected(fake.kubeconfig_of("stranger", Rule("", "pods", ("get",))))
    del fake.rights.rules["stranger"]
    with pytest.raises(ConfigurationError, match="does not accept our credentials"):
        stranger.list(_MAP)


def test_helm_gets_a_private_kubeconfig_of_this_context_alone(cluster: Cluster) -> None:
    path = Path(cluster.helm_environment()["KUBECONFIG"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert yaml.safe_load(path.read_text())["current-context"] == cluster.name
    assert cluster.helm_environment()["KUBECONFIG"] == str(path)
    cluster.close()
    cluster.close()
    assert not path.parent.exists()


def test_text_below_a_node_is_read_as_it_is(fake: FakeCluster, cluster: Cluster) -> None:
    fake.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    fake.texts["*/nodes/n1/proxy/metrics/cadvisor"] = "cpu 1\n"
    assert cluster.text("/api/v1/nodes/n1/proxy/metrics/cadvisor") == "cpu 1\n"
    with pytest.raises(ServiceUnavailableError, match="/metrics/other"):
        cluster.text("/api/v1/nodes/n1/proxy/metrics/other")
    with pytest.raises(EnvironmentUpError, match="n2"):
        cluster.text("/api/v1/nodes/n2/proxy/metrics/cadvisor")


def test_contexts_are_chosen_by_name_and_unknown_ones_refused(fake: FakeCluster, connected: _Connected) -> None:
    assert connected(fake.kubeconfig, "fake").name == "fake"
    with pytest.raises(ConfigurationError, match="no context 'nowhere'"):
        connected(fake.kubeconfig, "nowhere")


def test_without_kubeconfig_and_outside_a_cluster_there_is_nothing_to_connect_to(
    tmp_path: Path, connected: _Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="no kubeconfig"):
        connected(tmp_path / "none")


def test_a_token_in_a_file_is_read_anew_when_it_is_renewed(
    tmp_path: Path, fake: FakeCluster, connected: _Connected
) -> None:
    config = yaml.safe_load(fake.kubeconfig.read_text())
    config["users"][0]["user"] = {"tokenFile": "token"}
    path, token = tmp_path / "config", tmp_path / "token"
    path.write_text(yaml.safe_dump(config))
    token.write_text("of-yesterday")
    cluster = connected(path)
    with pytest.raises(ConfigurationError, match="does not accept our credentials"):
        cluster.list(_MAP)
    token.write_text("admin-token\n")
    assert cluster.list(_MAP)


def test_without_a_kubeconfig_a_pod_speaks_to_its_own_cluster(
    tmp_path: Path, fake: FakeCluster, connected: _Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = kubeconfig.only(yaml.safe_load(fake.kubeconfig.read_text()), "fake")
    monkeypatch.setattr(kubeconfig, "in_cluster", lambda: own)
    cluster = connected(tmp_path / "none")
    assert cluster.name == "in-cluster"
    assert cluster.list(Kind("v1", "Namespace"))
