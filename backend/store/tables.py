"""The tables, and the types that convert their columns.

Times are UTC, stored as milliseconds since 1970; hashes are SHA-256 in hex; `seq` orders all updates of a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from backend.clock import from_millis, to_millis
from backend.domain.job import Job, Source
from backend.domain.notification import ChannelKind, DeliveryState, EventKind
from backend.domain.video import VideoStatus
from backend.errors import Fault
from progress_dashboard.protocol import Status

E = TypeVar("E", bound=StrEnum)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime as milliseconds since 1970: sorts and compares the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_millis(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_millis(value)


class EnumText(TypeDecorator[E], Generic[E]):
    """A member of an enumeration as its value."""

    impl = String
    cache_ok = True

    def __init__(self, enumeration: type[E]) -> None:
        super().__init__()
        self.enumeration = enumeration

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.enumeration(value)


class TextTuple(TypeDecorator[tuple[str, ...]]):
    """A tuple of texts as a JSON array."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> list[str] | None:
        return None if value is None else list(value)

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(value)


class EncodedText(TypeDecorator[bytes]):
    """Bytes in UTF-8, stored as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else value.decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.encode()


CLUSTERED = {"sqlite_with_rowid": False}  # for short rows: one of over 1,000 bytes would take a page of its own
WAITS = "state = 'waiting'"
UNREAD = "in_bell = 1 AND read_at IS NULL"
PAST, PRESENT = text("on_dashboard = 0"), text("on_dashboard = 1")


def _past(name: str, *columns: str) -> Index:
    """Return an index of the jobs that left the dashboard: they are many and do not change.

    Those on the dashboard are few, and change in each tick, which so has no index to write.
    """
    # The last column has one value only, but without it SQLite looks at the rows to check the condition.
    return Index(
        f"ix_job_past_{name}", *columns, "on_dashboard", sqlite_where=PAST, postgresql_where=text("NOT on_dashboard")
    )


def _where(sqlite: str, postgresql: str = "") -> dict[str, Any]:
    """Return the condition of an index of some rows, in the words in which each database is asked for them."""
    return {"sqlite_where": text(sqlite), "postgresql_where": text(postgresql or sqlite)}


class UserRow(SQLModel, table=True):
    """An account. Names compare without case; a user without a password can only sign in by link."""

    __tablename__ = "user"

    id: str = Field(primary_key=True)
    name: str = Field(index=True, unique=True, sa_type=Text)
    password_hash: str | None = None
    is_admin: bool = False
    disabled: bool = False
    created_at: datetime = Field(sa_type=UtcDateTime)


class SessionRow(SQLModel, table=True):
    """A signed-in browser; the cookie's value is known only by its hash."""

    __tablename__ = "session"

    token_hash: str = Field(primary_key=True)
    user_id: str = Field(index=True, foreign_key="user.id")
    created_at: datetime = Field(sa_type=UtcDateTime)
    last_seen_at: datetime = Field(sa_type=UtcDateTime)


class TokenRow(SQLModel, table=True):
    """A JWT that was handed out: valid only while its row is live."""

    __tablename__ = "token"

    jti_hash: str = Field(primary_key=True)
    user_id: str = Field(index=True, foreign_key="user.id")
    purpose: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)


class LoginLinkRow(SQLModel, table=True):
    """A sign-in link that was not used yet; using it deletes the row."""

    __tablename__ = "login_link"

    link_hash: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    expires_at: datetime = Field(sa_type=UtcDateTime)


