"""A real gunicorn with real clients: streams, chunked bodies, kills."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from coordinator.client import Client
from coordinator.web.installation import MAX_STREAMS
from meshgauge.errors import MeshgaugeError, ServiceUnavailableError
from meshgauge.store.database import transaction


def test_a_run_is_followed_to_its_end_and_from_any_event_on(live: Any, baseline_plan: str) -> None:
    with Client(live.url) as client:
        run = client.submit(baseline_plan)
        seen: list[str] = []

        def follow() -> None:
            with client.another() as own:
                seen.extend(event.kind for event in own.events(run["id"]))

        follower = threading.Thread(target=follow)
        follower.start()
        time.sleep(0.5)
        client.post(f"/api/v1/runs/{run['id']}/cancel")
        follower.join(timeout=20)
        assert seen == ["submitted", "cancel_requested", "finished", "end"]
        events = list(client.events(run["id"]))
        assert [event.kind for event in client.events(run["id"], events[0].id)] == [
            "cancel_requested",
            "finished",
            "end",
        ]


def test_a_notice_reaches_a_waiting_follower_long_before_the_heartbeat(live: Any, baseline_plan: str) -> None:
    with Client(live.url) as client:
        run = client.submit(baseline_plan)
        arrived: list[float] = []

        def follow() -> None:
            with client.another() as own:
                arrived.extend(time.monotonic() for event in own.events(run["id"]) if event.kind == "finished")

        follower = threading.Thread(target=follow)
        follower.start()
        time.sleep(2.5)  # its backlog is read, it listens
        began_s = time.monotonic()
        client.post(f"/api/v1/runs/{run['id']}/cancel")
        follower.join(timeout=20)
        assert arrived[0] - began_s < 5.0  # the heartbeat would take 10


def test_followers_beyond_the_limit_are_told_so_and_everybody_else_is_answered(live: Any, baseline_plan: str) -> None:
    with Client(live.url) as client:
        run = client.submit(baseline_plan)
        with httpx.Client(base_url=live.url, trust_env=False) as http:
            streams = []
            for _ in range(MAX_STREAMS):
                stream = http.stream("GET", f"/api/v1/runs/{run['id']}/events")
                assert stream.__enter__().status_code == 200
                streams.append(stream)
            with pytest.raises(ServiceUnavailableError, match="too many clients"):
                list(client.events(run["id"]))
            assert client.get("/api/v1/runs")["runs"]
            for stream in streams:
                stream.__exit__(None, None, None)


def test_a_chunked_body_is_refused_not_cut(live: Any, baseline_plan: str) -> None:
    def body() -> Iterator[bytes]:
        yield baseline_plan.encode()

    response = httpx.post(
        f"{live.url}/api/v1/runs", content=body(), headers={"Content-Type": "application/yaml"}, trust_env=False
    )
    assert response.status_code == 411
    assert httpx.get(f"{live.url}/api/v1/runs", trust_env=False).json()["runs"] == []


def test_asked_to_end_it_lets_go_of_followers_soon(live: Any, baseline_plan: str) -> None:
    with Client(live.url) as client:
        run = client.submit(baseline_plan)
        ended: list[str] = []

        def follow() -> None:
            with client.another() as own, contextlib.suppress(ServiceUnavailableError):  # ended or cut, but soon
                ended.extend(event.kind for event in own.events(run["id"]))

        follower = threading.Thread(target=follow)
        follower.start()
        time.sleep(1.0)
        live.process.send_signal(signal.SIGTERM)
        assert live.process.wait(timeout=20) == 0
        follower.join(timeout=20)
        assert not follower.is_alive()


def test_a_coordinator_killed_in_mid_submit_leaves_one_whole_run_or_none(
    live: Any, baseline_plan: str, engine: sa.Engine
) -> None:
    plan = baseline_plan.replace("blocks: 2", "blocks: 200")  # long enough to be hit
    for round_number in range(3):
        key = f"round-{round_number}"
        sender = threading.Thread(target=_send, args=(live.url, plan, key))
        sender.start()
        time.sleep(0.05 * (round_number + 1))
        live.kill()
        sender.join(timeout=60)
        live.start()
        with Client(live.url) as client:
            run = client.submit(plan, key)
        assert run["trials"] == {"pending": 200}
    with transaction(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM run")).scalar_one() == 3


def _send(url: str, plan: str, key: str) -> None:
    with Client(url) as client:
        try:
            client.submit(plan, key)
        except MeshgaugeError:
            return  # the answer was lost with the server: what this test is about
