"""Orchestration overhead: a run's wall time beyond warm-up, window and cool-down, a trial (bar: 3 s)."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx

from coordinator.embedded.bootstrap import down, up
from meshgauge.settings import Settings

BAR_S = 3.0
LOAD_S = 3.0  # 1 s warm-up, 2 s window
PLAN = """
name: overhead
meshes: [none, nginx, {adapter: envoy, version: latest}]
profiles: [mtls]
workloads: {name: http-1k, app: fixed-reply, reply_bytes: 1024}
loads: {rate_rps: 500, warm_up_s: 1, window_s: 2, cool_down_s: 0}
blocks: %d
seed: 5
"""


def run_s(client: httpx.Client, blocks: int) -> tuple[float, int]:
    """Return the wall time of one run, from its first claim to its end, and its number of trials."""
    plan = PLAN % blocks
    run_id = client.post("/api/v1/runs", content=plan, headers={"content-type": "application/yaml"}).json()["id"]
    while True:
        run = client.get(f"/api/v1/runs/{run_id}").json()
        if run["finished_at"] is not None:
            break
        time.sleep(0.5)
    if run["state"] != "done" or set(run["trials"]) - {"measured", "invalid"}:
        raise RuntimeError(f"run {run['state']}: {run['reason']}")
    progress = client.get(f"/api/v1/runs/{run_id}/progress").json()
    return float(progress["elapsed_s"]), sum(run["trials"].values())


def main() -> int:
    """Print one JSON line and one readable line; exit 1 above the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "meshgauge-tests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", database_url=None, broker_url=None)
        settings.data_dir.mkdir(mode=0o700)
        arguments.cache.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / "cache").symlink_to(arguments.cache)
        state = up(settings, lambda _: None)
        try:
            with httpx.Client(base_url=state.coordinator_url, timeout=60) as client:
                run_s(client, 1)  # installs binaries, calibrates nothing that the second run would reuse
                wall_s, trials = run_s(client, arguments.blocks)
        finally:
            down(settings, lambda _: None)
    overhead_s = wall_s / trials - LOAD_S
    report = {
        "bench": "overhead",
        "trials": trials,
        "wall_s": wall_s,
        "overhead_s_per_trial": overhead_s,
        "bar_s": BAR_S,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.write(f"{overhead_s:.2f} s of overhead a trial over {trials} trials (bar {BAR_S:g} s)\n")
    return 0 if overhead_s <= BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
