"""Counters that others keep for us: parts of components, totals without a split, throttling, source."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SPLIT = ("cpu_user_s", "cpu_system_s")


def upgrade() -> None:
    for name in _SPLIT:
        op.alter_column("usage_sample", name, existing_type=sa.Float(), nullable=True)
    op.add_column("usage_sample", sa.Column("cpu_s", sa.Float(), nullable=True))
    op.add_column("usage_sample", sa.Column("throttled_s", sa.Float(), nullable=True))
    op.add_column("usage_sample", sa.Column("part", sa.Text(), nullable=True))
    op.add_column("usage_sample", sa.Column("source", sa.Text(), nullable=True))
    op.add_column("component_usage", sa.Column("cpu_s", sa.Float(), nullable=True))
    op.add_column("component_usage", sa.Column("source", sa.Text(), nullable=True))
    op.add_column("component_usage", sa.Column("note", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in ("note", "source", "cpu_s"):
        op.drop_column("component_usage", name)
    # The old schema has no room for samples without a split.
    op.execute("DELETE FROM usage_sample WHERE cpu_user_s IS NULL OR cpu_system_s IS NULL")
    for name in ("source", "part", "throttled_s", "cpu_s"):
        op.drop_column("usage_sample", name)
    for name in _SPLIT:
        op.alter_column("usage_sample", name, existing_type=sa.Float(), nullable=False)
