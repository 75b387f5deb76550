"""Alembic's entry point: runs the migrations on the connection that :func:`ledger.migrations.migrate` opened."""

from alembic import context

from ledger.tables import (
    METADATA,
)

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
