"""The matrix: complete, deterministic, balanced."""

from __future__ import annotations

import gc
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshgauge.document import load_plan
from meshgauge.errors import InvalidPlanError
from meshgauge.matrix import Hop, Matrix, MeshArm, block_order, count_cells, expand
from meshgauge.plan import Plan
from meshgauge.resolved import ResolvedPlan

NEVER = lambda *_: None  # noqa: E731 - an Unsupported that refuses nothing


def arms_of(count: int) -> tuple[MeshArm, ...]:
    proxies = (
        MeshArm(f"m{at}", "pair", (Hop("client", "envoy", "1"), Hop("server", "envoy", "1"))) for at in range(count)
    )
    return (MeshArm("none", "pair", ()), *proxies)


def plan_of(loads: int, workloads: int = 1, rules: str = "") -> Plan:
    return load_plan(
        "name: x\nmeshes: none\nprofiles: [plain, mtls]\n"
        f"workloads: [{', '.join(f'{{name: w{at}, app: fixed-reply, reply_bytes: 1}}' for at in range(workloads))}]\n"
        f"loads: [{', '.join(f'{{rate_rps: {at + 1}}}' for at in range(loads))}]\n{rules}"
    )


def matrix_of(meshes: int, loads: int, rules: str = "") -> Matrix:
    return expand(plan_of(loads, rules=rules), arms_of(meshes), NEVER)


def test_the_baseline_runs_once_and_every_other_arm_under_every_profile() -> None:
    keys = [cell.key for cell in matrix_of(1, 1).cells]
    assert keys == ["none/plain/w0/local/1rps-16c", "m0/plain/w0/local/1rps-16c", "m0/mtls/w0/local/1rps-16c"]


def test_include_and_exclude_choose_by_label() -> None:
    rules = "include: [{mesh: none}, {profile: mtls}]\nexclude: [{mesh: m*, load: 2rps*}]"
    keys = [cell.key for cell in matrix_of(1, 2, rules).cells]
    assert keys == ["none/plain/w0/local/1rps-16c", "none/plain/w0/local/2rps-16c", "m0/mtls/w0/local/1rps-16c"]


def test_what_a_mesh_cannot_do_is_listed_with_the_reason() -> None:
    matrix = expand(plan_of(1), arms_of(1), lambda _arm, profile, _where: "no certificates" if profile.mtls else None)
    assert [(s.mesh, s.profile, s.reason) for s in matrix.skipped] == [("m0", "mtls", "no certificates")]
    assert all(cell.environment.profile.name == "plain" for cell in matrix.cells)


def test_a_matrix_without_cells_is_refused() -> None:
    with pytest.raises(InvalidPlanError, match="no cell is left"):
        matrix_of(1, 1, "exclude: [{mesh: '*'}]")


def test_the_count_by_multiplication_equals_the_expansion() -> None:
    plan = plan_of(3, workloads=2)
    assert count_cells(plan, arms_of(4)) == len(expand(plan, arms_of(4), NEVER).cells)


@settings(max_examples=30, deadline=None)
@given(meshes=st.integers(1, 7), loads=st.integers(1, 3), blocks=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_every_block_holds_every_cell_with_balanced_positions(meshes: int, loads: int, blocks: int, seed: int) -> None:
    matrix = matrix_of(meshes, loads)
    turns = block_order(matrix, blocks, seed, "none")
    environments = 2 * meshes + 1
    doubled = environments >= 6
    size = environments + doubled
    positions: dict[tuple[str, int], Counter[int]] = {}
    for block in range(blocks):
        of_block = [turn for turn in turns if turn.block == block]
        assert [turn.position for turn in of_block] == list(range(size))
        cells = Counter(cell.key for turn in of_block for cell in turn.cells)
        assert set(cells) == {cell.key for cell in matrix.cells}
        assert all(count == (2 if doubled and key.startswith("none/") else 1) for key, count in cells.items())
        assert len({tuple(cell.load.label for cell in turn.cells) for turn in of_block}) == 1
        for turn in of_block:
            positions.setdefault((turn.environment.key, turn.replicate), Counter())[turn.position] += 1
    for seen in positions.values():
        counts = [seen[position] for position in range(size)]
        assert max(counts) - min(counts) <= 1


def test_the_order_follows_the_seed_and_a_longer_run_only_appends() -> None:
    matrix = matrix_of(2, 2)
    assert block_order(matrix, 5, 1, "none") == block_order(matrix, 5, 1, "none")
    assert block_order(matrix, 5, 1, "none") != block_order(matrix, 5, 2, "none")
    assert block_order(matrix, 8, 1, "none")[: 5 * 5] == block_order(matrix, 5, 1, "none")


def test_a_resolved_plan_survives_its_json(resolved: ResolvedPlan) -> None:
    again = ResolvedPlan.restored(resolved.text, resolved.document(), resolved.resolution(), resolved.seed)
    assert again == resolved


def test_expansion_is_linear_in_the_number_of_cells() -> None:
    def cpu_s(loads: int) -> float:
        plan, arms = plan_of(loads), arms_of(12)
        began_s = time.process_time()
        expand(plan, arms, NEVER)
        return time.process_time() - began_s

    gc.disable()  # a collection would walk the heap of every test before this one, and be counted as ours
    try:
        ratio = min(cpu_s(4000) for _ in range(3)) / min(cpu_s(400) for _ in range(3))
    finally:
        gc.enable()
    assert ratio < 40, "ten times the cells"
