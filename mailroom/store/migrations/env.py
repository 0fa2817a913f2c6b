"""Alembic's entry: it always runs inside the transaction that `mailroom.store.migrating` gives it."""

from alembic import context

from mailroom.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    compare_server_default=False,
)
context.run_migrations()
