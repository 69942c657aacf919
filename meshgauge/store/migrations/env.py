"""Alembic's entry: runs on the connection that ``meshgauge.store.database`` hands over."""

from alembic import context

from meshgauge.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
