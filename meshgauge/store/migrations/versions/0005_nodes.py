"""Where the trials of clusters stood: what the next of their block is held against."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trial_attempt", sa.Column("nodes", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("trial_attempt", "nodes")
