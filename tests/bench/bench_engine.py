"""Requests per generator core-second at saturation: our engine under Locust against wrk, same target, same run.

python tests/bench/bench_engine.py [--rounds 5] [--seconds 4]    bar: ratio >= 0.8
Both run on core 0, a closed loop over 32 connections; nginx on core 1. Ours counts the whole load worker process,
Locust included, over the measured window; wrk its whole life.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys

from bench_target import GENERATOR_CORE, host, nginx, order, run_trial

BAR = 0.8


def requests_per_core_s_of_wrk(port: int, seconds: int) -> float:
    """Run wrk once."""
    argv = ["taskset", "-c", str(GENERATOR_CORE), "wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, _, usage = os.wait4(process.pid, 0)
    found = re.search(r"(\d+) requests in", output)
    if found is None:
        raise RuntimeError(f"wrk said: {output}")
    return int(found[1]) / (usage.ru_utime + usage.ru_stime)


def requests_per_core_s_of_ours(port: int, seconds: int, engine: str) -> float:
    """Run one closed-loop trial."""
    trial = run_trial(order(port, window_s=float(seconds), engine=engine))
    if trial.result.outcomes.get("ok") != trial.result.done:
        raise RuntimeError(f"outcomes {trial.result.outcomes}")
    return trial.result.done / trial.worker_cpu_s


def main() -> int:
    """Print one JSON line and one readable line; exit 1 below the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--engine", choices=("native", "python"), default="native")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    ours: list[float] = []
    wrk: list[float] = []
    with nginx() as port:

        def run_ours() -> None:
            ours.append(requests_per_core_s_of_ours(port, arguments.seconds, arguments.engine))

        def run_wrk() -> None:
            wrk.append(requests_per_core_s_of_wrk(port, arguments.seconds))

        for round_number in range(arguments.rounds):  # alternating, so that drift hits both
            for run in (run_ours, run_wrk) if round_number % 2 else (run_wrk, run_ours):
                run()
    ratios = [own / other for own, other in zip(ours, wrk, strict=True)]
    ratio = statistics.median(ratios)
    report = {
        "bench": "engine", "engine": arguments.engine, "ratio_to_wrk": ratio, "bar": BAR, "ratios": ratios,
        "ours_requests_per_core_s": ours, "wrk_requests_per_core_s": wrk, "host": host(),
    }  # fmt: skip
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.write(
        f"{arguments.engine} engine: {statistics.median(ours):,.0f} requests per core-second, wrk"
        f" {statistics.median(wrk):,.0f}: ratio {ratio:.2f} (bar {BAR}; {min(ratios):.2f}..{max(ratios):.2f}"
        f" over {arguments.rounds} rounds)\n"
    )
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
