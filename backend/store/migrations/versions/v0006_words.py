"""Texts as they are searched and sorted: folded names and errors, and the order of names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backend.domain.words import folded, folded_unless_ascii, sort_key

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("job", sa.Column("name_folded", sa.Text(), nullable=False, server_default=""))
    op.add_column("job", sa.Column("name_key", sa.Text(), nullable=False, server_default=""))
    op.add_column("job", sa.Column("error_folded", sa.Text()))
    op.add_column("result", sa.Column("error_folded", sa.Text()))
    _fold_jobs()
    _fold_results()


def _fold_jobs() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id, name, error FROM job")).all()
    folds = [
        {
            "id": row.id,
            "name": folded(row.name),
            "key": sort_key(row.name),
            "error": folded_unless_ascii(row.error),
        }
        for row in rows
    ]
    if folds:
        update = "UPDATE job SET name_folded = :name, name_key = :key, error_folded = :error WHERE id = :id"
        connection.execute(sa.text(update), folds)


def _fold_results() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT job_id, position, attempt, error FROM result WHERE error IS NOT NULL"))
    folds = [
        {"job": row.job_id, "position": row.position, "attempt": row.attempt, "error": fold}
        for row in rows
        if (fold := folded_unless_ascii(row.error)) is not None
    ]
    if folds:
        place = "job_id = :job AND position = :position AND attempt = :attempt"
        connection.execute(sa.text(f"UPDATE result SET error_folded = :error WHERE {place}"), folds)  # noqa: S608
