"""Expansion of a plan of 100 000 cells, against listing the bare products in the same run (bar: 2 s)."""

from __future__ import annotations

import itertools
import json
import sys
import time

from meshgauge.document import load_plan
from meshgauge.matrix import Hop, MeshArm, block_order, expand

MESHES, LOADS, WORKLOADS = 5, 1000, 10
BAR_S = 2.0


def main() -> int:
    """Print one JSON line and one readable line; exit 1 above the bar."""
    workloads = ", ".join(f"{{name: w{at}, app: fixed-reply, reply_bytes: 1}}" for at in range(WORKLOADS))
    loads = ", ".join(f"{{rate_rps: {at + 1}}}" for at in range(LOADS))
    plan = load_plan(f"name: big\nmeshes: none\nprofiles: [plain, mtls]\nworkloads: [{workloads}]\nloads: [{loads}]\n")
    hops = (Hop("client", "envoy", "1"), Hop("server", "envoy", "1"))
    arms = tuple(MeshArm(f"m{at}", "pair", hops) for at in range(MESHES))
    began = time.perf_counter()
    matrix = expand(plan, arms, lambda *_: None)
    expansion_s = time.perf_counter() - began
    began = time.perf_counter()
    products = list(itertools.product(arms, plan.profiles, plan.workloads, plan.infrastructures, plan.loads))
    reference_s = time.perf_counter() - began
    began = time.perf_counter()
    turns = block_order(matrix, 10, 1, "none")
    order_s = time.perf_counter() - began
    report = {
        "bench": "matrix", "cells": len(matrix.cells), "expansion_s": expansion_s, "bar_s": BAR_S,
        "us_per_cell": 1e6 * expansion_s / len(matrix.cells), "ratio_to_bare_products": expansion_s / reference_s,
        "order_of_10_blocks_s": order_s, "turns": len(turns), "products": len(products),
    }  # fmt: skip
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.write(
        f"{len(matrix.cells):,} cells expanded in {expansion_s:.2f} s ({report['us_per_cell']:.1f} us a cell, "
        f"{report['ratio_to_bare_products']:.0f} x the bare products; bar {BAR_S:g} s); "
        f"10 blocks ordered in {order_s:.2f} s\n"
    )
    return 0 if expansion_s <= BAR_S else 1


if __name__ == "__main__":
    sys.exit(main())
