"""From settings to an installation: what is missing is said, the broker's state is the broker's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from coordinator.embedded.state import State
from coordinator.web.installation import never
from coordinator.wiring import BrokerProbe, installed
from meshgauge.errors import ConfigurationError
from meshgauge.settings import Settings
from meshgauge.store.database import connect


def test_a_broker_that_answers_has_no_problem(servers: State) -> None:
    assert BrokerProbe(servers.broker_url)() is None


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1/0", "redis+socket:///nowhere/s?virtual_host=0", "redis://no-such-host.invalid:1/0"]
)
def test_a_broker_that_does_not_answer_is_told(url: str) -> None:
    assert BrokerProbe(url)()


def test_a_broker_with_another_password_is_told(servers: State) -> None:
    wrong = servers.broker_url.replace("://:", "://:wrong")
    assert BrokerProbe(wrong)()


def test_the_coordinator_names_the_settings_it_needs(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="MESHGAUGE_DATABASE_URL"):
        installed(settings, never)


def test_secrets_are_made_once_and_readable_by_their_owner_alone(settings: Settings, servers: State) -> None:
    complete = settings.model_copy(
        update={"database_url": SecretStr(servers.database_url), "broker_url": SecretStr(servers.broker_url)}
    )
    first, key = installed(complete, never)
    second, same_key = installed(complete, never)
    assert (first.operator_token, key) == (second.operator_token, same_key)
    assert first.operator_token != key
    for path in (settings.data_dir / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for made in (first, second):
        made.engine.dispose()


@pytest.fixture
def migrate(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return a function that runs the migration as the supervisor does."""

    def run(url: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}
        environment["MESHGAUGE_DATA_DIR"] = str(tmp_path)
        if url:
            environment["MESHGAUGE_DATABASE_URL"] = url
        argv = [sys.executable, "-m", "coordinator.migrate"]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_the_migration_brings_an_empty_database_up_and_may_be_repeated(
    servers: State, migrate: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    admin = connect(servers.database_url, pool_size=1)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE DATABASE to_migrate"))
        url = sa.make_url(servers.database_url).set(database="to_migrate").render_as_string(hide_password=False)
        assert migrate(url).returncode == 0
        assert migrate(url).returncode == 0
        fresh = connect(url, pool_size=1)
        with fresh.connect() as inside:
            assert inside.execute(sa.text("SELECT count(*) FROM run")).scalar_one() == 0
        fresh.dispose()
        connection.execute(sa.text("DROP DATABASE to_migrate WITH (FORCE)"))
    admin.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [("", "MESHGAUGE_DATABASE_URL"), ("postgresql://x@127.0.0.1:1/x", "does not answer"), ("sqlite://", "Postgres")],
)
def test_a_migration_that_cannot_is_one_sentence(
    migrate: Callable[[str], subprocess.CompletedProcess[str]], url: str, said: str
) -> None:
    result = migrate(url)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr
