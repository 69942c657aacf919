"""A trial in a cluster from end to end: the runner's own path, with puppets that really run what pods name."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeCluster
from plain_client import PlainClient
from puppet import Running, living_cluster

from adapters import registry
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.traces.inventory import difference, take
from adapters.local.application import fixed_reply_binary
from meshgauge.document import load_plan
from meshgauge.errors import ConfigurationError, ServiceUnavailableError
from meshgauge.matrix import expand
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.trial import MeasuredTrial
from workers import runner, spool
from workers.work import EventStream, TrialOrder, WorkOrder, environment_and_loads

PLAN = """
name: cluster
meshes: [none]
workloads: {name: small, app: fixed-reply, reply_bytes: 512}
infrastructures: {name: k, provider: kubernetes}
loads:
  - {name: two, rate_rps: 200, connections: 4, load_workers: 2, warm_up_s: 0.5, window_s: 2, cool_down_s: 0}
  - {name: one, rate_rps: 100, connections: 2, load_workers: 1, warm_up_s: 0.5, window_s: 2, cool_down_s: 0}
blocks: 1
seed: 7
"""


@dataclass
class Containers:
    """Runs the first container of each pod as a process of this host."""

    cluster: Cluster
    nginx: Path
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, pod: Manifest) -> Running:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        if name not in self.processes:
            self.processes[name] = self._start(name, pod)
        return Running("127.0.0.1", self.processes[name].poll())

    def stop(self, name: str) -> None:
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(10)

    def _start(self, name: str, pod: Manifest) -> subprocess.Popen[bytes]:
        directory = self.folder / name.replace("/", "-")
        directory.mkdir()
        argv: list[str] = pod["spec"]["containers"][0]["command"]
        if pod["metadata"]["labels"][LABEL_COMPONENT] == "app":
            return subprocess.Popen(self._nginx(argv, directory, pod["metadata"]["namespace"]))
        assert argv[0] == "python"
        return subprocess.Popen([sys.executable, *argv[1:]], stderr=subprocess.DEVNULL)

    def _nginx(self, argv: list[str], directory: Path, namespace: str) -> list[str]:
        """Return the container's own command, with its mounts and its address as this host has them."""
        settings = self.cluster.get(ObjectRef(Kind("v1", "ConfigMap"), namespace, "app"))
        service = self.cluster.get(ObjectRef(Kind("v1", "Service"), namespace, "app"))
        assert settings is not None
        assert service is not None
        text = settings["data"]["nginx.conf"].replace("listen 0.0.0.0:", f"listen {service['spec']['clusterIP']}:")
        text = text if os.geteuid() else f"user root root;\n{text}"
        (directory / "nginx.conf").write_text(text)
        command = argv[-1].replace("/etc/meshgauge", str(directory)).replace("/state", str(directory))
        return [*argv[:-1], command.replace("exec nginx", f"exec {self.nginx}")]


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The folder where binaries stay between test runs."""
    folder = Path(os.environ.get("MESHGAUGE_TEST_CACHE", Path.home() / ".cache" / "meshgauge-tests"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def cluster(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose pods are processes."""
    made: list[Containers] = []

    def run(pod: Manifest) -> Running:
        return made[0].run(pod)

    def stop(name: str) -> None:
        made[0].stop(name)

    with living_cluster(run=run, stop=stop) as (fake, _puppet):
        monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig))
        connected = connect()
        made.append(Containers(connected, fixed_reply_binary(cache_dir), tmp_path))
        yield connected
        connected.close()
        for name in made[0].processes:
            made[0].stop(name)


def work_order(folder: Path, **given: Any) -> WorkOrder:
    plan = load_plan(PLAN)
    arms = resolve_arms(plan, lambda _: [])
    matrix = expand(plan, arms, lambda *_: None)
    resolved = ResolvedPlan(PLAN, plan, arms, matrix, 7, {key.key: {} for key in matrix.environments})
    for name in ("attempt", "run", "cache"):
        (folder / name).mkdir()
    trials = tuple(TrialOrder(f"trial-{cell.load.label}", cell.key, cell.load.label) for cell in matrix.cells)
    return WorkOrder(
        environment_id="0b0e6f7e-0000-4000-8000-000000000001",
        attempt=1,
        site="kubernetes.test",
        epoch=2,
        key=matrix.environments[0].key,
        plan_text=PLAN,
        document=resolved.document(),
        resolution=resolved.resolution(),
        seed=7,
        trials=trials,
        directory=str(folder / "attempt"),
        runtime_dir=str(folder / "run"),
        cache_dir=str(folder / "cache"),
        first_master="",
        load_engine="auto",
        quiet_host=True,
        **given,
    )