class JobRow(SQLModel, table=True):
    """The newest state of a job.

    `number` is its row in the search index. `reported` is the newest counter of its sender, `removed_seq` the position
    at which it left the dashboard. Searches look at the folded texts (`domain.words`), the order of names is that of
    `name_key`.
    """

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_present", "owner_id", "name_key", sqlite_where=PRESENT, postgresql_where=text("on_dashboard")),
        _past("created", "status", "created_at", "id"),
        _past("name", "status", "name_key", "id"),
        _past("updated", "status", "updated_at", "id"),
        _past("owner_created", "owner_id", "status", "created_at", "id"),
        _past("owner_name", "owner_id", "status", "name_key", "id"),
        _past("owner_updated", "owner_id", "status", "updated_at", "id"),
        _past("seq", "seq"),
        _past("removed_seq", "removed_seq"),
        _past("finished", "finished_at", "id"),
        _past("owner_finished", "owner_id", "finished_at", "id"),
    )

    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True, index=True)
    owner_id: str = Field(foreign_key="user.id")
    name: str = Field(sa_type=Text)
    processor: str
    options: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    source: Source = Field(sa_type=EnumText(Source))
    columns: tuple[str, ...] = Field(sa_column=Column(TextTuple, nullable=False))
    total_videos: int
    found: int
    skipped_rows: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    status: Status = Field(sa_type=EnumText(Status))
    requested: str | None = None
    attempt: int
    lease_id: int
    current_video: int
    failed: int
    progress: int
    message: str = Field(sa_type=Text)
    video_id: str | None = None
    error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    on_dashboard: bool
    pinned: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=false()))
    priority: int = Field(sa_column=Column(Integer, nullable=False, server_default="0"))
    pause_reason: str | None = Field(default=None, sa_type=Text)
    resumed: int | None = None
    reported: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="-1"))
    seq: int = Field(sa_type=BigInteger)
    removed_seq: int | None = Field(default=None, sa_type=BigInteger)
    name_folded: str = Field(sa_column=Column(Text, nullable=False, server_default=""))
    name_key: str = Field(sa_column=Column(Text, nullable=False, server_default=""))
    error_folded: str | None = Field(default=None, sa_type=Text)


class VideoRow(SQLModel, table=True):
    """A row of a job's list. `attempts` numbers its newest result."""

    __tablename__ = "video"
    __table_args__ = (Index("ix_video_video_id", "video_id"), CLUSTERED)

    job_id: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    video_id: str
    line: int | None = None
    cells: tuple[str, ...] = Field(sa_column=Column(TextTuple, nullable=False))
    status: VideoStatus = Field(sa_type=EnumText(VideoStatus))
    attempts: int = 0


class TombstoneRow(SQLModel, table=True):
    """What a client needs to forget a deleted job. `erased` is True when nothing else is left of the job."""

    __tablename__ = "tombstone"

    job_id: str = Field(primary_key=True)
    owner_id: str
    removed_seq: int = Field(sa_type=BigInteger, index=True)
    erased: bool = Field(index=True)


class ArrivalRow(SQLModel, table=True):
    """A job whose videos are being stored: it becomes visible in the end, and the row goes."""

    __tablename__ = "arrival"

    job_id: str = Field(primary_key=True)


class TraceRow(SQLModel, table=True):
    """A stack trace, which `uses` results share, without their errors (`store.traces`)."""

    __tablename__ = "trace"

    digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    uses: int
    body: str = Field(sa_type=Text)


class ResultRow(SQLModel, table=True):
    """The result of one attempt at one video. `job_attempt` is the job's; `fingerprint` is the same for one cause.

    The facts of a film may be long, so that the table is not clustered. `machine` is unknown for older results.
    """

    __tablename__ = "result"

    job_id: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    error: str | None = Field(default=None, sa_type=Text)
    trace: bytes | None = Field(default=None, sa_type=LargeBinary)
    fault: Fault | None = Field(default=None, sa_type=EnumText(Fault))
    fingerprint: str | None = None
    job_attempt: int = Field(sa_column=Column(Integer, nullable=False, server_default="1"))
    tries: int = Field(sa_column=Column(Integer, nullable=False, server_default="1"))
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    started_at: datetime = Field(sa_type=UtcDateTime)
    duration_seconds: float
    error_folded: str | None = Field(default=None, sa_type=Text)
    machine: str | None = None


class ProgressEventRow(SQLModel, table=True):
    """An update as it was sent: every status change and failed video, percents thinned."""

    __tablename__ = "progress_event"
    __table_args__ = (CLUSTERED,)

    job_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    body: bytes = Field(sa_type=EncodedText)


