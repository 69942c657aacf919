"""A real Celery worker says by itself when it is ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import redis
from pydantic import SecretStr

from coordinator.embedded.services import Instance, services
from coordinator.embedded.state import State
from meshgauge.queue import QUEUES
from meshgauge.settings import Settings


def test_a_worker_is_up_only_once_it_consumes(
    start: Callable[..., State],
    tmp_path: Path,
    table_of: Callable[[str], str],
    eventually: Callable[..., None],
) -> None:
    (tmp_path / "own_app.py").write_text(
        "import os\nfrom celery import Celery\napp = Celery('own', broker=os.environ['MESHGAUGE_BROKER_URL'])\n",
        encoding="utf-8",
    )
    body = (
        "    from dataclasses import replace\n"
        "    from coordinator.embedded.services import services\n"
        "    worker = next(s for s in services(settings, instance) if s.name == 'worker-control')\n"
        "    argv = tuple(word.replace('workers.app', 'own_app') for word in worker.argv)\n"
        "    return [*servers_only(settings, instance), replace(worker, argv=argv, after=('redis',))]"
    )
    said: list[str] = []
    state = start(table_of(body), said=said)
    worker = state.service("worker-control")
    assert worker is not None
    assert worker.phase == "up"
    assert said.index("worker-control: starting") < said.index("worker-control: up")
    address = state.broker_url.removeprefix("redis+socket:").partition("?")[0]
    with redis.Redis.from_url(f"unix:{address}") as client:
        eventually(lambda: [one["cmd"] for one in client.client_list()].count("brpop") == 1, within_s=2.0)


def test_each_worker_process_runs_one_task_at_a_time_and_clean_up_has_a_worker_of_its_own(tmp_path: Path) -> None:
    instance = Instance("id", tmp_path, tmp_path, "127.0.0.1", 1, None, None, "postgresql://h/d", "redis://h/0")
    settings = Settings(data_dir=tmp_path, database_url=SecretStr("postgresql://h/d"))
    workers = [service for service in services(settings, instance) if service.name.startswith("worker-")]
    queues = [service.argv[service.argv.index("-Q") + 1] for service in workers]
    assert queues == ["control", "lifecycle", "lifecycle", "load", "load"]
    assert set(queues) == set(QUEUES)
    assert all(service.argv[service.argv.index("-c") + 1] == "1" for service in workers)
    assert len({service.argv[service.argv.index("-n") + 1] for service in workers}) == len(workers)
