"""The SDK wheel for real, in its child process, against a stateful fake API server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_api import FakeCluster
from fake_rights import Rule
from tiny_charts import CRD, HOOK, MakeChart, seen_within

from adapters.kubernetes.api import Cluster, Kind, ObjectRef
from adapters.kubernetes.helm import sdk
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource
from adapters.kubernetes.helm.sdk import SdkBackend
from adapters.kubernetes.server.connection import connect
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError

pytest.importorskip("helm_python")

CONFIG = ObjectRef(Kind("v1", "ConfigMap"), "shop", "greet")
WIDGETS = ObjectRef(Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition"), "", "widgets.example.org")


@pytest.fixture
def helm() -> SdkBackend:
    return SdkBackend()


def release(chart: Path, **more: object) -> ChartRelease:
    return ChartRelease("greet", "shop", ChartSource(str(chart)), "1.0.0", **more)  # type: ignore[arg-type]


def test_a_release_lives_from_install_over_upgrade_to_uninstall(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    made = helm.install(cluster, release(make_chart(), values={"greeting": "good day"}), 30)
    assert [(one["kind"], one["metadata"]["name"]) for one in made] == [("ConfigMap", "greet")]
    there = cluster.get(CONFIG)
    assert there is not None
    assert there["data"]["greeting"] == "good day"
    helm.upgrade(cluster, release(make_chart(version="1.1.0")), 30)
    there = cluster.get(CONFIG)
    assert there is not None
    assert there["data"]["greeting"] == "hello", "values of the first revision are not carried over"
    (deployed,) = helm.releases(cluster)
    assert (deployed.name, deployed.namespace, deployed.status, deployed.revision) == ("greet", "shop", "deployed", 2)
    assert (deployed.chart, deployed.chart_version, deployed.app_version) == ("greeter", "1.1.0", "v1.1.0")
    assert helm.uninstall(cluster, "greet", "shop", 30)
    assert cluster.get(CONFIG) is None
    assert helm.releases(cluster) == []
    assert not helm.uninstall(cluster, "greet", "shop", 30), "there is none any more, and that is no error"


def test_a_name_that_is_in_use_says_to_uninstall_first(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    helm.install(cluster, release(make_chart()), 30)
    with pytest.raises(EnvironmentUpError, match=r"helm install greet .*uninstall it first"):
        helm.install(cluster, release(make_chart()), 30)


def test_crds_of_the_chart_come_with_it_unless_somebody_else_owns_them(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    chart = make_chart(files={"crds/widget.yaml": CRD})
    helm.install(cluster, release(chart, skip_crds=True), 30)
    assert cluster.get(WIDGETS) is None
    helm.uninstall(cluster, "greet", "shop", 30)
    helm.install(cluster, release(chart), 30)
    assert cluster.get(WIDGETS) is not None
    helm.uninstall(cluster, "greet", "shop", 30)
    assert cluster.get(WIDGETS) is not None, "Helm never removes crds/: that is for who keeps the inventory"


def test_crds_that_were_there_are_left_alone_by_an_installation_and_renewed_by_an_upgrade(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    theirs = cluster.create(yaml.safe_load(CRD))
    newer = CRD.replace("scope: Namespaced", "scope: Namespaced\n  conversion: {strategy: None}").replace(
        "{name: widgets.example.org}", "{name: widgets.example.org, labels: {made: later}}"
    )
    helm.install(cluster, release(make_chart(files={"crds/widget.yaml": newer})), 30)
    assert cluster.get(WIDGETS) == theirs
    helm.upgrade(cluster, release(make_chart(version="1.1.0", files={"crds/widget.yaml": newer})), 30)
    there = cluster.get(WIDGETS)
    assert there is not None
    assert there["metadata"]["labels"] == {"made": "later"}


def test_a_chart_may_hold_an_object_of_its_own_kind(helm: SdkBackend, cluster: Cluster, make_chart: MakeChart) -> None:
    custom = "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: one}\n"
    chart = make_chart(files={"crds/widget.yaml": CRD, "templates/widget.yaml": custom})
    helm.install(cluster, release(chart), 30)
    assert cluster.get(ObjectRef(Kind("example.org/v1", "Widget"), "shop", "one")) is not None


def test_rendering_needs_no_cluster_and_answers_for_the_version_asked(helm: SdkBackend, make_chart: MakeChart) -> None:
    custom = "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: one}\n"
    chart = make_chart(files={"crds/widget.yaml": CRD, "templates/widget.yaml": custom, "templates/hook.yaml": HOOK})
    objects = {one["kind"]: one for one in helm.render(release(chart), "1.31.4")}
    assert list(objects) == ["CustomResourceDefinition", "ConfigMap", "Widget"], "crds first, hooks aside"
    assert objects["ConfigMap"]["data"] == {"greeting": "hello", "kube": "v1.31.4"}
    assert not any(
        one["kind"] == "CustomResourceDefinition" for one in helm.render(release(chart, skip_crds=True), "1.31.4")
    )


def test_rendering_keeps_to_the_chart_s_own_kubernetes_versions(helm: SdkBackend, make_chart: MakeChart) -> None:
    chart = make_chart(chart_yaml='kubeVersion: "<1.33.0"\n')
    assert helm.render(release(chart), "1.32.9")
    with pytest.raises(EnvironmentUpError, match=r"kubeVersion: <1\.33\.0"):
        helm.render(release(chart), "1.34.0")


def test_subcharts_come_by_their_condition(helm: SdkBackend, make_chart: MakeChart) -> None:
    part = {
        "charts/part/Chart.yaml": "apiVersion: v2\nname: part\nversion: 0.1.0\n",
        "charts/part/templates/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: part}\n",
    }
    dependency = "dependencies:\n  - {name: part, version: 0.1.0, condition: part.enabled}\n"
    chart = make_chart(files=part, chart_yaml=dependency)
    kinds = [
        [one["kind"] for one in helm.render(release(chart, values={"part": {"enabled": on}}), "1.31.0")]
        for on in (False, True)
    ]
    assert kinds == [["ConfigMap"], ["Secret", "ConfigMap"]]


def test_a_broken_template_is_told_without_the_secrets_of_the_values(helm: SdkBackend, make_chart: MakeChart) -> None:
    chart = make_chart(files={"templates/bad.yaml": '{{ fail (printf "no good: %s" .Values.issuer.key) }}'})
    with pytest.raises(EnvironmentUpError, match=r"no good") as told:
        helm.render(release(chart, values={"issuer": {"key": "hunter2-hunter2"}}), "1.31.0")
    assert "hunter2" not in str(told.value)


def test_a_file_that_is_no_chart_is_a_mistake_to_correct(helm: SdkBackend, tmp_path: Path) -> None:
    (tmp_path / "no.tgz").write_bytes(b"no chart")
    with pytest.raises(ConfigurationError, match=r"no\.tgz is no Helm chart"):
        helm.render(release(tmp_path / "no.tgz"), "1.31.0")
    with pytest.raises(ConfigurationError, match=r"there is no chart at .*gone\.tgz"):
        helm.render(release(tmp_path / "gone.tgz"), "1.31.0")


def test_an_api_server_that_is_away_is_worth_another_try(
    helm: SdkBackend, make_chart: MakeChart, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeCluster() as gone:
        monkeypatch.setenv("KUBECONFIG", str(gone.kubeconfig))
        cluster = connect(None)
    with pytest.raises(ServiceUnavailableError, match=r"does not answer"):
        helm.install(cluster, release(make_chart()), 30)
    cluster.close()


def test_a_missing_right_is_named(
    helm: SdkBackend, fake: FakeCluster, make_chart: MakeChart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig_of("poor", Rule(resource="namespaces"))))
    cluster = connect(None)
    try:
        with pytest.raises(ConfigurationError, match=r"grant the missing permission.*configmaps"):
            helm.install(cluster, release(make_chart()), 30)
    finally:
        cluster.close()


def test_a_hook_that_never_ends_fails_the_installation_in_time_and_is_removed_by_its_record(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    chart = make_chart(files={"templates/hook.yaml": HOOK})
    with pytest.raises(EnvironmentUpError, match=r"was not done in time.*Job/shop/greet-hook"):
        helm.install(cluster, release(chart), 2)
    assert [one.status for one in helm.releases(cluster)] == ["failed"]
    assert helm.uninstall(cluster, "greet", "shop", 5)
    assert helm.releases(cluster) == []
    assert cluster.get(CONFIG) is None
    assert cluster.list(Kind("batch/v1", "Job")) == []


def test_a_child_that_outlives_its_time_is_killed(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "GRACE_S", -57.0)  # three seconds before the sixty that Helm is told
    chart = make_chart(files={"templates/hook.yaml": HOOK})
    with pytest.raises(EnvironmentUpError, match=r"did not end within 3 s and was killed"):
        helm.install(cluster, release(chart), 60)
    assert children() == set()


def test_a_release_that_was_killed_half_made_can_be_removed_and_made_again(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    chart = make_chart(files={"templates/hook.yaml": HOOK})
    failures: list[Exception] = []

    def install() -> None:
        try:
            helm.install(cluster, release(chart), 60)
        except EnvironmentUpError as error:
            failures.append(error)

    installing = threading.Thread(target=install)
    installing.start()
    assert seen_within(30, lambda: cluster.list(Kind("batch/v1", "Job")))
    for child in children():
        os.kill(child, signal.SIGKILL)
    installing.join()
    assert "was killed by signal 9" in str(failures[0])
    assert [one.status for one in helm.releases(cluster)] == ["pending-install"]
    with pytest.raises(EnvironmentUpError, match=r"left half-made .* uninstall it first"):
        helm.install(cluster, release(chart), 30)
    assert helm.uninstall(cluster, "greet", "shop", 5)
    assert helm.releases(cluster) == []
    assert cluster.list(Kind("batch/v1", "Job")) == []
    assert helm.install(cluster, release(make_chart("plain")), 30)


def test_the_child_dies_with_whoever_started_it(cluster: Cluster, make_chart: MakeChart, tmp_path: Path) -> None:
    chart = make_chart(files={"templates/hook.yaml": HOOK})
    program = f"""
