"""An instance that knows meshes of known cost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from coordinator.embedded.bootstrap import down, up
from meshgauge.run import RunRecord
from meshgauge.settings import Settings
from meshgauge.store.database import connect, transaction
from meshgauge.store.records import read_run

HERE = Path(__file__).parent / "delay_mesh"
NAMES = {
    "delay-plus-0": "PLUS_0",
    "delay-plus-0-again": "PLUS_0_AGAIN",
    "delay-plus-5": "PLUS_5",
    "delay-plus-20": "PLUS_20",
}

RunPlan = Callable[[str], RunRecord]


@pytest.fixture(scope="module")
def run_plan(tmp_path_factory: pytest.TempPathFactory, wheel_cache: Path) -> Iterator[RunPlan]:
    """A function that runs a plan through the whole system, over HTTP, and reads it back from Postgres."""
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("fidelity")
    registered = root / "plugins" / "delay_meshes-1.dist-info"
    registered.mkdir(parents=True)
    (registered / "METADATA").write_text("Metadata-Version: 2.1\nName: delay-meshes\nVersion: 1\n")
    lines = "".join(f"{name} = delay_meshes:{attribute}\n" for name, attribute in NAMES.items())
    (registered / "entry_points.txt").write_text(f"[meshgauge.local_proxies]\n{lines}")
    patch.setenv("PYTHONPATH", f"{root / 'plugins'}:{HERE}")
    settings = Settings(data_dir=root / "data", database_url=None, broker_url=None)
    settings.data_dir.mkdir(mode=0o700)
    (settings.data_dir / "cache").symlink_to(wheel_cache)
    state = up(settings, lambda _sentence: None)
    engine = connect(state.database_url, pool_size=1)

    def run(plan: str) -> RunRecord:
        with httpx.Client(base_url=state.coordinator_url, timeout=60) as client:
            answer = client.post("/api/v1/runs", content=plan, headers={"content-type": "application/yaml"})
            assert answer.status_code == 201, answer.text
            run_id = answer.json()["id"]
            while client.get(f"/api/v1/runs/{run_id}").json()["finished_at"] is None:
                time.sleep(1.0)
        with transaction(engine) as connection:
            return read_run(connection, uuid.UUID(run_id))

    yield run
    engine.dispose()
    down(settings, lambda _sentence: None)
    patch.undo()
