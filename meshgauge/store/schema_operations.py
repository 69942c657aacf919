"""Tables of operations (a mesh installed, upgraded, removed outside of runs) and of conformance results."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from meshgauge.store.columns import instant, now, state_of
from meshgauge.store.schema import metadata

operation = Table(
    "operation",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("action", Text, nullable=False),
    Column("adapter", Text),
    Column("subject", Text, nullable=False),  # what it does, in a few words
    Column("request", JSONB, nullable=False),  # as validated
    Column("site", Text, ForeignKey("site.name"), nullable=False),
    *state_of("state", "queued", "running", "done", "failed", "cancelled", default="queued"),
    Column("phase", Text),
    Column("reason", Text),
    Column("result", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("epoch", BigInteger),
    Column("worker", Text),
    Column("submitted_by", Text, nullable=False),
    Column("cancel_at", instant()),
    Column("cancelled_by", Text),
    now("created_at"),
    Column("started_at", instant()),
    Column("finished_at", instant()),
    CheckConstraint("(state IN ('queued', 'running')) = (finished_at IS NULL)", name="finished"),
    Index("ix_operation_queued", "site", "created_at", postgresql_where=text("state = 'queued'")),
    Index("uq_operation_one_running_per_site", "site", unique=True, postgresql_where=text("state = 'running'")),
)

operation_line = Table(
    "operation_line",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("operation_id", UUID(as_uuid=True), ForeignKey("operation.id", ondelete="CASCADE"), nullable=False),
    now("at"),
    Column("kind", Text, nullable=False),  # phase, line, or a change of state
    Column("text", Text, nullable=False),
    Index("ix_operation_line_order", "operation_id", "id"),
)

conformance = Table(
    "conformance",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("adapter", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("infrastructure", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("at", instant(), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("checks", JSONB, nullable=False),
    Column("operation_id", UUID(as_uuid=True), ForeignKey("operation.id", ondelete="SET NULL")),
    Index("ix_conformance_newest", "adapter", "at"),
)
