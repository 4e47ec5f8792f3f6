"""The tables.

Moments are UTC, kept as milliseconds since 1970; hashes are SHA-256 in hex; `seq` orders all updates of a server.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Dialect, Index, Integer, Text, TypeDecorator, false
from sqlmodel import Field, SQLModel

from backend.clock import from_millis, to_millis


class Moment(TypeDecorator[datetime]):
    """An aware datetime as milliseconds since 1970: sorts and compares the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_millis(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_millis(value)


CLUSTERED = {"sqlite_with_rowid": False}


class UserRow(SQLModel, table=True):
    """An account. Names compare without case; a user without a password can only sign in by link."""

    __tablename__ = "user"

    id: str = Field(primary_key=True)
    name: str = Field(index=True, unique=True, sa_type=Text)
    password_hash: str | None = None
    is_admin: bool = False
    disabled: bool = False
    created_at: datetime = Field(sa_type=Moment)


class SessionRow(SQLModel, table=True):
    """A signed-in browser; the cookie's value is known only by its hash."""

    __tablename__ = "session"

    token_hash: str = Field(primary_key=True)
    user_id: str = Field(index=True, foreign_key="user.id")
    created_at: datetime = Field(sa_type=Moment)
    last_seen_at: datetime = Field(sa_type=Moment)


class TokenRow(SQLModel, table=True):
    """A JWT that was handed out: valid only while its row is live."""

    __tablename__ = "token"

    jti_hash: str = Field(primary_key=True)
    user_id: str = Field(index=True, foreign_key="user.id")
    purpose: str
    created_at: datetime = Field(sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)


class LoginLinkRow(SQLModel, table=True):
    """A sign-in link that was not used yet; using it deletes the row."""

    __tablename__ = "login_link"

    link_hash: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    expires_at: datetime = Field(sa_type=Moment)


class JobRow(SQLModel, table=True):
    """A job's newest state. `reported`: its sender's newest counter; `removed_seq`: when it left the dashboard."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_owner_created", "owner_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    owner_id: str = Field(foreign_key="user.id")
    name: str = Field(sa_type=Text)
    processor: str
    options: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    source: str
    columns: list[str] = Field(sa_column=Column(JSON, nullable=False))
    total_videos: int
    found: int
    left_out: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    status: str
    requested: str | None = None
    attempt: int
    epoch: int
    current_video: int
    failed: int
    progress: int
    message: str = Field(sa_type=Text)
    video_id: str | None = None
    error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=Moment)
    updated_at: datetime = Field(sa_type=Moment)
    started_at: datetime | None = Field(default=None, sa_type=Moment)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)
    on_dashboard: bool = Field(index=True)
    kept: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))
    priority: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    trouble: str | None = Field(default=None, sa_type=Text)
    resumed: int | None = None
    reported: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="-1"))
    seq: int = Field(sa_type=BigInteger)
    removed_seq: int | None = Field(default=None, sa_type=BigInteger)


class VideoRow(SQLModel, table=True):
    """A row of a job's list; `attempts` numbers its newest result."""

    __tablename__ = "video"
    __table_args__ = (Index("ix_video_video_id", "video_id"), CLUSTERED)

    job_id: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    video_id: str
    line: int | None = None
    cells: list[str] = Field(sa_column=Column(JSON, nullable=False))
    status: str
    attempts: int = 0


class TombstoneRow(SQLModel, table=True):
    """Of a deleted job what a client needs to forget it; `erased` when nothing else is left of it."""

    __tablename__ = "tombstone"

    job_id: str = Field(primary_key=True)
    owner_id: str
    removed_seq: int = Field(sa_type=BigInteger, index=True)
    erased: bool = Field(index=True)


class ResultRow(SQLModel, table=True):
    """What came of one attempt at one video, in which attempt of the job; `fingerprint` is the same for one cause."""

    __tablename__ = "result"
    __table_args__ = (CLUSTERED,)

    job_id: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    error: str | None = Field(default=None, sa_type=Text)
    traceback: str | None = Field(default=None, sa_type=Text)
    fault: str | None = None
    fingerprint: str | None = None
    job_attempt: int = Field(sa_column=Column(Integer, nullable=False, server_default="1"))
    tries: int = Field(sa_column=Column(Integer, nullable=False, server_default="1"))
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    started_at: datetime = Field(sa_type=Moment)
    duration_seconds: float


class ProgressEventRow(SQLModel, table=True):
    """An update as it was sent: every status change and failed video, percents thinned."""

    __tablename__ = "progress_event"
    __table_args__ = (CLUSTERED,)

    job_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    at: datetime = Field(sa_type=Moment)
    body: str = Field(sa_type=Text)


class MilestoneRow(SQLModel, table=True):
    """A change of a job's status, or the beginning of an attempt; kept for as long as the job is."""

    __tablename__ = "milestone"
    __table_args__ = (CLUSTERED,)

    job_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    at: datetime = Field(sa_type=Moment)
    status: str
    attempt: int
    current_video: int
    resumed: int | None = None
    trouble: str | None = Field(default=None, sa_type=Text)
    message: str = Field(sa_type=Text)
    heard_at: datetime | None = Field(default=None, sa_type=Moment)


class IdempotencyRow(SQLModel, table=True):
    """An `Idempotency-Key` that made a job; `request_hash` tells a repetition from another request."""

    __tablename__ = "idempotency_key"

    user_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_hash: str
    job_id: str
    created_at: datetime = Field(sa_type=Moment)


METADATA = SQLModel.metadata
