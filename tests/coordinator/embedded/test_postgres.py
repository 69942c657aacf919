"""The embedded Postgres alone: its programs, first use, pid files nobody stands behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.embedded.places import make_run_dir, remove_run_dir
from coordinator.embedded.postgres import PostgresServer, clear_for_start, find_bin_dir, initialise
from coordinator.embedded.processes import servers_in
from coordinator.embedded.unprivileged import PLAIN, Launch, choose_launch
from meshgauge.errors import ConfigurationError

Eventually = Callable[..., None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that is not started yet, in its own folders."""
    bin_dir = find_bin_dir(None)
    run_dir = make_run_dir()
    launch = choose_launch(bin_dir / "initdb", tmp_path)
    yield PostgresServer(bin_dir, tmp_path / "postgres", run_dir / "postgres", "a" * 64, launch)
    remove_run_dir(run_dir)


@contextmanager
def running(server: PostgresServer, eventually: Eventually) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server as the supervisor would, until the block ends."""
    env = {**os.environ, **server.prepare()}
    process = subprocess.Popen(server.argv(), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: server.ready() is None)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


def test_the_programs_of_the_wheel_are_found_and_a_wrong_setting_is_said(tmp_path: Path) -> None:
    assert (find_bin_dir(None) / "initdb").is_file()
    assert find_bin_dir(find_bin_dir(None)) == find_bin_dir(None)
    with pytest.raises(ConfigurationError, match=r"MESHGAUGE_POSTGRES_BIN_DIR=.* has no postgres, initdb, pg_isready"):
        find_bin_dir(tmp_path)


def test_a_pid_file_whose_pid_is_now_somebody_elses_does_not_keep_postgres_from_starting(
    server: PostgresServer, eventually: Eventually
) -> None:
    with running(server, eventually) as first:
        pid_file = server.cluster / "postmaster.pid"
        lines = pid_file.read_text(encoding="utf-8").split("\n")
        first.kill()
        first.wait()
    eventually(lambda: servers_in(server.cluster) == [])
    # This test itself takes the place of the process that got the pid after a restart of a container.
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]), encoding="utf-8")
    assert clear_for_start(server.cluster) == {"PG_GRANDPARENT_PID": str(os.getpid())}
    with running(server, eventually):
        assert pid_file.read_text(encoding="utf-8").split("\n")[0] != str(os.getpid())


def test_a_pid_file_cut_off_while_written_is_removed(server: PostgresServer, eventually: Eventually) -> None:
    with running(server, eventually):
        pass
    (server.cluster / "postmaster.pid").write_text("", encoding="utf-8")
    with running(server, eventually) as process:
        assert process.poll() is None


def test_a_server_that_outlived_its_supervisor_is_ended_before_the_next_start(
    server: PostgresServer, eventually: Eventually
) -> None:
    with running(server, eventually) as old:
        assert len(servers_in(server.cluster)) > 1
        clear_for_start(server.cluster)
        assert old.wait(timeout=10) is not None
        assert servers_in(server.cluster) == []


def test_a_first_use_cut_short_leaves_no_half_database(server: PostgresServer, eventually: Eventually) -> None:
    half = server.cluster.with_name("postgres.new")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18", encoding="utf-8")
    with running(server, eventually):
        assert not half.exists()
        assert (server.cluster / "global").is_dir()


def test_a_failing_initdb_is_said_with_its_last_line(server: PostgresServer, tmp_path: Path) -> None:
    server.socket_dir.mkdir()
    broken = tmp_path / "bin"
    broken.mkdir()
    program = broken / "initdb"
    program.write_text("#!/bin/sh\necho 'initdb: error: No space left on device' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    sick = PostgresServer(broken, server.cluster, server.socket_dir, server.password, PLAIN)
    with pytest.raises(ConfigurationError, match=r"initdb: error: No space left.*MESHGAUGE_DATABASE_URL"):
        initialise(sick)
    assert not server.cluster.exists()
    assert not (server.socket_dir / "password").exists()


def test_a_cluster_of_another_major_version_is_said_with_both_versions(
    server: PostgresServer, eventually: Eventually
) -> None:
    with running(server, eventually):
        pass
    (server.cluster / "PG_VERSION").write_text("12\n", encoding="ascii")
    with pytest.raises(ConfigurationError, match=r"made by Postgres 12 and these programs are \d+"):
        server.prepare()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_where_no_user_namespace_is_allowed_root_starts_postgres_as_nobody(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(
        "coordinator.embedded.unprivileged._namespace_launch", lambda: Launch("user namespace", ("false",))
    )
    base, run_dir = make_run_dir(), make_run_dir()
    bin_dir = find_bin_dir(None)
    launch = choose_launch(bin_dir / "initdb", base)
    server = PostgresServer(bin_dir, base / "postgres", run_dir / "postgres", "a" * 64, launch)
    try:
        with running(server, eventually) as process:
            assert launch.way == "user nobody"
            assert Path(f"/proc/{process.pid}").stat().st_uid == launch.owner_uid
            assert server.cluster.stat().st_mode & 0o077 == 0
    finally:
        remove_run_dir(base)
        remove_run_dir(run_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_where_root_has_no_way_the_message_says_why_and_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "coordinator.embedded.unprivileged._namespace_launch", lambda: Launch("user namespace", ("false",))
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=r"lets no other user pass.*MESHGAUGE_DATABASE_URL"):
        choose_launch(find_bin_dir(None) / "initdb", closed / "data")
