"""The spool: whole or not at all, found again after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meshgauge.claim import Claim
from meshgauge.trial import MeasuredTrial, UsageSample
from workers import spool


@pytest.fixture
def attempt(tmp_path: Path, site_claim: Claim) -> Path:
    """The folder of an attempt."""
    return spool.attempt_directory(tmp_path, site_claim)


def test_what_was_written_is_read_back(attempt: Path, failed_trial: MeasuredTrial) -> None:
    sample = UsageSample("app", 0.5, 1.0, 2.0, None, 3, None)
    written = MeasuredTrial(
        failed_trial.trial_id,
        "invalid",
        "why",
        None,
        (sample,),
        (),
        (),
        ({"name": "a", "passed": True},),
        {"app": ["n1", "n2"], "load": ["n3"]},
    )
    folder = spool.trial_directory(attempt, written.trial_id)
    spool.write_measured(folder, written)
    assert spool.read_measured(folder) == written


def test_leftovers_are_found_with_their_claim_and_only_whole_trials(
    tmp_path: Path, attempt: Path, site_claim: Claim, failed_trial: MeasuredTrial
) -> None:
    whole = spool.trial_directory(attempt, failed_trial.trial_id)
    spool.write_measured(whole, failed_trial)
    torn = spool.trial_directory(attempt, "torn")
    torn.mkdir(parents=True)
    (torn / "trial.partial").write_text('{"trial_id": ')
    ((directory, claim, trials),) = spool.leftovers(tmp_path, site_claim.site)
    assert (directory, claim, trials) == (attempt, site_claim, (whole,))
    assert list(spool.leftovers(tmp_path, "elsewhere")) == []


def test_a_folder_without_a_claim_is_no_attempt(tmp_path: Path, attempt: Path, site_claim: Claim) -> None:
    (attempt / "claim.json").unlink()
    assert list(spool.leftovers(tmp_path, site_claim.site)) == []


def test_removing_twice_is_harmless(attempt: Path) -> None:
    spool.remove(attempt)
    spool.remove(attempt)
    assert not attempt.exists()


@pytest.mark.parametrize("site", ["kubernetes:x/../../../../outside", "kubernetes:..", "/etc", "..", "a" * 300])
def test_no_name_of_a_site_leads_out_of_the_spool(tmp_path: Path, site_claim: Claim, site: str) -> None:
    root = tmp_path / "spool"
    folder = spool.attempt_directory(root, replace(site_claim, site=site))
    assert folder.parent.parent == root
    assert [found for found, _, _ in spool.leftovers(root, site)] == [folder]
