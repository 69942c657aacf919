"""One order, split among load workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshgauge.errors import ConfigurationError
from workers.load.messages import Begin
from workers.load.order import LoadOrder
from workers.load.shares import request_of, schedule_of, shares_of, target_of

MakeOrder = Callable[..., LoadOrder]


def test_the_request_carries_headers_and_a_body_of_the_asked_size(make_order: MakeOrder) -> None:
    order = make_order(80, method="POST", path="/a?b", body_bytes=5, headers={"X-One": "1"}, host_header="shop")
    assert request_of(order) == b"POST /a?b HTTP/1.1\r\nHost: shop\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nxxxxx"


@pytest.mark.parametrize("fields", [{"headers": {"X": "1\r\nY: 2"}}, {"path": "/\nX: y"}, {"host_header": "a\r\n"}])
def test_a_header_that_breaks_its_line_is_refused(make_order: MakeOrder, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="line break"):
        request_of(make_order(80, **fields))


def test_rates_follow_connections_and_add_up(make_order: MakeOrder) -> None:
    order = make_order(80, rate_rps=1000.0, connections=5, load_workers=2)
    schedules = [schedule_of(order, share, 10) for share in shares_of(order, [3, 2])]
    assert [schedule.rate_rps for schedule in schedules] == [600.0, 400.0]
    assert [schedule.phase for schedule in schedules] == [0.0, 0.6]
    assert len({schedule.seed for schedule in schedules}) == 2


def test_the_schedule_lays_the_phases_end_to_end(make_order: MakeOrder) -> None:
    order = make_order(80, warm_up_s=1.0, window_s=2.0, cool_down_s=0.5)
    schedule = schedule_of(order, shares_of(order, [8])[0], 7)
    assert (schedule.start_ns, schedule.window_start_ns) == (7, 1_000_000_007)
    assert (schedule.window_end_ns, schedule.end_ns) == (3_000_000_007, 3_500_000_007)


def test_bursts_keep_their_common_beat_when_split(make_order: MakeOrder) -> None:
    order = make_order(80, rate_rps=100.0, arrival="burst", burst_requests=5, connections=4, load_workers=2)
    schedules = [schedule_of(order, share, 0) for share in shares_of(order, [2, 2])]
    assert [schedule.burst_requests for schedule in schedules] == [3, 2]
    for schedule in schedules:
        assert schedule.rate_rps is not None
        assert schedule.burst_requests / schedule.rate_rps == pytest.approx(0.05)


def test_bursts_too_small_to_split_are_refused(make_order: MakeOrder) -> None:
    order = make_order(80, arrival="burst", burst_requests=2, load_workers=3)
    with pytest.raises(ConfigurationError, match="raise burst_requests"):
        shares_of(order, [1, 1, 1])


def test_workers_take_turns_on_the_given_cores(make_order: MakeOrder) -> None:
    order = make_order(80, cpus=(2, 5), load_workers=3, connections=8)
    assert [target_of(order, index).cpu for index in range(3)] == [2, 5, 2]
    assert target_of(order, 0).capacity == 3
    assert target_of(make_order(80), 0).cpu is None


def test_an_order_survives_its_journey(make_order: MakeOrder) -> None:
    order = make_order(80, cpus=(1,), headers={"A": "b"})
    assert LoadOrder.from_json(order.to_json()) == order


@pytest.mark.parametrize(("now_unix_s", "delay_s"), [(100.03, 0.07), (100.0, 0.1), (100.5, 0.1), (42.0, 0.1)])
def test_workers_start_together_where_clocks_agree_and_after_the_lead_where_not(
    now_unix_s: float, delay_s: float
) -> None:
    assert Begin(100.0, 0.1, 0, [1]).delay_s(now_unix_s) == pytest.approx(delay_s)
