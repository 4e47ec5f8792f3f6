"""Lists over a million rows: indexes of the jobs that left the dashboard, a search index, traces stored once.

Results and words are moved afterwards, in steps that can be interrupted (`store.upkeep`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

JOB = """
CREATE TABLE job_0007 (
    number INTEGER NOT NULL PRIMARY KEY, id VARCHAR NOT NULL, owner_id VARCHAR NOT NULL REFERENCES user (id),
    name TEXT NOT NULL, processor VARCHAR NOT NULL, options JSON NOT NULL, source VARCHAR NOT NULL,
    columns JSON NOT NULL, total_videos INTEGER NOT NULL, found INTEGER NOT NULL,
    skipped_rows INTEGER NOT NULL DEFAULT 0, status VARCHAR NOT NULL, requested VARCHAR, attempt INTEGER NOT NULL,
    lease_id INTEGER NOT NULL, current_video INTEGER NOT NULL, failed INTEGER NOT NULL, progress INTEGER NOT NULL,
    message TEXT NOT NULL, video_id VARCHAR, error TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    started_at BIGINT, finished_at BIGINT, on_dashboard BOOLEAN NOT NULL, pinned BOOLEAN NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 0, pause_reason TEXT, resumed INTEGER, reported BIGINT NOT NULL DEFAULT -1,
    seq BIGINT NOT NULL, removed_seq BIGINT, name_folded TEXT NOT NULL DEFAULT '', name_key TEXT NOT NULL DEFAULT '',
    error_folded TEXT
)
"""
JOB_COLUMNS = (
    "id, owner_id, name, processor, options, source, columns, total_videos, found, skipped_rows, status, requested, "
    "attempt, lease_id, current_video, failed, progress, message, video_id, error, created_at, updated_at, started_at, "
    "finished_at, on_dashboard, pinned, priority, pause_reason, resumed, reported, seq, removed_seq, name_folded, "
    "name_key, error_folded"
)
PAST_INDEXES = {
    "created": ("status", "created_at", "id"),
    "name": ("status", "name_key", "id"),
    "updated": ("status", "updated_at", "id"),
    "owner_created": ("owner_id", "status", "created_at", "id"),
    "owner_name": ("owner_id", "status", "name_key", "id"),
    "owner_updated": ("owner_id", "status", "updated_at", "id"),
    "seq": ("seq",),
    "removed_seq": ("removed_seq",),
}
# Trigrams of the names and errors of the jobs that left the dashboard. What it finds is looked at again in the row.
WORDS = (
    "CREATE VIRTUAL TABLE job_words "
    "USING fts5(words, tokenize = 'trigram case_sensitive 1', detail = none, columnsize = 0)"
)
_WORDS_OF_NEW = "NEW.name_folded || char(31) || coalesce(NEW.error_folded, lower(NEW.error), '')"
_ADD = f"INSERT INTO job_words (rowid, words) VALUES (NEW.number, {_WORDS_OF_NEW})"  # noqa: S608  our own names
_REMOVE = "DELETE FROM job_words WHERE rowid = OLD.number"
TRIGGERS = {
    "job_was_past": ("INSERT", "NOT NEW.on_dashboard", _ADD),
    "job_left": ("UPDATE OF on_dashboard", "OLD.on_dashboard AND NOT NEW.on_dashboard", _ADD),
    "job_returned": ("UPDATE OF on_dashboard", "NOT OLD.on_dashboard AND NEW.on_dashboard", _REMOVE),
    "job_deleted": ("DELETE", "NOT OLD.on_dashboard", _REMOVE),
}


def upgrade() -> None:
    op.execute("DELETE FROM video WHERE job_id NOT IN (SELECT id FROM job)")  # from now on `arrival` names them
    op.create_table("arrival", sa.Column("job_id", sa.String(), primary_key=True))
    op.create_index("ix_idempotency_key_job_id", "idempotency_key", ["job_id"])
    is_new = not op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM job)")).scalar()
    _number_jobs()
    _share_traces()
    if is_new:
        op.drop_table("result_before_0007")  # nothing is to be moved
    op.execute(WORDS)
    for name, (event, condition, action) in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON job WHEN {condition} BEGIN {action}; END")


def _number_jobs() -> None:
    op.execute(JOB)
    op.execute(
        f"INSERT INTO job_0007 ({JOB_COLUMNS}) SELECT {JOB_COLUMNS} FROM job ORDER BY created_at, id"  # noqa: S608
    )
    op.execute("DROP TABLE job")
    op.execute("ALTER TABLE job_0007 RENAME TO job")
    op.create_index("ix_job_id", "job", ["id"], unique=True)
    op.create_index("ix_job_present", "job", ["owner_id"], sqlite_where=sa.text("on_dashboard = 1"))
    for name, columns in PAST_INDEXES.items():
        op.create_index(
            f"ix_job_past_{name}", "job", [*columns, "on_dashboard"], sqlite_where=sa.text("on_dashboard = 0")
        )


def _share_traces() -> None:
    op.create_table(
        "trace",
        sa.Column("digest", sa.LargeBinary(), primary_key=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.rename_table("result", "result_before_0007")
    op.create_table(
        "result",
        sa.Column("job_id", sa.String(), primary_key=True),
        *(sa.Column(name, sa.Integer(), primary_key=True) for name in ("position", "attempt")),
        sa.Column("error", sa.Text()),
        sa.Column("trace", sa.LargeBinary()),
        sa.Column("fault", sa.String()),
        sa.Column("fingerprint", sa.String()),
        sa.Column("job_attempt", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("result", sa.JSON()),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration_seconds", sa.Float(), nullable=False),
        sa.Column("error_folded", sa.Text()),
    )
