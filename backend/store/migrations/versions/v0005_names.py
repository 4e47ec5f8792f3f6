"""Rename columns as in the code: lease, pinned, skipped rows, pause reason. The data stay."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

RENAMED = (
    ("job", "epoch", "lease_id"),
    ("job", "kept", "pinned"),
    ("job", "left_out", "skipped_rows"),
    ("job", "trouble", "pause_reason"),
    ("milestone", "trouble", "pause_reason"),
    ("milestone", "heard_at", "previous_at"),
)


def upgrade() -> None:
    for table, old, new in RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