class MilestoneRow(SQLModel, table=True):
    """A change of a job's status, or the beginning of an attempt; kept for as long as the job is."""

    __tablename__ = "milestone"
    __table_args__ = (CLUSTERED,)

    job_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    status: Status = Field(sa_type=EnumText(Status))
    attempt: int
    current_video: int
    resumed: int | None = None
    pause_reason: str | None = Field(default=None, sa_type=Text)
    message: str = Field(sa_type=Text)
    previous_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ForecastRow(SQLModel, table=True):
    """What was said at a stage of a job's attempt (`domain.judgement.SaidForecast`); goes with the job."""

    __tablename__ = "forecast"
    __table_args__ = (Index("ix_forecast_judged", "processor", "stage", "ended_at"), CLUSTERED)

    job_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    stage: int = Field(primary_key=True)
    processor: str
    said_at: datetime = Field(sa_type=UtcDateTime)
    seconds: float
    low: float
    high: float
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    paused_seconds: float = 0.0


class IdempotencyRow(SQLModel, table=True):
    """An `Idempotency-Key` that made a job. `request_hash` tells a repetition from another request."""

    __tablename__ = "idempotency_key"

    user_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_hash: str
    job_id: str = Field(index=True)
    created_at: datetime = Field(sa_type=UtcDateTime)


class RollupRow(SQLModel, table=True):
    """What ended in a quarter of an hour, which begins at `at` (`domain.measures.Tally`).

    Kept for ever, so that it has nothing of a job or a video. After some days the quarters of an hour are one row.
    """

    __tablename__ = "rollup"
    __table_args__ = (CLUSTERED,)

    at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    owner_id: str = Field(primary_key=True)
    processor: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)
    millis: int = Field(sa_type=BigInteger)
    film_millis: int = Field(sa_type=BigInteger)
    film_work_millis: int = Field(sa_type=BigInteger)
    work_millis: int = Field(sa_type=BigInteger)
    histogram: bytes = Field(sa_type=LargeBinary)


class UncountedRow(SQLModel, table=True):
    """What a tick brought to the statistics (`domain.measures.Note` as JSON), until it is counted and goes."""

    __tablename__ = "uncounted"

    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    body: bytes = Field(sa_type=EncodedText)


class CauseRollupRow(SQLModel, table=True):
    """How many videos of a job failed for one cause in a quarter of an hour. `fingerprint` names the cause."""

    __tablename__ = "cause_rollup"
    __table_args__ = (Index("ix_cause_rollup_job", "fingerprint", "job_id"), CLUSTERED)

    at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    owner_id: str = Field(primary_key=True)
    processor: str = Field(primary_key=True)
    fingerprint: str = Field(primary_key=True)
    job_id: str = Field(primary_key=True)
    videos: int


class CauseRow(SQLModel, table=True):
    """The words of a cause, without names and numbers, so that they may outlive the jobs that met it."""

    __tablename__ = "cause"

    fingerprint: str = Field(primary_key=True)
    words: str = Field(sa_type=Text)


class MarkRow(SQLModel, table=True):
    """A moment that explains a change in the statistics: a start of the server, or another number of slots."""

    __tablename__ = "mark"

    at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    kind: str = Field(primary_key=True)
    slots: int


