"""The tables. State changes go through the guarded statements of this package, never through bare updates."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from meshgauge.store.columns import instant, now, state_of

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

plan = Table(
    "plan",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("body", Text, nullable=False),  # verbatim, as submitted
    now("created_at"),
)

run = Table(
    "run",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("plan_sha256", Text, ForeignKey("plan.sha256"), nullable=False),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("document", JSONB, nullable=False),  # the validated plan
    Column("resolved", JSONB, nullable=False),  # arms with exact versions, cells, skipped, features
    Column("seed", BigInteger, nullable=False),
    Column("blocks", Integer, nullable=False),
    Column("extra_blocks", Integer, nullable=False, server_default="0"),
    *state_of("state", "queued", "running", "done", "failed", "cancelled", default="queued"),
    Column("reason", Text),
    Column("submitted_by", Text, nullable=False),
    Column("schedule_id", BigInteger, ForeignKey("schedule.id", ondelete="SET NULL")),
    Column("fire_at", instant()),
    Column("cancel_at", instant()),
    Column("cancelled_by", Text),
    Column("estimate_s", Float, nullable=False),
    Column("tuning", JSONB),  # chosen once, for all arms
    Column("provenance", JSONB, nullable=False),
    now("created_at"),
    Column("started_at", instant()),
    Column("finished_at", instant()),
    # The run whose findings this one repeats on fresh blocks.
    Column("confirms", UUID(as_uuid=True), ForeignKey("run.id", ondelete="SET NULL")),
    CheckConstraint("(state IN ('queued', 'running')) = (finished_at IS NULL)", name="finished"),
    Index("ix_run_open", "created_at", postgresql_where=text("finished_at IS NULL")),
)

site = Table(
    "site",
    metadata,
    Column("name", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    # A new site is dirty: it is swept before its first use.
    *state_of("state", "free", "leased", "dirty", "cleaning", "quarantined", default="dirty"),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("holder", Text),
    # While it is leased: one of the two.
    Column("environment_id", UUID(as_uuid=True)),
    Column("operation_id", UUID(as_uuid=True)),
    Column("lease_until", instant()),
    Column("failed_cleanings", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    Column("announced_at", instant()),
    CheckConstraint("(state IN ('leased', 'cleaning')) = (lease_until IS NOT NULL)", name="lease"),
)

environment = Table(
    "environment",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),  # the run visits its environments in this order
    Column("block", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("replicate", SmallInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("labels", ARRAY(Text), nullable=False),  # mesh, profile, workload, infrastructure
    Column("site", Text, ForeignKey("site.name"), nullable=False),
    *state_of("state", "pending", "leased", "measuring", "done", "failed", "cancelled", default="pending"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("counted_attempts", Integer, nullable=False, server_default="0"),  # interrupted ones are not counted
    Column("epoch", BigInteger),
    Column("not_before", instant(), nullable=False, server_default=func.now()),
    Column("reason", Text),
    UniqueConstraint("run_id", "ordinal"),
    Index("ix_environment_due", "site", "not_before", postgresql_where=text("state = 'pending'")),
    Index(
        "uq_environment_one_leased_per_site",
        "site",
        unique=True,
        postgresql_where=text("state IN ('leased', 'measuring')"),
    ),
)

environment_attempt = Table(
    "environment_attempt",
    metadata,
    Column("environment_id", UUID(as_uuid=True), ForeignKey("environment.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("worker", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("phase", Text, nullable=False, server_default="claimed"),
    now("started_at"),
    Column("finished_at", instant()),
    Column("outcome", Text),
    Column("reason", Text),
    Column("provenance", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    CheckConstraint(
        "outcome IN ('done', 'failed', 'lost', 'fenced', 'cancelled', 'interrupted')",
        name="outcome",
    ),
)

trial = Table(
    "trial",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("environment_id", UUID(as_uuid=True), ForeignKey("environment.id", ondelete="CASCADE"), nullable=False),
    Column("turn", SmallInteger, nullable=False),  # order within its environment
    Column("cell", Text, nullable=False),
    Column("load", Text, nullable=False),
    *state_of("state", "pending", "running", "measured", "invalid", "failed", "cancelled", default="pending"),
    Column("attempt", Integer),  # the attempt that counts
    Column("reason", Text),
    UniqueConstraint("environment_id", "turn"),
    Index("ix_trial_run_id", "run_id"),
)

trial_attempt = Table(
    "trial_attempt",
    metadata,
    Column("trial_id", UUID(as_uuid=True), ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    *state_of(
        "state",
        "running",
        "measured",
        "invalid",
        "failed",
        "lost",
        "fenced",
        "cancelled",
        default="running",
    ),
    Column("reason", Text),
    now("started_at"),
    Column("finished_at", instant()),
    Column("summary", JSONB),  # scalar fields of LoadResult
    Column("checks", JSONB),
    Column("nodes", JSONB),  # by side, where it stood in a cluster
)


def _attempt(*, keyed: bool) -> tuple[Column[Any], Column[Any], ForeignKeyConstraint]:
    """Return the reference to a trial attempt; ``keyed``: part of the primary key."""
    return (
        Column("trial_id", UUID(as_uuid=True), nullable=False, primary_key=keyed),
        Column("attempt", Integer, nullable=False, primary_key=keyed, autoincrement=False),
        ForeignKeyConstraint(
            ["trial_id", "attempt"], ["trial_attempt.trial_id", "trial_attempt.attempt"], ondelete="CASCADE"
        ),
    )


histogram = Table(
    "histogram",
    metadata,
    *_attempt(keyed=True),
    Column("outcome", Text, primary_key=True),
    Column("clock", Text, primary_key=True),
    Column("total", BigInteger, nullable=False),
    Column("counts", LargeBinary, nullable=False),  # Histogram.encode
)

second = Table(
    "second",
    metadata,
    *_attempt(keyed=False),
    Column("second", Integer, nullable=False),
    Column("offered", BigInteger, nullable=False),
    Column("sent", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("p50_us", Float),
    Column("p99_us", Float),
    Column("engine_cpu_ratio", Float),
    Index("ix_second_trial", "trial_id", "attempt"),
)

usage_sample = Table(
    "usage_sample",
    metadata,
    *_attempt(keyed=False),
    Column("component", Text, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("cpu_user_s", Float),
    Column("cpu_system_s", Float),
    Column("memory_bytes", BigInteger),
    Column("threads", Integer),
    Column("context_switches", BigInteger),
    Column("steal_s", Float),
    Column("cpu_s", Float),
    Column("throttled_s", Float),
    Column("part", Text),
    Column("source", Text),
    Index("ix_usage_sample_trial", "trial_id", "attempt"),
)

component_usage = Table(
    "component_usage",
    metadata,
    *_attempt(keyed=True),
    Column("component", Text, primary_key=True),
    Column("window_s", Float, nullable=False),
    Column("cpu_user_s", Float),
    Column("cpu_system_s", Float),
    Column("memory_mean_bytes", Float),
    Column("memory_peak_bytes", Float),
    Column("threads", Integer),
    Column("context_switches", BigInteger),
    Column("throttled_s", Float),
    Column("steal_ratio", Float),
    Column("steal_worst_10s_ratio", Float),
    Column("cpu_s", Float),
    Column("source", Text),
    Column("note", Text),
)

gate = Table(
    "gate",
    metadata,
    *_attempt(keyed=True),
    Column("gate", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("spoils", ARRAY(Text), nullable=False),
    Column("value", Float),
    Column("limit", Float),
    Column("unit", Text, nullable=False),
    Column("message", Text, nullable=False),
    CheckConstraint("status IN ('ok', 'degraded', 'invalid')", name="status"),
)

load_job = Table(
    "load_job",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("trial_id", UUID(as_uuid=True), ForeignKey("trial.id", ondelete="CASCADE"), nullable=False),
    Column("site", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("worker_index", Integer, nullable=False),
    Column("master", Text, nullable=False),  # host:port
    *state_of("state", "pending", "claimed", "ended", default="pending"),
    Column("worker", Text),
    Column("reason", Text),
    now("created_at"),
    Column("announced_at", instant()),
    Index("ix_load_job_open", "created_at", postgresql_where=text("state <> 'ended'")),
)

artefact = Table(
    "artefact",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("environment_id", UUID(as_uuid=True)),
    Column("attempt", Integer),
    Column("name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    now("created_at"),
    Index("ix_artefact_run_id", "run_id"),
)

schedule = Table(
    "schedule",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("cron", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("body", Text, nullable=False),  # the plan, verbatim
    Column("paused", Boolean, nullable=False, server_default="false"),
    Column("submitted_by", Text, nullable=False),
    Column("last_fire_at", instant(), nullable=False),  # everything up to here is decided
    now("created_at"),
)

schedule_fire = Table(
    "schedule_fire",
    metadata,
    Column("schedule_id", BigInteger, ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True),
    Column("fire_at", instant(), primary_key=True),
    Column("decision", Text, nullable=False),
    Column("reason", Text),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="SET NULL")),
    now("decided_at"),
    CheckConstraint("decision IN ('run', 'missed', 'overlap', 'refused')", name="decision"),
)

worker = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("facts", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    now("seen_at"),
)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    now("at"),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE")),
    Column("kind", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Index("ix_event_run", "run_id", "id"),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    now("created_at"),
    Column("revoked_at", instant()),
    CheckConstraint("role IN ('read', 'run', 'admin')", name="role"),
)
