"""What fails over all jobs, what is remembered and said of causes, and the entries of actions on many jobs.

The first two are filled from the results that there are afterwards, in steps that can be interrupted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

INDEXES = {
    "owner": ("owner_id", "at", "fingerprint", "job_id"),
    "at": ("at", "fingerprint", "job_id"),
    "cause": ("fingerprint", "owner_id", "at", "job_id"),
    "job": ("job_id", "video_id"),
}


def upgrade() -> None:
    op.create_table(
        "failing_video",
        *(sa.Column(name, _text(), nullable=False) for name in ("owner_id", "video_id", "job_id")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("position", "attempt")),
        sa.Column("fingerprint", _text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "video_id"),
        sqlite_with_rowid=False,
    )
    for name, columns in INDEXES.items():
        op.create_index(f"ix_failing_video_{name}", "failing_video", list(columns))
    op.create_table(
        "cause_memory",
        *(sa.Column(name, _text(), nullable=False) for name in ("fingerprint", "owner_id")),
        sa.Column("jobs", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("first_seen", "last_seen")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("retried", "helped")),
        sa.PrimaryKeyConstraint("fingerprint", "owner_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_cause_rollup_job", "cause_rollup", ["fingerprint", "job_id"])
    _create_what_users_do()
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM job)")).scalar():
        op.create_table("problem_filling", sa.Column("number", sa.BigInteger(), nullable=False))
        op.execute("INSERT INTO problem_filling (number) VALUES (0)")


def _create_what_users_do() -> None:
    op.create_table(
        "cause_note",
        sa.Column("fingerprint", _text(), primary_key=True),
        sa.Column("note", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")),
        sa.Column("noted_by", _text()),
        sa.Column("noted_at", sa.BigInteger()),
        sa.Column("known_until", sa.BigInteger()),
        sa.Column("known_by", _text()),
        sa.Column("claimed_by", _text()),
        sa.Column("claimed_at", sa.BigInteger()),
    )
    op.create_table(
        "job_action",
        sa.Column("job_id", _text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("action", _text(), nullable=False),
        sa.Column("user_name", _text(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "at"),
        sqlite_with_rowid=False,
    )


def _text() -> sa.types.TypeEngine[str]:
    """Return a text that compares by code points on each database."""
    return sa.String().with_variant(sa.Text(collation="C"), "postgresql")
