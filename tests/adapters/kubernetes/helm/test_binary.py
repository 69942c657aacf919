"""The ``helm`` program, stood in for by a script that records how it is called and answers as Helm does.

No Helm program can be had on the hosts that run these tests. What it answers is taken from Helm's own source (v3.21.4
and v4.2.3: pkg/cmd/list.go, status.go, uninstall.go; pkg/storage/driver/driver.go), not from a run of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_charts import MakeChart, seen_within

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.helm import binary
from adapters.kubernetes.helm.binary import BinaryBackend
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, Deployed
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError

SCRIPT = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
stdin = "" if sys.argv[1] in ("version", "list", "uninstall") else sys.stdin.read()
chart = sys.argv[3] if sys.argv[1] in ("install", "upgrade", "template") else None
call = {{"pid": os.getpid(), "argv": sys.argv[1:], "stdin": stdin, "chart": chart and pathlib.Path(chart).is_file(),
        "environ": {{k: v for k, v in os.environ.items() if k.startswith(("HELM", "KUBE"))}}}}
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(call) + "\\n")
answer = json.loads((here / sys.argv[1]).read_text())
answer = answer[int(sys.argv[sys.argv.index("--offset") + 1]) // 256] if sys.argv[1] == "list" else answer
time.sleep(answer.get("sleep", 0))
sys.stdout.write(answer.get("out", "")); sys.stderr.write(answer.get("err", "")); sys.exit(answer.get("code", 0))
"""


@dataclass
class Program:
    """The stand-in: what it answers by verb, and how it was called."""

    folder: Path

    def answers(self, verb: str, *pages: dict[str, Any], **answer: Any) -> None:
        (self.folder / verb).write_text(json.dumps(pages or answer))

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "helm").write_text(SCRIPT.format(python=sys.executable))
    (folder / "helm").chmod(0o755)
    return Program(folder)


@pytest.fixture
def helm(program: Program) -> BinaryBackend:
    return BinaryBackend(str(program.folder / "helm"))


def release(chart: Path, **more: Any) -> ChartRelease:
    return ChartRelease("greet", "shop", ChartSource(str(chart)), "1.0.0", **more)


def release_json(**more: Any) -> str:
    manifest = (
        "---\n# Source: greeter/templates/config.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: greet\n"
    )
    return json.dumps({"name": "greet", "info": {"status": "deployed"}, "manifest": manifest, "version": 1, **more})


