"""A job's milestones, which are never deleted; the number of rows of its list that became no videos."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

QUEUED = """
INSERT INTO milestone (job_id, seq, at, status, attempt, current_video, message)
SELECT id, 0, created_at, 'pending', 1, 0, '' FROM job
"""
STARTED = """
INSERT INTO milestone (job_id, seq, at, status, attempt, current_video, message)
SELECT id, 1, started_at, 'processing', attempt, 0, '' FROM job
WHERE started_at IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM progress_event WHERE job_id = job.id AND at <= job.started_at)
"""
CHANGED = """
WITH told AS (
    SELECT job_id, seq, at, status, attempt, current_video, message FROM milestone
    UNION ALL
    SELECT job_id, seq, at, json_extract(body, '$.status'), json_extract(body, '$.attempt'),
        json_extract(body, '$.current_video'), json_extract(body, '$.message')
    FROM progress_event
    UNION ALL
    SELECT id, seq, coalesce(finished_at, updated_at), status, attempt, current_video, message FROM job
    WHERE NOT EXISTS (SELECT 1 FROM progress_event WHERE job_id = job.id AND progress_event.seq = job.seq)
), compared AS (
    SELECT *, lag(status) OVER past AS was, lag(attempt) OVER past AS attempt_before, lag(at) OVER past AS heard_at
    FROM told WINDOW past AS (PARTITION BY job_id ORDER BY seq)
)
INSERT INTO milestone (job_id, seq, at, status, attempt, current_video, resumed, trouble, message, heard_at)
SELECT job_id, seq, at, status, attempt, current_video,
    CASE WHEN status = 'pending' AND was = 'processing' AND attempt = attempt_before THEN current_video END,
    CASE WHEN message LIKE 'Paused by itself: %' THEN substr(message, length('Paused by itself: ') + 1) END,
    message, heard_at
FROM compared WHERE seq > 1 AND (status <> was OR attempt <> attempt_before)
"""


def upgrade() -> None:
    op.add_column("job", sa.Column("left_out", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "milestone",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("current_video", sa.Integer(), nullable=False),
        sa.Column("resumed", sa.Integer()),
        sa.Column("trouble", sa.Text()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("heard_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("job_id", "seq"),
        sqlite_with_rowid=False,
    )
    _tell_what_is_known()


def _tell_what_is_known() -> None:
    """Add the milestones of older jobs, from their history, and from their own rows where the history was pruned."""
    for statement in (QUEUED, STARTED, CHANGED):
        op.execute(statement)
