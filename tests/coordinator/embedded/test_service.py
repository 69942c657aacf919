"""The table of services: order, pauses, the real table."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from coordinator.embedded.redis import RedisServer, configuration
from coordinator.embedded.service import Restart, Service, start_order
from coordinator.embedded.services import Instance, services, settings_environment
from meshgauge.errors import ConfigurationError
from meshgauge.settings import Settings


def names(levels: list[list[Service]]) -> list[list[str]]:
    """Return the names, level by level."""
    return [[service.name for service in level] for level in levels]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """An instance on servers of the user's own."""
    return Instance("id", tmp_path, tmp_path / "run", "127.0.0.1", 8080, None, None, "postgresql://h/d", "redis://h/0")


def test_services_come_in_levels_each_needing_only_earlier_ones() -> None:
    table = [Service("c", ("c",), after=("b",)), Service("a", ("a",)), Service("b", ("b",), after=("a",))]
    assert names(start_order(table)) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([Service("a", ("a",), after=("x",))], "'a' waits for \\['x'\\]"),
        (
            [Service("a", ("a",), after=("b",)), Service("b", ("b",), after=("a",))],
            "\\['a', 'b'\\] wait for one another",
        ),
        ([Service("a", ("a",)), Service("a", ("b",))], "same name"),
    ],
)
def test_a_table_that_cannot_be_started_is_refused(table: list[Service], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        start_order(table)


@given(deaths=st.integers(1, 10_000))
def test_pauses_grow_up_to_the_longest_and_never_beyond(deaths: int) -> None:
    restart = Restart(first_s=0.5, longest_s=30.0)
    assert restart.pause_s(deaths) <= restart.pause_s(deaths + 1) <= 30.0
    assert restart.pause_s(1) == 0.5


def test_the_table_starts_migrations_before_all_that_use_the_database(instance: Instance) -> None:
    table = services(Settings(data_dir=instance.data_dir), instance)
    assert names(start_order(table)) == [
        ["migrations"],
        [
            "coordinator",
            "reconciler",
            "worker-control",
            "worker-lifecycle-1",
            "worker-lifecycle-2",
            "worker-load-1",
            "worker-load-2",
        ],
    ]


def test_services_read_back_the_settings_they_were_started_with(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Settings(
        data_dir=instance.data_dir, allow_commands=False, allowed_targets=("10.0.0.0/8", "::1/128"), lease_s=7.5
    )
    for name, value in settings_environment(chosen, instance).items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert read.database_url is not None
    assert read.database_url.get_secret_value() == "postgresql://h/d"
    assert read.broker_url is not None
    assert read.listen_port == 8080
    assert read.coordinator_url == "http://127.0.0.1:8080"
    assert (read.allow_commands, read.lease_s) == (False, 7.5)
    assert read.allowed_targets == ("10.0.0.0/8", "::1/128")


def test_the_mail_servers_password_is_kept_from_workers(instance: Instance) -> None:
    chosen = Settings(data_dir=instance.data_dir, smtp_url=SecretStr("smtp://u:p@mail.example.org"))
    urls = {service.name: service.env.get("MESHGAUGE_SMTP_URL") for service in services(chosen, instance)}
    assert urls["coordinator"] == urls["reconciler"] == "smtp://u:p@mail.example.org"
    assert {value for name, value in urls.items() if name.startswith("worker-")} == {""}


def test_the_broker_keeps_its_messages_and_opens_no_port(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "program", tmp_path / "data", tmp_path, "secret")
    lines = configuration(server).splitlines()
    assert {"port 0", "appendonly yes", "maxmemory-policy noeviction", "requirepass secret"} <= set(lines)
    assert server.url() == f"redis+socket://:secret@{tmp_path}/s?virtual_host=0"
