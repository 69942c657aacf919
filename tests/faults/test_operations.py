"""Operations cut off in the middle: nothing outlives them, they are told as lost or cancelled, and the site goes on."""

from __future__ import annotations

from typing import Any

from live_instance import ENDED, LEASE_S, LiveInstance
from live_processes import eventually

ORPHAN_LIMIT_S = 5.0  # issue 2, bars
CHECK = {"action": "conformance", "adapter": "nginx", "provider": "local", "version": "1.31.3"}


def begun(instance: LiveInstance) -> str:
    """Ask for the contract suite and wait until a proxy of it is up; return the operation's address."""
    made = instance.http.post("/api/v1/operations", json=CHECK)
    assert made.status_code == 202, made.text
    eventually(lambda: instance.carriers("nginx"), 30, "a proxy of the suite is up")
    address: str = made.json()["links"]["self"]
    return address


def state_of(instance: LiveInstance, address: str) -> dict[str, Any]:
    operation: dict[str, Any] = instance.http.get(address).json()["operation"]
    return operation


def test_a_worker_killed_in_mid_operation_leaves_nothing_and_the_operation_is_told_as_lost(
    watched: LiveInstance,
) -> None:
    address = begun(watched)
    (held,) = watched.rows("SELECT holder AS worker, epoch FROM site WHERE name = :s", s=watched.site)
    service, _ = watched.holder(held)
    watched.kill(service)
    eventually(
        lambda: not [one for one in watched.carriers() if one.epoch == held.epoch], ORPHAN_LIMIT_S, "nothing is left"
    )
    eventually(lambda: state_of(watched, address)["state"] in ENDED, LEASE_S + 10, "it is told as lost")
    lost = state_of(watched, address)
    assert lost["state"] == "failed"
    assert f"worker {held.worker} stopped renewing its lease" in lost["reason"]
    watched.assert_clean(30)
    again = watched.http.post("/api/v1/operations", json=CHECK).json()["links"]["self"]
    eventually(lambda: state_of(watched, again)["state"] in ENDED, 60, "the site goes on")
    assert state_of(watched, again)["state"] == "done"


def test_a_cancelled_operation_is_over_in_five_seconds_and_leaves_nothing(watched: LiveInstance) -> None:
    address = begun(watched)
    assert watched.http.post(f"{address}/cancel").status_code == 200
    eventually(lambda: state_of(watched, address)["state"] in ENDED, ORPHAN_LIMIT_S, "it is over")
    cancelled = state_of(watched, address)
    assert (cancelled["state"], cancelled["reason"]) == (
        "cancelled", "what was half done is removed from the site",
    )  # fmt: skip
    watched.assert_clean(ORPHAN_LIMIT_S)
