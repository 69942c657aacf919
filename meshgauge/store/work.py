"""What an environment's claim means: the plan it belongs to and the trials still without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.resolved import ResolvedPlan
from meshgauge.store import schema
from meshgauge.trial import Nodes


@dataclass(frozen=True, slots=True)
class DueTrial:
    """A trial still without an answer.

    Attributes:
        load: its label.
        first_nodes: where the first trial of its block stood that it is compared with; None: it is the first, or in
            no cluster.
    """

    id: str
    cell: str
    load: str
    first_nodes: Nodes | None


@dataclass(frozen=True, slots=True)
class ClaimedWork:
    """The rows behind a claim. ``trials``: in their turn."""

    plan_text: str
    document: Mapping[str, Any]
    resolution: Mapping[str, Any]
    seed: int
    tuning: Mapping[str, Any] | None
    trials: tuple[DueTrial, ...]


def read_work(connection: sa.Connection, claim: Claim) -> ClaimedWork:
    """Return what the holder of ``claim`` has to do."""
    run = connection.execute(
        sa.select(schema.run, schema.plan.c.body)
        .join(schema.plan, schema.plan.c.sha256 == schema.run.c.plan_sha256)
        .where(schema.run.c.id == claim.run_id)
    ).one()
    due = connection.execute(
        sa.select(schema.trial.c.id, schema.trial.c.cell, schema.trial.c.load)
        .where(schema.trial.c.environment_id == claim.environment_id, schema.trial.c.state == "pending")
        .order_by(schema.trial.c.turn)
    ).all()
    resolved = ResolvedPlan.restored(run.body, run.document, run.resolved, run.seed)
    nodes = _first_nodes(connection, claim, _compared(resolved, claim.key))
    return ClaimedWork(
        plan_text=run.body,
        document=run.document,
        resolution=run.resolved,
        seed=run.seed,
        tuning=run.tuning,
        trials=tuple(DueTrial(str(row.id), row.cell, row.load, nodes.get(row.load)) for row in due),
    )


def _compared(resolved: ResolvedPlan, key: str) -> list[str]:
    """Return the keys of all environments that differ from this one by mesh, profile or the workload's version alone.

    Other workloads have other pods, which may well fill other nodes.
    """
    environments = {one.key: one for one in resolved.matrix.environments}
    this = environments[key]
    return [
        name
        for name, one in environments.items()
        if one.infrastructure.name == this.infrastructure.name and one.workload.spec.name == this.workload.spec.name
    ]


def _first_nodes(connection: sa.Connection, claim: Claim, keys: list[str]) -> dict[str, Nodes]:
    """Return, by load, the nodes of the first trial of the block that was measured in one of these environments.

    By load, because loads differ in the number of their workers. The first is the measure however it was judged:
    what made it invalid, if anything, is not where it stood. An attempt that does not count is none.
    """
    attempt, trial, environment = schema.trial_attempt, schema.trial, schema.environment
    rows = connection.execute(
        sa.select(trial.c.load, attempt.c.nodes)
        .join(trial, (trial.c.id == attempt.c.trial_id) & (trial.c.attempt == attempt.c.attempt))
        .join(environment, environment.c.id == trial.c.environment_id)
        .where(
            environment.c.run_id == claim.run_id,
            environment.c.block == claim.block,
            environment.c.key.in_(keys),
            attempt.c.nodes.is_not(None),
        )
        .order_by(attempt.c.started_at.desc(), trial.c.id)
    )
    return {row.load: row.nodes for row in rows}  # the last one of a load in this order is its first
