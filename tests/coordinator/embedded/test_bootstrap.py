"""`up` and `down` with real servers: what runs, what survives, what is said when something is in the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from kombu import Connection
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from coordinator.embedded.bootstrap import down, up
from coordinator.embedded.detached import DetachedSupervisor
from coordinator.embedded.processes import ProcessId, processes_of, read_stat
from coordinator.embedded.state import State, prepare_data_dir, read_state, running_state
from coordinator.embedded.supervisor import EXIT_LOCKED
from meshgauge.errors import ConfigurationError, ServiceUnavailableError
from meshgauge.settings import Settings

Start = Callable[..., State]
Eventually = Callable[..., None]
TableOf = Callable[[str], str]

SERVERS_ONLY = "coordinator.embedded.services:servers_only"
DAEMON = "import signal; signal.pause()"


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement over a connection of its own."""
    parsed = make_url(url).set(drivername="postgresql")
    connection = psycopg2.connect(parsed.render_as_string(hide_password=False))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def redis_client(state: State) -> redis.Redis:
    """Return a client of the embedded broker."""
    address = state.broker_url.removeprefix("redis+socket:").partition("?")[0]
    return redis.Redis.from_url(f"unix:{address}")


def process_of(state: State, name: str) -> ProcessId:
    """Return a service's main process."""
    service = state.service(name)
    assert service is not None
    assert service.process is not None
    return service.process


def everything_of(state: State) -> list[ProcessId]:
    """Return what still runs of an instance, its supervisor included."""
    found = processes_of(state.instance, [Path(home) for home in state.server_dirs])
    return [*found, *(process for process in (state.supervisor, state.sentinel) if process and process.is_alive())]


