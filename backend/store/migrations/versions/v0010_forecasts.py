"""What was said about the ends of jobs, and how true it was; the ends of past jobs in order, for History."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "forecast",
        sa.Column("job_id", _text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("processor", _text(), nullable=False),
        sa.Column("said_at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Float(), nullable=False) for name in ("seconds", "low", "high")),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("paused_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "attempt", "stage"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_forecast_judged", "forecast", ["processor", "stage", "ended_at"])
    for name, columns in (("finished", ("finished_at", "id")), ("owner_finished", ("owner_id", "finished_at", "id"))):
        op.create_index(
            f"ix_job_past_{name}",
            "job",
            [*columns, "on_dashboard"],
            sqlite_where=sa.text("on_dashboard = 0"),
            postgresql_where=sa.text("NOT on_dashboard"),
        )


def _text() -> sa.types.TypeEngine[str]:
    """Return a text that compares by code points on each database."""
    return sa.String().with_variant(sa.Text(collation="C"), "postgresql")
