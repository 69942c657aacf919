"""Cleaning: what dead workers left is delivered and removed, and nobody else's is touched."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters import registry
from meshgauge.claim import Claim
from meshgauge.errors import EnvironmentUpError, FencedError, MeshgaugeError, ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store import leases, results
from meshgauge.store.database import transaction
from meshgauge.trial import MeasuredTrial
from workers import clean, places, spool


@pytest.fixture
def lost(engine: sa.Engine, site_claim: Claim) -> Claim:
    """A claim whose worker is gone: its site is dirty."""
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE site SET lease_until = now() - interval '1 s'"))
        assert leases.expire_leases(connection, 3) == ("here",)
    return site_claim


@pytest.fixture
def one(engine: sa.Engine) -> Callable[[str], Any]:
    """A function that returns the only row of a query."""

    def ask(statement: str) -> Any:
        with transaction(engine) as connection:
            return connection.execute(sa.text(statement)).one()

    return ask


def test_a_dead_workers_result_is_kept_and_never_counted(
    engine: sa.Engine, settings: Settings, lost: Claim, failed_trial: MeasuredTrial, one: Callable[[str], Any]
) -> None:
    attempt = spool.attempt_directory(places.spool_root(settings), lost)
    spool.write_measured(spool.trial_directory(attempt, failed_trial.trial_id), failed_trial)
    clean.clean_site(settings, engine, "here", "cleaner")
    kept = one("SELECT state, reason, checks FROM trial_attempt")
    assert (kept.state, kept.reason, kept.checks[0]["name"]) == ("fenced", "the proxy died", "reply")
    assert {one(f"SELECT state FROM trial WHERE id = '{failed_trial.trial_id}'").state} == {"pending"}  # noqa: S608
    assert one("SELECT state FROM site").state == "free"
    assert not attempt.exists()


def test_a_result_nobody_can_read_is_set_aside_and_stops_nothing(
    engine: sa.Engine, settings: Settings, lost: Claim, one: Callable[[str], Any]
) -> None:
    root = places.spool_root(settings)
    trial = spool.trial_directory(spool.attempt_directory(root, lost), "broken")
    trial.mkdir(parents=True)
    (trial / "trial.json").write_text("{")
    clean.clean_site(settings, engine, "here", "cleaner")
    assert one("SELECT state FROM site").state == "free"
    assert [path.read_text() for path in root.glob("unreadable/*/trial.json")] == ["{"]


def test_folders_of_older_epochs_go_and_those_of_another_installation_stay(
    engine: sa.Engine, settings: Settings, lost: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    ours = places.runtime_directory(places.cookie_site(settings, "here"), lost.epoch)
    theirs = places.runtime_directory(places.cookie_site(other, "here"), lost.epoch)
    clean.clean_site(settings, engine, "here", "cleaner")
    assert not ours.exists()
    assert theirs.exists()


def test_a_folder_of_a_former_database_is_replaced(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    name = places.cookie_site(settings, "here")
    (places.runtime_directory(name, 7) / "old").touch()
    assert list(places.runtime_directory(name, 7).iterdir()) == []


def test_the_lease_of_a_long_cleaning_is_renewed(engine: sa.Engine, settings: Settings, lost: Claim) -> None:
    with transaction(engine) as connection:
        cleaning = leases.claim_cleaning(connection, "here", "cleaner", settings.lease_s)
    assert cleaning is not None
    with clean._renewed(settings, engine, cleaning):
        time.sleep(settings.lease_s * 1.5)
        with transaction(engine) as connection:
            assert leases.expire_leases(connection, 3) == ()
    time.sleep(settings.lease_s * 1.1)
    with transaction(engine) as connection:
        assert leases.expire_leases(connection, 3) == ("here",)
    with pytest.raises(FencedError), transaction(engine) as connection:
        leases.renew_cleaning(connection, cleaning, 1.0)


def test_a_site_that_is_not_dirty_is_left_alone(
    engine: sa.Engine, settings: Settings, site_claim: Claim, one: Callable[[str], Any]
) -> None:
    clean.clean_site(settings, engine, "here", "cleaner")
    assert tuple(one("SELECT state, epoch FROM site")) == ("leased", site_claim.epoch)


def test_delivering_the_same_leftover_twice_changes_nothing(
    engine: sa.Engine, lost: Claim, failed_trial: MeasuredTrial, one: Callable[[str], Any]
) -> None:
    for _ in range(2):
        with transaction(engine) as connection:
            assert not results.record_trial(connection, lost, failed_trial)
    assert one("SELECT count(*) AS kept FROM trial_attempt").kept == 1


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize(
    ("error", "again"), [(ServiceUnavailableError("no answer"), False), (EnvironmentUpError("it hangs"), True)]
)
def test_a_site_that_does_not_answer_is_not_asked_again_at_once(
    engine: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: MeshgaugeError, *, again: bool
) -> None:
    class Away:
        def sweep(self, place: str, site: str, epoch: int) -> list[str]:
            raise error

    monkeypatch.setattr(registry, "provider", lambda *_: Away())
    clean.clean_site(settings, engine, "here", "cleaner")
    with transaction(engine) as connection:
        assert leases.announceable(connection, 60) == ((("here", "clean"),) if again else ())
