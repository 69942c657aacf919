"""First schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_token",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('read', 'run', 'admin')", name=op.f("ck_api_token_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("name", name=op.f("uq_api_token_name")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_token_sha256")),
    )
    op.create_table(
        "plan",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_plan")),
    )
    op.create_table(
        "schedule",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("last_fire_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint("name", name=op.f("uq_schedule_name")),
    )
    op.create_table(
        "site",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="dirty", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("environment_id", sa.UUID(), nullable=True),
        sa.Column("lease_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failed_cleanings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("announced_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("(state IN ('leased', 'cleaning')) = (lease_until IS NOT NULL)", name=op.f("ck_site_lease")),
        sa.CheckConstraint(
            "state IN ('free', 'leased', 'dirty', 'cleaning', 'quarantined')", name=op.f("ck_site_state")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_site")),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column(
            "facts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("seen_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("plan_sha256", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("resolved", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.Integer(), nullable=False),
        sa.Column("extra_blocks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("schedule_id", sa.BigInteger(), nullable=True),
        sa.Column("fire_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("estimate_s", sa.Float(), nullable=False),
        sa.Column("tuning", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("provenance", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("(state IN ('queued', 'running')) = (finished_at IS NULL)", name=op.f("ck_run_finished")),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_run_state")),
        sa.ForeignKeyConstraint(["plan_sha256"], ["plan.sha256"], name=op.f("fk_run_plan_sha256")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_run_schedule_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_run_idempotency_key")),
    )
    op.create_index("ix_run_open", "run", ["created_at"], unique=False, postgresql_where=sa.text("finished_at IS NULL"))
    op.create_table(
        "artefact",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("environment_id", sa.UUID(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_artefact_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artefact")),
    )
    op.create_index("ix_artefact_run_id", "artefact", ["run_id"], unique=False)
    op.create_table(
        "environment",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("replicate", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("counted_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("not_before", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'leased', 'measuring', 'done', 'failed', 'cancelled')",
            name=op.f("ck_environment_state"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_environment_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["site"], ["site.name"], name=op.f("fk_environment_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
        sa.UniqueConstraint("run_id", "ordinal", name=op.f("uq_environment_run_id_ordinal")),
    )
    op.create_index(
        "ix_environment_due",
        "environment",
        ["site", "not_before"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "uq_environment_one_leased_per_site",
        "environment",
        ["site"],
        unique=True,
        postgresql_where=sa.text("state IN ('leased', 'measuring')"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_event_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_run", "event", ["run_id", "id"], unique=False)
    op.create_table(
        "schedule_fire",
        sa.Column("schedule_id", sa.BigInteger(), nullable=False),
        sa.Column("fire_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("decided_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "decision IN ('run', 'missed', 'overlap', 'refused')", name=op.f("ck_schedule_fire_decision")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_schedule_fire_run_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_fire_schedule_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "fire_at", name=op.f("pk_schedule_fire")),
    )
    op.create_table(
        "environment_attempt",
        sa.Column("environment_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="claimed", nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "provenance", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.CheckConstraint(
            "outcome IN ('done', 'failed', 'lost', 'fenced', 'cancelled', 'interrupted')",
            name=op.f("ck_environment_attempt_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["environment_id"],
            ["environment.id"],
            name=op.f("fk_environment_attempt_environment_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("environment_id", "attempt", name=op.f("pk_environment_attempt")),
    )
    op.create_table(
        "trial",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("environment_id", sa.UUID(), nullable=False),
        sa.Column("turn", sa.SmallInteger(), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("load", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'measured', 'invalid', 'failed', 'cancelled')", name=op.f("ck_trial_state")
        ),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environment.id"], name=op.f("fk_trial_environment_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_trial_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trial")),
        sa.UniqueConstraint("environment_id", "turn", name=op.f("uq_trial_environment_id_turn")),
    )
    op.create_index("ix_trial_run_id", "trial", ["run_id"], unique=False)
    op.create_table(
        "load_job",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker_index", sa.Integer(), nullable=False),
        sa.Column("master", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("announced_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'claimed', 'ended')", name=op.f("ck_load_job_state")),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_load_job_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_load_job")),
    )
    op.create_index(
        "ix_load_job_open", "load_job", ["created_at"], unique=False, postgresql_where=sa.text("state <> 'ended'")
    )
    op.create_table(
        "trial_attempt",
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("checks", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'measured', 'invalid', 'failed', 'lost', 'fenced', 'cancelled')",
            name=op.f("ck_trial_attempt_state"),
        ),
        sa.ForeignKeyConstraint(["trial_id"], ["trial.id"], name=op.f("fk_trial_attempt_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", "attempt", name=op.f("pk_trial_attempt")),
    )
    op.create_table(
        "component_usage",
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("window_s", sa.Float(), nullable=False),
        sa.Column("cpu_user_s", sa.Float(), nullable=True),
        sa.Column("cpu_system_s", sa.Float(), nullable=True),
        sa.Column("memory_mean_bytes", sa.Float(), nullable=True),
        sa.Column("memory_peak_bytes", sa.Float(), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=True),
        sa.Column("context_switches", sa.BigInteger(), nullable=True),
        sa.Column("throttled_s", sa.Float(), nullable=True),
        sa.Column("steal_ratio", sa.Float(), nullable=True),
        sa.Column("steal_worst_10s_ratio", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trial_id", "attempt"],
            ["trial_attempt.trial_id", "trial_attempt.attempt"],
            name=op.f("fk_component_usage_trial_id_attempt"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "attempt", "component", name=op.f("pk_component_usage")),
    )
    op.create_table(
        "gate",
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("spoils", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("limit", sa.Float(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.CheckConstraint("status IN ('ok', 'degraded', 'invalid')", name=op.f("ck_gate_status")),
        sa.ForeignKeyConstraint(
            ["trial_id", "attempt"],
            ["trial_attempt.trial_id", "trial_attempt.attempt"],
            name=op.f("fk_gate_trial_id_attempt"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "attempt", "gate", name=op.f("pk_gate")),
    )
    op.create_table(
        "histogram",
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("clock", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id", "attempt"],
            ["trial_attempt.trial_id", "trial_attempt.attempt"],
            name=op.f("fk_histogram_trial_id_attempt"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trial_id", "attempt", "outcome", "clock", name=op.f("pk_histogram")),
    )
    op.create_table(
        "second",
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("second", sa.Integer(), nullable=False),
        sa.Column("offered", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("p50_us", sa.Float(), nullable=True),
        sa.Column("p99_us", sa.Float(), nullable=True),
        sa.Column("engine_cpu_ratio", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trial_id", "attempt"],
            ["trial_attempt.trial_id", "trial_attempt.attempt"],
            name=op.f("fk_second_trial_id_attempt"),
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_second_trial", "second", ["trial_id", "attempt"], unique=False)
    op.create_table(
        "usage_sample",
        sa.Column("trial_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("cpu_user_s", sa.Float(), nullable=False),
        sa.Column("cpu_system_s", sa.Float(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=True),
        sa.Column("context_switches", sa.BigInteger(), nullable=True),
        sa.Column("steal_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trial_id", "attempt"],
            ["trial_attempt.trial_id", "trial_attempt.attempt"],
            name=op.f("fk_usage_sample_trial_id_attempt"),
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_usage_sample_trial", "usage_sample", ["trial_id", "attempt"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_usage_sample_trial", table_name="usage_sample")
    op.drop_table("usage_sample")
    op.drop_index("ix_second_trial", table_name="second")
    op.drop_table("second")
    op.drop_table("histogram")
    op.drop_table("gate")
    op.drop_table("component_usage")
    op.drop_table("trial_attempt")
    op.drop_index("ix_load_job_open", table_name="load_job", postgresql_where=sa.text("state <> 'ended'"))
    op.drop_table("load_job")
    op.drop_index("ix_trial_run_id", table_name="trial")
    op.drop_table("trial")
    op.drop_table("environment_attempt")
    op.drop_table("schedule_fire")
    op.drop_index("ix_event_run", table_name="event")
    op.drop_table("event")
    op.drop_index(
        "uq_environment_one_leased_per_site",
        table_name="environment",
        postgresql_where=sa.text("state IN ('leased', 'measuring')"),
    )
    op.drop_index("ix_environment_due", table_name="environment", postgresql_where=sa.text("state = 'pending'"))
    op.drop_table("environment")
    op.drop_index("ix_artefact_run_id", table_name="artefact")
    op.drop_table("artefact")
    op.drop_index("ix_run_open", table_name="run", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_table("run")
    op.drop_table("worker")
    op.drop_table("site")
    op.drop_table("schedule")
    op.drop_table("plan")
    op.drop_table("api_token")