from adapters.kubernetes.helm.sdk import SdkBackend
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource
class Cluster:
    def helm_environment(self): return {dict(cluster.helm_environment())!r}
SdkBackend().install(Cluster(), ChartRelease("greet", "shop", ChartSource({str(chart)!r}), "1.0.0"), 60)
"""
    # Killed, it leaves its copy of the chart behind.
    parent = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        assert seen_within(30, lambda: cluster.list(Kind("batch/v1", "Job")))
        grandchildren = children(parent.pid)
        assert grandchildren, "Helm works in a child of its own"
    finally:
        parent.kill()
        parent.wait()
    assert seen_within(10, lambda: not any(Path(f"/proc/{pid}").exists() for pid in grandchildren))


def test_helm_says_its_version(helm: SdkBackend) -> None:
    assert helm.version().startswith("4.")


def test_helm_s_own_variables_lead_it_nowhere_else(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "HELM_NAMESPACE": "elsewhere",
        "HELM_KUBECONTEXT": "elsewhere",
        "HELM_DRIVER": "memory",
    }.items():
        monkeypatch.setenv(name, value)
    helm.install(cluster, release(make_chart()), 30)
    assert cluster.get(CONFIG) is not None
    assert cluster.list(Kind("v1", "Secret"), "shop", labels="owner=helm") != []


def children(parent: int | None = None) -> set[int]:
    """Return the processes that are children of ``parent`` (this process by default) and run Helm."""
    return set(_children(parent or os.getpid()))


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and b"sdk_child" in command and fields[0] != "Z":
            yield int(stat.parent.name)


def test_two_installations_at_once_do_not_disturb_each_other(
    helm: SdkBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    chart = make_chart()
    releases = [ChartRelease(f"greet-{number}", "shop", ChartSource(str(chart)), "1.0.0") for number in range(2)]
    threads = [threading.Thread(target=helm.install, args=(cluster, one, 30)) for one in releases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.name for one in helm.releases(cluster)} == {"greet-0", "greet-1"}
