"""Load workers and probes as Jobs: what they run, where, and within which mesh."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.kubernetes.api import LABEL_COMPONENT
from adapters.kubernetes.environments import load_jobs
from adapters.kubernetes.environments.load_jobs import ANSWERED, REFUSED, OwnPods
from adapters.kubernetes.mesh import Enrolment
from meshgauge.infrastructures import Cluster

PODS = OwnPods("example/meshgauge:1", "bench", {"meshgauge.io/site": "k.1"}, Cluster(load_cpu_cores=2.5))
ENROLMENT = Enrolment(load_labels={"mesh/in": "true"}, load_annotations={"mesh/exclude": "40001"})


def test_each_load_worker_is_a_pod_that_tries_once() -> None:
    job = load_jobs.load_job(PODS, ENROLMENT, "trial-1", "192.0.2.7:40001", 4)
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (4, 4, 0)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["image"] == "example/meshgauge:1"
    assert container["command"][:5] == ["python", "-m", "workers.load.worker", "--master", "192.0.2.7:40001"]
    assert container["resources"]["requests"]["cpu"] == "2500m"
    assert "limits" not in container["resources"]


def test_load_workers_go_where_those_went_that_they_are_compared_with() -> None:
    pod = load_jobs.load_job(PODS, ENROLMENT, "t", "a:1", 1, ["n3"])["spec"]["template"]["spec"]
    (term,) = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["preference"]["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]


def test_load_workers_stay_after_their_work_so_that_their_proxies_can_be_read() -> None:
    (container,) = load_jobs.load_job(PODS, ENROLMENT, "t", "a:1", 1)["spec"]["template"]["spec"]["containers"]
    at = container["command"].index("--linger-s")
    assert float(container["command"][at + 1]) >= 60


def test_load_workers_are_in_the_mesh_as_the_enrolment_says() -> None:
    template = load_jobs.load_job(PODS, ENROLMENT, "t", "192.0.2.7:40001", 1)["spec"]["template"]
    assert template["metadata"]["labels"]["mesh/in"] == "true"
    assert template["metadata"]["labels"][LABEL_COMPONENT] == "load"
    assert template["metadata"]["annotations"] == {"mesh/exclude": "40001"}


def test_the_load_keeps_to_its_nodes_and_away_from_the_application() -> None:
    pods = OwnPods("i", "bench", {}, Cluster(load_nodes={"role": "load"}))
    pod = load_jobs.load_job(pods, Enrolment(), "t", "192.0.2.7:1", 1)["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"role": "load"}
    (avoid, _) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert avoid["podAffinityTerm"]["labelSelector"]["matchLabels"] == {LABEL_COMPONENT: "app"}


def test_two_trials_have_two_jobs() -> None:
    names = {load_jobs.load_job(PODS, ENROLMENT, trial, "a:1", 1)["metadata"]["name"] for trial in ("t1", "t2")}
    assert len(names) == 2


def test_the_service_of_the_load_chooses_its_pods() -> None:
    labels = load_jobs.load_job(PODS, ENROLMENT, "t", "a:1", 1)["spec"]["template"]["metadata"]["labels"]
    assert load_jobs.load_service(PODS)["spec"]["selector"].items() <= labels.items()


@pytest.fixture
def refusing_server() -> Iterator[int]:
    """A server that answers /open with 200 and everything else with 403, as a mesh's policy does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/open" else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def probed(port: int, path: str, method: str = "GET") -> subprocess.CompletedProcess[str]:
    """Run what the probe's container runs."""
    job = load_jobs.probe_job(PODS, Endpoint("127.0.0.1", port), path, 200, method)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, *words = container["command"]
    assert program == "python"
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_a_probe_tells_an_answer_from_a_refusal(refusing_server: int) -> None:
    assert probed(refusing_server, "/open").returncode == ANSWERED
    refused = probed(refusing_server, "/shut")
    assert refused.returncode == REFUSED
    assert "403" in refused.stdout


def test_a_probe_takes_an_application_that_does_not_know_its_method_for_an_answer(refusing_server: int) -> None:
    answered = probed(refusing_server, "/shut", "HEAD")
    assert answered.returncode == ANSWERED, "this server says 501 to HEAD: the request came through"
    assert "501" in answered.stdout


def test_a_probe_takes_a_closed_port_for_a_refusal() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ended = probed(taken.getsockname()[1], "/")
    assert ended.returncode == REFUSED
    assert "ConnectionRefusedError" in ended.stdout


def test_a_probe_is_in_no_mesh() -> None:
    metadata = load_jobs.probe_job(PODS, Endpoint("10.0.0.1", 80), "/", 200)["spec"]["template"]["metadata"]
    assert "annotations" not in metadata
    assert metadata["labels"][LABEL_COMPONENT] == "probe"


def test_how_a_container_ended_is_read_from_its_pod() -> None:
    running = {"status": {"containerStatuses": [{"name": "probe", "state": {"running": {}}}]}}
    last = {"terminated": {"exitCode": 3, "message": "status 403\n"}}
    ended = {"status": {"containerStatuses": [{"name": "probe", "state": last}]}}
    assert load_jobs.finished(running, "probe") is None
    assert load_jobs.finished(ended, "probe") == load_jobs.Ended(3, "status 403")
    assert load_jobs.finished({}, "probe") is None
