"""Alembic's entry: runs on the connection that ``meshgauge.store.database`` hands over."""

from alembic import context

from meshgauge.store import schema_tracking

context.configure(
    connection=context.config.attributes["connection"], target_metadata=schema_tracking.step.metadata, compare_type=True
)
with context.begin_transaction():
    context.run_migrations()
