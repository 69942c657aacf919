"""Tables of what is followed over many runs: series, steps, annotations, baselines, notices, published results."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from meshgauge.store.columns import instant, now, state_of
from meshgauge.store.schema import metadata

series_point = Table(
    "series_point",
    metadata,
    Column("schedule_id", BigInteger, ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    Column("series", Text, primary_key=True),  # arm by its selector, against what, where and how loaded
    Column("metric", Text, primary_key=True),
    Column("at", instant(), nullable=False),  # the due time the run answers
    Column("value", Float),  # on the metric's scale: ln ratio, or a difference; null: no valid block
    Column("sd", Float),  # of one block difference
    Column("blocks", Integer, nullable=False),
    Column("arm_level", Float),
    Column("control_level", Float),
    Column("reason", Text),  # why there is no value
    Column("arm", JSONB, nullable=False),  # label and exact versions of that night
    Column("environment", Text, nullable=False),  # fingerprint of what must not change: hosts, kernel, tuning, engine
    Column("facts", JSONB, nullable=False),  # what the fingerprint is made of
    Index("ix_series_point_order", "schedule_id", "series", "metric", "at"),
)

# Runs of schedules whose points are stored, so that each is read once; ``problem``: why it gave none.
tracked_run = Table(
    "tracked_run",
    metadata,
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    Column("problem", Text),
    now("tracked_at"),
)

step = Table(
    "step",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("schedule_id", BigInteger, ForeignKey("schedule.id", ondelete="CASCADE"), nullable=False),
    Column("series", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("onset_run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("detected_run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("size", Float, nullable=False),  # on the metric's scale, like "before"
    Column("before", Float, nullable=False),  # mean of the nights before the onset
    Column("cause", JSONB, nullable=False),  # what changed around the onset
    *state_of("state", "suspected", "confirmed", "not_reproduced", "acknowledged", default="suspected"),
    Column("confirming_run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="SET NULL")),
    Column("finding", Text),  # what the confirming run said, or why there is none
    Column("reason", Text),  # of the acknowledgement, like "changed_by"
    Column("changed_by", Text),
    now("created_at"),
    now("changed_at"),
    UniqueConstraint("schedule_id", "series", "metric", "onset_run_id"),
    CheckConstraint("state <> 'acknowledged' OR (reason IS NOT NULL AND changed_by IS NOT NULL)", name="reason"),
)

annotation = Table(
    "annotation",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("schedule_id", BigInteger, ForeignKey("schedule.id", ondelete="CASCADE"), nullable=False),
    Column("at", instant(), nullable=False),
    Column("text", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    now("created_at"),
    Index("ix_annotation_order", "schedule_id", "at"),
)

pinned_baseline = Table(
    "pinned_baseline",
    metadata,
    Column("schedule_id", BigInteger, ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True),
    Column("run_id", UUID(as_uuid=True), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("pinned_by", Text, nullable=False),
    Column("points", JSONB, nullable=False),  # those of the pinned run, read once
    now("created_at"),
)

channel = Table(
    "channel",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),  # address of the webhook, or the mailbox
    Column("secret", Text),  # signs what is sent; never shown again
    Column("events", JSONB, nullable=False),  # kinds of events it wants
    now("created_at"),
    CheckConstraint("kind IN ('webhook', 'slack', 'email')", name="kind"),
)

notice = Table(
    "notice",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("channel_id", BigInteger, ForeignKey("channel.id", ondelete="CASCADE"), nullable=False),
    Column("key", Text, nullable=False),  # of what happened: the same thing is told once
    Column("event", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    *state_of("state", "pending", "sent", "failed", default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    now("not_before"),
    now("created_at"),
    Column("sent_at", instant()),
    UniqueConstraint("channel_id", "key"),
    Index("ix_notice_due", "not_before", postgresql_where=text("state = 'pending'")),
)

published_series = Table(
    "published_series",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),  # who measured it, where it was published
    Column("format", Text, nullable=False),
    Column("rows", JSONB, nullable=False),
    Column("imported_by", Text, nullable=False),
    now("created_at"),
)
