"""Operations: one site at a time, in the order they were asked for, ended once, and never beside an environment."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.conformance import ConformanceCheck, ConformanceResult
from meshgauge.errors import ConflictError, FencedError, UnknownNameError
from meshgauge.operations import OperationClaim, OperationRequest
from meshgauge.store import conformance, leases, operations, runs, schema
from meshgauge.store.database import transaction

INSTALL = OperationRequest(action="install", adapter="istio", version="1.30.3")
SITE = "here"

Ask = Callable[..., uuid.UUID]
Take = Callable[..., OperationClaim | None]


@pytest.fixture
def ask(engine: sa.Engine) -> Ask:
    """A function that submits an operation on the site."""

    def submit(request: OperationRequest = INSTALL, key: str | None = None, site: str = SITE) -> uuid.UUID:
        with transaction(engine) as connection:
            return operations.submit(connection, request, site, key or str(uuid.uuid4()), "tester")[0]

    return submit


@pytest.fixture
def free_site(engine: sa.Engine) -> Callable[[], None]:
    """A function that makes every site free, as a cleaning does."""

    def free() -> None:
        with transaction(engine) as connection:
            connection.execute(sa.update(schema.site).values(state="free"))

    return free


@pytest.fixture
def take(engine: sa.Engine) -> Take:
    """A function that claims the next operation as some worker."""

    def claim(holder: str = "worker-1", lease_s: float = 60.0) -> OperationClaim | None:
        with transaction(engine) as connection:
            return operations.claim_next(connection, SITE, holder, lease_s)

    return claim


@pytest.fixture
def claimed(ask: Ask, free_site: Callable[[], None], take: Take) -> OperationClaim:
    """A claimed operation."""
    ask()
    free_site()
    claim = take()
    assert claim is not None
    return claim


def row_of(engine: sa.Engine, operation_id: uuid.UUID) -> operations.OperationRow:
    with transaction(engine) as connection:
        return operations.get(connection, operation_id)


def site_of(engine: sa.Engine) -> Any:
    with transaction(engine) as connection:
        return connection.execute(sa.select(schema.site)).one()


def test_a_new_site_is_swept_before_the_first_operation(
    ask: Ask, take: Take, free_site: Callable[[], None], engine: sa.Engine
) -> None:
    ask()
    assert take() is None
    with transaction(engine) as connection:
        assert leases.announceable(connection, 60.0) == ((SITE, "clean"),)
    free_site()
    assert take() is not None


def test_the_same_key_gives_the_same_operation_and_another_request_is_refused(ask: Ask, engine: sa.Engine) -> None:
    first = ask(key="k")
    assert ask(key="k") == first
    with pytest.raises(ConflictError, match=str(first)):
        ask(OperationRequest(action="uninstall", adapter="istio"), key="k")


def test_operations_of_a_site_go_in_the_order_they_came(
    ask: Ask, take: Take, free_site: Callable[[], None], engine: sa.Engine
) -> None:
    first, second = ask(), ask()
    free_site()
    claim = take()
    assert claim is not None
    assert claim.operation_id == first
    assert take("worker-2") is None
    with transaction(engine) as connection:
        operations.end(connection, claim, "done", None, {"version": "1.30.3"})
    assert site_of(engine).state == "dirty"
    free_site()
    again = take()
    assert again is not None
    assert again.operation_id == second
    assert again.epoch == claim.epoch + 1
    ended = row_of(engine, first)
    assert (ended.state, ended.result) == ("done", {"version": "1.30.3"})
    assert ended.finished_at is not None


def test_an_operation_waits_for_a_run_that_was_first_and_says_so(
    run_id: uuid.UUID, ask: Ask, take: Take, claim_one: Callable[..., Claim | None], engine: sa.Engine
) -> None:
    waiting = ask()
    assert take() is None
    with transaction(engine) as connection:
        reason = operations.waits_for(connection, operations.get(connection, waiting))
    assert reason is not None
    assert str(run_id) in reason
    assert claim_one() is not None
    assert take() is None


def test_an_operation_goes_before_a_run_that_came_later(
    run_id: uuid.UUID, ask: Ask, take: Take, claim_one: Callable[..., Claim | None], engine: sa.Engine
) -> None:
    first = ask()
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE run SET created_at = now() + interval '1 s'"))
    assert claim_one() is None
    claim = take()
    assert claim is not None
    assert claim.operation_id == first
    assert claim_one() is None


def test_a_cancelled_run_holds_up_no_operation(run_id: uuid.UUID, ask: Ask, take: Take, engine: sa.Engine) -> None:
    ask()
    with transaction(engine) as connection:
        runs.request_cancel(connection, run_id, "tester")
    assert take() is not None


def test_a_lost_worker_fails_its_operation_and_leaves_the_site_to_be_swept(
    claimed: OperationClaim, engine: sa.Engine
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE site SET lease_until = now() - interval '1 s'"))
        assert leases.expire_leases(connection, 3) == (SITE,)
    assert (site_of(engine).state, site_of(engine).operation_id) == ("dirty", None)
    lost = row_of(engine, claimed.operation_id)
    assert lost.state == "failed"
    assert lost.reason is not None
    assert "worker-1 stopped renewing" in lost.reason
    for word in (
        lambda connection: operations.renew(connection, claimed, 60.0),
        lambda connection: operations.say(connection, claimed, [("line", "late")]),
        lambda connection: operations.end(connection, claimed, "done", None, {}),
    ):
        with pytest.raises(FencedError), transaction(engine) as connection:
            word(connection)
    assert row_of(engine, claimed.operation_id) == lost


def test_an_operation_whose_worker_was_asked_to_stop_begins_again(
    claimed: OperationClaim, take: Take, free_site: Callable[[], None], engine: sa.Engine
) -> None:
    with transaction(engine) as connection:
        operations.end(connection, claimed, "interrupted", "the worker was asked to stop", {})
    free_site()
    again = take("worker-2")
    assert again is not None
    assert again.operation_id == claimed.operation_id


def test_cancelling_a_queued_operation_ends_it_at_once(ask: Ask, take: Take, free_site: Callable[[], None],
                                                       engine: sa.Engine) -> None:  # fmt: skip
    operation_id = ask()
    with transaction(engine) as connection:
        row = operations.request_cancel(connection, operation_id, "tester")
    assert (row.state, row.reason) == ("cancelled", "cancelled by tester before it began")
    free_site()
    assert take() is None


def test_a_running_operation_hears_of_its_cancellation(claimed: OperationClaim, engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        assert operations.renew(connection, claimed, 60.0) is False
        operations.request_cancel(connection, claimed.operation_id, "tester")
        assert operations.renew(connection, claimed, 60.0) is True
        operations.end(connection, claimed, "cancelled", "cancelled by tester", {})
    assert row_of(engine, claimed.operation_id).state == "cancelled"


def test_an_operation_that_was_done_before_it_heard_of_the_cancellation_is_done(
    claimed: OperationClaim, engine: sa.Engine
) -> None:
    with transaction(engine) as connection:
        operations.request_cancel(connection, claimed.operation_id, "tester")
        operations.end(connection, claimed, "done", None, {})
    assert row_of(engine, claimed.operation_id).state == "done"


def test_the_log_is_read_from_where_one_left_off(claimed: OperationClaim, engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        told = [("phase", "install"), ("line", "chart base 1.30.3"), ("line", "x" * 5000)]
        operations.say(connection, claimed, told)
        every = operations.lines(connection, claimed.operation_id)
        last = operations.lines(connection, claimed.operation_id, every[-2].id)
    assert [line.kind for line in every] == ["submitted", "claimed", "phase", "line", "line"]
    assert last == every[-1:]
    assert len(last[0].text) == operations.MAX_LINE_CHARACTERS
    assert row_of(engine, claimed.operation_id).phase == "install"


def test_queued_operations_of_a_quarantined_site_fail(ask: Ask, engine: sa.Engine) -> None:
    operation_id = ask()
    with transaction(engine) as connection:
        connection.execute(sa.update(schema.site).values(state="quarantined", reason="a namespace hangs"))
        assert operations.fail_quarantined(connection) == 1
    assert "a namespace hangs" in str(row_of(engine, operation_id).reason)


def test_a_free_site_with_a_queued_operation_is_announced_as_work(
    ask: Ask, free_site: Callable[[], None], engine: sa.Engine
) -> None:
    ask()
    free_site()
    with transaction(engine) as connection:
        assert leases.announceable(connection, 60.0) == ((SITE, "work"),)
        assert leases.announceable(connection, 60.0) == ()


def test_unknown_operations_are_named(engine: sa.Engine) -> None:
    with pytest.raises(UnknownNameError), transaction(engine) as connection:
        operations.get(connection, uuid.uuid4())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"action": "install"}, "name the mesh"),
        ({"action": "clean", "adapter": "istio"}, "only clean goes without one"),
        ({"action": "install", "adapter": "envoy", "provider": "local"}, "is for clusters"),
        ({"action": "install", "adapter": "istio", "dry_run": True}, "belongs to action: clean"),
        ({"action": "install", "adapter": "istio", "profile": "mtsl"}, "unknown profile 'mtsl'"),
    ],
)
def test_requests_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OperationRequest(**fields)


def test_the_newest_result_of_each_version_counts(engine: sa.Engine) -> None:
    def result(version: str, day: int, outcome: Any) -> ConformanceResult:
        at = dt.datetime(2026, 11, day, tzinfo=dt.UTC)
        check = ConformanceCheck("traffic", outcome, "100 of 100 requests")
        return ConformanceResult("istio", version, "kubernetes", "kubernetes 1.36.2", "abc", at, (check,))

    with transaction(engine) as connection:
        for one in (result("1.30.3", 2, "fail"), result("1.30.3", 1, "pass"), result("1.29.6", 3, "pass")):
            conformance.add(connection, one)
        found = conformance.results(connection)
    assert [(one.version, one.at.day, one.passed) for one in found] == [("1.29.6", 3, True), ("1.30.3", 2, False)]
    assert found[0] == result("1.29.6", 3, "pass")