def test_an_installation_is_one_call_with_values_on_stdin(
    program: Program, helm: BinaryBackend, cluster: Cluster, make_chart: MakeChart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELM_NAMESPACE", "elsewhere")
    monkeypatch.setenv("HELM_REGISTRY_CONFIG", "/mine")
    program.answers("install", out=release_json())
    chart = make_chart()
    made = helm.install(cluster, release(chart, values={"a": {"b": [1, "x y"]}}, skip_crds=True), 60)
    assert [one["kind"] for one in made] == ["ConfigMap"]
    (call,) = program.calls
    assert call["argv"] == [
        *("install", "greet", str(chart), "--namespace", "shop", "--values", "-"),
        *("--create-namespace", "--skip-crds", "--timeout", "60s", "--output", "json"),
    ]
    assert json.loads(call["stdin"]) == {"a": {"b": [1, "x y"]}}
    assert call["environ"] == {**cluster.helm_environment(), "HELM_REGISTRY_CONFIG": "/mine"}


def test_an_upgrade_starts_from_the_chart_s_own_values(
    program: Program, helm: BinaryBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    program.answers("upgrade", out=release_json(version=2))
    helm.upgrade(cluster, release(make_chart()), 60)
    (call,) = program.calls
    assert call["argv"][:2] == ["upgrade", "greet"]
    assert "--reset-values" in call["argv"]
    assert not [flag for flag in call["argv"] if flag.startswith("--wait")], "readiness is watched by the caller"


def test_rendering_names_the_kubernetes_version_and_reaches_no_cluster(
    program: Program, helm: BinaryBackend, make_chart: MakeChart
) -> None:
    program.answers("template", out="apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: Secret\n")
    assert [one["kind"] for one in helm.render(release(make_chart()), "1.31.0")] == ["ConfigMap", "Secret"]
    (call,) = program.calls
    assert call["argv"][-3:] == ["--kube-version", "1.31.0", "--no-hooks"]


def test_a_chart_is_fetched_by_us_before_helm_is_called(
    program: Program, helm: BinaryBackend, cluster: Cluster, make_chart: MakeChart
) -> None:
    program.answers("install", out=release_json())
    chart = make_chart()
    source = ChartSource("greeter", str(chart.parent))
    helm.install(cluster, ChartRelease("greet", "shop", source, "1.0.0"), 60)
    assert program.calls[0]["chart"] is True
    assert not Path(program.calls[0]["argv"][2]).exists(), "nothing is left of it afterwards"
    with pytest.raises(ConfigurationError, match=r"has no chart greeter 7\.0\.0: it has 1\.0\.0"):
        helm.install(cluster, ChartRelease("greet", "shop", source, "7.0.0"), 60)


def test_releases_are_read_page_by_page(program: Program, helm: BinaryBackend, cluster: Cluster) -> None:
    one = {
        **{"name": "istiod", "namespace": "istio-system", "revision": "3", "updated": "2026-08-01 10:00:00 +0000 UTC"},
        **{"status": "pending-install", "chart": "istiod-1.31.0-rc.0", "app_version": "1.31.0-rc.0"},
    }
    other = one | {"name": "crds", "chart": "linkerd-crds-2026.6.3", "app_version": ""}
    program.answers("list", {"out": json.dumps([one] * 256)}, {"out": json.dumps([other])})
    found = helm.releases(cluster)
    assert len(found) == 257
    assert found[0] == Deployed("istiod", "istio-system", "istiod", "1.31.0-rc.0", "1.31.0-rc.0", 3, "pending-install")
    assert (found[-1].chart, found[-1].chart_version) == ("linkerd-crds", "2026.6.3")
    assert "--all" not in program.calls[0]["argv"], "Helm 4 has no such flag"


def test_uninstalling_waits_and_what_is_not_there_is_no_error(
    program: Program, helm: BinaryBackend, cluster: Cluster
) -> None:
    program.answers("uninstall", out='release "greet" uninstalled\n')
    assert helm.uninstall(cluster, "greet", "shop", 100)
    assert program.calls[0]["argv"] == ["uninstall", "greet", "--namespace", "shop", "--wait", "--timeout", "60s"]
    program.answers("uninstall", err="Error: uninstall: Release not loaded: greet: release: not found\n", code=1)
    assert not helm.uninstall(cluster, "greet", "shop", 100)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Error: INSTALLATION FAILED: cannot re-use a name that is still in use", EnvironmentUpError),
        ("Error: INSTALLATION FAILED: Kubernetes cluster unreachable: connection refused", ServiceUnavailableError),
        ('Error: secrets is forbidden: User "poor" cannot create', ConfigurationError),
    ],
)
def test_what_the_program_says_decides_what_to_do_next(
    program: Program, helm: BinaryBackend, cluster: Cluster, make_chart: MakeChart, said: str, error: type[Exception]
) -> None:
    program.answers("install", err=said, code=1)
    with pytest.raises(error, match=r"helm install greet .*Helm said: Error"):
        helm.install(cluster, release(make_chart()), 60)


def test_a_program_that_does_not_end_is_killed(
    program: Program, helm: BinaryBackend, cluster: Cluster, make_chart: MakeChart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "GRACE_S", -58.0)
    program.answers("install", sleep=60)
    with pytest.raises(EnvironmentUpError, match="did not end within 2 s and was killed"):
        helm.install(cluster, release(make_chart()), 60)


def test_the_program_dies_with_whoever_started_it(program: Program, tmp_path: Path) -> None:
    program.answers("version", sleep=60)
    called = f"BinaryBackend({str(program.folder / 'helm')!r}).version()"
    code = f"from adapters.kubernetes.helm.binary import BinaryBackend; {called}"
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert seen_within(30, (program.folder / "calls").exists)
        pid = program.calls[0]["pid"]
    finally:
        parent.kill()
        parent.wait()
    assert seen_within(10, lambda: not Path(f"/proc/{pid}").exists())


def test_a_program_that_is_no_helm_is_said_so(program: Program, helm: BinaryBackend, cluster: Cluster) -> None:
    program.answers("list", {"out": "usage: helm"})
    with pytest.raises(EnvironmentUpError, match="helm list answered no JSON: usage: helm"):
        helm.releases(cluster)
    with pytest.raises(ConfigurationError, match="cannot be started"):
        BinaryBackend(str(program.folder / "none")).version()


def test_it_says_its_version(program: Program, helm: BinaryBackend) -> None:
    program.answers("version", out="v3.21.4")
    assert helm.version() == "3.21.4"