def test_up_gives_a_database_and_a_broker_that_keep_what_they_are_told_until_the_next_up(start: Start) -> None:
    first = start()
    query(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with Connection(first.broker_url) as broker:
        broker.connect()
    settings = Settings(data_dir=Path(first.server_dirs[0]).parent)

    assert down(settings, lambda _sentence: None).killed == ()
    assert everything_of(first) == []
    assert not Path(first.run_dir).exists()

    second = start()
    assert query(second.database_url, "SELECT answer FROM kept") == [(42,)]
    assert second.instance != first.instance
    assert second.coordinator_url == first.coordinator_url


def test_the_servers_listen_on_private_sockets_only_and_ask_for_a_password(start: Start) -> None:
    state = start()
    run_dir, data_dir = Path(state.run_dir), Path(state.server_dirs[0]).parent

    assert query(state.database_url, "SHOW listen_addresses") == [("",)]
    assert run_dir.stat().st_mode & 0o077 == 0
    assert data_dir.stat().st_mode & 0o077 == 0
    assert (data_dir / "state.json").stat().st_mode & 0o077 == 0
    without_password = make_url(state.database_url).set(drivername="postgresql", password="wrong")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(without_password.render_as_string(hide_password=False))
    password = state.broker_url.partition(":")[2].partition("@")[0].partition(":")[2]
    argv = Path(f"/proc/{process_of(state, 'redis').pid}/cmdline").read_text(encoding="utf-8")
    assert len(password) == 64
    assert password not in argv


def test_a_second_up_attaches_to_the_instance_that_runs(start: Start) -> None:
    first = start()
    said: list[str] = []
    assert start(said=said) == first
    assert said[0] == f"an instance runs already (supervisor pid {first.supervisor.pid}); using it"


def test_two_ups_at_once_share_one_instance(start: Start, settings: Settings) -> None:
    states: list[State] = []
    threads = [threading.Thread(target=lambda: states.append(start())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(states) == 2
    assert states[0].instance == states[1].instance


def test_a_killed_postgres_is_started_again_and_keeps_what_was_committed(
    start: Start, settings: Settings, eventually: Eventually
) -> None:
    state = start()
    query(state.database_url, "CREATE TABLE kept AS SELECT 7 AS answer")
    killed = process_of(state, "postgres")
    os.kill(killed.pid, signal.SIGKILL)

    def is_back() -> bool:
        service = (read_state(settings.data_dir) or state).service("postgres")
        return service is not None and service.phase == "up" and service.process not in (None, killed)

    eventually(is_back)
    assert query(state.database_url, "SELECT answer FROM kept") == [(7,)]
    after = (read_state(settings.data_dir) or state).service("postgres")
    assert after is not None
    assert after.restarts == 1


def test_a_killed_redis_is_started_again_with_its_messages(
    start: Start, settings: Settings, eventually: Eventually
) -> None:
    state = start()
    with redis_client(state) as client:
        client.lpush("kept", "row 17")
    killed = process_of(state, "redis")
    os.kill(killed.pid, signal.SIGKILL)

    def is_back() -> bool:
        service = (read_state(settings.data_dir) or state).service("redis")
        return service is not None and service.phase == "up" and service.process not in (None, killed)

    eventually(is_back)
    with redis_client(state) as client:
        assert client.lrange("kept", 0, -1) == [b"row 17"]


def test_nothing_survives_a_killed_supervisor_for_five_seconds_and_the_next_up_works(
    start: Start, table_of: TableOf, eventually: Eventually
) -> None:
    # The second service's child leaves the session and ignores the parent's death: only the sentinel finds it.
    escaped = (
        "import os, signal, subprocess, sys; "
        "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True); "
        "signal.pause()"
    )
    table = table_of(
        f"    return [*servers_only(settings, instance), Service('escaping', python({escaped!r}), after=('postgres',))]"
    )
    first = start(table)
    query(first.database_url, "CREATE TABLE kept AS SELECT 3 AS answer")
    assert len(everything_of(first)) > 5

    os.kill(first.supervisor.pid, signal.SIGKILL)
    eventually(lambda: everything_of(first) == [], within_s=5.0)

    second = start(table)
    assert query(second.database_url, "SELECT answer FROM kept") == [(3,)]
    assert not Path(first.run_dir).exists()


def test_what_prepares_a_service_does_not_survive_a_killed_supervisor_either(
    start: Start, settings: Settings, table_of: TableOf, tmp_path: Path, eventually: Eventually
) -> None:
    noted = tmp_path / "pid"
    lingering = f"import os, pathlib, signal; pathlib.Path({str(noted)!r}).write_text(str(os.getpid())); signal.pause()"
    table = table_of(
        "    import subprocess\n"
        "    def prepare():\n"
        f"        subprocess.run(python({lingering!r}), check=False)\n"
        "        return {}\n"
        "    return [Service('slow', python('pass'), prepare=prepare)]"
    )
    child = DetachedSupervisor()
    prepare_data_dir(settings.data_dir)
    child.start(settings, table, tmp_path / "log")
    eventually(lambda: noted.exists() and noted.read_text(encoding="ascii"))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: not child.is_alive())
    eventually(lambda: read_stat(int(noted.read_text(encoding="ascii"))) is None, within_s=5.0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_moment_the_supervisor_is_spawned_ends_it(
    start: Start, table_of: TableOf, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    spawned: list[int] = []
    spawn = os.posix_spawn

    def interrupted(*arguments: Any, **options: Any) -> int:
        spawned.append(spawn(*arguments, **options))
        signal.raise_signal(how)
        return spawned[0]

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_spawn", interrupted)
    before = signal.signal(how, end)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(table_of(f"    return [Service('x', python({DAEMON!r}))]"))
        assert signal.getsignal(how) is end
    finally:
        signal.signal(how, before)
    with pytest.raises(ChildProcessError):  # it was ended and its exit code taken
        os.waitpid(spawned[0], os.WNOHANG)


def test_down_ends_what_a_killed_supervisor_left_and_says_when_nothing_ran(start: Start, settings: Settings) -> None:
    assert not down(settings, lambda _sentence: None).was_running
    state = start()
    assert state.sentinel is not None
    os.kill(state.sentinel.pid, signal.SIGKILL)
    os.kill(state.supervisor.pid, signal.SIGKILL)
    down(settings, lambda _sentence: None)
    assert everything_of(state) == []
    after = read_state(settings.data_dir)
    assert after is not None
    assert after.phase == "stopped"
    assert not Path(state.run_dir).exists()


def test_down_ends_a_service_that_ignores_every_request_to_stop(
    start: Start, settings: Settings, table_of: TableOf
) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); [signal.pause() for _ in range(9)]"
    state = start(
        table_of(f"    return [Service('stubborn', python({stubborn!r}), stop=(StopStep(signal.SIGTERM, 0.2),))]")
    )
    assert down(settings, lambda _sentence: None).was_running
    assert everything_of(state) == []


def test_services_start_after_and_stop_before_what_they_need(
    start: Start, settings: Settings, table_of: TableOf, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    code = (
        "import signal, sys, time; out = open({diary!r}, 'a', buffering=1); out.write('{name} on\\n');"
        "signal.signal(signal.SIGTERM, lambda *_: (out.write('{name} off\\n'), sys.exit(0))); signal.pause()"
    )
    upper, lower = (code.format(diary=str(diary), name=name) for name in ("upper", "lower"))
    start(
        table_of(
            f"    return [Service('upper', python({upper!r}), after=('once',)),\n"
            f"            Service('lower', python({lower!r})),\n"
            f"            Service('once', python(\"open({str(diary)!r}, 'a').write('once\\\\n')\"), kind='task',\n"
            "                    after=('lower',))]"
        )
    )
    down(settings, lambda _sentence: None)
    assert diary.read_text(encoding="utf-8").split("\n")[:5] == [
        "lower on",
        "once",
        "upper on",
        "upper off",
        "lower off",
    ]


def test_a_service_that_cannot_start_ends_the_start_with_its_name_its_last_line_and_its_log(
    start: Start, table_of: TableOf, settings: Settings
) -> None:
    table = table_of(
        "    return [Service('servant', python('raise SystemExit(\"no bread\")'), restart=Restart(0.05, 0.1)),\n"
        f"            Service('other', python({DAEMON!r}))]"
    )
    with pytest.raises(ServiceUnavailableError) as caught:
        start(table)
    message = str(caught.value)
    assert "service 'servant' exited with 1; its last line: no bread (tried 3 times)" in message
    assert str(settings.data_dir / "logs" / "servant.log") in message
    state = read_state(settings.data_dir)
    assert state is not None
    assert state.phase == "failed"
    assert everything_of(state) == []


def test_a_service_that_is_never_ready_ends_the_start_with_what_was_missing(start: Start, table_of: TableOf) -> None:
    table = table_of(
        f"    return [Service('mute', python({DAEMON!r}), ready=lambda: 'no sign of life', ready_within_s=0.5)]"
    )
    with pytest.raises(ServiceUnavailableError, match="'mute' was not ready within 0 s: no sign of life"):
        start(table)


def test_a_dead_service_is_noted_with_its_reason_and_started_again_with_its_group_gone(
    start: Start, table_of: TableOf, settings: Settings, eventually: Eventually
) -> None:
    # A child in the same group would go on writing beside the new one.
    code = "import os, signal; os.fork(); signal.pause()"
    state = start(table_of(f"    return [Service('pair', python({code!r}))]"))
    first = process_of(state, "pair")
    os.kill(first.pid, signal.SIGKILL)

    def is_back() -> bool:
        service = (read_state(settings.data_dir) or state).service("pair")
        return service is not None and service.phase == "up" and service.process not in (None, first)

    eventually(is_back)
    assert len(processes_of(state.instance)) == 2


def test_a_port_in_use_is_said_with_what_to_do(start: Start, settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = settings.model_copy(update={"listen_port": port})
        with pytest.raises(ServiceUnavailableError) as caught:
            start(chosen=chosen)
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in str(caught.value)
    assert "MESHGAUGE_LISTEN_PORT" in str(caught.value)


def test_a_database_that_does_not_answer_ends_the_start_before_anything_runs(start: Start, settings: Settings) -> None:
    url = SecretStr("postgresql+psycopg2://me:hush@127.0.0.1:1/meshgauge")
    with pytest.raises(ServiceUnavailableError, match=r"did not start: the database at .*Connection refused") as caught:
        start(chosen=settings.model_copy(update={"database_url": url}))
    assert "hush" not in str(caught.value)
    assert not (settings.data_dir / "redis").exists()


def test_servers_of_the_users_own_are_used_instead_of_embedded_ones(
    start: Start, settings: Settings, tmp_path: Path, table_of: TableOf
) -> None:
    theirs = start()
    table = table_of(f"    return [*servers_only(settings, instance), Service('one', python({DAEMON!r}))]")
    mine = Settings(
        data_dir=tmp_path / "mine",
        database_url=SecretStr(theirs.database_url),
        broker_url=SecretStr(theirs.broker_url),
    )
    state = up(mine, lambda _sentence: None, table)
    try:
        assert [service.name for service in state.services] == ["one"]
        assert state.database_url == theirs.database_url
    finally:
        down(mine, lambda _sentence: None)


def test_a_data_directory_that_cannot_be_made_is_said_with_what_to_do(tmp_path: Path, start: Start) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"cannot be written .*MESHGAUGE_DATA_DIR"):
        start(chosen=Settings(data_dir=tmp_path / "file" / "data"))


def test_a_start_that_failed_before_does_not_speak_for_the_next_one(
    start: Start, table_of: TableOf, settings: Settings
) -> None:
    table = table_of("    return [Service('x', ('/nonexistent',), restart=Restart(0.01, 0.01))]")
    with pytest.raises(ServiceUnavailableError, match="/nonexistent cannot be started"):
        start(table)
    with pytest.raises(ServiceUnavailableError, match="no table of services at 'nowhere:table'"):
        start("nowhere:table")
    assert start().problem == ""


def test_postgres_as_root_needs_no_user_and_leaves_foreign_folders_alone(start: Start, settings: Settings) -> None:
    parent = settings.data_dir.parent
    mode = parent.stat().st_mode
    state = start()
    stat = read_stat(process_of(state, "postgres").pid)
    assert stat is not None
    assert stat.name == "postgres"
    assert parent.stat().st_mode == mode
    assert (settings.data_dir / "postgres").stat().st_mode & 0o077 == 0


def test_a_disk_that_fills_up_costs_nothing_that_was_committed_and_work_goes_on_when_there_is_room(
    disk_of: Callable[[int], Path], eventually: Eventually
) -> None:
    disk = disk_of(340)
    settings = Settings(data_dir=disk / "data")
    state = up(settings, lambda _sentence: None, SERVERS_ONLY)
    try:
        query(state.database_url, "CREATE TABLE kept (n int, filler text); INSERT INTO kept VALUES (1, '')")
        filler = disk / "filler"
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(disk).free)
        with pytest.raises(psycopg2.Error):
            query(state.database_url, "INSERT INTO kept SELECT n, repeat('x', 1000) FROM generate_series(2, 99999) n")
        filler.unlink()

        def counts() -> list[tuple[object, ...]] | None:
            try:
                return query(state.database_url, "INSERT INTO kept VALUES (2, ''); SELECT count(*) FROM kept")
            except psycopg2.OperationalError:
                return None

        eventually(lambda: counts() is not None)
        assert state.supervisor.is_alive()
        assert query(state.database_url, "SELECT DISTINCT n FROM kept ORDER BY n") == [(1,), (2,)]
    finally:
        down(settings, lambda _sentence: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_an_interrupt_ends_all_and_a_second_supervisor_is_turned_away(
    settings: Settings, eventually: Eventually, number: signal.Signals
) -> None:
    environment = {**os.environ, "MESHGAUGE_DATA_DIR": str(settings.data_dir)}
    argv = [sys.executable, "-m", "coordinator.embedded.supervisor", "--table", SERVERS_ONLY]
    first = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: (state := running_state(settings.data_dir)) is not None and state.phase == "up")
        state = running_state(settings.data_dir)
        assert state is not None
        assert subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == EXIT_LOCKED
        first.send_signal(number)
        assert first.wait(timeout=20) == 0
        assert everything_of(state) == []
        assert not Path(state.run_dir).exists()
    finally:
        first.kill()
        first.wait()


def test_a_supervisor_at_rest_costs_almost_nothing(start: Start) -> None:
    state = start()

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{state.supervisor.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(2)
    # Beside a measurement: at most one tick (10 ms) in two seconds.
    assert cpu_ticks() - before <= 1
