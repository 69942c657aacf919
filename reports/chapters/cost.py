"""Cost: CPU and memory of application, proxies, control plane and host, and what they buy in latency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshgauge.matrix import is_baseline
from reports.analysis import Analysis
from reports.chapters.asking import answer_to, by_pair, cells_by_scope, scopes_of
from reports.chapters.counting import counting_parts
from reports.comparing.questions import Scope, arm_name
from reports.figures.canvas import arm_styles
from reports.figures.cost import cost_figure
from reports.figures.gallery import file_stem
from reports.figures.memory import memory_figure, total_text
from reports.figures.overhead import MOST_ARMS, Overhead, overhead_figure
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.readings.costs import Mean, MemoryStack, host_cpu, memory_stack
from reports.readings.levels import CostStack, cost_stack
from reports.readings.metrics import is_data_plane
from reports.readings.trials import Readings
from reports.wording import ABSENT, NBSP, decimals_for, level

SLUG = "cost"
TITLE = "Cost in CPU and memory"
MOST_SCOPES_DRAWN = 3
COMPONENTS = ("app", "data_plane/client", "data_plane/server", "data_plane/node", "control_plane")
NAMES = ("application", "client proxy", "server proxy", "node proxy", "control plane")
CPU_COLUMNS = ("arm", *NAMES, "total [95 % interval]", "whole host [95 % interval]", "blocks")
MEMORY_COLUMNS = ("arm", *NAMES, "total [95 % interval]", "highest peak", "blocks")


def cost_chapter(analysis: Analysis) -> Chapter | None:
    """Return CPU and memory of all arms, or why there are none; None where nobody meant to measure them."""
    readings = analysis.readings
    cpu: dict[Scope, list[CostStack]] = {}
    memory: dict[Scope, list[MemoryStack]] = {}
    for scope, cells in cells_by_scope(analysis.run.cells).items():
        cpu[scope] = [stack for cell in cells if (stack := cost_stack(cell, readings))]
        memory[scope] = [held for cell in cells if (held := memory_stack(cell, readings))]
    scopes = [scope for scope in scopes_of(analysis.run) if cpu[scope] or memory[scope]]
    counting = list(counting_parts(analysis.run.trials))
    if not scopes:
        return Chapter(SLUG, TITLE, "CPU and memory were not measured.", tuple(counting)) if counting else None
    parts: list[Part] = [_introduction(len(scopes)), *counting]
    for at, scope in enumerate(scopes, 1):
        parts += _scope_parts(analysis, scope, at, cpu[scope], memory[scope])
    first = scopes[0]
    return Chapter(SLUG, TITLE, _answer(first, cpu[first], memory[first], len(scopes)), tuple(parts))


def _introduction(scopes: int) -> Text:
    said = [
        "CPU is user and system time of whole process trees over the same window as the latencies, in cores per 1000 "
        "replies a second. It holds at the rate it was measured at: a request costs less at a higher rate.",
        "Memory is resident memory, mean over the window. It hardly depends on the rate, so it is not divided by it. "
        "A dash: the arm has no such component, or it was not measured.",
    ]
    if scopes > MOST_SCOPES_DRAWN:
        said.append(
            f"Figures are drawn for the first {MOST_SCOPES_DRAWN} of {scopes} scopes; tables are there for all."
        )
    return Text(tuple(said))


def _answer(scope: Scope, cpu: Sequence[CostStack], memory: Sequence[MemoryStack], scopes: int) -> str:
    said = []
    proxied = [(_data_plane(s), arm_name(s.cell)) for s in cpu if not is_baseline(s.cell.environment.mesh)]
    if proxied:
        said.append(f"The proxies take {_range(proxied, 'cores')} to serve 1000 requests a second")
    elif cpu:
        total = level(cpu[0].total, "cores")
        said.append(f"Serving 1000 requests a second takes {total} in all ({arm_name(cpu[0].cell)})")
    held = [(s.data_plane, arm_name(s.cell)) for s in memory if not is_baseline(s.cell.environment.mesh)]
    if held:
        said.append(f"{'they' if proxied else 'the proxies'} hold {_range(held, 'MiB')} of memory")
    elif not proxied and memory:
        said.append(f"{level(memory[0].total.value, 'MiB')} of memory are held ({arm_name(memory[0].cell)})")
    where = f" ({scope}; {scopes - 1} more below)" if scopes > 1 else ""
    text = ", and ".join(said)
    return f"{text[:1].upper()}{text[1:]}{where}."


def _data_plane(stack: CostStack) -> float:
    return sum(value for name, value in stack.parts.items() if is_data_plane(name))


def _range(found: Sequence[tuple[float, str]], unit: str) -> str:
    (low, cheapest), (high, dearest) = min(found), max(found)
    if len(found) == 1:
        return f"{level(low, unit)} ({cheapest})"
    if level(low) == level(high):
        return f"{level(low, unit)} each"
    return f"{level(low)} ({cheapest}) to {level(high, unit)} ({dearest})"


def _scope_parts(
    analysis: Analysis, scope: Scope, at: int, cpu: Sequence[CostStack], memory: Sequence[MemoryStack]
) -> Iterator[Part]:
    scopes = scopes_of(analysis.run)
    drawn = at <= MOST_SCOPES_DRAWN
    yield Heading(str(scope), f"scope-{at}")
    if cpu:
        if drawn:
            yield Picture(cost_figure(cpu, scope, file_stem("cost", "", scope, scopes)))
        rows = tuple(_cpu_row(stack, analysis.readings) for stack in cpu)
        yield Grid(f"cpu-{at}", "Cores per 1000 requests a second", CPU_COLUMNS, rows, frozenset(range(1, 9)))
    if memory:
        if drawn:
            yield Picture(memory_figure(memory, scope, file_stem("memory", "", scope, scopes)))
        rows = tuple(map(_memory_row, memory))
        yield Grid(f"memory-{at}", "Resident memory in MiB", MEMORY_COLUMNS, rows, frozenset(range(1, 9)))
    found = _overheads(analysis, scope) if drawn else []
    name = file_stem("overhead", "", scope, scopes)
    figure = overhead_figure(found, scope, arm_styles(analysis.run), name) if found else None
    if figure:
        yield Picture(figure)
        if len(found) > MOST_ARMS:
            yield Text((f"The figure shows the first {MOST_ARMS} of {len(found)} arms.",))


def _overheads(analysis: Analysis, scope: Scope) -> list[Overhead]:
    """Return the arms of a scope against no mesh; none where the plan's baseline is a mesh itself."""
    answer = answer_to(analysis, "baseline")
    found = []
    for members in by_pair(c for c in (answer.comparisons if answer else ()) if c.pair.scope == scope):
        of = {c.metric.name: c for c in members}
        if is_baseline(members[0].pair.control.environment.mesh) and "p50" in of and "cpu_data_plane" in of:
            found.append(Overhead(arm_name(members[0].pair.cell), of["p50"], of["cpu_data_plane"]))
    return found


def _cpu_row(stack: CostStack, readings: Readings) -> tuple[Cell, ...]:
    total = Mean(stack.blocks, stack.total, stack.low, stack.high)
    host = host_cpu(stack.cell, readings)
    return (
        Cell(arm_name(stack.cell)),
        *(Cell(level(stack.parts.get(name))) for name in COMPONENTS),
        Cell(_with_interval(total)),
        Cell(ABSENT if host is None else _with_interval(host)),
        Cell(str(stack.blocks)),
    )


def _memory_row(stack: MemoryStack) -> tuple[Cell, ...]:
    return (
        Cell(arm_name(stack.cell)),
        *(Cell(level(stack.parts.get(name))) for name in COMPONENTS),
        Cell(total_text(stack)),
        Cell(level(stack.peak)),
        Cell(str(stack.total.blocks)),
    )


def _with_interval(mean: Mean) -> str:
    if mean.low is None or mean.high is None:
        return f"{level(mean.value)}{NBSP}(one)"
    decimals = decimals_for((mean.high - mean.low) / 2)
    return f"{mean.value:.{decimals}f} [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"
