"""The tables behind a page: trials, comparisons, block differences, gates and seconds, as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reports.analysis import Analysis
from reports.comparing.questions import arm_name
from reports.figures.canvas import Row
from reports.pages.csv_text import to_csv
from reports.readings.metrics import METRICS, component_cores
from reports.readings.trials import MeasuredTrial
from reports.summary import result_rows


def trial_rows(analysis: Analysis) -> Iterator[Row]:
    """Yield every trial with all its metrics and clocks, in the order of the run."""
    components = sorted({usage.component for t in analysis.readings.trials for usage in t.trial.usage})
    for turn in analysis.readings.trials:
        trial, environment = turn.trial, turn.cell.environment
        yield {
            "trial_id": trial.trial_id,
            "attempt": trial.attempt,
            "block": trial.block + 1,
            "turn": trial.position + 1,
            "replicate": trial.replicate,
            "mesh": environment.mesh.label,
            "profile": environment.profile.name,
            "workload": environment.workload.label,
            "infrastructure": environment.infrastructure.name,
            "load": turn.cell.load.label,
            "host": turn.host,
            "state": trial.state,
            "reason": trial.reason,
            "started_at": trial.started_at.isoformat() if trial.started_at else None,
            "offered": trial.load.offered if trial.load else None,
            "done": trial.load.done if trial.load else None,
            "dropped": trial.load.dropped if trial.load else None,
            "spoiled": " ".join(sorted(turn.spoiled)),
            "degraded": " ".join(sorted(turn.degraded)),
            **{f"{metric.name} [{metric.unit}]": turn.reading[metric.name] for metric in METRICS},
            **_clock_columns(turn),
            **_core_columns(turn, components),
        }


def comparison_rows(analysis: Analysis) -> Iterator[Row]:
    """Yield every comparison as in the result table."""
    for row in result_rows(analysis):
        fields = {name: getattr(row, name) for name in row.__slots__}
        yield fields | {"flags": " ".join(row.flags)}


def block_rows(analysis: Analysis) -> Iterator[Row]:
    """Yield the block differences that every effect is made of, on the scale they are averaged on."""
    for answer in analysis.answers:
        for c in answer.comparisons:
            for block, value in zip(c.blocks, c.differences, strict=True):
                yield {
                    "question": answer.question.key,
                    "pair": c.pair.label,
                    "scope": str(c.pair.scope),
                    "metric": c.metric.name,
                    "scale": "ln ratio" if c.metric.scale == "ratio" else c.metric.unit,
                    "block": block + 1,
                    "difference": value,
                }


def gate_rows(analysis: Analysis) -> Iterator[Row]:
    """Yield every gate of every trial."""
    for turn in analysis.readings.trials:
        for gate in turn.trial.gates:
            yield {
                "trial_id": turn.trial.trial_id,
                "block": turn.trial.block + 1,
                "arm": arm_name(turn.cell),
                "cell": turn.cell.key,
                "gate": gate.gate,
                "status": gate.status,
                "spoils": " ".join(sorted(gate.spoils)),
                "value": gate.value,
                "limit": gate.limit,
                "unit": gate.unit,
                "message": gate.message,
            }


def second_rows(analysis: Analysis) -> Iterator[Row]:
    """Yield every second of every trial."""
    for turn in analysis.readings.trials:
        for second in turn.trial.load.seconds if turn.trial.load else ():
            yield {
                "trial_id": turn.trial.trial_id,
                "cell": turn.cell.key,
                "block": turn.trial.block + 1,
                **{name: getattr(second, name) for name in second.__slots__},
            }


# What makes each table that is not behind a figure, by name.
TABLES: Mapping[str, Callable[[Analysis], Iterator[Row]]] = {
    "comparisons": comparison_rows,
    "blocks": block_rows,
    "trials": trial_rows,
    "gates": gate_rows,
    "seconds": second_rows,
}


def tables_of(analysis: Analysis) -> Mapping[str, str]:
    """Return all tables that are not behind a figure, as CSV by name."""
    return {name: to_csv(rows(analysis)) for name, rows in TABLES.items()}


def _clock_columns(turn: MeasuredTrial) -> Row:
    return {
        f"{clock} {name} [ms]": value
        for clock, levels in turn.clocks.items()
        for name, value in zip(("p50", "p99"), levels, strict=True)
    }


def _core_columns(turn: MeasuredTrial, components: list[str]) -> Row:
    cores = component_cores(turn.trial)
    return {f"{component} [cores]": cores.get(component) for component in components}