def carried_out(order: WorkOrder) -> list[dict[str, Any]]:
    told = io.StringIO()
    runner.Runner(order, EventStream(told)).run()
    return [json.loads(line) for line in told.getvalue().splitlines()]


def test_trials_in_a_cluster_are_measured_by_load_workers_of_its_own(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "refuse_loopback", lambda _: None)  # these pods are processes of this host
    before = take(cluster)
    order = work_order(tmp_path, load_image="example/meshgauge:1")
    events = carried_out(order)
    assert events[-1] == {"event": "ended", "outcome": "done", "reason": None, "retry": True}
    assert not [event for event in events if event["event"] == "load_wanted"]  # nobody is asked through Celery
    measured: dict[str, MeasuredTrial] = {}
    for trial in order.trials:
        found = spool.read_measured(spool.trial_directory(Path(order.directory), trial.trial_id))
        measured[trial.load] = found
        assert found.load is not None, found.reason
        assert all(check["passed"] for check in found.checks), found.checks
    for label, workers in (("two", 2), ("one", 1)):  # which is why only trials of one load are held against each other
        stood = measured[label].nodes or {}
        assert {side: len(names) for side, names in stood.items()} == {"app": 1, "load": workers}
        assert next(gate for gate in measured[label].gates if gate.gate == "nodes").status == "ok"
    two, one = measured["two"].load, measured["one"].load
    assert two is not None
    assert one is not None
    assert (len(two.workers), len(one.workers)) == (2, 1)
    assert two.outcomes["ok"] == two.done > 300
    provenance = next(event["provenance"] for event in events if event["event"] == "provenance")
    assert provenance["app"]["app"] == "fixed-reply"
    assert {event["name"] for event in events if event["event"] == "artefact"} >= {"application.yaml", "lifecycle.log"}
    assert not difference(before, take(cluster))


def test_an_address_no_pod_can_reach_is_refused_before_anything_is_made(cluster: Cluster, tmp_path: Path) -> None:
    before = take(cluster)
    (ended,) = carried_out(work_order(tmp_path, load_image="example/meshgauge:1", advertise_host="127.0.0.1"))
    assert ended["outcome"] == "failed"
    assert "MESHGAUGE_ADVERTISE_HOST" in ended["reason"]
    assert ended["retry"] is False
    assert not difference(before, take(cluster))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A cluster of one node where nothing runs."""
    with FakeCluster() as fake:
        monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig))
        allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110"}
        status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}
        fake.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        client = PlainClient(fake.kubeconfig)
        client.patch("/api/v1/nodes/n1/status", {"status": status})
        client.close()
        yield fake


@pytest.mark.parametrize(
    ("code", "method", "path"),
    [
        (0, "GET", "/version"),
        (0, "POST", "*/selfsubjectaccessreviews"),
        (429, "GET", "/version"),
        (500, "GET", "/api/v1/nodes"),
        (503, "GET", "/api/v1"),
        (503, "GET", "/api/v1/nodes"),
        (504, "POST", "*/selfsubjectaccessreviews"),
    ],
)
def test_a_cluster_that_fails_for_a_moment_during_preflight_is_tried_again(
    bare: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, method: str, path: str
) -> None:
    monkeypatch.setattr("adapters.kubernetes.server.wire._LONGEST_PAUSE_S", 0.01)
    bare.fail(4, code, method, path)  # each request is sent up to four times
    ended = carried_out(work_order(tmp_path, load_image="example/meshgauge:1", advertise_host="192.0.2.1"))[-1]
    assert (ended["outcome"], ended["retry"]) == ("failed", True), ended


def test_a_cluster_that_answers_after_a_while_passes_preflight(bare: FakeCluster, tmp_path: Path) -> None:
    bare.fail(1, 503, "GET", "/api/v1/nodes")
    provider = registry.provider("kubernetes", tmp_path)
    key = environment_and_loads(work_order(tmp_path))[0]
    with pytest.raises(ServiceUnavailableError):
        provider.preflight(key, 1)
    assert provider.preflight(key, 1) == ()


def test_what_a_cluster_refuses_is_not_asked_for_again(
    bare: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig_of("poor")))
    ended = carried_out(work_order(tmp_path, load_image="example/meshgauge:1", advertise_host="192.0.2.1"))[-1]
    assert (ended["outcome"], ended["retry"]) == ("failed", False)
    assert "these rights are missing" in ended["reason"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.3.2.1", "::1"])
def test_loopback_is_refused_in_every_form(host: str) -> None:
    with pytest.raises(ConfigurationError, match="MESHGAUGE_ADVERTISE_HOST"):
        runner.refuse_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.10", "worker.example"])
def test_an_address_pods_can_reach_is_taken(host: str) -> None:
    runner.refuse_loopback(host)
