"""Priorities, pinned cards, jobs that paused themselves or resumed after a restart; causes; deleted jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backend.domain.causes import fingerprint

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for column in (
        sa.Column("kept", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("trouble", sa.Text()),
        sa.Column("resumed", sa.Integer()),
    ):
        op.add_column("job", column)
    for column in (
        sa.Column("fault", sa.String()),
        sa.Column("fingerprint", sa.String()),
        sa.Column("job_attempt", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="1"),
    ):
        op.add_column("result", column)
    op.create_table(
        "tombstone",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("removed_seq", sa.BigInteger(), nullable=False),
        sa.Column("erased", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index(op.f("ix_tombstone_removed_seq"), "tombstone", ["removed_seq"], unique=False)
    op.create_index(op.f("ix_tombstone_erased"), "tombstone", ["erased"], unique=False)
    _name_causes()


def _name_causes() -> None:
    """Add the causes of older failures. Their faults are permanent, because none were recorded."""
    connection = op.get_bind()
    failed = connection.execute(
        sa.text(
            "SELECT result.job_id, result.position, result.attempt, result.error, video.video_id FROM result"
            " JOIN video ON video.job_id = result.job_id AND video.position = result.position"
            " WHERE result.error IS NOT NULL"
        )
    ).all()
    named = [
        {
            "job": row.job_id,
            "position": row.position,
            "attempt": row.attempt,
            "cause": fingerprint(row.error, row.video_id),
        }
        for row in failed
    ]
    if named:
        connection.execute(
            sa.text(
                "UPDATE result SET fault = 'permanent', fingerprint = :cause"
                " WHERE job_id = :job AND position = :position AND attempt = :attempt"
            ),
            named,
        )
