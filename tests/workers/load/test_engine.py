"""What both engines promise, tried against targets that count for themselves."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from meshgauge.errors import ConfigurationError, MeasurementError
from workers.load.engine.choice import open_engine
from workers.load.engine.contract import EngineName, Target
from workers.load.engine.native import NativeEngine
from workers.load.engine.portable import PythonEngine

GET = b"GET / HTTP/1.1\r\nHost: target\r\n\r\n"


def _target(port: int, connections: int = 4) -> Target:
    return Target("127.0.0.1", port, GET, False, connections, 200, 1024, 5.0)


def test_every_arrival_is_sent_once_and_counted_once(start_target: Any, drive: Any) -> None:
    target = start_target()
    run = drive(target.port, rate_rps=600, window_s=0.5)
    counts = run.counts
    assert counts.offered == counts.sent == counts.done == 300
    assert run.window.outcomes == {"ok": 300}
    assert target.counts()["requests"] == counts.requests_total == 300
    assert {run.window.histograms[("ok", clock)].total for clock in ("response", "service", "lag", "net")} == {300}


def test_only_arrivals_of_the_window_are_recorded(start_target: Any, drive: Any) -> None:
    target = start_target()
    run = drive(target.port, rate_rps=500, warm_up_s=0.2, window_s=0.4, cool_down_s=0.2)
    assert run.counts.offered == run.counts.done == 200
    assert run.counts.requests_total == target.counts()["requests"] == 400


def test_a_slow_reply_belongs_to_the_window_of_its_intended_start(start_target: Any, drive: Any) -> None:
    target = start_target(delay_s=0.3)
    run = drive(target.port, rate_rps=100, window_s=0.2, cool_down_s=0.05, connections=40)
    assert run.window.outcomes == {"ok": 20}
    assert run.p("net", 0.01) > 295


def test_faults_are_counted_exactly_as_the_target_made_them(start_target: Any, drive: Any) -> None:
    target = start_target(with_503=True, with_resets=True, with_stalls=True)
    run = drive(target.port, rate_rps=2000, window_s=0.5, timeout_s=0.3, connections=32)
    seen = target.counts()
    outcomes = run.window.outcomes
    assert (outcomes["status_5xx"], outcomes["reset"], outcomes["timeout"]) == (10, 10, 10)
    assert (seen["status_503"], seen["resets"], seen["stalls"]) == (10, 10, 10)
    assert outcomes["ok"] == seen["ok"] == 970
    assert run.counts.sent == sum(outcomes.values()) == 1000
    assert run.p("response", 0.01, "timeout") >= 299


def test_a_freeze_shows_in_response_time_and_not_in_service_time(start_target: Any, drive: Any) -> None:
    target = start_target(freeze_at_s=0.3, freeze_s=1.0)
    run = drive(target.port, rate_rps=500, window_s=2.0, connections=8)
    assert run.p("response", 0.99) > 800
    assert run.p("net", 0.99) > 800
    # Eight requests were on the wire when it froze; they alone have a long service time.
    assert run.window.histograms[("ok", "service")].total == 1000
    assert run.p("service", 0.99) < 300
    assert run.counts.waited >= 450
    assert run.counts.backlog_peak >= 450


def test_seconds_and_batches_add_up_to_the_totals(start_target: Any, drive: Any) -> None:
    run = drive(start_target(with_503=True).port, rate_rps=400, kind="poisson", window_s=1.3)
    assert [second.second for second in run.seconds] == [0, 1]
    for name in ("offered", "sent", "done"):
        assert sum(getattr(second, name) for second in run.seconds) == getattr(run.counts, name)
    assert sum(second.errors for second in run.seconds) == run.window.outcomes["status_5xx"]
    assert sum(second.net_ok.total for second in run.seconds) == run.window.outcomes["ok"]
    assert sum(batch.total for batch in run.window.batches) == run.window.outcomes["ok"]
    assert len(run.window.batches) == 12


def test_the_engine_thread_reports_its_own_cpu_and_run_delay(start_target: Any, drive: Any) -> None:
    run = drive(start_target().port, rate_rps=500, window_s=0.5)
    assert 0 < run.window.engine_cpu_ratio < 1
    assert 0 <= run.window.run_delay_ratio < 1
    assert 0 < run.seconds[0].engine_cpu_ratio < 1


def test_arrivals_without_a_free_connection_wait_and_are_not_lost(start_target: Any, drive: Any) -> None:
    target = start_target(delay_s=0.01)
    run = drive(target.port, rate_rps=300, window_s=0.5, connections=2)
    assert run.window.outcomes == {"ok": 150}
    assert run.counts.waited > 50
    assert run.counts.backlog_peak > 10
    # Waiting for the target's connections is the target's doing: net response keeps it, lag does not.
    assert run.p("net", 0.9) > 50
    assert run.p("lag", 0.5) < 20


def test_arrivals_that_could_never_be_sent_are_counted_as_dropped(start_target: Any, drive: Any) -> None:
    target = start_target(delay_s=30.0)
    run = drive(target.port, rate_rps=100, window_s=0.3, connections=1, timeout_s=0.25)
    assert run.counts.offered == 30
    assert run.counts.dropped > 20
    assert run.counts.offered == run.counts.sent + run.counts.dropped
    assert run.window.outcomes == {"timeout": run.counts.sent}


def test_a_closed_loop_sends_when_free_and_response_is_service(start_target: Any, drive: Any) -> None:
    target = start_target(delay_s=0.005)
    run = drive(target.port, rate_rps=None, kind="closed", window_s=0.5, connections=4)
    assert run.window.histograms[("ok", "response")] == run.window.histograms[("ok", "service")]
    assert 50 < run.counts.done < 420
    assert run.counts.waited == 0
    assert sum(second.done for second in run.seconds) == run.counts.done


def test_connections_are_renewed_after_the_asked_number_of_requests(start_target: Any, drive: Any) -> None:
    target = start_target()
    run = drive(target.port, rate_rps=500, window_s=0.4, connections=4, requests_per_connection=10)
    assert run.window.outcomes == {"ok": 200}
    assert 20 <= target.counts()["connections"] <= 28


@pytest.mark.parametrize("silent", [False, True])
def test_a_target_that_closes_is_reconnected(start_target: Any, drive: Any, silent: bool) -> None:
    target = start_target(close_after=5, silent_close=silent)
    run = drive(target.port, rate_rps=200, window_s=0.5, connections=4)
    assert run.window.outcomes["ok"] == target.counts()["ok"] >= 95
    assert run.counts.done == 100
    assert run.counts.connections_opened >= 20


def test_a_refused_connection_fails_the_arrivals_that_waited_for_it(drive: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    run = drive(port, rate_rps=200, window_s=0.4, connections=4)
    assert run.window.outcomes == {"connect_failure": 80}
    assert run.counts.requests_total == 0
    assert run.counts.connect_error == "Connection refused"
    assert run.p("response", 0.5, "connect_failure") < 200


_CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n"
_INTERIM = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "expected", "outcome"),
    [
        (_CHUNKED, (200, 13), "ok"),
        (_INTERIM + "HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nhi", (200, 2), "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", (200, 3), "bad_body"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", (200, None), "ok"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", (404, 2), "ok"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", (200, 2), "status_4xx"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", (200, 0), "status_3xx"),
        ("HTTP/1.1 204 No Content\r\n\r\n", (204, 77), "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", (200, None), "status_2xx"),
        ("SSH-2.0-OpenSSH_9.2\r\n", (200, None), "reset"),
        ("HTTP/1.1 200 OK\r\nX: " + "a" * 9000 + "\r\nContent-Length: 0\r\n\r\n", (200, 0), "reset"),
    ],
    ids=[
        "chunked",
        "interim responses first",
        "size differs",
        "any size",
        "404 expected",
        "404",
        "302",
        "204 expected",
        "204",
        "not HTTP",
        "line too long",
    ],
)
def test_replies_are_judged(
    start_target: Any, drive: Any, reply: str, expected: tuple[int, int | None], outcome: str
) -> None:
    target = start_target(reply=reply)
    run = drive(target.port, rate_rps=400, window_s=0.05, expected_status=expected[0], expected_body_bytes=expected[1])
    assert run.window.outcomes == {outcome: 20}


def test_a_reply_without_a_length_ends_with_the_connection(start_target: Any, drive: Any) -> None:
    target = start_target(reply="HTTP/1.0 200 OK\r\n\r\nhello", close_after=1, silent_close=True)
    run = drive(target.port, rate_rps=400, window_s=0.05, expected_body_bytes=5)
    assert run.window.outcomes == {"ok": 20}


def test_a_reply_cut_short_is_a_reset(start_target: Any, drive: Any) -> None:
    target = start_target(reply="HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", close_after=1, silent_close=True)
    run = drive(target.port, rate_rps=400, window_s=0.05)
    assert run.window.outcomes == {"reset": 20}


def test_bytes_after_the_reply_cost_the_connection_and_not_the_count(start_target: Any, drive: Any) -> None:
    target = start_target(reply="HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" * 2)
    run = drive(target.port, rate_rps=400, window_s=0.05, expected_body_bytes=2)
    assert run.window.outcomes == {"ok": 20}
    assert run.counts.connections_opened >= 20


def test_head_replies_have_no_body(start_target: Any, drive: Any) -> None:
    target = start_target(reply="HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n")
    run = drive(target.port, rate_rps=400, window_s=0.05, request=GET.replace(b"GET", b"HEAD"))
    assert run.window.outcomes == {"ok": 20}


def test_replies_may_come_in_pieces(start_target: Any, drive: Any) -> None:
    target = start_target(reply=_CHUNKED, piece_bytes=7)
    run = drive(target.port, rate_rps=50, window_s=0.4, expected_body_bytes=13)
    assert run.window.outcomes == {"ok": 20}


def test_large_requests_and_replies_pass(start_target: Any, drive: Any) -> None:
    target = start_target(body_bytes=3_000_000)
    body = b"x" * 3_000_000
    request = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    run = drive(target.port, rate_rps=20, window_s=0.5, request=request, expected_body_bytes=3_000_000, connections=4)
    assert run.window.outcomes == {"ok": 10}


def test_bursts_leave_together(start_target: Any, drive: Any) -> None:
    run = drive(start_target().port, rate_rps=200, kind="burst", burst_requests=10, window_s=0.5, connections=16)
    assert run.window.outcomes == {"ok": 100}


def test_fewer_connections_wanted_are_closed(
    start_target: Any, engine_name: EngineName, open_connections: Callable[..., None]
) -> None:
    engine = open_engine(engine_name, _target(start_target().port))
    try:
        open_connections(engine, 4)
        engine.set_connections(1)
        deadline = time.monotonic() + 5
        while engine.counts().connections_open != 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        engine.close()


def test_a_stopped_engine_ends_at_once_and_has_no_result(
    start_target: Any, engine_name: EngineName, open_connections: Callable[..., None], make_schedule: Any
) -> None:
    engine = open_engine(engine_name, _target(start_target().port))
    try:
        open_connections(engine, 4)
        engine.begin(make_schedule(time.monotonic_ns(), 100, "uniform", 3600.0))
        with pytest.raises(ConfigurationError, match="schedule"):
            engine.begin(make_schedule(time.monotonic_ns(), 100, "uniform", 3600.0))
        engine.stop()
        deadline = time.monotonic() + 5
        while engine.counts().state != "stopped":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(MeasurementError, match="stopped, not finished"):
            engine.window()
    finally:
        engine.close()


def test_a_closed_engine_says_so(start_target: Any, engine_name: EngineName, make_schedule: Any) -> None:
    engine = open_engine(engine_name, _target(start_target().port))
    engine.close()
    engine.close()
    uses: list[Callable[[], object]] = [
        engine.counts,
        engine.live,
        engine.stop,
        engine.window,
        lambda: engine.set_connections(1),
        lambda: engine.begin(make_schedule(0, 1, "uniform", 1.0)),
    ]
    for use in uses:
        with pytest.raises(MeasurementError, match="closed"):
            use()


def test_the_window_may_start_before_and_end_with_nothing_sent(start_target: Any, drive: Any) -> None:
    run = drive(start_target().port, rate_rps=0.001, kind="poisson", window_s=0.2)
    assert run.counts.offered == 0
    assert run.window.outcomes == {}


def test_the_python_engine_refuses_rates_it_cannot_keep(start_target: Any, make_schedule: Any) -> None:
    engine = PythonEngine(_target(start_target().port))
    try:
        with pytest.raises(ConfigurationError, match="native engine"):
            engine.begin(make_schedule(time.monotonic_ns(), 10_001, "uniform", 1.0))
    finally:
        engine.close()


@pytest.mark.parametrize("engine_name", ["native"], indirect=True)
def test_kernels_without_epoll_pwait2_are_served_by_a_timer(start_target: Any, drive: Any) -> None:
    port = start_target().port
    engine = NativeEngine(_target(port, 8), without_pwait2=True)
    run = drive(port, rate_rps=500, window_s=0.5, engine=engine)
    assert run.window.outcomes == {"ok": 250}
    assert run.p("lag", 0.5) < 1.0  # a millisecond timer would make it 0.5 at best
