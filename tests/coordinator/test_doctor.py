"""The doctor says what is so and what to do, and changes nothing."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.doctor import (
    Check,
    cores_check,
    data_dir_check,
    examine,
    instance_check,
    judge_engine,
    judge_free_space,
    port_check,
    postgres_check,
    python_check,
    realtime_check,
    worst,
)
from coordinator.embedded.processes import boot_id, identify
from coordinator.embedded.state import ServiceState, State, write_state
from meshgauge.settings import Settings

GB = 10**9


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data directory does not exist yet."""
    return Settings(data_dir=tmp_path / "data", database_url=None, broker_url=None)


@pytest.fixture
def running(tmp_path: Path) -> State:
    """An instance whose supervisor is this test, written to ``tmp_path``."""
    own = identify(os.getpid())
    assert own is not None
    state = State(
        "id", "up", own, boot_id(), "/run/x", "http://127.0.0.1:9", "", "", services=(ServiceState("redis", "up", ""),)
    )
    write_state(tmp_path, state)
    return state


def test_every_check_is_answered_with_a_sentence_and_nothing_is_made(settings: Settings) -> None:
    checks = examine(settings)
    assert [check.name for check in checks] == [
        "python", "data directory", "disk", "postgres", "redis", "sockets", "port",
        "load engine", "cores", "real-time scheduling", "instance",
    ]  # fmt: skip
    assert all(check.sentence for check in checks)
    assert {check.name: check.status for check in checks}["postgres"] == "ok"
    assert not settings.data_dir.exists()


@pytest.mark.parametrize(("free", "status"), [(GB // 10, "fail"), (GB, "warn"), (50 * GB, "ok")])
def test_free_space_is_judged(free: int, status: str) -> None:
    check = judge_free_space(free, Path("/data"))
    assert check.status == status
    assert (status == "ok") == ("MESHGAUGE_DATA_DIR" not in check.sentence)


def test_an_old_python_fails() -> None:
    assert python_check((3, 10, 4)).status == "fail"
    assert python_check((3, 11, 0)) == Check("python", "ok", "Python 3.11.0")


def test_few_cores_and_no_real_time_priority_are_warned_of() -> None:
    assert cores_check(2).status == "warn"
    assert "indicative" in cores_check(2).sentence
    assert cores_check(4).status == "ok"
    assert realtime_check(False).status == "warn"
    assert realtime_check(True).status == "ok"


def test_a_data_directory_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert data_dir_check(tmp_path / "file" / "data").status == "fail"
    assert data_dir_check(tmp_path / "data").status == "ok"


@pytest.mark.parametrize(
    ("code", "output", "errors", "status", "words"),
    [
        (0, '{"engine": "native", "reason": "built by gcc"}', "", "ok", "built by gcc"),
        (0, '{"engine": "python", "reason": "no compiler"}', "", "warn", "no compiler; install gcc"),
        (1, "", "Traceback\nImportError: locust", "fail", "ImportError: locust"),
        (0, "hello", "", "fail", "hello"),
        (1, "", "python: No module named workers.load.doctor", "warn", "not asked"),
    ],
)
def test_the_load_rooms_answer_is_judged(code: int, output: str, errors: str, status: str, words: str) -> None:
    check = judge_engine(code, output, errors)
    assert check.status == status
    assert words in check.sentence


def test_a_taken_port_fails_with_what_to_set(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        chosen = settings.model_copy(update={"listen_port": taken.getsockname()[1]})
        port = next(check for check in examine(chosen) if check.name == "port")
    assert port.status == "fail"
    assert "MESHGAUGE_LISTEN_PORT" in port.sentence


def test_the_port_of_our_own_coordinator_is_no_obstacle(running: State, tmp_path: Path) -> None:
    check = port_check(Settings(data_dir=tmp_path, listen_port=1))
    assert check == Check("port", "ok", f"our coordinator answers on {running.coordinator_url}")


def test_a_running_instance_is_shown_with_its_sick_services(running: State, tmp_path: Path) -> None:
    assert instance_check(tmp_path).status == "ok"
    sick = ServiceState("postgres", "restarting", "/logs/postgres.log", note="was ended by SIGKILL")
    write_state(tmp_path, replace(running, services=(sick,)))
    check = instance_check(tmp_path)
    assert check.status == "warn"
    assert "postgres is restarting (was ended by SIGKILL), log /logs/postgres.log" in check.sentence


def test_a_missing_program_fails_with_what_to_do(settings: Settings, tmp_path: Path) -> None:
    chosen = settings.model_copy(update={"postgres_bin_dir": tmp_path})
    postgres = next(check for check in examine(chosen) if check.name == "postgres")
    assert postgres.status == "fail"
    assert "MESHGAUGE_POSTGRES_BIN_DIR" in postgres.sentence


def test_servers_of_the_users_own_need_no_programs(tmp_path: Path) -> None:
    chosen = Settings(data_dir=tmp_path).model_copy(update={"database_url": "set", "postgres_bin_dir": tmp_path})
    assert postgres_check(chosen).status == "ok"


def test_the_gravest_status_counts() -> None:
    ok, warn, fail = (Check("x", status, "") for status in ("ok", "warn", "fail"))
    assert worst([ok, warn, fail]) == "fail"
    assert worst([ok, warn]) == "warn"
    assert worst([ok]) == "ok"
