"""Statistics that outlive their jobs: tallies of each quarter of an hour, notes, the words of causes, marks.

They are filled from the results that there are afterwards, in steps that can be interrupted (`store.filling`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

SUMS = ("count", "millis", "film_millis", "film_work_millis", "work_millis")


def upgrade() -> None:
    op.create_table(
        "rollup",
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, _text(), nullable=False) for name in ("owner_id", "processor", "kind")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS),
        sa.Column("histogram", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("at", "owner_id", "processor", "kind"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "uncounted",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
    )
    op.create_table(
        "cause_rollup",
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, _text(), nullable=False) for name in ("owner_id", "processor", "fingerprint", "job_id")),
        sa.Column("videos", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at", "owner_id", "processor", "fingerprint", "job_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cause",
        sa.Column("fingerprint", _text(), primary_key=True),
        sa.Column("words", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
    )
    op.create_table(
        "mark",
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", _text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at", "kind"),
    )
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM job)")).scalar():
        op.create_table("rollup_filling", sa.Column("number", sa.BigInteger(), nullable=False))
        op.execute("INSERT INTO rollup_filling (number) VALUES (0)")


def _text() -> sa.types.TypeEngine[str]:
    """Return a text that compares by code points on each database."""
    return sa.String().with_variant(sa.Text(collation="C"), "postgresql")
