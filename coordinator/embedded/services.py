"""The table of services of one instance: what `meshgauge up` starts, in which order."""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from coordinator.embedded.postgres import PostgresServer
from coordinator.embedded.redis import RedisServer
from coordinator.embedded.service import Ready, Service, StopStep
from meshgauge.settings import Settings

_PROBE_TIMEOUT_S = 1.0
_READY_WITHIN_S = 180.0
"""Seven Python services share two cores here: 10 s together when nothing else runs, much longer beside a build."""

_WORKERS = (
    ("control", "control"),
    ("lifecycle-1", "lifecycle"),
    ("lifecycle-2", "lifecycle"),
    ("load-1", "load"),
    ("load-2", "load"),
)
"""(name, queue). Each a process of its own with one child: clean-up never waits behind a measurement."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything about one instance that is decided before its first service starts.

    postgres, redis: None when the user's own servers are used instead.
    """

    instance: str
    data_dir: Path
    run_dir: Path
    host: str
    port: int
    postgres: PostgresServer | None
    redis: RedisServer | None
    database_url: str
    broker_url: str

    @property
    def coordinator_url(self) -> str:
        """Where the coordinator answers, as a client on this host reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def server_dirs(self) -> list[Path]:
        """Return the data folders of the embedded servers, by which a sweep knows their processes."""
        postgres = [self.postgres.cluster] if self.postgres else []
        return [*postgres, *([self.redis.data_dir] if self.redis else [])]


Table = Callable[[Settings, Instance], list[Service]]


def services(settings: Settings, instance: Instance) -> list[Service]:
    """Return the whole table: servers, migrations, coordinator, reconciler, workers."""
    env = settings_environment(settings, instance)
    migrate = Service(
        name="migrations",
        argv=_python("coordinator.migrate"),
        env=env,
        kind="task",
        after=("postgres",) if instance.postgres else (),
        ready_within_s=600.0,
    )
    ground = ("migrations", *(("redis",) if instance.redis else ()))
    servers = servers_only(settings, instance)
    # Workers run other people's programs and send no mail: the mail server's password is kept from them.
    without_mail = {**env, "MESHGAUGE_SMTP_URL": ""}
    workers = [_worker(name, queue, without_mail, ground, instance.run_dir) for name, queue in _WORKERS]
    return [*servers, migrate, _coordinator(env, ground, instance), _reconciler(env, ground), *workers]


def servers_only(settings: Settings, instance: Instance) -> list[Service]:  # noqa: ARG001 - a Table
    """Return the embedded servers alone (for development: run the rest by hand)."""
    return [
        *([_postgres(instance.postgres)] if instance.postgres else []),
        *([_redis(instance.redis)] if instance.redis else []),
    ]


def settings_environment(settings: Settings, instance: Instance) -> dict[str, str]:
    """Return the settings as the variables a service reads them from, with this instance's addresses."""
    decided = settings.model_copy(
        update={
            "database_url": SecretStr(instance.database_url),
            "broker_url": SecretStr(instance.broker_url),
            "data_dir": instance.data_dir,
            "listen_port": instance.port,
            "coordinator_url": instance.coordinator_url,
        }
    )
    return variables(decided)


def variables(settings: Settings) -> dict[str, str]:
    """Return settings as ``MESHGAUGE_*`` variables; those that are unset are left out."""
    values = {f"MESHGAUGE_{name.upper()}": getattr(settings, name) for name in type(settings).model_fields}
    return {name: _text(value) for name, value in values.items() if value not in (None, ())}


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _postgres(server: PostgresServer) -> Service:
    return Service(
        name="postgres",
        argv=server.argv(),
        prepare=server.prepare,
        ready=server.ready,
        ready_within_s=None,  # crash recovery takes what it takes
        # fast shutdown (disconnects clients, writes a checkpoint), then immediate. Source: Postgres manual 18.5
        stop=(StopStep(signal.SIGINT, 30.0), StopStep(signal.SIGQUIT, 10.0)),
        parent_death=signal.SIGQUIT,
    )


def _redis(server: RedisServer) -> Service:
    return Service(name="redis", argv=server.argv(), prepare=server.prepare, ready=server.ready)


def _coordinator(env: Mapping[str, str], after: tuple[str, ...], instance: Instance) -> Service:
    return Service(
        name="coordinator",
        argv=_python("gunicorn", "-c", "python:coordinator.gunicorn_conf", "coordinator.wsgi:app"),
        env=env,
        after=after,
        ready=answers(instance.coordinator_url, "/healthz"),
        ready_within_s=_READY_WITHIN_S,
    )


def _reconciler(env: Mapping[str, str], after: tuple[str, ...]) -> Service:
    return Service(name="reconciler", argv=_python("coordinator.reconciler"), env=env, after=after)


def _worker(name: str, queue: str, env: Mapping[str, str], after: tuple[str, ...], run_dir: Path) -> Service:
    ready_file = run_dir / f"{name}.ready"

    def prepare() -> Mapping[str, str]:
        ready_file.unlink(missing_ok=True)
        return {"MESHGAUGE_READY_FILE": str(ready_file)}

    return Service(
        name=f"worker-{name}",
        argv=_python(
            *("coordinator.embedded.celery_service", "-A", "workers.app", "worker", "-n", f"{name}@%h"),
            *("-c", "1", "-Q", queue, "--without-gossip", "--without-mingle", "--pool", "prefork"),
        ),
        env=env,
        after=after,
        prepare=prepare,
        ready=lambda: None if ready_file.exists() else "connecting to the broker",
        ready_within_s=_READY_WITHIN_S,
        # warm: the task in hand may end; cold: it is given back (SystemExit in the task). Source: operations.md 1.2
        stop=(StopStep(signal.SIGTERM, 5.0), StopStep(signal.SIGQUIT, 10.0)),
    )


def answers(url: str, path: str) -> Ready:
    """Return a probe that asks ``url`` for ``path`` and wants 200."""
    address = url.removeprefix("http://")

    def ready() -> str | None:
        connection = http.client.HTTPConnection(address, timeout=_PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"no answer on {url}{path} yet ({type(error).__name__})"
        finally:
            connection.close()
        return None if status == 200 else f"{url}{path} answers {status}"

    return ready
