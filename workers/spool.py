"""The spool: what a trial measured, on disk before it is delivered, so that a lost database loses nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from meshgauge.claim import Claim
from meshgauge.operations import OperationClaim
from meshgauge.trial import ComponentUsage, GateResult, MeasuredTrial, UsageSample
from workers import places
from workers.load.result_file import read_load_result

_CLAIM_FILE = "claim.json"
_TRIAL_FILE = "trial.json"
LOAD_FOLDER = "load"


def site_directory(root: Path, site: str) -> Path:
    """Return the folder of everything that happens on ``site``, whatever characters its name has."""
    return root / places.plain_name(site)


def operation_directory(root: Path, claim: OperationClaim) -> Path:
    """Make and return the folder of one operation under one claim."""
    directory = site_directory(root, claim.site) / f"operation-{claim.operation_id}-{claim.epoch}"
    directory.mkdir(parents=True, mode=0o700)
    return directory


def attempt_directory(root: Path, claim: Claim) -> Path:
    """Make and return the folder of one attempt, with the claim it belongs to written inside."""
    directory = site_directory(root, claim.site) / f"{claim.environment_id}-{claim.attempt}"
    directory.mkdir(parents=True, mode=0o700)
    _write(directory / _CLAIM_FILE, asdict(claim))
    return directory


def trial_directory(attempt: Path, trial_id: str) -> Path:
    """Return the folder of one trial's results."""
    return attempt / "trials" / trial_id


def write_measured(directory: Path, measured: MeasuredTrial) -> None:
    """Write all but the load's part, which the Locust master left in ``LOAD_FOLDER``; complete or not at all."""
    data = {
        "trial_id": measured.trial_id,
        "state": measured.state,
        "reason": measured.reason,
        "has_load": measured.load is not None,
        "samples": [asdict(sample) for sample in measured.samples],
        "usage": [asdict(usage) for usage in measured.usage],
        "gates": [{**asdict(gate), "spoils": sorted(gate.spoils)} for gate in measured.gates],
        "checks": [dict(check) for check in measured.checks],
        "nodes": measured.nodes,
    }
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / _TRIAL_FILE, data)


def read_measured(directory: Path) -> MeasuredTrial:
    """Return what ``write_measured`` wrote, together with the load's part."""
    data = json.loads((directory / _TRIAL_FILE).read_text())
    return MeasuredTrial(
        trial_id=data["trial_id"],
        state=data["state"],
        reason=data["reason"],
        load=read_load_result(directory / LOAD_FOLDER) if data["has_load"] else None,
        samples=tuple(UsageSample(**sample) for sample in data["samples"]),
        usage=tuple(ComponentUsage(**usage) for usage in data["usage"]),
        gates=tuple(GateResult(**{**gate, "spoils": frozenset(gate["spoils"])}) for gate in data["gates"]),
        checks=tuple(data["checks"]),
        nodes=data.get("nodes"),  # a worker of an older version may have left it out
    )


def leftovers(root: Path, site: str) -> Iterator[tuple[Path, Claim, tuple[Path, ...]]]:
    """Yield each attempt that an ended worker left on ``site``: its folder, its claim, its finished trials."""
    for directory in sorted(site_directory(root, site).glob("*")):
        claim_file = directory / _CLAIM_FILE
        if claim_file.is_file():
            trials = tuple(sorted(path.parent for path in directory.glob(f"trials/*/{_TRIAL_FILE}")))
            yield directory, _claim(json.loads(claim_file.read_text())), trials


def set_aside(root: Path, trial: Path) -> Path:
    """Move a trial nobody can read to ``root/unreadable``, for a person to look at; return where it is."""
    kept = root / "unreadable" / f"{trial.parent.parent.name}-{trial.name}"
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    return trial.rename(kept)


def remove(directory: Path) -> None:
    """Remove an attempt that was delivered. Idempotent."""
    if directory.exists():
        shutil.rmtree(directory)


def _claim(data: dict[str, Any]) -> Claim:
    return Claim(**{**data, "environment_id": UUID(data["environment_id"]), "run_id": UUID(data["run_id"])})


def _write(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees all of it or none, power loss included."""
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(data, file, default=str)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
