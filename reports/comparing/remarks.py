"""What a careful reader would ask about a run: alarms on the instrument, and results that look odd."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from meshgauge.matrix import Cell, is_baseline
from meshgauge.plan import LOOKS
from meshgauge.run import RunRecord
from reports.comparing.comparison import Comparison
from reports.comparing.sequential import LOOK_ALPHA, decide
from reports.comparing.statistics import ALPHA
from reports.provenance import cores_of, host_facts
from reports.readings.metrics import METRIC_OF, MIB, component_cores, cores_per_krps, is_data_plane
from reports.readings.trials import MeasuredTrial, Readings

Severity = Literal["alarm", "warning", "note"]

AA_ALARM_P = 0.016  # gives the limits of statistics.md 3.10: 4 of 20, 6 of 40, 11 of 100
AA_WARNING_P = 0.01  # zero outside the 99 % interval (statistics.md 4.10)
POSITION_P = 0.01
FEWEST_CORES = 4
NOISY_TAIL_RATIO = 5.0  # p99 / p50 of the baseline (benchmarks.md B8)
QUEUING_MS = 5.0  # added by two Envoy hops; more means queues, starvation or a slow generator (B8)
ENVOY_CORES_PER_KRPS = (0.15, 0.30)  # one proxy at about 1000 rps (B8)
ENVOY_RATES_RPS = (500.0, 2000.0)  # cost per request falls with the rate: the band holds only near 1000 rps
ENVOY_MEMORY_MIB = (40.0, 75.0)  # with a small configuration (B8)
OFF_BY = 2.0  # a factor that means: wrong process, wrong window, debug build


@dataclass(frozen=True, slots=True)
class Remark:
    """One observation. An alarm questions the run, a warning a result, a note explains."""

    severity: Severity
    text: str


def aa_alarm(comparisons: Sequence[Comparison]) -> str | None:
    """Return why the instrument cannot be trusted, from comparisons of a thing with itself; None when it can.

    Source: reference/statistics.md 3.10 and 4.10.
    """
    ps = [c.effect.p for c in comparisons if c.metric.primary and c.effect and c.effect.p is not None]
    # In sequential mode each is tested at the level of one look: a difference where there is none is then as rare
    # over all looks as one at ALPHA is in a run of fixed length, so the limits hold for both.
    alpha = min((c.alpha for c in comparisons), default=ALPHA)
    hits = sum(p < alpha for p in ps)
    if hits and stats.binom.sf(hits - 1, len(ps), ALPHA) <= AA_ALARM_P:
        return (
            f"{hits} of {len(ps)} comparisons of a thing with itself came out different: "
            "the instrument was not stable, so all verdicts are withheld"
        )
    return None


def remarks_on(
    run: RunRecord, readings: Readings, answers: Mapping[str, Sequence[Comparison]], withheld: str | None
) -> tuple[Remark, ...]:
    """Return all remarks on a run, the gravest first."""
    found = [
        *([Remark("alarm", f"A/A alarm: {withheld}.")] if withheld else []),
        *_unfinished(run),
        *_looks(run, answers),
        *([] if withheld else _restless_twins(answers.get("aa", ()))),
        *(Remark("alarm", f"No verdict where {sentence}.") for sentence in readings.changed.values()),
        *_unequal_tuning(run),
        *_unequal_failures(answers),
        *_faster_than_nothing(answers.get("baseline", ())),
        *_position_effect(readings),
        *_implausible_levels(readings),
        *_implausible_additions(answers.get("baseline", ())),
        *_features_that_cost_nothing(answers.get("profile", ())),
        *_differing_nodes(run),
        *_labels(run, readings),
    ]
    rank = {"alarm": 0, "warning": 1, "note": 2}
    return tuple(sorted(found, key=lambda remark: rank[remark.severity]))


def indicative_reason(run: RunRecord) -> str | None:
    """Return why the hosts make every verdict indicative; None when all are large enough."""
    cores = {name: cores_of(facts) for name, facts in host_facts(run).items()}
    small = {name: count for name, count in cores.items() if count is not None and count < FEWEST_CORES}
    if not small:
        return None
    named = ", ".join(f"{name} has {count}" for name, count in sorted(small.items()))
    return (
        f"Load generator, proxies and application share fewer than {FEWEST_CORES} cores ({named}). "
        "They take time from each other, which makes meshes look costlier than on a larger host."
    )


def _unfinished(run: RunRecord) -> Iterator[Remark]:
    if run.state == "done":
        measured = len({trial.block for trial in run.trials if trial.load is not None})
        if measured < run.plan.blocks and not run.plan.sequential:
            yield Remark("warning", f"{measured} of {run.plan.blocks} planned blocks have measured trials.")
        return
    said = {"failed": "The run failed", "cancelled": "The run was cancelled"}.get(run.state)
    why = f": {run.reason.rstrip('.')}" if run.reason else ""
    measured = sum(trial.load is not None for trial in run.trials)
    text = f"{said or f'The run is {run.state}'}{why}. {measured} trials were measured so far, and are shown."
    yield Remark("alarm" if said else "note", text)


def _looks(run: RunRecord, answers: Mapping[str, Sequence[Comparison]]) -> Iterator[Remark]:
    if not run.plan.sequential:
        return
    decision = decide([c for comparisons in answers.values() for c in comparisons])
    looks = ", ".join(map(str, LOOKS[:-1]))
    goes_on = run.state in {"queued", "running"}
    said = decision.sentence if goes_on or decision.stop else f"{decision.decided} of {decision.primary} are decided"
    yield Remark(
        "note",
        f"Sequential, as declared before the first block: looked at after {looks} and {LOOKS[-1]} valid blocks; "
        f"a difference counts at p < {LOOK_ALPHA:g}, and every interval of a difference is a "
        f"{100 * (1 - LOOK_ALPHA):g} % one. {said[0].upper()}{said[1:]}.",
    )


def _restless_twins(comparisons: Sequence[Comparison]) -> Iterator[Remark]:
    """Warn of a thing that differs from itself at 1 %: too few to withhold verdicts, enough for a look (4.10)."""
    odd = [c for c in comparisons if c.metric.primary and c.p is not None and c.p < AA_WARNING_P]
    if odd:
        named = ", ".join(dict.fromkeys(f"{c.pair.label} in {c.metric.title} (p = {c.p:.2g})" for c in odd))
        yield Remark(
            "warning",
            f"The same thing measured twice differs from itself: {named}. Zero lies outside its 99 % interval; "
            "read small differences of this run with care.",
        )


def _unequal_tuning(run: RunRecord) -> Iterator[Remark]:
    """Hosts are made quiet equally for all arms, or the comparison is not fair (measurement.md 2)."""
    tunings: dict[tuple[str, str], set[str]] = defaultdict(set)
    for environment in run.environments:
        tuning = environment.provenance.get("tuning")
        if tuning:
            key = (str(tuning.get("idle_spinners")), str(tuning.get("fifo_priority")))
            tunings[key].add(environment.key)
    if len(tunings) > 1:
        said = "; ".join(
            f"idle spinners {a}, FIFO priority {b}: {', '.join(sorted(k))}" for (a, b), k in tunings.items()
        )
        yield Remark("alarm", f"The host was not tuned alike for all arms: {said}.")


def _unequal_failures(answers: Mapping[str, Sequence[Comparison]]) -> Iterator[Remark]:
    told = set()
    for comparison in (c for comparisons in answers.values() for c in comparisons):
        reason = comparison.verdict.reason if comparison.verdict else ""
        if reason.startswith("unequal failure") and (comparison.pair.label, reason) not in told:
            told.add((comparison.pair.label, reason))
            yield Remark("warning", f"{comparison.pair.label} ({comparison.pair.scope}): {reason}.")


def _faster_than_nothing(comparisons: Iterable[Comparison]) -> Iterator[Remark]:
    for c in comparisons:
        if is_baseline(c.pair.control.environment.mesh) and c.verdict and c.verdict.word == "faster":
            yield Remark(
                "warning",
                f"{c.pair.label} ({c.pair.scope}) is faster than no mesh in {c.metric.title}. A proxy on the path "
                "cannot save time: suspect that requests went around it, or that the baseline was disturbed.",
            )


def _position_effect(readings: Readings) -> Iterator[Remark]:
    """Regress ln p50 on the turn within the block, environments and blocks taken out, one value an environment."""
    levels: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    positions: dict[tuple[str, int, int], int] = {}
    centre = {cell: statistics.fmean(values) for cell, values in _ln_p50_by_cell(readings).items()}
    for turn in readings.trials:
        value = turn.value(METRIC_OF["p50"])
        if value is not None:
            key = (turn.cell.environment.key, turn.trial.block, turn.trial.replicate)
            levels[key].append(math.log(value) - centre[turn.cell.key])
            positions[key] = turn.trial.position
    found = _slope_within(
        [statistics.fmean(values) for values in levels.values()],
        [positions[key] for key in levels],
        [(key[0], key[1]) for key in levels],
    )
    if found and found[1] < POSITION_P:
        yield Remark(
            "warning",
            f"Position effect: p50 changes by {100 * math.expm1(found[0]):+.1f} % from one turn of a block to the next "
            f"(p = {found[1]:.2g}). Balanced random order keeps it out of the comparisons; it widens their intervals.",
        )


def _ln_p50_by_cell(readings: Readings) -> Mapping[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for turn in readings.trials:
        value = turn.value(METRIC_OF["p50"])
        if value is not None:
            values[turn.cell.key].append(math.log(value))
    return values


def _slope_within(
    values: Sequence[float], positions: Sequence[int], groups: Sequence[tuple[str, int]]
) -> tuple[float, float] | None:
    """Return slope and p of values over positions with environment and block effects; None without freedom left."""
    environments = {name: at for at, name in enumerate(dict.fromkeys(group[0] for group in groups))}
    blocks = {name: at for at, name in enumerate(dict.fromkeys(group[1] for group in groups))}
    if len(blocks) < 2 or len(environments) < 2:
        return None
    design = np.zeros((len(values), len(environments) + len(blocks)))
    for row, (environment, block) in enumerate(groups):
        design[row, environments[environment]] = 1
        if blocks[block]:  # the first block is the reference level
            design[row, len(environments) + blocks[block] - 1] = 1
    design[:, -1] = positions
    df = len(values) - int(np.linalg.matrix_rank(design))
    if df < 1:
        return None
    inverse = np.linalg.pinv(design.T @ design)
    coefficients = inverse @ design.T @ np.asarray(values)
    residual = np.asarray(values) - design @ coefficients
    error = math.sqrt(float(residual @ residual) / df * float(inverse[-1, -1]))
    if error == 0:
        return None
    slope = float(coefficients[-1])
    return slope, float(2 * stats.t.sf(abs(slope) / error, df))


def _implausible_levels(readings: Readings) -> Iterator[Remark]:
    """Hold levels against published ones: sanity alarms, not truth (benchmarks.md B8)."""
    cells: dict[str, list[MeasuredTrial]] = defaultdict(list)
    for turn in readings.trials:
        if turn.trial.load is not None:
            cells[turn.cell.key].append(turn)
    for turns in cells.values():
        cell = turns[0].cell
        if is_baseline(cell.environment.mesh):
            yield from _noisy_baseline(cell, turns)
        elif all(hop.adapter == "envoy" for hop in cell.environment.mesh.hops):
            yield from _odd_envoy(cell, turns)


def _noisy_baseline(cell: Cell, turns: Sequence[MeasuredTrial]) -> Iterator[Remark]:
    p50, p99 = (_median(turn.value(METRIC_OF[name]) for turn in turns) for name in ("p50", "p99"))
    if p50 and p99 and p99 / p50 > NOISY_TAIL_RATIO:
        yield Remark(
            "warning",
            f"Noisy host: without a mesh p99 is {p99 / p50:.1f} times p50 ({cell.key}); a quiet host stays below "
            f"{NOISY_TAIL_RATIO:g}. Do not publish tail latencies from here.",
        )


def _odd_envoy(cell: Cell, turns: Sequence[MeasuredTrial]) -> Iterator[Remark]:
    low, high = ENVOY_RATES_RPS
    if cell.load.rate_rps is not None and low <= cell.load.rate_rps <= high:
        bounds = (ENVOY_CORES_PER_KRPS[0] / OFF_BY, ENVOY_CORES_PER_KRPS[1] * OFF_BY)
        for component, value in _per_proxy(turns, "cores").items():
            if not bounds[0] <= value <= bounds[1]:
                yield Remark(
                    "note",
                    f"{cell.key}: {component} uses {value:.3f} cores per 1000 rps; published results for one Envoy are "
                    f"{ENVOY_CORES_PER_KRPS[0]:g} to {ENVOY_CORES_PER_KRPS[1]:g}. A different machine explains some of "
                    "it; a factor over 2 can also mean the wrong process or a debug build.",
                )
    bounds = (ENVOY_MEMORY_MIB[0] / OFF_BY, ENVOY_MEMORY_MIB[1] * OFF_BY)
    for component, value in _per_proxy(turns, "memory").items():
        if not bounds[0] <= value <= bounds[1]:
            yield Remark(
                "note",
                f"{cell.key}: {component} holds {value:.0f} MiB; published results for one Envoy with a small "
                f"configuration are {ENVOY_MEMORY_MIB[0]:g} to {ENVOY_MEMORY_MIB[1]:g} MiB.",
            )


def _implausible_additions(comparisons: Iterable[Comparison]) -> Iterator[Remark]:
    """Hold what Envoy adds to the median request against published additions (benchmarks.md B8)."""
    for c in comparisons:
        hops = c.pair.cell.environment.mesh.hops
        known = c.arm_level is not None and c.control_level is not None
        if c.metric.name != "p50" or not known or any(hop.adapter != "envoy" for hop in hops):
            continue
        added_ms = (c.arm_level or 0.0) - (c.control_level or 0.0)
        if len(hops) == 2 and added_ms > QUEUING_MS:
            yield Remark(
                "warning",
                f"{c.pair.label} ({c.pair.scope}) adds {added_ms:.1f} ms to the median request; two Envoys usually add "
                f"less than {QUEUING_MS:g} ms. Suspect queues, too few cores or a slow load generator.",
            )


def _per_proxy(turns: Sequence[MeasuredTrial], what: Literal["cores", "memory"]) -> Mapping[str, float]:
    """Return per proxy the median of cores per 1000 rps, or of MiB, over valid trials."""
    values: dict[str, list[float]] = defaultdict(list)
    for turn in turns:
        load = turn.trial.load
        if load is None or ("cpu" if what == "cores" else "memory") in turn.spoiled:
            continue
        if what == "cores":
            found = {name: cores_per_krps(cores, load) for name, cores in component_cores(turn.trial).items()}
        else:
            found = {u.component: u.memory_mean_bytes and u.memory_mean_bytes / MIB for u in turn.trial.usage}
        for name, value in found.items():
            if is_data_plane(name) and value is not None:
                values[name].append(value)
    return {name: statistics.median(found) for name, found in values.items()}


def _features_that_cost_nothing(comparisons: Iterable[Comparison]) -> Iterator[Remark]:
    """Adding features must not make a mesh faster (benchmarks.md B8)."""
    for c in comparisons:
        arm, control = c.pair.cell.environment.profile, c.pair.control.environment.profile
        more = arm.mtls >= control.mtls and arm.access_log >= control.access_log and arm.metrics >= control.metrics
        if more and c.verdict and c.verdict.word in {"faster", "less"}:
            yield Remark(
                "warning",
                f"{c.pair.label} ({c.pair.scope}): more features, yet {c.verdict.word} in {c.metric.title}. "
                "Look at the rendered configurations before believing it.",
            )


def _differing_nodes(run: RunRecord) -> Iterator[Remark]:
    """Tell of trials left out because they stood on other nodes, and how to keep the next run's together."""
    places = {cell.key: cell.environment.infrastructure.name for cell in run.cells}
    moved: dict[str, list[int]] = defaultdict(list)
    for trial in run.trials:
        if any(gate.gate == "nodes" and gate.status == "invalid" for gate in trial.gates):
            moved[places[trial.cell]].append(trial.block + 1)
    for place, blocks in sorted(moved.items()):
        named = ", ".join(map(str, sorted(set(blocks))))
        yield Remark(
            "warning",
            f"{place}: {len(blocks)} trial{'s' if len(blocks) > 1 else ''} (block{'s' if len(set(blocks)) > 1 else ''} "
            f"{named}) stood on other nodes than the first of their block and are left out of all comparisons. Give "
            "app_nodes and load_nodes that choose no more nodes than are always filled.",
        )


def _labels(run: RunRecord, readings: Readings) -> Iterator[Remark]:
    engines = {turn.trial.load.engine for turn in readings.trials if turn.trial.load is not None}
    if "python" in engines:
        yield Remark("note", "Load came from the pure-Python engine: no native engine could be built here.")
    if "locust_file" in engines:
        yield Remark("note", "Load came from an own Locust scenario: never compare it with results of the engine.")
    # The host of a cluster's environment is its worker's: it measured elsewhere, on nodes.
    hosts = {name for e in run.environments for name in e.provenance.get("nodes") or (e.host,)}
    unknown = sorted(hosts - {h for h, f in host_facts(run).items() if cores_of(f)})
    if unknown:
        yield Remark("note", f"The number of cores of {', '.join(unknown)} is not known: it may be too few.")
    if any(cell.load.loop == "closed" for cell in run.cells):
        yield Remark("note", "Closed-loop loads are labelled and get no verdicts: a slow server is asked less often.")


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
