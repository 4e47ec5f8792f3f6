"""The tables of what fails: now (failing videos), so far (the memory of causes), and what users say about causes.

The entries that actions on many jobs leave in timelines are here as well.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Text
from sqlmodel import Field, SQLModel

from backend.domain.job import Action
from backend.store.tables import CLUSTERED, EnumText, UtcDateTime
from backend.store.tables import METADATA as METADATA


class FailingVideoRow(SQLModel, table=True):
    """A video of an owner whose newest result, of all the owner's jobs, is a failure; a good one takes the row away."""

    __tablename__ = "failing_video"
    __table_args__ = (
        Index("ix_failing_video_owner", "owner_id", "at", "fingerprint", "job_id"),
        Index("ix_failing_video_at", "at", "fingerprint", "job_id"),
        Index("ix_failing_video_cause", "fingerprint", "owner_id", "at", "job_id"),
        Index("ix_failing_video_job", "job_id", "video_id"),
        CLUSTERED,
    )

    owner_id: str = Field(primary_key=True)
    video_id: str = Field(primary_key=True)
    job_id: str
    position: int
    attempt: int
    fingerprint: str
    at: datetime = Field(sa_type=UtcDateTime)


class CauseMemoryRow(SQLModel, table=True):
    """What is known of a cause from all jobs that an owner ever had, deleted ones too."""

    __tablename__ = "cause_memory"
    __table_args__ = (CLUSTERED,)

    fingerprint: str = Field(primary_key=True)
    owner_id: str = Field(primary_key=True)
    jobs: int
    first_seen: datetime = Field(sa_type=UtcDateTime)
    last_seen: datetime = Field(sa_type=UtcDateTime)
    retried: int
    helped: int


class CauseNoteRow(SQLModel, table=True):
    """What users say about a cause; everybody who has met it sees it."""

    __tablename__ = "cause_note"

    fingerprint: str = Field(primary_key=True)
    note: str | None = Field(default=None, sa_type=Text)
    noted_by: str | None = None
    noted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    known_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    known_by: str | None = None
    claimed_by: str | None = None
    claimed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class JobActionRow(SQLModel, table=True):
    """An action on many jobs, as it is told in the timeline of each of them (`domain.timeline.SharedAction`)."""

    __tablename__ = "job_action"
    __table_args__ = (CLUSTERED,)

    job_id: str = Field(primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    action: Action = Field(sa_type=EnumText(Action))
    user_name: str
    jobs: int


FAILING, CAUSE_MEMORY, CAUSE_NOTES, JOB_ACTIONS = (
    METADATA.tables[name] for name in ("failing_video", "cause_memory", "cause_note", "job_action")
)