class NotificationRow(SQLModel, table=True):
    """An event that a user may be told of (`domain.notification.Notification`); goes with its job, and after 30 days.

    `job` is the update at that moment. Until it is `composed` nobody sees it: `title`, `text` and what follows from the
    settings of its user are made after its tick.
    """

    __tablename__ = "notification"
    __table_args__ = (
        Index("ix_notification_bell", "user_id", "at", "event_id", **_where("in_bell = 1", "in_bell")),
        Index("ix_notification_unread", "user_id", **_where(UNREAD, "in_bell AND read_at IS NULL")),
        Index("ix_notification_raw", "seq", **_where("composed = 0", "NOT composed")),
        Index("ix_notification_job", "job_id"),
        Index("ix_notification_at", "at"),
    )

    event_id: str = Field(primary_key=True)
    user_id: str
    job_id: str | None = None
    event: EventKind = Field(sa_type=EnumText(EventKind))
    attempt: int
    seq: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcDateTime)
    job: bytes | None = Field(default=None, sa_type=EncodedText)
    title: str | None = Field(default=None, sa_type=Text)
    text: str | None = Field(default=None, sa_type=Text)
    details: str | None = Field(default=None, sa_type=Text)
    for_all: bool
    composed: bool = False
    in_bell: bool = False
    wished: bool = False
    muted: bool = False
    read_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ChannelRow(SQLModel, table=True):
    """Where notifications are sent to (`domain.notification.Channel`). Without an owner it is the administrators'."""

    __tablename__ = "channel"
    __table_args__ = (Index("ix_channel_owner_id", "owner_id"),)

    id: str = Field(primary_key=True)
    owner_id: str | None = None
    kind: ChannelKind = Field(sa_type=EnumText(ChannelKind))
    name: str = Field(sa_type=Text)
    url: str = Field(sa_type=Text)
    secret: str | None = Field(default=None, sa_type=Text)
    events: tuple[str, ...] | None = Field(default=None, sa_column=Column(TextTuple(none_as_null=True)))
    only: dict[str, str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    tells_details: bool = False
    enabled: bool = True
    daily_cap: int
    created_at: datetime = Field(sa_type=UtcDateTime)
    last_sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_error: str | None = Field(default=None, sa_type=Text)
    refused_in_a_row: int = 0
    disabled_because: str | None = Field(default=None, sa_type=Text)


class DeliveryRow(SQLModel, table=True):
    """One notification on one channel. Those of a job leave a channel in the order of `seq`."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index("ix_delivery_line", "channel_id", "seq", **_where(WAITS)),
        Index("ix_delivery_sent", "channel_id", "sent_at", **_where("sent_at IS NOT NULL")),
        Index("ix_delivery_group", "group_id", **_where("group_id IS NOT NULL")),
        Index("ix_delivery_job", "job_id", "channel_id", "seq"),
        CLUSTERED,
    )

    event_id: str = Field(primary_key=True)
    channel_id: str = Field(primary_key=True)
    job_id: str | None = None
    seq: int = Field(sa_type=BigInteger)
    state: DeliveryState = Field(sa_type=EnumText(DeliveryState))
    tries: int = 0
    due_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error: str | None = Field(default=None, sa_type=Text)
    group_id: str | None = None


class NotificationWishRow(SQLModel, table=True):
    """What a user wants to be told of one job, besides what the settings say."""

    __tablename__ = "notification_wish"
    __table_args__ = (Index("ix_notification_wish_user_id", "user_id"), CLUSTERED)

    job_id: str = Field(primary_key=True)
    user_id: str = Field(primary_key=True)
    events: tuple[str, ...] = Field(sa_column=Column(TextTuple, nullable=False))


class NotificationSettingsRow(SQLModel, table=True):
    """What a user wants to be told, and when they were last here. Without `events` the defaults hold.

    Quiet hours are minutes since midnight in the user's `zone`. `away_since` is set while the user has not read what
    happened since.
    """

    __tablename__ = "notification_settings"
    __table_args__ = (CLUSTERED,)

    user_id: str = Field(primary_key=True)
    events: tuple[str, ...] | None = Field(default=None, sa_column=Column(TextTuple(none_as_null=True)))
    quiet_from: int | None = None
    quiet_to: int | None = None
    zone: str | None = None
    last_seen_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    away_since: datetime | None = Field(default=None, sa_type=UtcDateTime)


METADATA = SQLModel.metadata
USERS, SESSIONS, TOKENS, LINKS, JOBS, VIDEOS, RESULTS, TRACES, EVENTS, MILESTONES, KEYS, TOMBSTONES, ARRIVALS = (
    METADATA.tables[name]
    for name in (
        *("user", "session", "token", "login_link", "job", "video", "result", "trace"),
        *("progress_event", "milestone", "idempotency_key", "tombstone", "arrival"),
    )
)
ROLLUPS, CAUSE_ROLLUPS, CAUSES, MARKS, FORECASTS = (
    METADATA.tables[name] for name in ("rollup", "cause_rollup", "cause", "mark", "forecast")
)
NOTIFICATIONS, CHANNELS, DELIVERIES, WISHES, NOTIFICATION_SETTINGS = (
    METADATA.tables[name]
    for name in ("notification", "channel", "delivery", "notification_wish", "notification_settings")
)
IS_WAITING = text("delivery.state = 'waiting'")  # as the index of what waits has it
JOB_COLUMNS = tuple(name for name in Job.__struct_fields__ if name in JOBS.c)
