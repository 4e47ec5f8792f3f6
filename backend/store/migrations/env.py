"""Runs Alembic on the connection of `open_database`."""

from __future__ import annotations

from alembic import context

from backend.store.problem_tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
