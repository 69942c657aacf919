"""Alembic's entry: runs on the connection that ``meshgauge.store.database`` hands over."""

from alembic import context

from meshgauge.store import schema_operations, schema_tracking  # noqa: F401 - each adds its tables

context.configure(
    connection=context.config.attributes["connection"], target_metadata=schema_tracking.step.metadata, compare_type=True
)
with context.begin_transaction():
    context.run_migrations()
