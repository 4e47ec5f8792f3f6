"""How Alembic runs here: always on the connection that `open_database` hands over."""

from __future__ import annotations

from alembic import context

from backend.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
